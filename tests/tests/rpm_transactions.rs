//! What dnf4, dnf5, zypper and rpm do with kernels and modules, transaction by transaction: every module is built once, its
//! index is made once, the initramfs has it, and the run ends as it would without modules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::{Counters, Counts};
use dkms_tests::rpm::{Manager, kernels, machine, version};
use dkms_tests::watch::Watch;
use dkms_tests::{Kernel, Root};

/// One machine and how it is administered.
struct Machine {
    manager: Manager,
    root: Root,
    older: Kernel,
    newer: Kernel,
}

impl Machine {
    fn new(manager: Manager) -> Self {
        let [older, newer] = kernels();
        Self { manager, root: Root::on(&machine(manager.family())), older, newer }
    }

    /// The packages of a kernel, by name and version.
    fn packages(&self, kernel: &Kernel) -> Vec<String> {
        let names = self.manager.family().packages().iter();
        names.map(|name| format!("{name}-{}", version(kernel))).collect()
    }

    /// Where our modules for a kernel are.
    fn place(&self, kernel: &Kernel) -> String {
        format!("{}/{}", kernel.modules_dir(), self.manager.family().destination())
    }

    #[track_caller]
    fn install(&self, packages: &[String], code: i32) -> dkms_tests::Output {
        let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        self.manager.install(&self.root, &packages).exits(code)
    }

    /// Our modules for a kernel, each right, and the index knows them.
    #[track_caller]
    fn expect_modules(&self, kernel: &Kernel, modules: &[&str]) {
        self.root.expect_installed(modules, &kernel.release);
        let files = self.root.find(&self.place(kernel), "-name '*.ko*'");
        assert_eq!(files.len(), modules.len(), "{files:?}");
        let index = self.root.read(&format!("{}/modules.dep", kernel.modules_dir()));
        for file in files {
            assert_eq!(kernel.vermagic_of(&self.root, &file), kernel.release, "vermagic of {file}");
            let name = file.rsplit('/').next().unwrap();
            assert!(index.contains(name), "modules.dep does not know {file}\n{index}");
        }
    }

    /// The initramfs has the very bbswitch that is installed.
    #[track_caller]
    fn expect_initramfs(&self, kernel: &Kernel) {
        let image = self.manager.family().initramfs(kernel);
        let path = self.root.find(&self.place(kernel), "-name 'bbswitch.ko*'").remove(0);
        let listed = self.root.run(&format!("lsinitrd {image}")).ok().stdout;
        assert!(listed.contains(path.trim_start_matches('/')), "{path} is not in {image}\n{listed}");
        self.root.run(&format!("lsinitrd -f {path} {image} | cmp - {path}")).ok();
    }
}

#[track_caller]
fn expect_counts(counts: &Counts, builds: usize, depmods: usize, initramfs: usize) {
    let found = (counts.builds, counts.depmods, counts.initramfs);
    assert_eq!(found, (builds, depmods, initramfs), "builds, depmods, initramfs by us\n{counts:#?}");
}

fn words(packages: &[&str]) -> Vec<String> {
    packages.iter().map(|package| (*package).to_owned()).collect()
}

