//! Ahead of an upgrade: modules are built for what the package manager would install, before anybody installs it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::photograph::Photograph;
use dkms_tests::rpm::{self, Manager};
use dkms_tests::{Kernel, Output, Root, Suite, pacman, stage};

/// What `--json` prints is valid against the shipped schemas.
#[path = "../../core/tests/support/schemas.rs"]
mod schemas;

/// Files that apt always writes: archives, its index of them, its logs.
const APTS: [&str; 2] = ["/var/cache/apt", "/var/log"];
const AHEAD: &str = "dkms preflight --upcoming";
const META: [&str; 2] = ["linux-image-cloud-amd64", "linux-headers-cloud-amd64"];
const PINS: &str = "/etc/apt/preferences.d/00-dkms.pref";
const INCOMING: &str = "/var/lib/dkms/.dkms-rs/incoming";
const PROGRAM: &str = "/usr/lib/dkms/upcoming";

/// A module that compiles, one that does not, and the meta packages of a kernel, in a version that is older than the
/// archive's: the next upgrade brings the kernel.
fn before_an_upgrade(suite: &'static Suite) -> (Root, Kernel) {
    let (root, kernel) = stage::fine_and_broken(suite);
    root.run("dkms generate_mok").ok();
    older(&root, &META);
    (root, kernel)
}

/// Packages of the archive, installed in a version that is older.
fn older(root: &Root, names: &[&str]) {
    for name in names {
        let control = format!(
            "Package: {name}\nVersion: 0~old\nArchitecture: amd64\nMaintainer: tests\nDescription: an older one\n"
        );
        root.write(&format!("/opt/{name}/DEBIAN/control"), control);
        root.run(&format!(
            "dpkg-deb --root-owner-group -b /opt/{name} /opt/{name}.deb && dpkg -i /opt/{name}.deb"
        ))
        .ok();
    }
}

/// Logs the verbs with which the adapter's program is called, but for the question what it keeps back.
fn listen(root: &Root) {
    root.run(&format!("mv {PROGRAM} {PROGRAM}.real")).ok();
    root.write_script(
        PROGRAM,
        &format!(
            "#!/bin/sh\n[ \"$1\" = in-force ] || echo \"$1\" >>/opt/verbs\nexec {PROGRAM}.real \"$@\"\n"
        ),
    );
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
    assert_eq!((counters.take().builds, verbs(&root).as_str()), (2, "state list owners depends fetch"));
    before.expect_same(&Photograph::of(&root, &APTS));
    assert_eq!(root.find(INCOMING, "-mindepth 1"), [""; 0]);

    // Nothing new: nothing is asked, built or downloaded.
    root.run(AHEAD).exits(11);
    assert_eq!((counters.take().builds, verbs(&root).as_str()), (0, "state"));
    root.run("dkms upcoming").exits(11).says(&[
        &format!("{}: 2 modules: 1 ready, 1 FAILED", kernel.release),
        "no_such_symbol_here",
        "dkms: available: ",
    ]);
    root.run("dkms upcoming -q").says(&["broken-net/1.0"]).never_says(&["fine", "asked at"]);
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

    // The disk is full.
    root.run(&format!("mount -t tmpfs -o size=8m none {INCOMING}")).ok();
    root.run(AHEAD).fails().says(&["downloading packages failed", "less than 512 MiB are free"]);
    root.run(&format!("umount {INCOMING}")).ok();
    root.run("dkms upcoming").says(&["the last run failed", "less than 512 MiB are free"]);
    assert_eq!(ready(&told(&root)).iter().filter(|(_, ready)| *ready).count(), 0);

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
    assert_eq!(root.find(INCOMING, "-mindepth 1"), [""; 0]);

    // The source changes between the run and the upgrade: the upgrade builds what it installs.
    counters.take();
    root.run("echo '/* new */' >>/usr/src/fine-1.0/fine.c").ok();
    root.run("apt-get -q -y full-upgrade 2>&1").ok();
    assert_eq!(counters.take().builds, 1, "fine/1.0 is built from its new source");
    root.expect_installed(&["fine/1.0"], &kernel.release);
}

