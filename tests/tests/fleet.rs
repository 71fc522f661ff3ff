//! Packages of `dkms mkpackage` in the repositories of machines without compiler and dkms: installed, upgraded together with
//! the kernel, and removed, by each package manager.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::fleet::make;
use dkms_tests::kernels::Flavour;
use dkms_tests::modules::Sources;
use dkms_tests::roots::Layer;
use dkms_tests::rpm::{self, Family, Manager};
use dkms_tests::{Kernel, Root, Suite, boot, host, stage};

/// What a machine calls itself that builds for a family of distributions.
const FEDORA: &str = "ID=fedora\nVERSION_ID=43\n";
const RHEL: &str = "ID=rhel\nID_LIKE=fedora\nVERSION_ID=9.6\n";
const SUSE: &str = "ID=opensuse-tumbleweed\nID_LIKE=\"opensuse suse\"\n";

/// A machine with compiler and dkms, on which a module is built for two kernels of a flavour, the older one first.
fn builder(flavour: Flavour) -> (Layer, [Kernel; 2]) {
    let suite = Suite::trixie();
    let base = Root::on(&suite.base());
    let kernels = [
        Kernel::newest_but_one(&base, flavour, suite.kernel_series),
        Kernel::newest(&base, flavour, suite.kernel_series),
    ];
    drop(base);
    let sources = Sources::new("fleet_mod", "1.0").modules(&["fleet_mod", "fleet-extra"]);
    let key = format!("{kernels:?}{:?}", sources.files());
    let layer = stage::product(suite).prepared(&format!("fleet-builder-{flavour:?}"), &key, |root| {
        let headers = kernels.each_ref().map(Kernel::headers);
        root.apt_install(&["rpm", &headers[0], &headers[1]]).ok();
        sources.unpack(root);
        root.run(&format!("dkms add {}", sources.id())).ok();
        for kernel in &kernels {
            root.run(&format!("dkms build {} -k {kernel}", sources.id())).ok();
        }
    });
    (layer, kernels)
}

/// The machine that builds, as one of a distribution.
fn builder_of(flavour: Flavour, system: &str) -> (Root, [Kernel; 2]) {
    let (layer, kernels) = builder(flavour);
    let root = Root::on(&layer);
    root.run("rm /etc/os-release").ok();
    root.write("/etc/os-release", system);
    (root, kernels)
}

/// Puts the packages for a kernel into the repository of a machine.
fn publish(root: &Root, builder: &Root, kernel: &Kernel) {
    for words in ["mkpackage", "mkpackage --meta"] {
        let (path, bytes) = make(builder, &format!("{words} fleet_mod/1.0 -k {kernel}"));
        root.write(&format!("/opt/repo/fleet/{}", path.rsplit('/').next().unwrap()), bytes);
    }
    root.run("rm -r /opt/repo/repodata; createrepo_c -q /opt/repo").ok();
}

/// The packages of a kernel, without its headers.
fn image(family: Family, kernel: &Kernel) -> Vec<String> {
    let (_, names) = family.packages().split_last().unwrap();
    names.iter().map(|name| format!("{name}-{}", rpm::version(kernel))).collect()
}

/// Everything of a kernel's module directory that is not the kernel's own.
fn left(root: &Root, kernel: &Kernel) -> Vec<String> {
    root.find(
        &kernel.modules_dir(),
        "\\( -path '*/dkms-packages*' -o -name 'fleet*' -o -path '*/extra*' -o -path '*/updates*' \\)",
    )
}

