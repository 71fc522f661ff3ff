//! A machine with pacman: two kernels, module packages, a local repository, and hooks before and after ours that
//! observe its effects.

use super::kernels::{LINUX, LTS, NEWER};
use super::recipe::{REPOSITORY, make, module_files};
use super::{package, tools};
use crate::count::{Counters, Counts};
use crate::roots::Layer;
use crate::{Kernel, Output, Root, host};

/// The hook of Arch's kmod, which runs after every transaction with a kernel, before our hooks.
const DEPMOD_HOOK: &str = "[Trigger]\nType = Path\nOperation = Install\nOperation = Upgrade\nOperation = Remove\n\
    Target = usr/lib/modules/*/\nTarget = !usr/lib/modules/*/?*\n\n[Action]\nDescription = Updating module dependencies...\n\
    When = PostTransaction\nExec = /usr/share/libalpm/scripts/depmod\nNeedsTargets\n";
const DEPMOD: &str = "#!/bin/sh\nwhile read -r dir; do\n\
    if [ -e \"/$dir/modules.order\" ]; then depmod \"$(basename \"$dir\")\"\n\
    elif [ -d \"/$dir\" ]; then rm -f \"/$dir\"/modules.*; rmdir --ignore-fail-on-non-empty \"/$dir\"; fi\ndone\n";

/// In place of mkinitcpio: records the modules that it would find for each kernel.
const LATE_HOOK: &str = "[Trigger]\nType = Path\nOperation = Install\nOperation = Upgrade\nTarget = usr/lib/modules/*/vmlinuz\n\
    Target = usr/src/*/dkms.conf\n\n[Action]\nDescription = Updating linux initcpios...\nWhen = PostTransaction\n\
    Exec = /usr/share/libalpm/scripts/late\nNeedsTargets\n";
const LATE: &str = "#!/bin/sh\ncat >/dev/null\n: >/var/log/late\nfor dir in /usr/lib/modules/*/; do\n\
    sed -n 's|^\\(updates/[^:]*\\):.*|\\1|p' \"$dir/modules.dep\" 2>/dev/null | while read -r file; do\n\
    [ -e \"$dir/$file\" ] && echo \"$(basename \"$dir\") $file\" >>/var/log/late; done; done\n";

/// A program for each entry of the product's `depends`, which Debian provides without pacman's knowledge.
const BASE: &str = "provides=(bash gcc gcc-libs glibc kmod make pacman patch)";

/// The machine, with the releases of its kernels.
#[derive(Debug)]
pub struct Machine {
    /// Its system.
    pub root: Root,
    /// The installed kernel, its upgrade, and the other kernel.
    pub kernels: [Kernel; 3],
}

/// A fresh machine: only the product is installed.
pub fn machine() -> Machine {
    let (layer, kernels) = layer();
    Machine { root: Root::on(&layer), kernels }
}

fn layer() -> (Layer, [Kernel; 3]) {
    let made_from = concat!("v1", include_str!("kernels.rs"), include_str!("recipe.rs"));
    let layer = tools().prepared("pacman-repository", made_from, |root| {
        LINUX.add_suite(root);
        root.run("apt-get -q update && apt-get -q -y install cpio").ok();
        let releases = [&LINUX, &NEWER, &LTS].map(|kernel| kernel.make(root).release);
        root.write("/opt/releases", releases.join("\n"));
        modules(root);
        make(root, "base", "1", BASE, "/opt/empty");
        root.run("rm -rf /opt/modules /opt/debs /opt/kernels").ok();
    });
    let product = package();
    let key = host::sha256(&std::fs::read(&product).unwrap());
    let layer = layer.prepared("pacman-product", &(key + include_str!("machine.rs")), |root| {
        configure(root);
        root.copy_in(&product, "/opt/dkms-rs.pkg.tar.zst");
        root.run("pacman -Sy --noconfirm base && pacman -U --noconfirm /opt/dkms-rs.pkg.tar.zst").ok();
    });
    let releases: Vec<Kernel> = Root::on(&layer)
        .read("/opt/releases")
        .lines()
        .map(|line| Kernel { release: line.to_owned() })
        .collect();
    (layer, releases.try_into().unwrap())
}

fn file(package: &str, version: &str) -> String {
    format!("{REPOSITORY}/{package}-{}-1-any.pkg.tar", version.replace('-', "_"))
}

fn kernel_files(package: &str, kernel: &Kernel) -> String {
    format!("{} {}", file(package, &kernel.release), file(&format!("{package}-headers"), &kernel.release))
}

