//! A module's package is installed, upgraded and removed, with unmodified maintainer scripts of Debian.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::watch::Watch;
use dkms_tests::{Kernel, Root, Suite, repack, stage};

const PACKAGES: &[&str] = &["bbswitch-dkms", "acpi-call-dkms"];
const OLD: &str = "bbswitch/0.8";
const NEW: &str = "bbswitch/0.9";

fn installed(suite: &'static Suite) -> (Root, Kernel) {
    let (layer, kernel) = stage::with_modules(suite, PACKAGES);
    (Root::on(&layer), kernel)
}

fn bbswitch_files(root: &Root, kernel: &Kernel) -> Vec<(String, String)> {
    kernel.module_files(root).into_iter().filter(|(path, _)| path.contains("bbswitch")).collect()
}

fn newer(root: &Root, broken: bool) -> String {
    repack::newer_module_package(root, "bbswitch-dkms", "bbswitch", "0.8", "0.9", broken)
}

fn install(suite: &'static Suite) {
    let (layer, kernel) = stage::with_kernel(suite);
    let root = Root::on(&layer);
    let counters = Counters::install(&root);
    root.apt_install(&["bbswitch-dkms"]).ok();
    let counts = counters.take();
    assert_eq!(counts.builds_and_depmods(), (1, 1), "{counts:#?}");
    root.expect_installed(&[OLD], &kernel.release);
    kernel.expect_vermagic(&root);
    root.expect_clean_dpkg();
}

fn upgrade(suite: &'static Suite) {
    let (root, kernel) = installed(suite);
    let package = newer(&root, false);
    let counters = Counters::install(&root);
    let watch = Watch::on(&root, &format!("{}/bbswitch.ko*", kernel.dkms_dir()));
    root.apt_install(&[&package]).ok();
    watch.expect_never_missing();
    let counts = counters.take();
    assert_eq!(counts.builds, 1, "{counts:#?}");
    root.expect_installed(&[NEW], &kernel.release);
    assert_eq!(root.state_of(OLD, &kernel.release), "none");
    assert!(!root.exists("/var/lib/dkms/bbswitch/0.8"), "the old version is forgotten");
    assert_eq!(bbswitch_files(&root, &kernel).len(), 1);
    kernel.expect_vermagic(&root);
    root.expect_clean_dpkg();
}

fn upgrade_that_does_not_compile(suite: &'static Suite) {
    let (root, kernel) = installed(suite);
    let before = bbswitch_files(&root, &kernel);
    let package = newer(&root, true);
    let watch = Watch::on(&root, &format!("{}/bbswitch.ko*", kernel.dkms_dir()));
    let told = root.apt_install(&[&package]).ok().says(&[NEW, &kernel.release]).shows_compiler_error();
    root.expect_log(&told);
    watch.expect_never_missing();
    assert_eq!(bbswitch_files(&root, &kernel), before, "the old module stays until its successor is proven");
    root.run(&format!("modprobe -S {} -n bbswitch", kernel.release)).ok();
    root.expect_clean_dpkg();
    // The next event of a kernel works, too, and still keeps the old file.
    root.run(&format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}", kernel.release))
        .ok()
        .quiet_stdout();
    assert_eq!(bbswitch_files(&root, &kernel), before);
}

fn reinstall(suite: &'static Suite) {
    let (root, kernel) = installed(suite);
    let counters = Counters::install(&root);
    let watch = Watch::on(&root, &format!("{}/bbswitch.ko*", kernel.dkms_dir()));
    root.apt_install(&["--reinstall", "bbswitch-dkms"]).ok();
    watch.expect_never_missing();
    let counts = counters.take();
    assert_eq!(counts.builds, 0, "the same inputs are not built twice\n{counts:#?}");
    root.expect_installed(&[OLD], &kernel.release);
    root.expect_clean_dpkg();
}

fn removal(suite: &'static Suite) {
    let (root, kernel) = installed(suite);
    root.run("apt-get -q -y remove bbswitch-dkms").ok();
    assert_eq!(bbswitch_files(&root, &kernel), [], "the removed module's file is gone");
    assert!(!root.exists("/var/lib/dkms/bbswitch"), "and its registration");
    assert_eq!(kernel.module_files(&root).len(), 1, "the other module stays");
    let dep = root.read(&format!("{}/modules.dep", kernel.modules_dir()));
    assert!(!dep.contains("bbswitch"), "depmod ran after the removal");
    root.run("apt-get -q -y purge acpi-call-dkms bbswitch-dkms").ok();
    assert!(!root.exists(&kernel.dkms_dir()), "no empty directory stays");
    assert_eq!(root.status(), []);
    root.expect_clean_dpkg();
}

#[test]
fn trixie_install() {
    install(Suite::trixie());
}

#[test]
fn trixie_upgrade() {
    upgrade(Suite::trixie());
}

#[test]
fn trixie_upgrade_that_does_not_compile_keeps_the_old_module() {
    upgrade_that_does_not_compile(Suite::trixie());
}

#[test]
fn trixie_reinstall() {
    reinstall(Suite::trixie());
}

#[test]
fn trixie_removal() {
    removal(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_install() {
    install(Suite::bookworm());
}

#[test]
fn bookworm_upgrade() {
    upgrade(Suite::bookworm());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_upgrade_that_does_not_compile_keeps_the_old_module() {
    upgrade_that_does_not_compile(Suite::bookworm());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_removal() {
    removal(Suite::bookworm());
}

/// zfs does this: modules that depend on it read its configuration there.
#[test]
fn what_post_build_leaves_beside_the_modules_stays_there() {
    let (layer, kernel) = stage::with_kernel(Suite::trixie());
    let root = Root::on(&layer);
    let conf =
        "POST_BUILD=\"leave.sh\n  $dkms_tree/beside/1.0/build\n  $dkms_tree/beside/1.0/$kernelver/$arch\"";
    Sources::new("beside", "1.0").conf(conf).unpack(&root);
    let script = "#!/bin/sh\ncp $1/Makefile $2/config.h && ln -s /etc/passwd $2/link\n";
    root.write_script("/usr/src/beside-1.0/leave.sh", script);
    root.run(&format!("dkms add beside/1.0 && dkms install beside/1.0 -k {}", kernel.release)).ok();
    let built = format!("/var/lib/dkms/beside/1.0/{}/x86_64", kernel.release);
    assert_eq!(root.read(&format!("{built}/config.h")), root.read("/usr/src/beside-1.0/Makefile"));
    assert!(!root.exists(&format!("{built}/link")), "a link leads anywhere");
    root.run("dkms remove beside/1.0 --all").ok();
    assert!(!root.exists("/var/lib/dkms/beside"), "removed completely");
}
