//! What dnf4, dnf5, zypper and rpm do with kernels and modules, transaction by transaction: every module is built once, its
//! index is made once, the initramfs has it, and the run ends as it would without modules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::{Counters, Counts};
use dkms_tests::rpm::{Family, Machine, Manager, files};
use dkms_tests::watch::Watch;
use dkms_tests::{Root, history};

#[track_caller]
fn expect_counts(counts: &Counts, builds: usize, depmods: usize, initramfs: usize) {
    let found = (counts.builds, counts.depmods, counts.initramfs);
    assert_eq!(found, (builds, depmods, initramfs), "builds, depmods, initramfs by us\n{counts:#?}");
}

/// How many initramfs were made, by whomever.
fn images_made(counts: &Counts) -> usize {
    counts.lines.iter().filter(|line| line.starts_with("dracut ")).count()
}

/// In how many recorded transactions something ended so.
fn recorded(root: &Root, outcome: &str) -> usize {
    let transactions = history::transactions(root);
    let ended_so = |id: &&String| history::entries(root, id).iter().any(|entry| entry.outcome == outcome);
    transactions.iter().filter(ended_so).count()
}

/// A machine's life in eight transactions.
fn story(manager: Manager) {
    let machine = Machine::new(manager);
    let Machine { root, older, newer, .. } = &machine;
    let fedora = manager.family() == Family::Fedora;
    let counters = Counters::install(root);

    // Modules are registered; there is no kernel yet.
    // The one that runs is another system's: nobody is told to install its headers.
    machine.install(&["dkms-bbswitch-1.0", "dkms-acpi-call-1.0"], 0).never_says(&["deferred"]);
    expect_counts(&counters.take(), 0, 0, 0);

    // A kernel without its headers: nothing fails, and the package to install is named, once.
    let mut packages = machine.packages(older);
    let devel = packages.split_off(packages.len() - 1);
    let headers = if fedora { format!("kernel-devel-{older}") } else { "kernel-amd64-devel".to_owned() };
    let said = machine.install(&packages, 0).says(&["2 modules deferred", &format!("install {headers}")]);
    assert_eq!(said.stdout.matches("dkms: deferred for").count(), 1, "{said}");
    assert_eq!(recorded(root, "deferred"), 1);
    expect_counts(&counters.take(), 0, 0, 0);

    // The headers come later. The initramfs was made without the modules.
    machine.install(&devel, 0).says(&["2 modules installed"]);
    expect_counts(&counters.take(), 2, 1, 1);
    machine.expect_modules(older, &["bbswitch/1.0", "acpi-call/1.0"]);
    machine.expect_initramfs(older);

    // A module's package is upgraded: the old one serves until the new one is there.
    let watch = Watch::on(root, &format!("{}/acpi_call.ko*", machine.place(older)));
    machine.install(&["dkms-acpi-call-2.0"], 0);
    watch.expect_never_missing();
    expect_counts(&counters.take(), 1, 1, 0);
    machine.expect_modules(older, &["bbswitch/1.0", "acpi-call/2.0"]);

    // A kernel and a module in one transaction: each module once for each kernel that lacks it.
    let watch = Watch::on(root, &format!("{}/bbswitch.ko*", machine.place(older)));
    let mut packages = machine.packages(newer);
    if manager == Manager::Rpm {
        // rpm would take the older kernel away for the newer one.
        let module = files(&["dkms-bbswitch-2.0"]);
        let kernel = files(&packages);
        root.run(&format!("rpm -U --nosignature {module} && rpm -i --nosignature {kernel}")).ok();
    } else {
        packages.push("dkms-bbswitch-2.0".to_owned());
        machine.install(&packages, 0);
    }
    watch.expect_never_missing();
    // The older kernel's initramfs has the old bbswitch; the newer one's is made by the kernel's own scripts, on openSUSE
    // before we are asked.
    let counts = counters.take();
    expect_counts(&counts, 3, 2, if fedora { 1 } else { 2 });
    assert_eq!(images_made(&counts), if fedora { 2 } else { 3 }, "{counts:#?}");
    for kernel in [older, newer] {
        machine.expect_modules(kernel, &["bbswitch/2.0", "acpi-call/2.0"]);
        machine.expect_initramfs(kernel);
    }

    // A module that does not compile: the run succeeds, and says what failed.
    let said = machine.install(&["dkms-broken"], 0).says(&[
        "FAILED: broken/1.0",
        "no_such_symbol_here",
        "full log:",
    ]);
    expect_counts(&counters.take(), 2, 0, 0);
    root.run("dkms history").ok().says(&["FAILED"]);
    assert_eq!(recorded(root, "failed"), 1);
    match manager {
        // Below the list of packages, which is what a person reads last.
        Manager::Dnf4 => {
            let (list, summary) = (said.stdout.find("Installed:"), said.stdout.rfind("FAILED: broken/1.0"));
            assert!(list.is_some() && list < summary, "{said}");
        }
        Manager::Dnf5 => {
            let log = root.read("/var/log/dnf5.log");
            let warned =
                |line: &&str| line.contains(" WARNING Actions plugin: ") && line.contains(": dkms: ");
            let last = log.lines().rfind(warned).and_then(|line| log.rfind(line));
            assert!(last.is_some() && last < log.rfind("FAILED: broken/1.0"), "{log}");
            // And somebody at a terminal reads it last, too.
            let (_, rest) = said.stdout.rsplit_once("dkms: FAILED: broken/1.0").expect("it is said");
            assert!(!rest.contains("100%") && rest.contains("Complete!"), "{said}");
        }
        _ => {}
    }

    // The older kernel goes, and takes with it what was built for it.
    machine.remove(&machine.packages(older));
    machine.expect_gone(older);
    machine.expect_modules(newer, &["bbswitch/2.0", "acpi-call/2.0"]);
    expect_counts(&counters.take(), 0, 0, 0);

    // The modules go.
    machine.remove(&["dkms-bbswitch", "dkms-acpi-call", "dkms-broken"]);
    assert_eq!(root.find(&machine.place(newer), "-name '*.ko*'"), [""; 0]);
    assert_eq!(root.status(), []);
    assert_eq!(root.find("/var/lib/dkms", "-maxdepth 1 -mindepth 1 -type d ! -name .dkms-rs"), [""; 0]);
    let counts = counters.take();
    // Each package's own script takes its module away.
    assert_eq!((counts.builds, counts.depmods), (0, 2), "{counts:#?}");
    let index = root.read(&format!("{}/modules.dep", newer.modules_dir()));
    assert!(!index.contains("bbswitch") && !index.contains("acpi_call"), "{index}");
}

