//! Whether this system is the one that runs on the machine, or is in a chroot or container: then the running kernel and the
//! devices are those of another system.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::confine;

/// The namespaces that exist since the kernel started, by their inode numbers (`include/uapi/linux/nsfs.h`).
const FIRST_USERS: u64 = 0xEFFF_FFFD;
const FIRST_PROCESSES: u64 = 0xEFFF_FFFC;

/// Where a process can see whether it is in a chroot or container.
#[derive(Debug)]
pub struct Signs {
    /// Files that exist in containers.
    pub marks: Vec<PathBuf>,
    /// The root directory of process 1, as procfs shows it.
    pub root: PathBuf,
    /// The environment of process 1.
    pub environment: PathBuf,
    /// The namespaces of this process, a file for each kind.
    pub spaces: PathBuf,
    /// Names the process namespace that is a machine's, although it is not the first.
    pub machine: PathBuf,
}

impl Signs {
    /// Whether this process is in a chroot or container.
    pub fn is_guest(&self) -> bool {
        self.marks.iter().any(|mark| mark.exists())
            || another_root(&self.root)
            || contained(&self.environment)
            || self.another_space("user", FIRST_USERS)
            || (self.another_space("pid", FIRST_PROCESSES) && !confine::is_within() && !self.is_named())
    }

    /// Whether a namespace of this process is not the first one of its kind. Programs that build images make one in which
    /// process 1 has the image as its root directory. A kernel without namespaces has no file for them.
    fn another_space(&self, kind: &str, first: u64) -> bool {
        self.spaces.join(kind).metadata().is_ok_and(|meta| meta.ino() != first)
    }

    /// Whether the administrator has named this process namespace. By its name, so that the file holds for no other one, in
    /// which an image is built.
    fn is_named(&self) -> bool {
        let named = crate::sys::file::text(&self.machine).unwrap_or_default();
        let own = std::fs::read_link(self.spaces.join("pid"));
        own.is_ok_and(|own| own == Path::new(named.trim()))
    }
}

fn another_root(root: &Path) -> bool {
    let of = |path: &Path| path.metadata().map(|meta| (meta.dev(), meta.ino()));
    differ(of(root), of(Path::new("/")), rustix::process::geteuid().is_root())
}

/// Whether process 1 has another root directory, by device and inode. Without procfs, as in a chroot that was just unpacked, it
/// has. An ordinary user may not look. Root may, unless process 1 has more privileges, as on the host of a container: an image
/// that is built there must not get a private key because this cannot be told.
fn differ(first: io::Result<(u64, u64)>, own: io::Result<(u64, u64)>, privileged: bool) -> bool {
    match (first, own) {
        (Ok(first), Ok(own)) => first != own,
        (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => privileged,
        (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Whether a manager of containers started process 1: it sets the variable `container`.
fn contained(environment: &Path) -> bool {
    let text = crate::sys::file::content(environment).unwrap_or_default();
    text.split(|byte| *byte == 0).any(|variable| variable.starts_with(b"container="))
}

/// The architecture of the running kernel, if it is another one than that of this process: an emulator (qemu-user) runs it. The
/// emulator changes what uname(2) says, and not this file.
pub fn emulated() -> Option<String> {
    let kernel = crate::sys::file::text("/proc/sys/kernel/arch").ok()?;
    let own = rustix::system::uname();
    other(kernel.trim(), own.machine().to_str().ok()?)
}

fn other(kernel: &str, own: &str) -> Option<String> {
    (!kernel.is_empty() && kernel != own).then(|| kernel.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_of_another_architecture_means_an_emulator() {
        for (kernel, own, expected) in
            [("x86_64", "x86_64", None), ("x86_64", "aarch64", Some("x86_64")), ("", "x86_64", None)]
        {
            assert_eq!(other(kernel, own).as_deref(), expected, "{kernel} {own}");
        }
    }

    #[test]
    fn the_root_of_process_1_may_be_hidden() {
        let own = || Ok((1, 2));
        let failed = |kind: io::ErrorKind| Err(kind.into());
        for (first, privileged, expected) in [
            (own(), true, false),
            (Ok((1, 3)), true, true),
            (Ok((2, 2)), false, true),
            (failed(io::ErrorKind::NotFound), true, true),
            (failed(io::ErrorKind::PermissionDenied), true, true),
            (failed(io::ErrorKind::PermissionDenied), false, false),
            (failed(io::ErrorKind::Other), true, false),
        ] {
            let case = format!("{first:?} {privileged}");
            assert_eq!(differ(first, own(), privileged), expected, "{case}");
        }
    }

    #[test]
    fn a_chroot_and_a_container_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        crate::sys::file::write_atomic(&at("plain"), b"PATH=/bin\0not_a_container=1\0", 0o644).unwrap();
        crate::sys::file::write_atomic(&at("lxc"), b"PATH=/bin\0container=lxc\0", 0o644).unwrap();
        // Files stand for namespaces: their inode numbers are not those of the first ones.
        for (spaces, kinds) in [("first", &[][..]), ("users", &["user"]), ("processes", &["pid"])] {
            std::fs::create_dir(at(spaces)).unwrap();
            for kind in kinds {
                std::os::unix::fs::symlink(std::env::current_exe().unwrap(), at(spaces).join(kind)).unwrap();
            }
        }
        let named = std::env::current_exe().unwrap();
        for (name, content) in [("this", named.to_str().unwrap()), ("other", "pid:[4026532200]")] {
            crate::sys::file::write_atomic(&at(name), format!("{content}\n").as_bytes(), 0o644).unwrap();
        }
        let root = PathBuf::from("/");
        for (mark, root, environment, spaces, machine, guest) in [
            ("none", &root, "plain", "first", "none", false),
            ("none", &root, "missing", "first", "none", false),
            ("none", &root, "lxc", "first", "none", true),
            ("lxc", &root, "plain", "first", "none", true),
            ("none", &at("missing"), "plain", "first", "none", true),
            ("none", &at("."), "plain", "first", "none", true),
            ("none", &root, "plain", "users", "none", true),
            ("none", &root, "plain", "processes", "none", true),
            // An administrator has named the process namespace: this one, or the machine's while an image is built in another.
            ("none", &root, "plain", "processes", "this", false),
            ("none", &root, "plain", "processes", "other", true),
            ("none", &at("."), "plain", "processes", "this", true),
            ("lxc", &root, "plain", "processes", "this", true),
            ("none", &root, "plain", "users", "this", true),
        ] {
            let signs = Signs {
                marks: vec![at(mark)],
                root: root.clone(),
                environment: at(environment),
                spaces: at(spaces),
                machine: at(machine),
            };
            assert_eq!(signs.is_guest(), guest, "{signs:?}");
        }
    }
}
