//! Ahead of an upgrade: modules are built for what the package manager would install, before anybody installs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::photograph::Photograph;
use dkms_tests::{Kernel, Root, Suite, stage};

/// What `--json` prints is valid against the shipped schemas.
#[path = "../../core/tests/support/schemas.rs"]
mod schemas;

/// Files that apt always writes: archives, its index of them, its logs.
const APTS: [&str; 2] = ["/var/cache/apt", "/var/log"];
const AHEAD: &str = "dkms preflight --upcoming";
const PROGRAM: &str = "/usr/lib/dkms/upcoming";

/// A module that compiles, one that does not, and the meta packages of a kernel, in a version that is older than the
/// archive's: the next upgrade brings the kernel.
fn before_an_upgrade(suite: &'static Suite) -> (Root, Kernel) {
    let (root, kernel) = stage::fine_and_broken(suite);
    root.run("dkms generate_mok").ok();
    let packages = ["linux-image-cloud-amd64", "linux-headers-cloud-amd64"].map(|name| {
        let control = format!(
            "Package: {name}\nVersion: 0~old\nArchitecture: amd64\nMaintainer: tests\nDescription: an older one\n"
        );
        root.write(&format!("/opt/{name}/DEBIAN/control"), control);
        root.run(&format!("dpkg-deb --root-owner-group -b /opt/{name} /opt/{name}.deb")).ok();
        format!("/opt/{name}.deb")
    });
    root.run(&format!("dpkg -i {}", packages.join(" "))).ok();
    (root, kernel)
}

/// Logs the verbs with which the adapter's program is called.
fn listen(root: &Root) {
    root.run(&format!("mv {PROGRAM} {PROGRAM}.real")).ok();
    root.write_script(PROGRAM, &format!("#!/bin/sh\necho \"$1\" >>/opt/verbs\nexec {PROGRAM}.real \"$@\"\n"));
}

fn verbs(root: &Root) -> String {
    root.run("cat /opt/verbs; rm -f /opt/verbs").stdout.replace('\n', " ").trim().to_owned()
}

fn told(root: &Root) -> serde_json::Value {
    schemas::valid("upcoming", &root.run("dkms upcoming --json").stdout)
}

fn ready(document: &serde_json::Value) -> Vec<(String, bool)> {
    let modules = document["modules"].as_array().unwrap().iter();
    modules.map(|one| (one["module"]["name"].as_str().unwrap().to_owned(), one["ready"] == true)).collect()
}

fn ahead_then_upgrade(suite: &'static Suite) {
    let (root, kernel) = before_an_upgrade(suite);
    listen(&root);
    root.run("dkms upcoming").exits(0);
    let counters = Counters::install(&root);
    let before = Photograph::of(&root, &APTS);
    let told_now = root.run(&format!("{AHEAD} 2>&1")).exits(11);
    root.expect_log(&told_now.says(&["broken-net/1.0", "no_such_symbol_here", &kernel.release]));
    assert_eq!((counters.take().builds, verbs(&root).as_str()), (2, "list owners depends fetch"));
    before.expect_same(&Photograph::of(&root, &APTS));
    assert_eq!(root.find("/var/lib/dkms/.dkms-rs/incoming", "-mindepth 1"), [""; 0]);

    // Nothing new: nothing is built, nothing is downloaded.
    root.run(AHEAD).exits(11);
    assert_eq!((counters.take().builds, verbs(&root).as_str()), (0, "list owners depends"));
    root.run("dkms upcoming").exits(11).says(&[
        &format!("{}: 2 modules: 1 ready, 1 FAILED", kernel.release),
        "no_such_symbol_here",
        "dkms: available: ",
    ]);
    root.run("dkms upcoming -q").says(&["broken-net/1.0"]).never_says(&["fine", "available"]);
    root.run("dkms doctor").says(&["broken-net/1.0 does not build for", "which is available"]);
    let document = told(&root);
    assert_eq!(ready(&document), [("broken-net".into(), false), ("fine".into(), true)]);
    let names: Vec<&str> =
        document["packages"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&kernel.headers().as_str()) && !names.contains(&kernel.image().as_str()),
        "{names:?}"
    );

    // The upgrade installs what was built, and compiles nothing.
    let upgrade = root.run("apt-get -q -y full-upgrade 2>&1").ok();
    let upgrade = upgrade.says(&["continuing; failed modules do not block this transaction"]);
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (0, 1), "{upgrade}\n{counts:#?}");
    root.expect_installed(&["fine/1.0"], &kernel.release);
    root.expect_clean_dpkg();
    // What has arrived is not upcoming any more.
    assert_eq!(ready(&told(&root)), []);
    root.run(AHEAD).exits(0).says(&["no upgrade concerns kernels or modules"]);
    assert_eq!(counters.take().builds, 0);
}

