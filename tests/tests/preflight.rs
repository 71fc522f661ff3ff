//! The pre-build: modules are built for packages before apt installs them, while it can still be stopped.
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
use dkms_tests::{Kernel, Root, Suite, repack, stage};

/// What `--json` prints is valid against the shipped schemas.
#[path = "../../core/tests/support/schemas.rs"]
mod schemas;

const BROKEN: &str = "broken-net/1.0";
/// Files that apt always writes: archives, its index of them, its logs.
const APTS: [&str; 2] = ["/var/cache/apt", "/var/log"];
const HOLD: &str = "on_unbuildable = \"hold\"\n";
/// The directory in which package files are unpacked for a pre-build.
const INCOMING: &str = "/var/lib/dkms/.dkms-rs/incoming";

/// A module that compiles, one that does not, and no kernel yet.
fn registered(suite: &'static Suite) -> (Root, Kernel) {
    let (root, kernel) = stage::fine_and_broken(suite);
    root.run("dkms generate_mok").ok();
    (root, kernel)
}

#[track_caller]
fn expect_nothing_unpacked(root: &Root) {
    assert_eq!(root.find(INCOMING, "-mindepth 1"), [""; 0]);
}

fn held(suite: &'static Suite) {
    let (root, kernel) = registered(suite);
    root.write("/etc/dkms/policy.toml", HOLD);
    let counters = Counters::install(&root);
    let before = Photograph::of(&root, &APTS);
    let told = kernel.install(&root).exits(100);
    let told = told.says(&[
        "transaction aborted, nothing changed",
        BROKEN,
        &kernel.release,
        "no_such_symbol_here",
        "DKMS_ALLOW=broken-net",
        &format!("apt-mark hold {} {}", kernel.headers(), kernel.image()),
    ]);
    root.expect_log(&told);
    assert_eq!(counters.take().builds, 2, "each module once");
    before.expect_same(&Photograph::of(&root, &APTS));
    expect_nothing_unpacked(&root);
    // The same command uses the recorded failure; and continues when this is requested.
    kernel.install(&root).exits(100).says(&["not retried: inputs unchanged"]);
    let install =
        format!("DKMS_ALLOW=broken-net apt-get -q -y install {} {}", kernel.image(), kernel.headers());
    root.run(&install).ok();
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (0, 1), "{counts:#?}");
    root.expect_installed(&["fine/1.0"], &kernel.release);
    root.expect_clean_dpkg();
}

