//! What can be done with a file or a file system.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;

/// Whether this process may create files in a directory; false if it does not exist.
pub fn writable(dir: &Path) -> bool {
    dir.is_dir() && rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Why nothing can be changed in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritable {
    /// Its file system is read-only.
    ReadOnly,
    /// It has an attribute that forbids changes, also to root.
    Immutable,
    /// This user may not, for example on a server's file system.
    Denied,
}

/// Why this process cannot change a directory; `None` if it can, or if there is no such directory.
pub fn unwritable(dir: &Path) -> Option<Unwritable> {
    let error = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).err().filter(|_| dir.is_dir())?;
    Some(match error {
        Errno::ROFS => Unwritable::ReadOnly,
        Errno::PERM if immutable(dir) => Unwritable::Immutable,
        _ => Unwritable::Denied,
    })
}

fn immutable(dir: &Path) -> bool {
    let found = rustix::fs::statx(CWD, dir, AtFlags::empty(), StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::IMMUTABLE))
}

/// Whether an error means that a file system, or a user's share of it, is full.
pub fn is_full(error: &anyhow::Error) -> bool {
    let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| full(error.kind())))
}

/// Whether a path is on a file system that is read-only. A path that does not exist would be created in the next
/// directory above it.
pub fn on_read_only(path: &Path) -> bool {
    let there = path.ancestors().find(|path| path.exists());
    there.is_some_and(|path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK) == Err(Errno::ROFS))
}

/// Free bytes on the file system of a directory; `None` if it has no inode for another file.
pub fn room(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    let files = stat.f_files == 0 || stat.f_favail > 0;
    Some(if files { stat.f_bavail.saturating_mul(stat.f_frsize) } else { 0 })
}

/// Whether a file exists and is executable.
pub fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

/// Whether every user can read a file: root must not tell what another user may not know.
pub fn readable_by_all(path: &Path) -> bool {
    let Ok(real) = path.canonicalize() else { return false };
    let allows = |path: &Path, bit: u32| path.metadata().is_ok_and(|meta| meta.mode() & bit != 0);
    allows(&real, 0o004) && real.ancestors().skip(1).all(|dir| allows(dir, 0o001))
}

/// Whether users other than root, the user of this process, and the file's group can read a file, or change it.
pub fn open_to_others(path: &Path) -> bool {
    let own = [0, rustix::process::geteuid().as_raw()];
    path.metadata().is_ok_and(|meta| meta.mode() & 0o026 != 0 || !own.contains(&meta.uid()))
}
