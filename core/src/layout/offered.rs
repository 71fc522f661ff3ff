//! Paths in packages that are not installed yet.

use std::path::{Path, PathBuf};

use super::Layout;
use super::package_path::IMAGE;
use crate::sys::file;
use crate::types::KernelRelease;

/// The use of a path for building modules, in a package that is not installed yet. Such paths have no leading slash,
/// and have `usr/` where systems with and without a merged `/usr` differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// The directory of this kernel's headers, complete enough to build with.
    Headers(String, PathBuf),
    /// The image of this kernel.
    Image(String),
    /// A module's source in this directory of the source tree.
    Source(String),
    /// A program that is used for building.
    Tool,
    /// An essential one: a compiler, a linker, make, a shell, or the C library.
    Toolchain,
    /// Something else.
    Other,
}

impl Offered {
    /// The use of this path.
    pub fn by(path: &Path) -> Self {
        let text = path.to_str().unwrap_or_default();
        // A file that configured headers have, and kernel sources and common headers do not.
        if let Some(dir) = text.strip_suffix("/include/config/auto.conf") {
            let parts: Vec<&str> = dir.split('/').collect();
            let release = match parts[..] {
                ["usr", "src", dir] => dir.strip_prefix("linux-headers-").map(str::to_owned),
                ["usr", "src", "kernels", release] => Some(release.to_owned()),
                ["usr", "lib", "modules", release, "build"] => Some(release.to_owned()),
                ["usr", "src", dir, _, flavour] => dir
                    .strip_prefix("linux-")
                    .and_then(|dir| dir.strip_suffix("-obj"))
                    .map(|release| format!("{release}-{flavour}")),
                _ => None,
            };
            return release.map_or(Self::Other, |release| Self::Headers(release, dir.into()));
        }
        if let Some(release) = text.strip_prefix("boot/vmlinuz-") {
            return Self::Image(release.to_owned());
        }
        match text.split('/').collect::<Vec<_>>()[..] {
            ["usr", "lib", "modules", release, name] if IMAGE.contains(&name) => {
                Self::Image(release.to_owned())
            }
            ["usr", "src", dir, "dkms.conf"] => Self::Source(dir.to_owned()),
            ["usr", "bin", name] if compiles(name) => Self::Toolchain,
            ["usr", "bin", name] if builds(name) => Self::Tool,
            ["usr", "lib" | "libexec", "gcc", ..] => Self::Toolchain,
            ["usr", "lib" | "lib64", "libc.so.6" | "crt1.o"] => Self::Toolchain,
            ["usr", "lib", _, "libc.so.6" | "crt1.o"] => Self::Toolchain,
            _ => Self::Other,
        }
    }

    /// Whether a path is always needed for building: headers with their tools, sources.
    pub fn needed(path: &Path) -> bool {
        match parts(path)[..] {
            ["usr", "src", ..] => true,
            ["usr", "lib", "modules", _, "build" | "source" | "pkgbase", ..] => true,
            ["usr", "lib", dir, ..] => dir.starts_with("linux-kbuild-"),
            _ => false,
        }
    }

    /// Whether a package with tools for building needs this path for them.
    pub fn of_tools(path: &Path) -> bool {
        match parts(path)[..] {
            ["usr", "lib", "modules" | "firmware" | "debug", ..] => false,
            ["usr", "bin" | "lib" | "lib64" | "libexec" | "include", ..] => true,
            _ => false,
        }
    }

    /// Whether it is a program or library in a standard directory, which headers' tools may call.
    pub fn program(path: &Path) -> bool {
        match parts(path)[..] {
            ["usr", "bin", _] => true,
            ["usr", "lib" | "lib64", name] | ["usr", "lib", _, name] => {
                name.ends_with(".so") || name.contains(".so.")
            }
            _ => false,
        }
    }