#[test]
fn trixie_a_module_that_is_held_stops_apt_before_anything_is_changed() {
    held(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_a_module_that_is_held_stops_apt_before_anything_is_changed() {
    held(Suite::bookworm());
}

fn warned(suite: &'static Suite) {
    let (root, kernel) = registered(suite);
    let counters = Counters::install(&root);
    let install = format!("apt-get -q -y install {} {} 2>&1", kernel.image(), kernel.headers());
    let told =
        root.run(&install).ok().says(&[BROKEN, "continuing; failed modules do not block this transaction"]);
    root.expect_log(&told);
    let counts = counters.take();
    assert_eq!((counts.builds, counts.depmods), (2, 1), "each module once, in all: {counts:#?}");
    let built = told.all().find("fine/1.0 built for").expect("it is built before");
    let unpacked = told.all().find("Unpacking linux-image").expect("apt unpacks");
    assert!(built < unpacked, "{told}");
    // The hooks of image and headers do not explain it again; one of them counts it.
    let told = told.says(&["dkms: preparing the pre-build for "]);
    let count = |text: &str| told.all().matches(text).count();
    assert_eq!((count("dkms: FAILED: "), count("1 FAILED (dkms history show ")), (1, 1), "{told}");
    root.expect_installed(&["fine/1.0"], &kernel.release);
    root.expect_clean_dpkg();
    expect_nothing_unpacked(&root);
}

#[test]
fn trixie_otherwise_apt_goes_on_and_each_module_is_compiled_once() {
    warned(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_otherwise_apt_goes_on_and_each_module_is_compiled_once() {
    warned(Suite::bookworm());
}

#[test]
fn a_new_version_of_a_module_is_tried_before_it_replaces_the_one_that_serves() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let old = Sources::new("picky", "1.0").package(&root);
    root.apt_install(&[&old]).ok();
    root.expect_installed(&["picky/1.0"], &kernel.release);
    root.write("/etc/dkms/policy.toml", "[module.picky]\non_unbuildable = \"hold\"\n");
    let new = Sources::new("picky", "2.0").broken().package(&root);
    // First: with another make, which counting installs, a module is retried.
    let counters = Counters::install(&root);
    let before = Photograph::of(&root, &APTS);
    root.apt_install(&[&new]).exits(100).says(&[
        "transaction aborted",
        "picky/2.0",
        "picky/1.0 remains installed",
    ]);
    before.expect_same(&Photograph::of(&root, &APTS));
    // Without a setting of the admin's, the package is installed, and the previous module is kept.
    root.run("rm /etc/dkms/policy.toml").ok();
    assert_eq!(counters.take().builds, 1);
    root.apt_install(&[&new]).ok();
    assert_eq!(counters.take().builds, 0, "it was tried before");
    assert!(!root.find(&kernel.dkms_dir(), "-name 'picky.ko*'").is_empty());
}

#[test]
fn kernels_and_package_files_can_be_tried_by_hand() {
    let (root, kernel) = registered(Suite::trixie());
    let plan = format!("apt-get -q -s install {} {}", kernel.image(), kernel.headers());
    let plan = root.run(&format!("{plan} | sed -n 's/^Inst \\([^ ]*\\).*/\\1/p'")).ok().stdout;
    let (own, others): (Vec<&str>, Vec<&str>) = plan.lines().partition(|name| name.starts_with("linux-"));
    let fetch =
        |names: &[&str]| root.run(&format!("cd /opt && apt-get -q download {}", names.join(" "))).ok();
    fetch(&own);
    let all = "/opt/*_*_*.deb";
    let before = Photograph::of(&root, &APTS);
    // A library of the headers' programs is missing: this proves nothing.
    let told = root.run(&format!("dkms preflight {all}")).exits(11);
    told.says(&["fine/1.0", "the pre-build could not run", "libelf.so.1 is not installed", BROKEN]);
    before.expect_same(&Photograph::of(&root, &APTS));
    fetch(&others);
    let told = root.run(&format!("dkms preflight {all}")).exits(11).says(&[BROKEN, "no_such_symbol_here"]);
    told.says(&["a package manager would continue"])
        .never_says(&["the pre-build could not run", "this transaction"]);
    let json = root.run(&format!("dkms preflight --json {all} 2>/dev/null")).exits(11).stdout;
    let json = schemas::valid("preflight", &json);
    assert_eq!(json["format"], 1);
    assert_eq!(json["incoming"][0]["kernel"], kernel.release.as_str());
    assert_eq!(json["modules"].as_array().unwrap().len(), 2, "{json}");
    kernel.install(&root).ok();
    root.run(&format!("dkms preflight {}", kernel.release)).exits(11).says(&[BROKEN]);
    Sources::new("broken-net", "1.0").unpack(&root);
    root.run(&format!("dkms preflight {}", kernel.release)).ok();
    root.run("dkms preflight").exits(1).says(&["package"]);
    root.run("dkms preflight /opt/no-such.deb").exits(1).says(&["/opt/no-such.deb"]);
}

#[test]
fn what_could_not_be_tried_stops_nobody_and_is_said_in_one_line() {
    let (root, kernel) = registered(Suite::trixie());
    root.write("/etc/dkms/policy.toml", HOLD);
    let headers = repack::newer_headers(&root, &kernel, "+1", false);
    let whole = root.read_bytes(&headers);
    root.write("/opt/cut.deb", &whole[..whole.len() / 2]);
    root.write("/opt/none.deb", b"no package");
    let foreign = repack::foreign_headers(&root, &kernel);
    let other = format!("{} is for aarch64", kernel.release);
    for (file, why) in
        [("/opt/cut.deb", "/opt/cut.deb"), ("/opt/none.deb", "/opt/none.deb"), (&foreign, &other)]
    {
        let told = root.run(&format!("dkms preflight {file}")).exits(21);
        let lines: Vec<&str> =
            told.stderr.lines().filter(|line| line.contains("pre-build skipped")).collect();
        assert!(lines.len() == 1 && lines[0].contains(why), "{told}");
        expect_nothing_unpacked(&root);
    }
    // A kernel without its headers.
    root.apt_install(&[&kernel.image()])
        .ok()
        .says(&["kernel headers for", "are not part of this transaction"]);
    // No room: not a byte may be written where packages are unpacked.
    root.run(&format!("mkdir -p {INCOMING} && mount -t tmpfs -o size=64k none {INCOMING}")).ok();
    root.apt_install(&[&kernel.headers()]).ok().says(&["pre-build skipped", "space"]);
    root.run(&format!("umount {INCOMING}")).ok();
    root.expect_installed(&["fine/1.0"], &kernel.release);
}

#[test]
fn without_overlayfs_files_are_linked_one_by_one() {
    let (root, kernel) = registered(Suite::trixie());
    root.write("/etc/dkms/policy.toml", HOLD);
    // Linux allows at most two nested overlays: this root is one, and writable.
    root.run("mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work && \
              mount -t overlay none -o lowerdir=/usr,upperdir=/mnt/upper,workdir=/mnt/work /usr && touch /usr/src/written")
        .ok();
    let before = Photograph::of(&root, &[&APTS[..], &["/mnt"]].concat());
    kernel
        .install(&root)
        .exits(100)
        .says(&["transaction aborted", BROKEN])
        .never_says(&["pre-build skipped"]);
    before.expect_same(&Photograph::of(&root, &[&APTS[..], &["/mnt"]].concat()));
    expect_nothing_unpacked(&root);
}

#[test]
fn what_a_killed_preflight_left_is_gone_after_the_next_run() {
    let (root, kernel) = registered(Suite::trixie());
    root.start(&format!("apt-get -q -y install {} {}", kernel.image(), kernel.headers()));
    let killed = root.run(&format!(
        "for n in $(seq 3000); do if [ -n \"$(ls {INCOMING} 2>/dev/null)\" ]; then sleep 0.3; \
         for comm in $(grep -lsx apt-hook /proc/[0-9]*/comm); do kill -9 $(basename $(dirname $comm)); done; \
         ls {INCOMING}; exit; fi; sleep 0.02; done; exit 9"
    ));
    assert!(!killed.ok().stdout.trim().is_empty(), "it had unpacked something");
    // apt continues, because nothing was proven.
    let ended =
        "for n in $(seq 600); do grep -qsx apt-get /proc/[0-9]*/comm || exit 0; sleep 0.5; done; exit 9";
    root.run(ended).ok();
    root.expect_installed(&["fine/1.0"], &kernel.release);
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).fails();
    expect_nothing_unpacked(&root);
}
