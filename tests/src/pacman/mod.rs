//! Arch on Debian's unstable: pacman, makepkg and libalpm are the real ones, the kernels are Debian's in Arch's layout,
//! and module packages contain the sources of Debian's.

mod kernels;
mod machine;
mod product;
mod recipe;

pub use kernels::{LINUX, LTS, NEWER, PacKernel};
pub use machine::{Machine, machine};
pub use product::package;
pub use recipe::{REPOSITORY, make, module_files};

use crate::Suite;
use crate::roots::Layer;

/// The tools for building packages, and the libraries for libalpm's binding; Debian's libalpm-dev lacks its private
/// dependencies.
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
        // Arch's identity, from which dkms determines its row.
        root.run("rm -f /etc/os-release && printf 'NAME=\"Arch Linux\"\\nID=arch\\n' > /etc/os-release").ok();
        root.run("useradd -m -d /opt/maker maker").ok();
    })
}
