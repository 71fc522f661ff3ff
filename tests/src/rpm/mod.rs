//! Machines with rpm: Debian's newest dnf4, dnf5, zypper and rpm, configured as Fedora or openSUSE, and a repository
//! with Debian's kernels and module sources in the packages of those distributions.

mod machine;

pub use machine::Machine;

use crate::kernels::Flavour;
use crate::modules::Sources;
use crate::roots::Layer;
use crate::{Kernel, Output, Root, Suite, host};

const TOOLS: &[&str] = &[
    "dnf",
    "dnf5",
    "rpm",
    "zypper",
    "createrepo-c",
    "systemd",
    "dracut-core",
    "busybox-static",
    "gcc-14",
    "libelf1t64",
    "strace",
];
/// Debian's packages of module sources: package, module, its version.
const MODULES: &[(&str, &str)] = &[("bbswitch-dkms", "bbswitch"), ("acpi-call-dkms", "acpi-call")];
const KERNEL: &str = include_str!("kernel.sh");
const MODULE: &str = include_str!("module.sh");
const DRESS: &str = include_str!("dress.sh");

/// The distribution that a machine resembles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// kernel-core, kernel-modules, kernel-devel; `%posttrans` calls kernel-install.
    Fedora,
    /// kernel-default, kernel-default-devel; scripts generate the initramfs.
    Suse,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::Fedora => "fedora",
            Self::Suse => "suse",
        }
    }

    /// Packages of a kernel, without and with its headers' package at the end.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Fedora => &["kernel-core", "kernel-modules", "kernel-devel"],
            Self::Suse => &["kernel-default", "kernel-default-devel"],
        }
    }

    /// The directory of modules.
    pub fn destination(self) -> &'static str {
        match self {
            Self::Fedora => "extra",
            Self::Suse => "updates",
        }
    }

    /// A kernel's initramfs.
    pub fn initramfs(self, kernel: &Kernel) -> String {
        match self {
            Self::Fedora => format!("/boot/initramfs-{}.img", kernel.release),
            Self::Suse => format!("/boot/initrd-{}", kernel.release),
        }
    }
}

/// What installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Fedora until 40, RHEL.
    Dnf4,
    /// Fedora since 41.
    Dnf5,
    /// openSUSE.
    Zypper,
    /// zypper without single-transaction mode: one rpm transaction per package.
    ZypperByPackage,
    /// Nothing but rpm.
    Rpm,
}

impl Manager {
    /// Installs or upgrades packages of the repository: NAME or NAME-VERSION. Both streams are in the standard output,
    /// as on a terminal.
    pub fn install<S: AsRef<str>>(self, root: &Root, packages: &[S]) -> Output {
        let packages: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
        root.run(&format!("{} 2>&1", self.command(&packages)))
    }

    /// The command for this.
    pub fn command(self, packages: &[&str]) -> String {
        let list = packages.join(" ");
        match self {
            Self::Dnf4 => format!("dnf -y --releasever=1 install {list}"),
            Self::Dnf5 => format!("dnf5 -y --releasever=1 install {list}"),
            Self::Zypper => format!("zypper -n --no-gpg-checks --releasever 1 install {list}"),
            Self::ZypperByPackage => {
                format!("zypper -n --no-gpg-checks --releasever 1 install --download as-needed {list}")
            }
            // Several kernels can be installed.
            Self::Rpm if list.contains("kernel-") => {
                format!("rpm -i --replacepkgs --nosignature {}", files(packages))
            }
            Self::Rpm => format!("rpm -U --nosignature {}", files(packages)),
        }
    }

    /// Removes packages.
    pub fn remove(self, root: &Root, packages: &[&str]) -> Output {
        let list = packages.join(" ");
        let command = match self {
            Self::Dnf4 => format!("dnf -y --releasever=1 --noautoremove remove {list}"),
            Self::Dnf5 => format!("dnf5 -y --releasever=1 remove --no-autoremove {list}"),
            Self::Zypper | Self::ZypperByPackage => format!("zypper -n --releasever 1 remove {list}"),
            Self::Rpm => format!("rpm -e {list}"),
        };
        root.run(&format!("{command} 2>&1"))
    }

    /// The distribution that uses it.
    pub fn family(self) -> Family {
        match self {
            Self::Zypper | Self::ZypperByPackage => Family::Suse,
            _ => Family::Fedora,
        }
    }
}

/// The files of packages of the repository, as a shell's patterns.
pub fn files<S: AsRef<str>>(packages: &[S]) -> String {
    let files = packages.iter().map(|name| format!("/opt/repo/*/{}*.rpm", name.as_ref()));
    files.collect::<Vec<_>>().join(" ")
}

