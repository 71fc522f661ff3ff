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

/// Whether process 1 has another root directory. Without procfs, as in a chroot that was just unpacked, it has; an ordinary
/// user may not look.
fn another_root(root: &Path) -> bool {
    match (root.metadata(), Path::new("/").metadata()) {
        (Ok(first), Ok(own)) => (first.dev(), first.ino()) != (own.dev(), own.ino()),
        (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Whether a manager of containers started process 1: it sets the variable `container`.
fn contained(environment: &Path) -> bool {
    let text = std::fs::read(environment).unwrap_or_default();
    text.split(|byte| *byte == 0).any(|variable| variable.starts_with(b"container="))
}

#[cfg(test)]
mod tests {
    use super::*;

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
