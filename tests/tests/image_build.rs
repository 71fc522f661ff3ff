//! An image is prepared in a directory of a machine with another kernel: the machine's kernel and keys are not the image's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Output, Root, Suite, stage};

/// The image, as debootstrap leaves one: a directory of the machine.
const IMAGE: &str = "/opt/image";

/// A machine with a kernel, and an image that has the same product and kernel; in both, a module's package can be installed.
fn machine() -> (Root, Kernel, String) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let package = Sources::new("fine", "1.0").package(&root);
    // An overlay over the root itself, in a file system of its own: overlays cannot be over their upper directory.
    root.run(&format!(
        "mkdir -p {IMAGE} /opt/written && mount -t tmpfs none /opt/written && mkdir /opt/written/up /opt/written/work && \
         mount -t overlay -o lowerdir=/,upperdir=/opt/written/up,workdir=/opt/written/work none {IMAGE}"
    ))
    .ok();
    (root, kernel, package)
}

fn in_image(root: &Root, command: &str) -> Output {
    root.run(&format!("chroot {IMAGE} {command}"))
}

/// The release of the kernel that runs while the image is prepared.
fn running(root: &Root) -> String {
    root.run("uname -r").ok().stdout.trim().to_owned()
}

/// Requires that what was written in the image has no private key, and nowhere the release of the running kernel.
#[track_caller]
fn expect_clean(root: &Root) {
    let written = "/opt/written/up";
    let release = running(root);
    assert_eq!(root.run(&format!("grep -rlF '{release}' {written}")).stdout, "");
    assert_eq!(root.find(written, &format!("-path '*{release}*'")), [""; 0]);
    assert_eq!(root.find(written, "-name '*.key' -o -name '*.priv' -o -name '*.new'"), [""; 0]);
    assert_eq!(root.run(&format!("grep -rl 'PRIVATE KEY-----' {written}")).stdout, "");
}

fn prepared(mounts: &str) {
    let (root, kernel, package) = machine();
    root.run(mounts).ok();
    in_image(&root, &format!("apt-get -q -y install {package}")).ok();
    let status = in_image(&root, "dkms status").ok().stdout;
    assert_eq!(status, format!("fine/1.0, {}, x86_64: installed\n", kernel.release));
    expect_clean(&root);
    // The machine itself has not noticed.
    assert_eq!(root.run("dkms status").ok().stdout, "");
}

#[test]
fn a_chroot_with_proc() {
    prepared(&format!("mount -t proc proc {IMAGE}/proc"));
}

#[test]
fn a_chroot_without_proc() {
    prepared("true");
}

/// dpkg without a chroot: scripts run on the machine, for packages of the image.
#[test]
fn scripts_that_run_outside_of_the_image() {
    let (root, kernel, package) = machine();
    let before = root.run("dkms status").ok().stdout;
    root.run(&format!("dpkg --root={IMAGE} --force-script-chrootless -i {package}")).ok().says(&[&format!(
        "dkms: skipped: DPKG_ROOT={IMAGE} is another system; run dkms in it, with chroot {IMAGE}"
    )]);
    assert_eq!(root.run("dkms status").ok().stdout, before);
    in_image(&root, &format!("dkms install fine/1.0 -k {}", kernel.release)).ok();
    root.run(&format!("dpkg --root={IMAGE} --force-script-chrootless -r fine-dkms")).ok();
    assert_eq!(root.run("dkms status").ok().stdout, before);
}