/// A machine's life in seven transactions.
fn story(manager: Manager) {
    let machine = Machine::new(manager);
    let Machine { root, older, newer, .. } = &machine;
    let counters = Counters::install(root);

    // Modules are registered; there is no kernel yet.
    machine.install(&words(&["dkms-bbswitch-1.0", "dkms-acpi-call-1.0"]), 0);
    expect_counts(&counters.take(), 0, 0, 0);

    // A kernel without its headers: nothing fails, and the package to install is named.
    let mut packages = machine.packages(older);
    let devel = packages.split_off(packages.len() - 1);
    let headers =
        if manager.family().packages().len() == 2 { "kernel-default-devel" } else { "kernel-devel-" };
    machine.install(&packages, 0).says(&["put off", headers]);
    expect_counts(&counters.take(), 0, 0, 0);

    // The headers come later. The initramfs was made without the modules.
    machine.install(&devel, 0).says(&["2 modules installed"]);
    expect_counts(&counters.take(), 2, 1, 1);
    machine.expect_modules(older, &["bbswitch/1.0", "acpi-call/1.0"]);
    machine.expect_initramfs(older);

    // A module's package is upgraded: the old one serves until the new one is there.
    let watch = Watch::on(root, &format!("{}/acpi_call.ko*", machine.place(older)));
    machine.install(&words(&["dkms-acpi-call-2.0"]), 0);
    watch.expect_never_missing();
    expect_counts(&counters.take(), 1, 1, 0);
    machine.expect_modules(older, &["bbswitch/1.0", "acpi-call/2.0"]);

    // A kernel and a module in one transaction: each module once for each kernel that lacks it.
    let watch = Watch::on(root, &format!("{}/bbswitch.ko*", machine.place(older)));
    let mut packages = machine.packages(newer);
    if manager == Manager::Rpm {
        root.run(&format!(
            "rpm -U --oldpackage --nosignature /opt/repo/noarch/dkms-bbswitch-2.0*.rpm && rpm -i --nosignature {}",
            packages.iter().map(|name| format!("/opt/repo/*/{name}*.rpm")).collect::<Vec<_>>().join(" ")
        ))
        .ok();
    } else {
        packages.push("dkms-bbswitch-2.0".to_owned());
        machine.install(&packages, 0);
    }
    watch.expect_never_missing();
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (3, 2), "{counts:#?}");
    for kernel in [older, newer] {
        machine.expect_modules(kernel, &["bbswitch/2.0", "acpi-call/2.0"]);
        machine.expect_initramfs(kernel);
    }

    // A module that does not compile: the run succeeds, and says what failed.
    machine.install(&words(&["dkms-broken"]), 0).says(&["FAILED: broken/1.0", "no_such_symbol_here"]);
    assert_eq!(counters.take().builds, 2, "once for each kernel");
    root.run("dkms history").ok().says(&["FAILED"]);

    // The older kernel goes, and takes with it what was built for it.
    let names: Vec<String> = machine.packages(older);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    manager.remove(root, &names).ok();
    let left = root.find(&older.modules_dir(), "");
    assert_eq!(left, [""; 0], "nothing may stay of a kernel that is gone");
    let left = root.find("/var/lib/dkms", &format!("-path '*{}*' -not -path '*/history/*'", older.release));
    assert_eq!(left, [""; 0], "nothing may stay of a kernel that is gone");
    machine.expect_modules(newer, &["bbswitch/2.0", "acpi-call/2.0"]);

    // The modules go.
    counters.take();
    manager.remove(root, &["dkms-bbswitch", "dkms-acpi-call", "dkms-broken"]).ok();
    assert_eq!(root.find(&machine.place(newer), "-name '*.ko*'"), [""; 0]);
    assert_eq!(root.status(), []);
    assert_eq!(root.find("/var/lib/dkms", "-maxdepth 1 -mindepth 1 -type d ! -name .dkms-rs"), [""; 0]);
    assert_eq!(counters.take().builds, 0);
}

#[test]
fn dnf4_brings_and_takes_kernels_and_modules() {
    story(Manager::Dnf4);
}

#[test]
fn dnf5_brings_and_takes_kernels_and_modules() {
    story(Manager::Dnf5);
}

#[test]
fn zypper_brings_and_takes_kernels_and_modules() {
    story(Manager::Zypper);
}

#[test]
fn rpm_brings_and_takes_kernels_and_modules() {
    story(Manager::Rpm);
}

/// All at once on a machine that has nothing: the order is the package manager's.
fn everything_at_once(manager: Manager) {
    let machine = Machine::new(manager);
    let counters = Counters::install(&machine.root);
    let mut packages = machine.packages(&machine.newer);
    packages.extend(words(&["dkms-bbswitch-1.0", "dkms-acpi-call-1.0"]));
    machine.install(&packages, 0);
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (2, 1), "{counts:#?}");
    machine.expect_modules(&machine.newer, &["bbswitch/1.0", "acpi-call/1.0"]);
    machine.expect_initramfs(&machine.newer);
}

#[test]
fn dnf5_everything_at_once() {
    everything_at_once(Manager::Dnf5);
}

#[test]
fn zypper_by_package_everything_at_once() {
    everything_at_once(Manager::ZypperByPackage);
}

/// A module that the admin cannot do without is the only one that makes a run fail; the kernel is there all the same.
fn critical(manager: Manager, code: i32) {
    let machine = Machine::new(manager);
    machine.root.write("/etc/dkms/policy.toml", "critical = [\"broken\"]\n");
    machine.install(&words(&["dkms-broken"]), 0);
    machine
        .install(&machine.packages(&machine.newer), code)
        .says(&["FAILED (critical): broken/1.0", "no_such_symbol_here"]);
    assert!(
        machine.root.exists(&machine.manager.family().initramfs(&machine.newer)),
        "the kernel is bootable"
    );
}

