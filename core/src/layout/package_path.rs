//! The meaning of paths in packages.

use std::path::{Path, PathBuf};

/// Files in a kernel's directory that exist as long as the kernel is installed.
pub(super) const IMAGE: [&str; 2] = ["vmlinuz", "modules.builtin"];
/// Other entries in it that are neither other packages' modules nor written by depmod.
const PARTS: [&str; 5] = ["build", "kernel", "modules.order", "System.map", "config"];

/// The meaning of a path in a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackagePath<'a> {
    /// An essential file of the kernel with this release.
    Image(&'a str),
    /// Another file of this kernel.
    Part(&'a str),
    /// The dkms.conf in this directory of the source tree.
    Source(&'a str),
}

impl<'a> PackagePath<'a> {
    /// The meaning of an absolute path in a package, if it belongs to a kernel or to a module's source.
    pub fn of(path: &'a str) -> Option<Self> {
        let path = path.strip_prefix("/usr").unwrap_or(path);
        if let Some(source) = path.strip_prefix("/src/") {
            if let Some(kernel) = source.strip_prefix("kernels/") {
                // The directory itself: its content would be thousands of equivalent paths.
                return (!kernel.is_empty() && !kernel.contains('/')).then_some(PackagePath::Part(kernel));
            }
            let directory = source.strip_suffix("/dkms.conf")?;
            return (!directory.contains('/')).then_some(PackagePath::Source(directory));
        }
        let (release, rest) = path.strip_prefix("/lib/modules/")?.split_once('/')?;
        match rest {
            rest if IMAGE.contains(&rest) => Some(PackagePath::Image(release)),
            rest if PARTS.contains(&rest) => Some(PackagePath::Part(release)),
            _ => None,
        }
    }
}

/// Top-level directories that are links into `usr` on systems with a merged `/usr`.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// The real path of a path in a package, relative to the root: packages may still contain `lib/modules`.
pub fn merged(path: PathBuf) -> PathBuf {
    let mut parts = path.components();
    let first = parts.next().and_then(|part| part.as_os_str().to_str());
    // The directory itself may be in the package as a link.
    let below = parts.next().is_some();
    if below && first.is_some_and(|first| MERGED.contains(&first)) {
        return Path::new("usr").join(path);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_paths_lie_below_usr() {
        for (path, real) in [
            ("lib/modules/6.1/build", "usr/lib/modules/6.1/build"),
            ("sbin/a", "usr/sbin/a"),
            ("usr/lib/a", "usr/lib/a"),
            ("library/a", "library/a"),
            ("etc/lib/a", "etc/lib/a"),
            ("lib", "lib"),
            ("", ""),
        ] {
            assert_eq!(merged(path.into()), Path::new(real), "{path}");
        }
    }

    #[test]
    fn paths_tell_of_kernels_and_sources() {
        for (path, expected) in [
            (
                "/usr/lib/modules/6.12.1-1.fc43.x86_64/vmlinuz",
                Some(PackagePath::Image("6.12.1-1.fc43.x86_64")),
            ),
            (
                "/lib/modules/5.14.0-570.el9.x86_64/modules.builtin",
                Some(PackagePath::Image("5.14.0-570.el9.x86_64")),
            ),
            (
                "/usr/lib/modules/6.4.0-150600.23-default/build",
                Some(PackagePath::Part("6.4.0-150600.23-default")),
            ),
            ("/usr/lib/modules/6.12.1/kernel", Some(PackagePath::Part("6.12.1"))),
            ("/usr/lib/modules/6.12.1/kernel/fs/ext4/ext4.ko.xz", None),
            // Written by depmod; another package's module: not a kernel.
            ("/usr/lib/modules/6.12.1/modules.dep", None),
            ("/usr/lib/modules/6.12.1/extra/other/other.ko", None),
            ("/usr/lib/modules/6.12.1", None),
            ("/usr/src/kernels/6.12.1-1.fc43.x86_64", Some(PackagePath::Part("6.12.1-1.fc43.x86_64"))),
            ("/usr/src/kernels/6.12.1-1.fc43.x86_64/Makefile", None),
            ("/usr/src/kernels/", None),
            ("/usr/src/nvidia-570.1/dkms.conf", Some(PackagePath::Source("nvidia-570.1"))),
            ("/usr/src/nvidia-570.1/examples/dkms.conf", None),
            ("/usr/src/dkms.conf", None),
            ("/usr/src", None),
            ("", None),
        ] {
            assert_eq!(PackagePath::of(path), expected, "{path}");
        }
    }
}
