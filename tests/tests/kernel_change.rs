//! An installed kernel changes: it is upgraded or reinstalled under the same name, or removed. Nothing is removed
//! beforehand, and only what the change affects is rebuilt.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::watch::Watch;
use dkms_tests::{Kernel, Root, Suite, repack, stage};

const PACKAGES: &[&str] = &["bbswitch-dkms", "acpi-call-dkms"];

fn installed(suite: &'static Suite) -> (Root, Kernel) {
    let (layer, kernel) = stage::with_modules(suite, PACKAGES);
    (Root::on(&layer), kernel)
}

fn modules(root: &Root) -> Vec<String> {
    root.status().into_iter().map(|l| l.module).collect()
}

#[track_caller]
fn expect_all_installed(root: &Root, kernel: &Kernel) {
    let modules = modules(root);
    assert_eq!(modules.len(), PACKAGES.len(), "{modules:?}");
    for module in modules {
        root.expect_installed(&[&module], &kernel.release);
    }
    kernel.expect_vermagic(root);
    root.expect_clean_dpkg();
}

fn upgrade(suite: &'static Suite, inputs_changed: bool, builds: usize) {
    let (root, kernel) = installed(suite);
    let before = kernel.module_files(&root);
    let image = repack::newer_image(&root, &kernel, "+up1");
    let headers = repack::newer_headers(&root, &kernel, "+up1", inputs_changed);
    let counters = Counters::install(&root);
    let watch = Watch::on(&root, &format!("{}/bbswitch.ko*", kernel.dkms_dir()));
    root.apt_install(&[&image, &headers]).ok();
    watch.expect_never_missing();
    let counts = counters.take();
    assert_eq!(counts.builds, builds, "builds\n{counts:#?}");
    assert!(counts.depmods <= 1, "{counts:#?}");
    expect_all_installed(&root, &kernel);
    if !inputs_changed {
        assert_eq!(kernel.module_files(&root), before, "nothing had to change");
    }
}

fn reinstall(suite: &'static Suite) {
    let (root, kernel) = installed(suite);
    let before = kernel.module_files(&root);
    let counters = Counters::install(&root);
    let watch = Watch::on(&root, &format!("{}/bbswitch.ko*", kernel.dkms_dir()));
    root.apt_install(&["--reinstall", &kernel.image(), &kernel.headers()]).ok();
    watch.expect_never_missing();
    let counts = counters.take();
    assert_eq!(counts.builds_and_depmods(), (0, 0), "{counts:#?}");
    assert_eq!(kernel.module_files(&root), before);
    expect_all_installed(&root, &kernel);
}

fn purge(suite: &'static Suite) {
    let (root, kernel) = installed(suite);
    root.run(&format!("apt-get -q -y purge {} {}", kernel.image(), kernel.headers()))
        .ok()
        .never_says(&["not empty so not removed"]);
    let left = root.find(&kernel.modules_dir(), "");
    assert_eq!(left, [""; 0], "nothing may stay below {}", kernel.modules_dir());
    let of_kernel = root
        .find("/var/lib/dkms", &format!("-path '*{}*' -not -path '*/.dkms-rs/history/*'", kernel.release));
    assert_eq!(of_kernel, [""; 0], "a kernel that is gone leaves nothing in the tree");
    let status = root.status();
    assert_eq!(status.len(), PACKAGES.len(), "still registered: {status:?}");
    assert!(status.iter().all(|l| l.state == "added"), "{status:?}");
    root.expect_clean_dpkg();
}

/// apt keeps what depmod wrote until the package is purged.
#[test]
fn a_removed_kernel_is_not_mentioned_again() {
    let (root, kernel) = installed(Suite::trixie());
    root.run(&format!("apt-get -q -y remove {} {}", kernel.image(), kernel.headers())).ok();
    assert_ne!(root.find(&kernel.modules_dir(), "-name modules.dep.bin"), [""; 0], "apt purges now");
    root.run("dkms doctor").ok().never_says(&[&kernel.release]);
    let package = Sources::new("fine", "1.0").package(&root);
    root.apt_install(&[&package]).ok().never_says(&[&kernel.release]);
    for command in ["status", "matrix", "check", "why fine"] {
        root.run(&format!("dkms {command}")).never_says(&[&kernel.release]);
    }
    // It comes back as a new kernel does.
    kernel.install(&root).ok();
    root.expect_installed(&["fine/1.0"], &kernel.release);
    assert_eq!(root.status().iter().filter(|line| line.state == "installed").count(), 1 + PACKAGES.len());
}

#[test]
fn trixie_upgrade_with_the_same_inputs_builds_nothing() {
    upgrade(Suite::trixie(), false, 0);
}

#[test]
fn trixie_upgrade_with_changed_inputs_builds_each_module_once() {
    upgrade(Suite::trixie(), true, PACKAGES.len());
}

#[test]
fn trixie_reinstall_builds_nothing() {
    reinstall(Suite::trixie());
}

#[test]
fn trixie_purge_leaves_no_file_and_no_directory() {
    purge(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_upgrade_with_the_same_inputs_builds_nothing() {
    upgrade(Suite::bookworm(), false, 0);
}

#[test]
fn bookworm_upgrade_with_changed_inputs_builds_each_module_once() {
    upgrade(Suite::bookworm(), true, PACKAGES.len());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_reinstall_builds_nothing() {
    reinstall(Suite::bookworm());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_purge_leaves_no_file_and_no_directory() {
    purge(Suite::bookworm());
}