#[test]
#[ignore = "long: run by `make test-long`"]
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
#[ignore = "long: run by `make test-long`"]
fn rpm_brings_and_takes_kernels_and_modules() {
    story(Manager::Rpm);
}

/// All at once on a machine that has nothing: the order is the package manager's.
fn everything_at_once(machine: &Machine) {
    let counters = Counters::install(&machine.root);
    let mut packages = machine.packages(&machine.newer);
    packages.extend(["dkms-bbswitch-1.0", "dkms-acpi-call-1.0"].map(str::to_owned));
    machine.install(&packages, 0).says(&["2 modules installed"]);
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (2, 1), "{counts:#?}");
    // Fedora's kernels make theirs when the modules are there; openSUSE's before, so that it is remade, unless scripts that come
    // after everything come after transactions, too.
    let fedora = machine.manager.family() == Family::Fedora || machine.manager == Manager::ZypperByPackage;
    assert_eq!((counts.initramfs, images_made(&counts)), if fedora { (0, 1) } else { (1, 2) }, "{counts:#?}");
    machine.expect_modules(&machine.newer, &["bbswitch/1.0", "acpi-call/1.0"]);
    machine.expect_initramfs(&machine.newer);
}

/// Replaces our hook by one that writes down which programs it starts when it is called so.
fn trace(root: &Root, verb: &str) {
    root.run("mkdir /usr/lib/dkms/real && mv /usr/lib/dkms/dnf-hook /usr/lib/dkms/real/").ok();
    root.write_script(
        "/usr/lib/dkms/dnf-hook",
        &format!(
            "#!/bin/sh\nreal=/usr/lib/dkms/real/dnf-hook\n[ \"$1\" = {verb} ] || exec $real \"$@\"\n\
             exec strace -f -qq -e trace=execve -e status=successful -o /var/tmp/traced $real \"$@\"\n"
        ),
    );
}

