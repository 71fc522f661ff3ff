//! An image that is prepared in a directory of a root, as image builders do.

use crate::{Output, Root};

/// The directory of the image.
pub const IMAGE: &str = "/opt/image";
/// What was written in it since it was mounted.
pub const WRITTEN: &str = "/opt/written/up";

/// Mounts an image that begins with everything that the root has. It is in a file system of its own: overlays cannot be over
/// their upper directory.
pub fn mount(root: &Root) {
    root.run(&format!(
        "mkdir -p {IMAGE} /opt/written && mount -t tmpfs none /opt/written && mkdir {WRITTEN} /opt/written/work && \
         mount -t overlay -o lowerdir=/,upperdir={WRITTEN},workdir=/opt/written/work none {IMAGE}"
    ))
    .ok();
}

/// Runs a command in the image.
pub fn inside(root: &Root, command: &str) -> Output {
    root.run(&format!("chroot {IMAGE} {command}"))
}

/// The release of the kernel that runs while the image is prepared.
pub fn running(root: &Root) -> String {
    root.run("uname -r").ok().stdout.trim().to_owned()
}

/// Requires that a directory has no private key, and nowhere the release of the running kernel.
#[track_caller]
pub fn expect_clean_in(root: &Root, dir: &str) {
    let release = running(root);
    assert_eq!(root.run(&format!("grep -rlF '{release}' {dir}")).stdout, "");
    assert_eq!(root.find(dir, &format!("-path '*{release}*'")), [""; 0]);
    assert_eq!(root.find(dir, "-name '*.key' -o -name '*.priv' -o -name '*.new'"), [""; 0]);
    // Programs that read keys have this text, too.
    assert_eq!(root.run(&format!("grep -rIl 'PRIVATE KEY-----' {dir}")).stdout, "");
}

/// The same for what was written in the image.
#[track_caller]
pub fn expect_clean(root: &Root) {
    expect_clean_in(root, WRITTEN);
}