/// Install, kernel upgrade with the package that follows the newest kernel, removal of the old kernel, removal.
fn story(manager: Manager, flavour: Flavour, system: &str) {
    let (builder, kernels) = builder_of(flavour, system);
    let [older, newer] = &kernels;
    let root = Root::on(&rpm::target(manager.family(), &kernels));
    let package = |kernel: &Kernel| format!("kmod-fleet_mod-{kernel}");
    let core = |kernel: &Kernel| format!("{}-{}", manager.family().packages()[0], rpm::version(kernel));
    let meta = match flavour {
        Flavour::Cloud => "kmod-fleet_mod-cloud-amd64",
        _ => "kmod-fleet_mod-amd64",
    };
    let quiet = ["scriptlet failed", "updating the initramfs failed", "weak-modules failed"];
    let loads = |kernel: &Kernel| {
        root.run(&format!("modprobe -n -v -S {kernel} fleet_mod && modprobe -n -v -S {kernel} fleet_extra"))
            .ok()
            .says(&["fleet_mod.ko", "fleet-extra.ko"]);
        root.run(&format!("rpm -V {}", package(kernel))).ok();
    };
    publish(&root, &builder, older);
    // The machine has a kernel.
    manager.install(&root, &image(manager.family(), older)).ok();
    assert_eq!(left(&root, older), [""; 0]);
    let counters = Counters::install(&root);
    manager.install(&root, &[meta]).ok().never_says(&quiet);
    // Those of the packages: the kernel's scripts say `-a`.
    let depmods = || {
        let own = |line: &&String| line.starts_with("depmod sh ") && !line.contains(" -a ");
        counters.take().lines.iter().filter(own).count()
    };
    assert_eq!(depmods(), 1);
    loads(older);

    // The new kernel and its modules are published together.
    publish(&root, &builder, newer);
    let upgrade = match manager {
        Manager::Dnf4 => "dnf -y --releasever=1 --refresh upgrade",
        Manager::Dnf5 => "dnf5 -y --releasever=1 upgrade --refresh",
        _ => "zypper -n --no-gpg-checks --releasever 1 update",
    };
    root.run(&format!("{upgrade} 2>&1")).ok().never_says(&quiet);
    root.run(&format!("rpm -q {} {}", core(newer), package(newer))).ok();
    // Fedora's kernel runs depmod after the files of all packages are there, openSUSE's before.
    assert_eq!(depmods(), usize::from(manager.family() == Family::Suse));
    loads(newer);
    loads(older);
    assert!(boot::boot_and_load(&root, newer, "fleet_mod").contains("LOADED fleet_mod"));

    // The kernel is removed, and its modules, which require it.
    counters.take();
    manager.remove(&root, &[core(older).as_str()]).never_says(&quiet);
    root.run(&format!("rpm -q {}", package(older))).fails();
    assert_eq!(left(&root, older), [""; 0]);
    loads(newer);

    // Nothing is left of the modules.
    manager.remove(&root, &[meta, &package(newer)]).never_says(&quiet);
    assert_eq!(left(&root, newer), [""; 0]);
    root.run(&format!("modprobe -n -S {newer} fleet_mod")).fails();
    let dep = root.read(&format!("{}/modules.dep", newer.modules_dir()));
    assert!(!dep.contains("fleet"), "{dep}");
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn dnf5_upgrades_the_modules_together_with_the_kernel() {
    story(Manager::Dnf5, Flavour::Plain, FEDORA);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn dnf4_upgrades_the_modules_together_with_the_kernel() {
    story(Manager::Dnf4, Flavour::Plain, FEDORA);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn zypper_upgrades_the_modules_together_with_the_kernel() {
    story(Manager::Zypper, Flavour::Cloud, SUSE);
}

/// RHEL's weak-modules is called with the files of the package, and once more when they go.
#[test]
#[ignore = "long: run by `make test-long`"]
fn weak_modules_learns_of_the_package() {
    let (builder, kernels) = builder_of(Flavour::Plain, RHEL);
    let root = Root::on(&rpm::target(Family::Fedora, &kernels));
    let kernel = &kernels[0];
    let manager = Manager::Dnf4;
    publish(&root, &builder, kernel);
    manager.install(&root, &image(Family::Fedora, kernel)).ok();
    root.write_script(
        "/usr/sbin/weak-modules",
        "#!/bin/sh\necho \"$*\" >>/var/log/weak\nwhile read -r file; do test -e \"$file\" && state=there || state=gone; echo \"$state $file\" >>/var/log/weak; done\n",
    );
    manager.install(&root, &["kmod-fleet_mod-amd64"]).ok();
    let of = |words: &str, state: &str| {
        let dir = format!("{}/extra", kernel.modules_dir());
        format!("{words}\n{state} {dir}/fleet-extra.ko.xz\n{state} {dir}/fleet_mod.ko.xz\n")
    };
    assert_eq!(root.read("/var/log/weak"), of("--no-initramfs --add-modules", "there"));
    root.run("rm /var/log/weak").ok();
    manager.remove(&root, &["kmod-fleet_mod-amd64", &format!("kmod-fleet_mod-{kernel}")]);
    assert_eq!(root.read("/var/log/weak"), of("--no-initramfs --remove-modules", "gone"));
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn rpmlint_finds_no_error() {
    let (builder, [kernel, _]) = builder_of(Flavour::Plain, FEDORA);
    let root = Root::on(&Suite::bookworm().base());
    root.apt_install(&["rpmlint", "rpm"]).ok();
    for words in ["mkpackage", "mkpackage --meta"] {
        let (path, bytes) = make(&builder, &format!("{words} fleet_mod/1.0 -k {kernel}"));
        let inside = format!("/opt/{}", path.rsplit('/').next().unwrap());
        root.write(&inside, bytes);
        let found = root.run(&format!("rpmlint {inside}"));
        let errors: Vec<&str> = found.stdout.lines().filter(|line| line.contains(": E: ")).collect();
        assert!(found.all().contains("1 packages and 0 specfiles checked"), "{found}");
        let tag = |line: &&str| line.split(' ').nth(2).unwrap_or_default().to_owned();
        let known = [
            // It is signed when it is published.
            "no-signature",
            // Modules are compressed, and the package without files requires those of one architecture.
            "no-binary",
            // depmod runs in %posttrans and %postun, unless something else has run it since.
            "module-without-depmod-postin",
            "postun-with-wrong-depmod",
        ];
        assert!(errors.iter().map(tag).all(|tag| known.contains(&tag.as_str())), "{found}");
    }
}

/// The jobs of `docs/examples` build for two kernels of the repository, and the role installs these builds on other machines.
#[test]
#[ignore = "long: run by `make test-long`"]
fn the_examples_of_the_manual() {
    let examples = host::workspace().join("docs/examples");
    let suite = Suite::trixie();
    let modules = ["acpi-call", "bbswitch"];
    let key = dkms_core::store::generate("fleet", &[7; 32]).unwrap();
    let layer = suite.base().prepared("fleet-examples", "1", |root| {
        root.apt_install(&["python3-yaml", "ansible-core", "python3-apt", "curl"]).ok();
    });
    let deb = host::product_deb();
    let mut stores = Vec::new();
    for (file, steps) in [
        ("gitlab-ci.yml", "job = all['modules']; steps = job['before_script'] + job['script']"),
        ("github.yml", "steps = [step['run'] for step in all['jobs']['build']['steps'] if 'run' in step]"),
    ] {
        let root = Root::on(&layer);
        root.bind(&examples, "/mnt", false);
        root.run("cp -r /mnt /ci").ok();
        root.copy_in(&deb, "/ci/dkms-rs_0_amd64.deb");
        root.run(&format!(
            "python3 -c \"import yaml; all = yaml.safe_load(open('/ci/{file}')); {steps}; print('\\n'.join(steps))\" >/ci/steps"
        ))
        .ok();
        let steps = root.read("/ci/steps");
        assert!(steps.contains("./build-for-every-kernel cloud-amd64 2 \"$STORE\""), "{steps}");
        root.write("/ci/key", key.line());
        root.run_within(
            900,
            "cd /ci; export STORE=/srv/store STORE_KEY=\"$(cat key)\" STORE_LOGIN=; bash -e steps",
        )
        .ok();
        assert_eq!(root.run("stat -c %a /etc/dkms/store.key").ok().stdout, "600\n");
        root.run("dkms store push /srv/store").ok().says(&["0 builds pushed, 4 were there"]);
        root.run("rm -rf /etc/dkms/store.pub; echo wrong >/etc/dkms/store.key").ok();
        root.write("/ci/pub", key.public().to_string());
        let report = root.run("dkms store report /srv/store --key /ci/pub").ok().stdout;
        assert_eq!(report.matches("yes").count(), 4, "{report}");
        stores.push(root.find("/srv/store", "-type f"));
        if file == "github.yml" {
            let kernel = Kernel::newest(&root, Flavour::Cloud, suite.kernel_series);
            playbook(&layer, &root, &kernel, &modules, &key.public().to_string());
        }
    }
    // Two machines have built it: the names are the hashes.
    assert_eq!(stores[0].len(), stores[1].len());
}

/// Runs the example's role on another machine, twice.
fn playbook(layer: &Layer, builder: &Root, kernel: &Kernel, modules: &[&str], public: &str) {
    let root = Root::on(layer);
    root.bind(&host::workspace().join("docs/examples"), "/mnt", false);
    root.copy_in(&host::product_deb(), "/srv/packages/dkms-rs.deb");
    for file in builder.find("/srv/store", "-type f") {
        root.write(&file, builder.read_bytes(&file));
    }
    root.apt_install(&[&kernel.headers()]).ok();
    let command = format!(
        "cd /mnt/ansible && ANSIBLE_ROLES_PATH=. ansible-playbook -i localhost, -c local fleet.yml -e '{}' 2>&1",
        serde_json::json!({ "dkms_fleet_store": "file:///srv/store", "dkms_fleet_trust": [public] })
    );
    root.run_within(900, &command).ok().says(&["failed=0"]);
    root.run_within(900, &command).ok().says(&["changed=0", "failed=0"]);
    let status = root.run("dkms status --json").ok().stdout;
    assert_eq!(status.matches("\"store\": \"file:///srv/store\"").count(), modules.len(), "{status}");
    assert_eq!(kernel.module_files(&root).len(), modules.len());
    kernel.expect_vermagic(&root);
}
