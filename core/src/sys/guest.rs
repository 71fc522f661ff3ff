//! Whether this system is the one that runs on the machine, or is in a chroot or container: then the running kernel and the
//! devices are those of another system.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether this process is in a chroot or container. `marks` are files that exist in containers, `root` and `environment`
/// belong to process 1, as procfs shows it.
pub fn is_guest(marks: &[PathBuf], root: &Path, environment: &Path) -> bool {
    marks.iter().any(|mark| mark.exists()) || another_root(root) || contained(environment)
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
        let root = PathBuf::from("/");
        for (mark, root, environment, guest) in [
            ("none", &root, "plain", false),
            ("none", &root, "missing", false),
            ("none", &root, "lxc", true),
            ("lxc", &root, "plain", true),
            ("none", &at("missing"), "plain", true),
            ("none", &at("."), "plain", true),
        ] {
            assert_eq!(is_guest(&[at(mark)], root, &at(environment)), guest, "{mark} {root:?} {environment}");
        }
    }
}
