//! Machines that install what one machine has built, as packages.

use crate::roots::Layer;
use crate::{Kernel, Root, Suite};

/// The directory of packages in the building machine.
const PACKAGES: &str = "/tmp/packages";
/// The repository in the other machines.
const REPOSITORY: &str = "/opt/repository";

/// A machine with this kernel, and without compiler, headers and dkms.
pub fn target(suite: &'static Suite, kernel: &Kernel) -> Layer {
    bare(suite).prepared("fleet-target", &kernel.release, |root| {
        root.apt_install(&[&kernel.image()]).ok();
        assert!(!root.exists(&format!("{}/build", kernel.modules_dir())), "no headers");
    })
}

/// A machine without compiler, dkms and kernel.
pub fn bare(suite: &'static Suite) -> Layer {
    suite.base().prepared("fleet-bare", "1", |root| {
        root.run("apt-get -q -y purge gcc make dpkg-dev && apt-get -q -y autoremove --purge").ok();
        root.run("! command -v gcc && ! command -v make && ! command -v dkms").ok();
    })
}

/// Makes a package as an unprivileged user; returns its path in the root, and its bytes.
pub fn make(root: &Root, words: &str) -> (String, Vec<u8>) {
    root.run(&format!("id person || useradd --create-home person; install -d -o person {PACKAGES}")).ok();
    let made = root
        .run(&format!(
            "cd {PACKAGES} && setpriv --reuid person --regid person --clear-groups dkms {words} --out {PACKAGES}"
        ))
        .ok();
    let path = made.stdout.trim().to_owned();
    assert!(path.starts_with(PACKAGES), "the path is all of standard output\n{made}");
    let bytes = root.read_bytes(&path);
    (path, bytes)
}

/// Publishes the package of one module for one kernel, and the one that follows the newest kernel. The root needs apt-utils.
pub fn publish(root: &Root, builder: &Root, module: &str, kernel: &Kernel) {
    for words in ["mkpackage", "mkpackage --meta"] {
        let (path, bytes) = make(builder, &format!("{words} {module} -k {kernel}"));
        root.write(&format!("{REPOSITORY}/{}", path.rsplit('/').next().unwrap()), bytes);
    }
    root.run(&format!(
        "cd {REPOSITORY} && apt-ftparchive packages . >Packages && apt-ftparchive release . >Release && \
         echo 'deb [trusted=yes] file:{REPOSITORY} ./' >/etc/apt/sources.list.d/fleet.list && apt-get -q update"
    ))
    .ok();
}
