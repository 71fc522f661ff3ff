//! From Debian's dkms to ours and back: no registered or installed module is lost, and no question is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::{Root, Suite, stage};

const MODULES: &[&str] = &["bbswitch/0.8"];

fn there_and_back(suite: &'static Suite) {
    let (layer, kernel) = stage::debian_dkms(suite);
    let root = Root::on(&layer);
    root.expect_installed(MODULES, &kernel.release);
    let (status, files) = (root.status(), kernel.module_files(&root));
    let counters = Counters::install(&root);

    stage::install_product(&root).ok();
    assert!(root.exists("/usr/lib/dkms/apt-hook"), "ours is installed");
    assert_eq!((root.status(), kernel.module_files(&root)), (status.clone(), files), "after ours");
    root.expect_clean_dpkg();
    root.run("dpkg-query -W bbswitch-dkms acpi-call-dkms").ok();

    // Purging the configuration of Debian's package does not affect ours.
    root.run("dpkg --purge dkms || true");
    for hook in ["preinst.d", "postinst.d", "prerm.d", "header_postinst.d"] {
        let path = format!("/etc/kernel/{hook}/dkms");
        root.run(&format!("test -x {path} && grep -q apt-hook {path}")).ok();
    }
    // The inputs of Debian's builds are unknown: the first event may rebuild them once, the second may not.
    let hook = format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}", kernel.release);
    counters.take();
    root.run(&hook).ok().quiet_stdout();
    let counts = counters.take();
    assert!(counts.builds <= 2, "{counts:#?}");
    assert_eq!(root.status(), status, "after the first event");
    kernel.expect_vermagic(&root);
    let files = kernel.module_files(&root);
    root.run(&hook).ok().quiet_stdout();
    assert_eq!(
        (counters.take().builds, kernel.module_files(&root)),
        (0, files.clone()),
        "after the second event"
    );

    root.apt_install(&["dkms"]).ok();
    assert!(!root.exists("/usr/lib/dkms/apt-hook"), "Debian's is back");
    // apt's configuration of ours is kept until it is purged.
    assert!(root.exists("/etc/apt/apt.conf.d/05dkms"));
    root.apt_install(&["--reinstall", "debianutils"]).ok().never_says(&["run-hook", "apt-hook", "not found"]);
    assert_eq!((root.status(), kernel.module_files(&root)), (status, files), "after Debian's");
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok();
    root.run(&format!(
        "test -x /etc/kernel/postinst.d/dkms && /etc/kernel/postinst.d/dkms {}",
        kernel.release
    ))
    .ok();
    root.expect_clean_dpkg();
}

fn built_by_us_is_theirs_too(suite: &'static Suite) {
    let (layer, kernel) = stage::with_modules(suite, &["bbswitch-dkms", "acpi-call-dkms"]);
    let root = Root::on(&layer);
    let (status, files) = (root.status(), kernel.module_files(&root));
    root.apt_install(&["dkms"]).ok();
    assert_eq!((root.status(), kernel.module_files(&root)), (status, files));
    root.run("dkms status").ok().never_says(&["Diff", "WARNING", "Error", "broken"]);
    // Debian's dkms can completely remove our builds.
    root.run("apt-get -q -y purge bbswitch-dkms acpi-call-dkms").ok();
    assert_eq!(kernel.module_files(&root), []);
    stage::install_product(&root).ok();
    assert_eq!(root.status(), []);
}

#[test]
fn trixie_there_and_back() {
    there_and_back(Suite::trixie());
}

#[test]
fn bookworm_there_and_back() {
    there_and_back(Suite::bookworm());
}

#[test]
fn trixie_what_we_built_is_theirs_too() {
    built_by_us_is_theirs_too(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_what_we_built_is_theirs_too() {
    built_by_us_is_theirs_too(Suite::bookworm());
}

#[test]
fn removing_ours_keeps_the_modules_and_purging_leaves_no_conffile() {
    let (layer, kernel) = stage::with_kernel(Suite::trixie());
    let root = Root::on(&layer);
    root.run("apt-get -q -y purge dkms-rs").ok();
    assert!(
        !root.exists("/var/cache/dkms") && !root.exists("/var/lib/dkms/.dkms-rs"),
        "what only ours reads"
    );
    let left = root.find("/etc", "-path '*dkms*' -not -name 'made-by-*'");
    assert_eq!(left, [""; 0], "configuration that stays after a purge");
    root.run(&format!("test -d {}", kernel.modules_dir())).ok();
    root.expect_clean_dpkg();
}