#[test]
fn trixie_what_is_built_ahead_is_not_built_in_the_transaction() {
    ahead_then_upgrade(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_what_is_built_ahead_is_not_built_in_the_transaction() {
    ahead_then_upgrade(Suite::bookworm());
}

#[test]
fn what_goes_wrong_ahead_is_said_and_nothing_is_ready_that_is_not() {
    let (root, kernel) = before_an_upgrade(Suite::trixie());
    let counters = Counters::install(&root);
    root.write("/etc/dkms/policy.toml", "ahead = false\n");
    root.run(AHEAD).exits(0).says(&["ahead = false in policy.toml"]);
    root.write("/etc/dkms/policy.toml", format!("skip_kernels = [\"{}\"]\n", kernel.release));
    root.run(AHEAD).exits(0);
    assert_eq!((counters.take().builds, ready(&told(&root))), (0, vec![]));
    root.run("rm /etc/dkms/policy.toml").ok();

    // Another transaction holds the lock: it does not wait, and fails nothing.
    root.start("exec 9<>/var/lib/dkms/.dkms-rs/lock; flock -x 9; touch /opt/held; sleep 600 & echo $! >/opt/sleeper; wait");
    root.run("until [ -e /opt/held ]; do sleep 0.1; done").ok();
    root.run(AHEAD).exits(0).says(&["another transaction has priority"]);
    assert_eq!(counters.take().builds, 0);
    root.run("kill $(cat /opt/sleeper); until flock -n /var/lib/dkms/.dkms-rs/lock true; do sleep 0.1; done")
        .ok();

    // A transaction begins while it builds: it gives way at once.
    root.write("/usr/src/slow-1.0/dkms.conf", "PACKAGE_NAME=slow\nPACKAGE_VERSION=1.0\nAUTOINSTALL=yes\nMAKE=\"sleep 500\"\nBUILT_MODULE_NAME=slow\nDEST_MODULE_LOCATION=/updates\n");
    root.run("dkms add slow/1.0").ok();
    root.start(&format!("{AHEAD} >/opt/ahead 2>&1; echo $? >/opt/code"));
    root.run("until grep -q building /opt/ahead; do sleep 0.1; done; sleep 1").ok();
    root.run("dkms remove slow/1.0 --all").ok();
    root.run("until [ -s /opt/code ]; do sleep 0.1; done; cat /opt/ahead; exit $(cat /opt/code)")
        .exits(0)
        .says(&["another transaction has priority"]);
    root.run("! grep -qx sleep /proc/[0-9]*/comm").ok();
    counters.take();

    // The network is gone: what is known is not taken for more than it is.
    root.run("mkdir /opt/lists && mv /etc/apt/sources.list* /opt && echo 'deb [trusted=yes] http://127.0.0.1:9/ none main' >/etc/apt/sources.list").ok();
    root.run("find /var/cache/apt/archives -name '*.deb' -delete").ok();
    let lost = root.run(AHEAD);
    assert!(lost.status == 0 || lost.all().contains("failed"), "{lost}");
    assert_eq!(ready(&told(&root)).iter().filter(|(_, ready)| *ready).count(), 0);
    root.run("rm /etc/apt/sources.list; mv /opt/sources.list* /etc/apt").ok();

    // Killed while it builds: the next one completes.
    root.run("dkms add slow/1.0").ok();
    root.start(&format!("{AHEAD} >/opt/killed 2>&1"));
    root.run("until grep -qs building /opt/killed; do sleep 0.1; done; sleep 1").ok();
    root.run(
        "for comm in $(grep -lx dkms /proc/[0-9]*/comm); do kill -KILL $(echo $comm | cut -d / -f 3); done",
    )
    .ok();
    root.run("dkms remove slow/1.0 --all").ok();
    root.run(AHEAD).exits(11);
    assert_eq!(ready(&told(&root)), [("broken-net".into(), false), ("fine".into(), true)]);
    assert_eq!(root.find("/var/lib/dkms/.dkms-rs/incoming", "-mindepth 1"), [""; 0]);

    // The source changes between the run and the upgrade: the upgrade builds what it installs.
    counters.take();
    root.run("echo '/* new */' >>/usr/src/fine-1.0/fine.c").ok();
    root.run("apt-get -q -y full-upgrade 2>&1").ok();
    assert_eq!(counters.take().builds, 1, "fine/1.0 is built from its new source");
    root.expect_installed(&["fine/1.0"], &kernel.release);
}