/// The archive's packages are replaced by others with the same names and versions.
#[test]
#[ignore = "long: run by `make test-long`"]
fn packages_that_changed_since_are_not_taken_for_those_that_were_built_for() {
    let (root, kernel) = before_an_upgrade(Suite::trixie());
    root.run("dkms remove broken-net/1.0 --all").ok();
    root.run(AHEAD).exits(0);
    assert_eq!(ready(&told(&root)), [("fine".into(), true)]);
    let counters = Counters::install(&root);
    root.run(&format!(
        "cd /opt && apt-get -q download {headers} && dpkg-deb -R {headers}_*.deb other && rm {headers}_*.deb && \
         echo '/* other */' >>other/usr/src/{headers}/include/generated/autoconf.h && \
         dpkg-deb --root-owner-group -Znone -b other other.deb",
        headers = kernel.headers()
    ))
    .ok();
    let installed = root.run(&format!("apt-get -q -y install /opt/other.deb {} 2>&1", kernel.image())).ok();
    let installed = installed.never_says(&["are built already"]);
    assert_eq!(counters.take().builds, 1, "fine/1.0 is built with the other headers\n{installed}");
    root.expect_installed(&["fine/1.0"], &kernel.release);
}

/// What `dkms upcoming --json` says is kept back.
fn kept_back(root: &Root) -> Vec<String> {
    let told = told(root);
    let names =
        told["kept_back"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned());
    names.collect()
}

fn version(root: &Root, package: &str) -> String {
    root.run(&format!("dpkg-query -W -f='${{Version}}' {package}")).stdout
}

fn a_hold_keeps_only_the_kernel_back(suite: &'static Suite) {
    let (root, kernel) = before_an_upgrade(suite);
    root.apt_install(&["unattended-upgrades"]).ok();
    root.write("/etc/apt/apt.conf.d/99all", "Unattended-Upgrade::Origins-Pattern { \"origin=*\"; };\n");
    root.write("/etc/dkms/policy.toml", "on_unbuildable = \"hold\"\n");
    older(&root, &["hello"]);
    let kernel_waits = |bystander: &str| {
        assert_ne!(version(&root, bystander), "0~old", "everything else is upgraded");
        assert_eq!(META.map(|name| version(&root, name)), ["0~old", "0~old"], "the kernel waits");
        root.run(&format!("test ! -e /boot/vmlinuz-{}", kernel.release)).ok();
        root.expect_clean_dpkg();
    };

    // Found ahead: unattended-upgrades never meets it.
    root.run(&format!("{AHEAD} 2>&1")).exits(11).says(&[
        "linux-image-cloud-amd64",
        "are kept back: broken-net/1.0 does not build for",
        "upgrades install everything else",
    ]);
    let kept = kept_back(&root);
    for name in [META[0], META[1], &kernel.image(), &kernel.headers()] {
        assert!(kept.contains(&name.to_owned()), "{name}: {kept:?}");
    }
    root.run("unattended-upgrade -v 2>&1").ok().never_says(&["FAILED", "aborted"]);
    kernel_waits("hello");
    root.run("dkms status 2>&1").says(&["are kept back: broken-net/1.0 does not build for", "(since 20"]);
    let said = root.run("/etc/update-motd.d/85-dkms").ok();
    let said = said.says(&["broken-net/1.0 does not build for", "no_such_symbol_here", "are kept back"]);
    assert_eq!(said.stdout.lines().count(), 2, "{said}");
    // It stays while nothing changes, and nothing is asked again.
    listen(&root);
    root.run(AHEAD).exits(11);
    assert_eq!(verbs(&root), "state list owners depends list keep-back", "other packages were installed");
    root.run(AHEAD).exits(11);
    assert_eq!((verbs(&root).as_str(), kept_back(&root)), ("state", kept));

    // A hold that has lasted long enough ends, and does not begin again.
    for policy in ["hold_days = 0\n", "hold_days = 0 # still\n"] {
        root.write("/etc/dkms/policy.toml", format!("on_unbuildable = \"hold\"\n{policy}"));
        root.run(AHEAD).exits(11);
        assert_eq!((kept_back(&root), root.find(PINS, "")), (vec![], vec![]), "{policy}");
    }

    // The administrator decides otherwise, and changes his mind. Without an ahead run, one upgrade is aborted.
    root.write("/etc/dkms/policy.toml", "ahead = false\n");
    root.run(AHEAD).exits(0);
    root.run(&format!("test ! -e {PINS}")).ok();
    root.write("/etc/dkms/policy.toml", "ahead = false\non_unbuildable = \"hold\"\n");
    older(&root, &["tree"]);
    let upgrade = "apt-get -q -y full-upgrade 2>&1";
    root.run(upgrade).exits(100).says(&[
        "dkms: transaction aborted, nothing changed: broken-net does not build for",
        "to install the rest: run the same command again, without a kernel that it names (kept back: ",
    ]);
    root.run(upgrade).ok().says(&["are kept back: broken-net/1.0 does not build"]).never_says(&["aborted"]);
    kernel_waits("tree");

    // A version of the module that builds: nothing is kept back any more.
    let fixed = Sources::new("broken-net", "1.1").package(&root);
    root.run(&format!("apt-get -q -y install {fixed} 2>&1"))
        .ok()
        .says(&["no longer kept back: linux-headers-cloud-amd64, linux-image-cloud-amd64"]);
    assert_eq!(root.find("/etc/apt/preferences.d", "-type f"), [""; 0]);
    // What was proven ahead without a failure is not proven again in the transaction.
    root.write("/etc/dkms/policy.toml", "on_unbuildable = \"hold\"\n");
    // It replaces make: before the builds.
    let counters = Counters::install(&root);
    root.run(AHEAD).exits(0);
    counters.take();
    let upgraded = root.run(upgrade).ok();
    let upgraded = upgraded.says(&[&format!("dkms: all modules for {} are built already", kernel.release)]);
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (0, 1), "{upgraded}\n{counts:#?}");
    root.expect_installed(&["fine/1.0", "broken-net/1.1"], &kernel.release);
    assert_eq!(kept_back(&root), [""; 0]);
    root.expect_clean_dpkg();
}

