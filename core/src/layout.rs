//! Every path that dkms reads or writes, from one value. Only this room names directories of the system.
//!
//! The layout of the DKMS tree (`NAME/VERSION/{source,build,KERNEL/ARCH/{log,module}}`, `NAME/kernel-KERNEL-ARCH`,
//! `NAME/original_module`) is that of shell DKMS 3.x, so that users can switch in both directions. Our additional data
//! is in one directory whose name begins with a dot, which shell DKMS ignores.

mod config;
mod kernel;
mod machine;
mod offered;
mod package_path;
mod tree;

use std::path::{Path, PathBuf};

pub use offered::Offered;
pub use package_path::{PackagePath, merged};

use serde::{Deserialize, Serialize};

use crate::sys::file;

/// The directories of the system. Set once from defaults, framework.conf and the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layout {
    /// The DKMS tree, `/var/lib/dkms`.
    pub dkms_tree: PathBuf,
    /// The key pair for signing modules, `/var/lib/dkms`: it does not move with the DKMS tree, because the machine has
    /// enrolled one key.
    pub keys: PathBuf,
    /// Module sources, `/usr/src`.
    pub source_tree: PathBuf,
    /// Kernel modules, `/lib/modules`.
    pub install_tree: PathBuf,
    /// Configuration, `/etc`.
    pub etc: PathBuf,
    /// The state of the running kernel and the firmware, `/sys`.
    pub sys: PathBuf,
    /// The state of processes and of the running kernel, `/proc`.
    pub proc: PathBuf,
    /// Kernel images and the boot loader, `/boot`.
    pub boot: PathBuf,
    /// What holds until the next restart, `/run`.
    pub run: PathBuf,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            dkms_tree: "/var/lib/dkms".into(),
            keys: "/var/lib/dkms".into(),
            source_tree: "/usr/src".into(),
            install_tree: "/lib/modules".into(),
            etc: "/etc".into(),
            sys: "/sys".into(),
            proc: "/proc".into(),
            boot: "/boot".into(),
            run: "/run".into(),
        }
    }
}

/// Paths of programs and libraries.
impl Layout {
    /// Directories in which the system's libraries are searched.
    pub fn library_dirs() -> Vec<PathBuf> {
        let usr = Path::new("/usr/lib");
        let names = file::sub_dirs(usr).into_iter();
        // Debian has one per architecture.
        let machines = names.filter(|name| name.contains("-linux-")).map(|name| usr.join(name));
        machines.chain(["/usr/lib64", "/usr/lib", "/lib64", "/lib"].map(PathBuf::from)).collect()
    }
    /// Whether a file is of a package for compiling, such as the compiler or a library, or one of the kernel's: neither a driver's nor
    /// the administrator's.
    pub fn of_the_system(path: &Path) -> bool {
        if ["/proc", "/sys", "/dev", "/run"].iter().any(|dir| path.starts_with(dir)) {
            return true;
        }
        let beside = ["/usr/src", "/usr/local"].iter().any(|dir| path.starts_with(dir));
        path.starts_with("/usr") && !beside
    }
    /// Directories of gcc's parts, with `MACHINE/VERSION` below each.
    pub fn gcc_dirs() -> [PathBuf; 2] {
        ["/usr/libexec/gcc".into(), "/usr/lib/gcc".into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_drivers_are_none_of_the_system() {
        for (path, expected) in [
            ("/usr/include/elf.h", true),
            ("/usr/lib/gcc/x86_64-linux-gnu/14/include/stdarg.h", true),
            ("/usr/src/other-1.0/api.h", false),
            ("/usr/local/include/api.h", false),
            ("/opt/api.h", false),
            ("/proc/uptime", true),
        ] {
            assert_eq!(Layout::of_the_system(Path::new(path)), expected, "{path}");
        }
    }
}