/// The module packages: two that compile, each in two versions, and newer ones that do not.
fn modules(root: &Root) {
    root.run("mkdir -p /opt/empty").ok();
    let depends = "depends=(dkms)";
    for (package, name, from, to, broken) in [
        ("bbswitch-dkms", "bbswitch", "0.8", "0.8", false),
        ("bbswitch-dkms", "bbswitch", "0.8", "0.9", false),
        ("bbswitch-dkms", "bbswitch", "0.8", "0.10", true),
        ("acpi-call-dkms", "acpi-call", "1.2.2", "1.2.2", false),
    ] {
        let tree = module_files(root, package, name, from, to, broken);
        make(root, package, to, depends, &tree);
    }
    let tree = module_files(root, "bbswitch-dkms", "bbswitch", "0.8", "0.8", false);
    let failing = "/opt/modules/failing";
    root.run(&format!(
        "mkdir -p {failing}/usr/src && cp -a {tree}/usr/src/bbswitch-0.8 {failing}/usr/src/failing-1 && cd {failing}/usr/src/failing-1 && \
         sed -i 's/^PACKAGE_NAME=.*/PACKAGE_NAME=failing/; s/^PACKAGE_VERSION=.*/PACKAGE_VERSION=1/' dkms.conf && \
         for c in *.c; do echo 'int broken(void) {{ return no_such_symbol_here; }}' >> $c; done"
    ))
    .ok();
    make(root, "failing-dkms", "1", depends, failing);
}

fn configure(root: &Root) {
    root.write("/etc/pacman.conf", format!(
        "[options]\nArchitecture = x86_64\nSigLevel = Never\nLocalFileSigLevel = Never\nRemoteFileSigLevel = Never\n\n[here]\nServer = file://{REPOSITORY}\n"
    ));
    root.write("/usr/share/libalpm/hooks/60-depmod.hook", DEPMOD_HOOK);
    root.write("/usr/share/libalpm/hooks/90-mkinitcpio-install.hook", LATE_HOOK);
    root.write_script("/usr/share/libalpm/scripts/depmod", DEPMOD);
    root.write_script("/usr/share/libalpm/scripts/late", LATE);
    root.run("mkdir -p /var/cache/pacman/pkg /var/lib/pacman").ok();
    // As in Arch's linux-headers.
    root.apt_install(&["dwarves"]).ok();
    // Newer versions are given to pacman as files.
    let releases = root.read("/opt/releases");
    let newer = NEWER.version(releases.lines().nth(1).unwrap());
    root.run(&format!(
        "cd {REPOSITORY} && ls *.pkg.tar | grep -v -e 'bbswitch-dkms-0.9' -e 'bbswitch-dkms-0.10' -e '{newer}' | \
         xargs repo-add -q here.db.tar.gz"
    ))
    .ok();
}

impl Machine {
    /// Two kernels with headers and two modules, built for both.
    pub fn with_everything() -> Self {
        let (layer, kernels) = layer();
        let name = "pacman-everything";
        let layer = layer.prepared(name, "v1", |root| {
            let machine = |root: &Root, files: &str| root.run(&format!("pacman -U --noconfirm {files}")).ok();
            let [linux, _, lts] = &kernels;
            let mut files = vec![file("bbswitch-dkms", "0.8"), file("acpi-call-dkms", "1.2.2")];
            for (package, kernel) in [("linux", linux), ("linux-lts", lts)] {
                files.push(kernel_files(package, kernel));
            }
            machine(root, &files.join(" "));
        });
        Self { root: Root::on(&layer), kernels }
    }

    /// A package file of the repository.
    pub fn file(&self, package: &str, version: &str) -> String {
        file(package, version)
    }

    /// A package of the repository, unpacked; returns the directory.
    pub fn unpacked(&self, package: &str, version: &str) -> String {
        let tree = format!("/opt/modules/{package}-{version}");
        let file = self.file(package, version);
        self.root.run(&format!("mkdir -p {tree} && bsdtar -C {tree} -xf {file} usr")).ok();
        tree
    }

    /// Creates another package from such a directory.
    pub fn make(&self, package: &str, version: &str, fields: &str, tree: &str) {
        make(&self.root, package, version, fields, tree);
    }

    /// The two files of a kernel.
    pub fn kernel_files(&self, package: &str, kernel: &Kernel) -> String {
        kernel_files(package, kernel)
    }

    /// `pacman -U` of these files.
    pub fn add(&self, files: &str) -> Output {
        self.root.run(&format!("pacman -U --noconfirm {files}"))
    }

    /// `pacman -R` of these packages.
    pub fn remove(&self, packages: &str) -> Output {
        self.root.run(&format!("pacman -R --noconfirm {packages}"))
    }

    /// The output of the hook after ours: `RELEASE FILE` lines.
    pub fn seen_late(&self) -> Vec<String> {
        self.root.read("/var/log/late").lines().map(str::to_owned).collect()
    }

    /// Requires these numbers of builds and of our depmod runs.
    #[track_caller]
    pub fn expect_counts(&self, counters: &Counters<'_>, expected: (usize, usize)) -> Counts {
        let counts = counters.take();
        assert_eq!(counts.builds_and_depmods(), expected, "builds and depmods\n{counts:#?}");
        counts
    }
}