/// Where the kernel's own script has called us, the last trigger finds nothing to do, and starts nothing to find that out; nor
/// does dnf's plugin.
fn everything_at_once_and_idle_afterwards(manager: Manager, verb: &str) {
    let machine = Machine::new(manager);
    trace(&machine.root, verb);
    everything_at_once(&machine);
    let traced = machine.root.read("/var/tmp/traced");
    assert_eq!(traced.lines().count(), 1, "the hook starts nobody\n{traced}");
    assert!(traced.contains(verb), "{traced}");
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn dnf4_everything_at_once() {
    everything_at_once_and_idle_afterwards(Manager::Dnf4, "dnf4");
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn dnf5_everything_at_once() {
    everything_at_once_and_idle_afterwards(Manager::Dnf5, "transaction-end");
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn zypper_everything_at_once() {
    everything_at_once(&Machine::new(Manager::Zypper));
}

#[test]
fn rpm_everything_at_once() {
    everything_at_once_and_idle_afterwards(Manager::Rpm, "transaction-end");
}

/// zypper as it was, and is where packages are downloaded one by one: each of them is a transaction of its own.
#[test]
fn zypper_by_package_everything_at_once() {
    let machine = Machine::new(Manager::ZypperByPackage);
    let root = &machine.root;
    root.run("mv /usr/bin/rpm /usr/bin/rpm.real").ok();
    root.write_script(
        "/usr/bin/rpm",
        "#!/bin/sh\necho \"$*\" >>/var/tmp/rpms\nexec /usr/bin/rpm.real \"$@\"\n",
    );
    everything_at_once(&machine);
    let calls = root.read("/var/tmp/rpms");
    let transactions: Vec<&str> = calls.lines().filter(|call| call.contains(".rpm")).collect();
    assert_eq!(transactions.len(), 4, "two packages of the kernel, two modules\n{calls}");
}

/// `rpm -U` of a kernel takes the older one away, in the very transaction that brings a module's upgrade.
#[test]
fn rpm_upgrade_replaces_kernel_and_module_together() {
    let machine = Machine::new(Manager::Rpm);
    let Machine { root, older, newer, .. } = &machine;
    let counters = Counters::install(root);
    let mut packages = machine.packages(older);
    packages.extend(["dkms-bbswitch-1.0", "dkms-acpi-call-1.0"].map(str::to_owned));
    machine.install(&packages, 0);
    expect_counts(&counters.take(), 2, 1, 0);
    let mut packages = machine.packages(newer);
    packages.push("dkms-bbswitch-2.0".to_owned());
    root.run(&format!("rpm -U --nosignature {} 2>&1", files(&packages))).ok().says(&["2 modules installed"]);
    let counts = counters.take();
    expect_counts(&counts, 2, 1, 0);
    assert_eq!(images_made(&counts), 1, "{counts:#?}");
    machine.expect_gone(older);
    machine.expect_modules(newer, &["bbswitch/2.0", "acpi-call/1.0"]);
    machine.expect_initramfs(newer);
}

/// The kernel that dnf brought boots, and loads the module that was built in its transaction.
#[test]
#[ignore = "long: run by `make test-long`"]
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
    machine.install(&["dkms-bbswitch-1.0"], 0);
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
