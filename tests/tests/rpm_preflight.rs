//! The pre-build on machines with dnf: modules are built for packages before dnf installs them, while it can still be
//! stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::photograph::Photograph;
use dkms_tests::rpm::{Machine, Manager};
use dkms_tests::{Output, Root};

/// Files that dnf always writes: package files, its index of them, its logs. Reading rpm's and its own databases writes
/// shared-memory files next to them, and dnf4 changes the time of its own.
const DNFS: [&str; 6] = [
    "/var/cache/dnf",
    "/var/cache/libdnf5",
    "/var/log",
    "/var/lib/rpm/rpmdb.sqlite-shm",
    "/var/lib/dnf/history.sqlite-shm",
    HISTORY,
];
const HISTORY: &str = "/var/lib/dnf/history.sqlite";
const HOLD: &str = "on_unbuildable = \"hold\"\n";

/// Every file of a root, byte for byte, except for those that dnf always writes; and the content of dnf4's history.
fn photograph(root: &Root) -> (Photograph, String) {
    let history = root.run(&format!("cat {HISTORY} 2>/dev/null | sha256sum")).ok().stdout;
    (Photograph::of(root, &DNFS), history)
}

#[track_caller]
fn expect_same(root: &Root, before: &(Photograph, String)) {
    let now = photograph(root);
    before.0.expect_same(&now.0);
    assert_eq!(before.1, now.1, "dnf's history");
}

fn kernel_comes(machine: &Machine, code: i32) -> Output {
    machine.install(&machine.packages(&machine.newer), code)
}

#[track_caller]
fn expect_nothing_unpacked(root: &Root) {
    assert_eq!(root.find("/var/lib/dkms/.dkms-rs/incoming", "-mindepth 1"), [""; 0]);
}

fn held(manager: Manager) {
    let machine = Machine::registered(manager);
    let Machine { root, newer, .. } = &machine;
    root.write("/etc/dkms/policy.toml", HOLD);
    let counters = Counters::install(root);
    let before = photograph(root);
    let told = kernel_comes(&machine, 1).says(&[
        "transaction aborted, nothing changed",
        "broken/1.0",
        &newer.release,
        "no_such_symbol_here",
        "DKMS_ALLOW=broken",
    ]);
    root.expect_log(&told);
    assert_eq!(counters.take().builds, 2, "each module once");
    expect_same(root, &before);
    expect_nothing_unpacked(root);
    // The same command uses the recorded failure, and continues when this is requested.
    kernel_comes(&machine, 1).says(&["not retried: inputs unchanged"]);
    root.run("rpm -q kernel-core").fails();
    let dnf = if manager == Manager::Dnf5 { "dnf5" } else { "dnf" };
    let packages = machine.packages(newer).join(" ");
    root.run(&format!("DKMS_ALLOW=broken {dnf} -y --releasever=1 install {packages}")).ok();
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (0, 1), "{counts:#?}");
    machine.expect_modules(newer, &["bbswitch/1.0"]);
    machine.expect_initramfs(newer);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn a_module_that_is_held_stops_dnf4_before_anything_is_changed() {
    held(Manager::Dnf4);
}

#[test]
fn a_module_that_is_held_stops_dnf5_before_anything_is_changed() {
    held(Manager::Dnf5);
}

fn warned(manager: Manager) {
    let machine = Machine::registered(manager);
    let Machine { root, newer, .. } = &machine;
    let counters = Counters::install(root);
    let told = kernel_comes(&machine, 0)
        .says(&["FAILED: broken/1.0", "continuing; failed modules do not block this transaction"]);
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (2, 1), "each module once, in all: {counts:#?}");
    let built = told.stdout.find("bbswitch/1.0 built for").expect("it is built before");
    let installed =
        told.stdout.rfind("1 installed, 1 FAILED (dkms history show").expect("it is installed later");
    assert!(built < installed, "{told}");
    machine.expect_modules(newer, &["bbswitch/1.0"]);
    machine.expect_initramfs(newer);
    expect_nothing_unpacked(root);
}

#[test]
fn otherwise_dnf4_goes_on_and_each_module_is_compiled_once() {
    warned(Manager::Dnf4);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn otherwise_dnf5_goes_on_and_each_module_is_compiled_once() {
    warned(Manager::Dnf5);
}

/// A module's new version is built before it replaces the installed one; files on the command line are included.
fn new_version(manager: Manager) {
    let machine = Machine::new(manager);
    let Machine { root, newer, .. } = &machine;
    machine.install(&machine.packages(newer), 0);
    root.write("/opt/module.sh", include_str!("../src/rpm/module.sh"));
    let sources = |version: &str| dkms_tests::modules::Sources::new("picky", version);
    for (version, sources) in [("1.0", sources("1.0")), ("2.0", sources("2.0").broken())] {
        sources.unpack_at(root, "/opt/picky");
        root.run(&format!("bash /opt/module.sh picky {version} /opt/picky /root/rpms")).ok();
    }
    let dnf = if manager == Manager::Dnf5 { "dnf5" } else { "dnf" };
    let install = |version: &str| {
        root.run(&format!(
            "cd /root/rpms && {dnf} -y --releasever=1 install ./noarch/dkms-picky-{version}*.rpm 2>&1"
        ))
    };
    install("1.0").ok();
    machine.expect_modules(newer, &["picky/1.0"]);
    root.write("/etc/dkms/policy.toml", "[module.picky]\non_unbuildable = \"hold\"\n");
    // Before the failure: it is remembered only as long as the same make and compiler run.
    let counters = Counters::install(root);
    let before = photograph(root);
    install("2.0").exits(1).says(&["transaction aborted", "picky/2.0", "picky/1.0 remains installed"]);
    expect_same(root, &before);
    // Without a setting of the admin's, the package is installed, and the previous module is kept.
    root.run("rm /etc/dkms/policy.toml").ok();
    counters.take();
    install("2.0").ok();
    assert_eq!(counters.take().builds, 0, "it was tried before");
    assert!(!root.find(&machine.place(newer), "-name 'picky.ko*'").is_empty());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn dnf4_tries_a_new_version_of_a_module_before_it_replaces_the_old_one() {
    new_version(Manager::Dnf4);
}

#[test]
fn dnf5_tries_a_new_version_of_a_module_before_it_replaces_the_old_one() {
    new_version(Manager::Dnf5);
}

/// A pre-build that could not run does not abort the transaction, and is reported in one line.
fn untried(manager: Manager) {
    let machine = Machine::registered(manager);
    let Machine { root, newer, .. } = &machine;
    root.write("/etc/dkms/policy.toml", HOLD);
    root.run("mv /usr/lib/dkms/dnf-hook /usr/lib/dkms/away").ok();
    root.write_script(
        "/usr/lib/dkms/dnf-hook",
        "#!/bin/sh\ncase $1 in *-before) kill -SEGV $$ ;; esac\nexec /usr/lib/dkms/away \"$@\"\n",
    );
    let told = kernel_comes(&machine, 0);
    let heard = format!(
        "{}{}",
        told.stdout,
        if manager == Manager::Dnf5 { root.read("/var/log/dnf5.log") } else { String::new() }
    );
    assert!(heard.lines().any(|line| line.contains("dkms:") && line.contains("dnf-hook")), "{told}");
    machine.expect_modules(newer, &["bbswitch/1.0"]);
}

#[test]
fn dnf4_goes_on_when_nothing_could_be_tried() {
    untried(Manager::Dnf4);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn dnf5_goes_on_when_nothing_could_be_tried() {
    untried(Manager::Dnf5);
}