    /// Whether it is a file of this library, which is loaded by its soname: `libelf.so.1` is in `libelf-0.192.so` or
    /// `libelf.so.1.2`.
    pub fn library(path: &Path, name: &str) -> bool {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let rest = file.strip_prefix(name);
        Self::program(path) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The link to a kernel's headers.
    pub fn headers_link(kernel: &KernelRelease) -> PathBuf {
        Path::new("usr/lib/modules").join(kernel.as_str()).join("build")
    }

    /// The directories of the system that `over` overlays, each with its part of it.
    pub fn places(over: &Path) -> Vec<(PathBuf, PathBuf)> {
        let usr = Path::new("/usr");
        let parts = file::sub_dirs(&over.join("usr"));
        let mut places: Vec<(PathBuf, PathBuf)> =
            parts.iter().map(|part| (usr.join(part), over.join("usr").join(part))).collect();
        // Without a merged /usr, packages may have the same paths below the root.
        for part in &parts {
            let outer = Path::new("/").join(part);
            if outer.is_dir() && !outer.is_symlink() && part != "src" {
                places.push((outer, over.join("usr").join(part)));
            }
        }
        places
    }
}

impl Layout {
    /// The programs of this system that are used for building, and its C library.
    pub fn build_tools(&self) -> Vec<PathBuf> {
        let root = Path::new("/");
        let bin = file::sorted_entries(&root.join("usr/bin"));
        let lib = root.join("usr/lib");
        let libraries = [lib.clone(), root.join("usr/lib64")].into_iter();
        let libraries = libraries.chain(file::sub_dirs(&lib).into_iter().map(|dir| lib.join(dir)));
        let libraries = libraries.map(|dir| dir.join("libc.so.6")).filter(|file| file.exists());
        let used = |file: &PathBuf| {
            let path = file.strip_prefix(root).unwrap_or(file);
            matches!(Offered::by(path), Offered::Tool | Offered::Toolchain)
        };
        bin.into_iter().chain(libraries).filter(used).collect()
    }
}

fn parts(path: &Path) -> Vec<&str> {
    path.to_str().unwrap_or_default().split('/').collect()
}

/// Whether builds are impossible without this program.
fn compiles(name: &str) -> bool {
    ["as", "bash", "cc", "clang", "dash", "gcc", "ld", "make", "sh"].contains(&name)
        || ["gcc-", "clang-", "ld."].iter().any(|start| name.starts_with(start))
        || name.contains("-linux-gnu-")
}

/// Whether a program is used for building a module.
fn builds(name: &str) -> bool {
    ["awk", "gawk", "grep", "mawk", "objcopy", "pahole", "perl", "sed", "strip"].contains(&name)
        || ["llvm-", "python3"].iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_not_there_yet_tell_what_they_are_good_for() {
        let headers = |release: &str, dir: &str| Offered::Headers(release.into(), dir.into());
        for (path, expected) in [
            (
                "usr/src/linux-headers-6.12.1+deb13-amd64/include/config/auto.conf",
                headers("6.12.1+deb13-amd64", "usr/src/linux-headers-6.12.1+deb13-amd64"),
            ),
            (
                "usr/src/kernels/6.1-1.fc43/include/config/auto.conf",
                headers("6.1-1.fc43", "usr/src/kernels/6.1-1.fc43"),
            ),
            (
                "usr/src/linux-6.4.0-1-obj/x86_64/default/include/config/auto.conf",
                headers("6.4.0-1-default", "usr/src/linux-6.4.0-1-obj/x86_64/default"),
            ),
            (
                "usr/lib/modules/6.2-arch1-1/build/include/config/auto.conf",
                headers("6.2-arch1-1", "usr/lib/modules/6.2-arch1-1/build"),
            ),
            // A module's source with the same path inside.
            ("usr/src/x-1/tests/include/config/auto.conf", Offered::Other),
            ("boot/vmlinuz-6.1", Offered::Image("6.1".into())),
            ("usr/lib/modules/6.1/vmlinuz", Offered::Image("6.1".into())),
            ("usr/src/zfs-2.3/dkms.conf", Offered::Source("zfs-2.3".into())),
            ("usr/bin/x86_64-linux-gnu-gcc-14", Offered::Toolchain),
            ("usr/lib/x86_64-linux-gnu/libc.so.6", Offered::Toolchain),
            ("usr/bin/pahole", Offered::Tool),
            ("usr/bin/ls", Offered::Other),
        ] {
            assert_eq!(Offered::by(Path::new(path)), expected, "{path}");
        }
        for (path, needed, of_tools, program) in [
            ("usr/src/zfs-2.3/module/a.c", true, false, false),
            ("usr/lib/linux-kbuild-6.12/scripts/mod/modpost", true, true, false),
            ("usr/lib/modules/6.1/build", true, false, false),
            ("usr/lib/modules/6.1/kernel/fs/a.ko", false, false, false),
            ("usr/lib/x86_64-linux-gnu/libisl.so.23", false, true, true),
            ("usr/lib64/libelf-0.192.so", false, true, true),
            ("usr/lib/libreoffice/program/libscui.so", false, true, false),
            ("usr/lib/x86_64-linux-gnu/vlc/plugins/a.so", false, true, false),
            ("usr/bin/pahole", false, true, true),
            ("etc/passwd", false, false, false),
        ] {
            let path = Path::new(path);
            let seen = (Offered::needed(path), Offered::of_tools(path), Offered::program(path));
            assert_eq!(seen, (needed, of_tools, program), "{path:?}");
        }
    }
}