/// Whatever is lost, edited, or set otherwise: what is said to be kept back is, and nothing else stays kept back.
#[test]
fn a_hold_is_what_is_said_of_it() {
    const RECORD: &str = "/var/lib/dkms/.dkms-rs/kept-back.json";
    const UPGRADE: &str = "apt-get -q -y full-upgrade 2>&1";
    let (root, kernel) = before_an_upgrade(Suite::trixie());
    let hold = "on_unbuildable = \"hold\"\n";
    root.write("/etc/dkms/policy.toml", hold);
    let simulated = || root.run("apt-get -s full-upgrade | grep '^Inst linux-'").stdout;
    let ahead = || root.run(&format!("{AHEAD} 2>&1")).exits(11);

    // A file of this name that is not ours stays as it is.
    root.write(PINS, "Package: hello\nPin: version 0*\nPin-Priority: 1001\n");
    root.run(&format!("{AHEAD} 2>&1")).exits(1).says(&["00-dkms.pref is not from dkms"]);
    assert!(root.read(PINS).starts_with("Package: hello"));
    root.run(&format!("rm {PINS}")).ok();

    // The failure is not forgotten: the next run keeps the kernel back, although nothing else has changed.
    ahead().says(&["are kept back: broken-net/1.0 does not build for"]);
    let (pins, kept) = (root.read(PINS), kept_back(&root));
    assert_eq!(simulated(), "");

    // What is lost or edited is written again.
    for damage in [
        format!("rm {PINS}"),
        format!("sed -i /linux-image/d {PINS}"),
        format!("rm {RECORD}"),
        format!("rm {PINS} {RECORD}"),
        format!("truncate -s 9 {RECORD}"),
        format!("rm {RECORD} && mkfifo {RECORD}"),
    ] {
        root.run(&damage).ok();
        let silent = damage == format!("rm {PINS} {RECORD}");
        assert!(silent || root.run("dkms doctor").stdout.contains("dkms has recorded"), "{damage}");
        ahead();
        assert_eq!((root.read(PINS), kept_back(&root)), (pins.clone(), kept.clone()), "{damage}");
        root.run("dkms doctor").never_says(&["dkms has recorded"]);
    }

    // Pins of the administrator that come later in the directory do not matter; those that come before it do, and are named.
    root.write("/etc/apt/preferences.d/50-mine", "Package: linux-*\nPin: release *\nPin-Priority: 900\n");
    ahead();
    assert_eq!(simulated(), "");
    root.write("/etc/apt/preferences", "Package: linux-*\nPin: release *\nPin-Priority: 990\n");
    root.run(&format!("{AHEAD} 2>&1")).exits(1).says(&["settings of apt have priority", "linux-image-"]);
    root.run(UPGRADE).exits(100).says(&["DKMS_ALLOW=broken-net"]).never_says(&["to install the rest"]);
    root.run("rm /etc/apt/preferences /etc/apt/preferences.d/50-mine").ok();
    ahead();
    assert_eq!(kept_back(&root), kept);

    // The image without its headers is the same kernel.
    root.run("dpkg -r linux-headers-cloud-amd64").ok();
    root.run(&format!("{AHEAD} 2>&1")).says(&[&kernel.release, "no module can be built for it"]);
    assert!(kept_back(&root).contains(&kernel.image()));
    assert_eq!(simulated(), "");
    older(&root, &META[1..]);

    // Asked for by name.
    let both = format!("{} {}", kernel.image(), kernel.headers());
    root.run(&format!("apt-get -q -y install {both} 2>&1")).exits(100).says(&["DKMS_ALLOW=broken-net"]);
    let simulated_by_name = root.run(&format!("DKMS_ALLOW=broken-net apt-get -s install {both}"));
    simulated_by_name.ok().says(&["Inst linux-image-"]);

    // It ends without automatic builds, too, and without a record.
    root.run("touch /etc/dkms/no-autoinstall").ok();
    root.write("/etc/dkms/policy.toml", format!("{hold}hold_days = 0\n"));
    root.run("dpkg -i /opt/linux-headers-cloud-amd64.deb && apt-get -q -y upgrade").ok();
    root.run(AHEAD).exits(0);
    assert_eq!((kept_back(&root), root.find(PINS, "")), (vec![], vec![]));
    root.run("rm /etc/dkms/no-autoinstall").ok();
    root.write("/etc/dkms/policy.toml", hold);
    root.run(&format!("rm {RECORD}")).ok();
    ahead();
    assert_eq!(kept_back(&root), kept);
    root.run(&format!("rm {RECORD}; dkms remove broken-net/1.0 --all && {AHEAD}")).ok();
    assert_eq!(root.find(PINS, ""), [""; 0]);
    assert!(simulated().contains(&kernel.image()));
}