#[test]
fn a_critical_module_fails_the_run() {
    critical(Manager::Dnf4, 1);
    critical(Manager::Dnf5, 1);
    critical(Manager::Zypper, 107);
}

/// dnf goes on without a core, and with one that dies.
#[test]
fn a_missing_or_crashing_core_takes_nobody_down() {
    let dnf4 = Machine::new(Manager::Dnf4);
    let root = &dnf4.root;
    root.run("mv /usr/lib/dkms/dnf-hook /usr/lib/dkms/away").ok();
    dnf4.install(&dnf4.packages(&dnf4.newer), 0).says(&["kernel modules were not looked at"]);
    root.write_script("/usr/lib/dkms/dnf-hook", "#!/bin/sh\nkill -SEGV $$\n");
    dnf4.install(&words(&["dkms-bbswitch-1.0"]), 0).says(&["was ended by signal 11"]);
    // What was missed is made up for by the next transaction that brings headers or a kernel.
    root.run("mv /usr/lib/dkms/away /usr/lib/dkms/dnf-hook").ok();
    root.run(&format!("dnf -y --releasever=1 reinstall kernel-devel-{}", version(&dnf4.newer))).ok();
    dnf4.expect_modules(&dnf4.newer, &["bbswitch/1.0"]);
}

/// The package installs where rpm is older, too, and its hook runs.
#[test]
fn rpm_of_debian_13_installs_the_package() {
    let suite = dkms_tests::Suite::trixie();
    let layer = suite.base().prepared("rpm-only", "1", |root| {
        root.apt_install(&["rpm"]).ok();
    });
    let root = Root::on(&layer);
    root.copy_in(&dkms_tests::host::product_rpm(), "/opt/dkms-rs.rpm");
    root.run("rpm -i --nosignature --nodeps /opt/dkms-rs.rpm").ok();
    root.run("dkms --version").ok();
    root.run("/usr/lib/dkms/rpm-trigger transaction-end </dev/null").ok().quiet_stdout();
    root.run("rpm -e dkms-rs").ok();
    assert_eq!(root.find("/usr/lib/dkms", ""), [""; 0]);
}

/// The kernel that dnf brought boots, and loads the module that was built in its transaction.
#[test]
fn a_kernel_of_dnf_boots_and_loads_its_module() {
    let machine = Machine::new(Manager::Dnf5);
    let mut packages = machine.packages(&machine.newer);
    packages.push("dkms-acpi-call-1.0".to_owned());
    machine.install(&packages, 0);
    let release = &machine.newer.release;
    machine.root.run(&format!("cp /usr/lib/modules/{release}/vmlinuz /boot/vmlinuz-{release}")).ok();
    let console = dkms_tests::boot::boot_and_load(&machine.root, &machine.newer, "acpi_call");
    for wanted in ["LOADED acpi_call", "PROC acpi_call"] {
        assert!(console.contains(wanted), "{wanted:?} is not on the console\n{console}");
    }
}

/// dnf is killed in the middle of a build: the next run finishes.
#[test]
fn a_killed_transaction_is_made_up_for() {
    let machine = Machine::new(Manager::Dnf4);
    let root = &machine.root;
    machine.install(&words(&["dkms-bbswitch-1.0"]), 0);
    let list = machine.packages(&machine.newer).join(" ");
    let killed = root.run(&format!(
        "dnf -y --releasever=1 install {list} >/tmp/killed 2>&1 & dnf=$!\n\
         for i in $(seq 600); do grep -qx make /proc/[0-9]*/comm 2>/dev/null && break; sleep 0.1; done\n\
         kill -KILL $dnf\n\
         for comm in $(grep -lx dnf-hook /proc/[0-9]*/comm 2>/dev/null); do kill -KILL $(echo $comm | tr -dc 0-9); echo struck; done\n\
         wait $dnf; echo dnf ended with $?; sleep 1"
    ));
    killed.ok().says(&["struck", "dnf ended with 137"]);
    root.run(&format!(
        "rpm --rebuilddb; dnf -y --releasever=1 reinstall {list} || dnf -y --releasever=1 install {list}"
    ))
    .ok();
    machine.expect_modules(&machine.newer, &["bbswitch/1.0"]);
}