/// Debian 13's two kernels, the older one in rpm's eyes first.
pub fn kernels() -> [Kernel; 2] {
    let suite = Suite::trixie();
    let base = Root::on(&suite.base());
    [Flavour::Plain, Flavour::Cloud].map(|flavour| Kernel::newest(&base, flavour, suite.kernel_series))
}

/// The version and release that packages of a kernel have: `-VERSION-RELEASE`.
pub fn version(kernel: &Kernel) -> String {
    let (version, flavour) = kernel.release.split_once('-').expect("a flavour");
    format!("{version}-{}", flavour.split('-').next().unwrap_or_default())
}

/// A machine with the product, both kernels and some modules in its repository, none of them installed.
pub fn machine(family: Family) -> Layer {
    dressed(&repository(family), family, "product")
}

/// A machine with the product, and nothing else in its repository.
pub fn bare(family: Family) -> Layer {
    dressed(&tools(), family, "bare")
}

/// The same over a layer with a repository or without one.
fn dressed(layer: &Layer, family: Family, name: &str) -> Layer {
    let rpm = host::product_rpm();
    let bytes = std::fs::read(&rpm).unwrap_or_else(|e| panic!("{}: {e}", rpm.display()));
    let key = format!("{DRESS}{}", host::sha256(&bytes));
    layer.prepared(&format!("{}-{name}", family.name()), &key, |root| {
        root.copy_in(&rpm, "/opt/repo/x86_64/dkms-rs.rpm");
        root.run(&format!("set -- {}\n{DRESS}", family.name())).ok();
    })
}

/// Package managers, and what their roots need besides.
fn tools() -> Layer {
    Suite::sid().base().prepared("rpm-tools", &format!("{TOOLS:?}"), |root| {
        root.apt_install(TOOLS).ok();
    })
}

/// A machine without compiler and dkms: its repository has these kernels, and none of them is installed.
pub fn target(family: Family, kernels: &[Kernel]) -> Layer {
    let layer = dressed(&repository_of(family, "fleet", kernels), family, "fleet-dressed");
    layer.prepared(&format!("{}-fleet-target", family.name()), "1", |root| {
        root.run("rpm -e dkms-rs && rm -r /opt/repo/x86_64/dkms-rs.rpm /usr/bin/gcc* /var/lib/dkms").ok();
        root.run(
            "! command -v gcc && ! command -v dkms && rm -r /opt/repo/repodata && createrepo_c -q /opt/repo",
        )
        .ok();
    })
}

/// A machine without the product: its repository is in `/opt/repo`.
pub fn repository(family: Family) -> Layer {
    repository_of(family, "repository", &kernels())
}

/// The same with these kernels.
fn repository_of(family: Family, name: &str, kernels: &[Kernel]) -> Layer {
    let releases: Vec<&str> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
    let releases = releases.join(" ");
    let key = format!("{KERNEL}{MODULE}{releases}{MODULES:?}");
    tools().prepared(&format!("{}-{name}", family.name()), &key, |root| {
        fetch(root, kernels);
        root.write("/opt/kernel.sh", KERNEL);
        root.write("/opt/module.sh", MODULE);
        for kernel in kernels {
            let release = &kernel.release;
            root.run(&format!("bash /opt/kernel.sh {release} {} /opt/debs /opt/repo", family.name())).ok();
        }
        for (_, name) in MODULES {
            for version in ["1.0", "2.0"] {
                root.run(&format!(
                    "bash /opt/module.sh {name} {version} /opt/sources/usr/src/{name}-* /opt/repo"
                ))
                .ok();
            }
        }
        Sources::new("broken", "1.0").broken().unpack_at(root, "/opt/sources/broken");
        root.run("bash /opt/module.sh broken 1.0 /opt/sources/broken /opt/repo").ok();
        root.run("rm -rf /opt/debs /opt/sources").ok();
    })
}

/// Debian 13's kernels and module sources, which are not in the index of the root with the rpm tools.
fn fetch(root: &Root, kernels: &[Kernel]) {
    let trixie = Root::on(&Suite::trixie().base());
    let mut packages: Vec<String> = MODULES.iter().map(|(package, _)| (*package).to_owned()).collect();
    for kernel in kernels {
        let version = kernel.release.split('-').next().unwrap_or_default();
        packages.extend([kernel.image(), kernel.headers()]);
        packages.extend([format!("linux-headers-{version}-common"), format!("linux-kbuild-{version}")]);
    }
    packages.sort();
    packages.dedup();
    for deb in trixie.download(&packages.iter().map(String::as_str).collect::<Vec<_>>()) {
        root.copy_in(&deb, &format!("/opt/debs/{}", deb.file_name().unwrap().to_string_lossy()));
    }
    root.run("cd /opt/debs && for deb in *-dkms_*.deb; do dpkg-deb -x $deb /opt/sources; done").ok();
}