#[test]
fn trixie_a_hold_keeps_only_the_kernel_back() {
    a_hold_keeps_only_the_kernel_back(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_a_hold_keeps_only_the_kernel_back() {
    a_hold_keeps_only_the_kernel_back(Suite::bookworm());
}

/// The modules that are ready, after a run that must fail for the other one.
fn ahead(root: &Root, kernel: &Kernel) {
    root.run(&format!("{AHEAD} 2>&1")).exits(11).says(&["no_such_symbol_here", &kernel.release]);
    let fails: Vec<bool> = ready(&told(root)).into_iter().map(|(_, ready)| ready).collect();
    assert!(fails.contains(&true) && fails.contains(&false), "{}", told(root));
}

/// A module that compiles and one that does not, an older kernel, and a newer one in the repository.
fn with_older_kernel(manager: Manager) -> rpm::Machine {
    let machine = rpm::Machine::registered(manager);
    let root = &machine.root;
    // What a Debian with these programs does not know.
    root.write("/etc/dnf/vars/releasever", "1\n");
    if manager == Manager::Dnf4 {
        root.run("mv /usr/bin/dnf5 /opt").ok();
    }
    machine.install(&machine.packages(&machine.older), 0);
    machine
}

fn upgrade(manager: Manager, root: &Root) -> Output {
    let command = match manager {
        Manager::Dnf4 => "dnf -y upgrade",
        Manager::Dnf5 => "dnf5 -y upgrade",
        _ => "zypper --non-interactive update",
    };
    root.run(&format!("{command} 2>&1")).ok()
}

fn ahead_then_upgrade_with_rpm(manager: Manager) {
    let machine = with_older_kernel(manager);
    let rpm::Machine { root, newer, .. } = &machine;
    listen(root);
    let counters = Counters::install(root);
    let rpms = root.run("rpm -qa | sort").ok().stdout;
    ahead(root, newer);
    // A new version of bbswitch for both kernels, and the other module for the new kernel.
    assert_eq!((counters.take().builds, verbs(root).as_str()), (3, "state list owners fetch"));
    assert_eq!(root.run("rpm -qa | sort").ok().stdout, rpms, "nothing is installed");
    assert_eq!(root.find(INCOMING, "-mindepth 1"), [""; 0]);
    root.run(AHEAD).exits(11);
    assert_eq!((counters.take().builds, verbs(root).as_str()), (0, "state"));
    upgrade(manager, root);
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (0, 2), "{counts:#?}");
    machine.expect_modules(newer, &["bbswitch/2.0"]);
    assert_eq!(ready(&told(root)), []);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn what_is_built_ahead_is_not_built_by_dnf5() {
    ahead_then_upgrade_with_rpm(Manager::Dnf5);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn what_is_built_ahead_is_not_built_by_dnf4() {
    ahead_then_upgrade_with_rpm(Manager::Dnf4);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn what_is_built_ahead_is_not_built_by_zypper() {
    ahead_then_upgrade_with_rpm(Manager::Zypper);
}

#[test]
fn what_is_built_ahead_is_not_built_by_pacman() {
    let machine = pacman::Machine::with_everything();
    let (root, newer) = (&machine.root, &machine.kernels[1]);
    root.run("pacman -S --noconfirm failing-dkms").ok();
    // pacman never sees the repository's new list before the user asks for it.
    let lists = "cd /var/lib/pacman && find sync -type f | sort | xargs sha256sum";
    let before = root.run(lists).ok().stdout;
    root.run(&format!("cd /opt/repo && repo-add -q here.db.tar.gz {}", machine.kernel_files("linux", newer)))
        .ok();
    listen(root);
    let counters = Counters::install(root);
    ahead(root, newer);
    assert_eq!((counters.take().builds, verbs(root).as_str()), (3, "state list owners fetch"));
    assert_eq!(root.run(lists).ok().stdout, before, "a later pacman -S is no partial upgrade");
    assert_eq!(root.find(INCOMING, "-mindepth 1"), [""; 0]);
    root.run(AHEAD).exits(11);
    assert_eq!((counters.take().builds, verbs(root).as_str()), (0, "state"));
    root.run("pacman -Syu --noconfirm 2>&1").ok();
    machine.expect_counts(&counters, (0, 1));
    root.expect_installed(&["bbswitch/0.8", "acpi-call/1.2.2"], &newer.release);
    assert_eq!(ready(&told(root)), []);
}

fn a_hold_keeps_only_the_kernel_back_with_rpm(manager: Manager) {
    let machine = with_older_kernel(manager);
    let rpm::Machine { root, newer, .. } = &machine;
    root.write("/etc/dkms/policy.toml", "on_unbuildable = \"hold\"\n");
    machine.install(&["dkms-acpi-call-1.0"], 0);
    let locks = root.run("cat /etc/zypp/locks 2>/dev/null; ls -A /etc/dnf/libdnf5.conf.d 2>/dev/null").stdout;
    ahead(root, newer);
    let names = machine.manager.family().packages();
    assert!(names.iter().all(|name| kept_back(root).contains(&(*name).to_owned())), "{:?}", kept_back(root));
    let newer_installed = || root.run("rpm -qa 'kernel*'").ok().stdout.contains(&rpm::version(newer));
    if manager == Manager::Zypper {
        // zypper writes all locks again, in its own words; those of the administrator stay.
        root.run(
            "zypper --non-interactive addlock hello 'mine*' && zypper --non-interactive removelock hello",
        )
        .ok();
        root.run("zypper locks").ok().says(&["mine*"]);
    }
    upgrade(manager, root).never_says(&["aborted"]);
    root.run("rpm -q dkms-acpi-call-2.0").ok();
    assert!(!newer_installed(), "the kernel waits");
    // Other packages were installed: the same is found again, although the package manager does not offer it now.
    ahead(root, newer);
    assert!(names.iter().all(|name| kept_back(root).contains(&(*name).to_owned())), "{:?}", kept_back(root));
    upgrade(manager, root);
    assert!(!newer_installed(), "the kernel still waits");
    // The module leaves: nothing is kept back any more, and nothing is left in the settings.
    root.run("rpm -e dkms-broken 2>&1").ok();
    assert_eq!(kept_back(root), [""; 0]);
    let now = root.run("cat /etc/zypp/locks 2>/dev/null; ls -A /etc/dnf/libdnf5.conf.d 2>/dev/null").stdout;
    let left = now.contains("kernel");
    assert!(!left && (manager == Manager::Zypper || now.trim() == locks.trim()), "{now}\n{locks}");
    upgrade(manager, root);
    assert!(newer_installed(), "nothing holds the kernel");
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn a_hold_keeps_only_the_kernel_back_with_dnf5() {
    a_hold_keeps_only_the_kernel_back_with_rpm(Manager::Dnf5);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn a_hold_keeps_only_the_kernel_back_with_dnf4() {
    a_hold_keeps_only_the_kernel_back_with_rpm(Manager::Dnf4);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn a_hold_keeps_only_the_kernel_back_with_zypper() {
    a_hold_keeps_only_the_kernel_back_with_rpm(Manager::Zypper);
}
