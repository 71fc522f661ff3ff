//! Arch in Debian's unstable: pacman, makepkg and libalpm are the real ones, the kernels are Debian's in Arch's layout, and
//! module packages are made from the sources of Debian's.

mod kernels;
mod machine;
mod product;
mod recipe;

pub use kernels::{LINUX, LTS, NEWER, PacKernel};
pub use machine::{Machine, machine};
pub use product::package;
pub use recipe::{make, module_files};

use crate::Suite;
use crate::roots::Layer;

/// What makes packages and what libalpm's binding is linked with; Debian's libalpm-dev lacks its private dependencies.
const TOOLS: &[&str] = &[
    "pacman-package-manager",
    "makepkg",
    "libalpm-dev",
    "libarchive-dev",
    "libssl-dev",
    "libcurl4-openssl-dev",
    "libgpgme-dev",
    "pkg-config",
    "fakeroot",
    "libarchive-tools",
    "file",
    "binutils",
    // Kernels' build tools are linked with it.
    "libelf1t64",
];

/// A system with pacman and makepkg.
pub fn tools() -> Layer {
    Suite::sid().base().prepared("pacman", &TOOLS.join(" "), |root| {
        root.apt_install(TOOLS).ok();
        // As Arch calls itself: what dkms decides by.
        root.run("rm -f /etc/os-release && printf 'NAME=\"Arch Linux\"\\nID=arch\\n' > /etc/os-release").ok();
        root.run("useradd -m -d /opt/maker maker").ok();
    })
}
