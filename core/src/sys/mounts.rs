//! The mount table of this process, parsed as bytes: a mount point may contain any bytes.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its id.
    pub id: u64,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Its own flags, not those of its file system.
    pub flags: MountFlags,
    /// Its file system.
    pub kind: OsString,
}

impl Mount {
    /// Whether the path of its mount point leads to it: if another file system is mounted over it, it cannot be
    /// reached. If unknown, it counts as reachable.
    #[allow(clippy::disallowed_methods)] // this is the place
    pub fn reachable(&self) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, &self.point, flags, Mode::empty()) {
            Ok(file) => mount_of(&file).is_none_or(|id| id == self.id),
            Err(error) => !matches!(error, Errno::NOENT | Errno::NOTDIR),
        }
    }
}

/// All mounts that this thread sees, in the order of their creation.
pub fn table() -> io::Result<Vec<Mount>> {
    parse(&crate::sys::file::content("/proc/thread-self/mountinfo")?)
}

/// Mount points below a directory, outer ones first. The path of the directory must be canonical.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut points: Vec<PathBuf> = table()?.into_iter().map(|mount| mount.point).collect();
    points.retain(|point| point != dir && point.starts_with(dir));
    points.sort();
    points.dedup();
    Ok(points)
}

/// The id of the mount of an open file; `None` if unknown.
fn mount_of(file: &OwnedFd) -> Option<u64> {
    let text = crate::sys::file::text(format!("/proc/thread-self/fdinfo/{}", file.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// An invalid line is an error, because an unknown mount cannot be made read-only.
fn parse(table: &[u8]) -> io::Result<Vec<Mount>> {
    let lines = table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| mount(line).ok_or_else(|| damaged(line))).collect()
}

fn damaged(line: &[u8]) -> io::Error {
    io::Error::other(format!("the mount table has a line of unknown form: {}", line.escape_ascii()))
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let point = unescaped(fields.nth(3)?);
    let options = fields.next()?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let flags = options.split(|byte| *byte == b',').map(flag).fold(MountFlags::empty(), |all, one| all | one);
    Some(Mount { id, point: OsString::from_vec(point).into(), flags, kind: OsString::from_vec(kind.into()) })
}

fn flag(option: &[u8]) -> MountFlags {
    match option {
        b"ro" => MountFlags::RDONLY,
        b"nosuid" => MountFlags::NOSUID,
        b"nodev" => MountFlags::NODEV,
        b"noexec" => MountFlags::NOEXEC,
        b"noatime" => MountFlags::NOATIME,
        b"nodiratime" => MountFlags::NODIRATIME,
        b"relatime" => MountFlags::RELATIME,
        b"nosymfollow" => MountFlags::NOSYMFOLLOW,
        _ => MountFlags::empty(),
    }
}

/// The kernel escapes spaces, tabs, line ends, backslashes and `#` as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match digits.filter(|_| *first == b'\\') {
            Some(digits) => {
                let value = digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                plain.push(value as u8);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn names_of_any_bytes_are_read_as_they_are() {
        let table = b"22 1 0:20 / /mnt/a\\040b\\011\\134\xff rw,nosuid,relatime shared:1 - tmpfs tmpfs rw\n\
            23 22 0:21 / / ro,noatime - overlay overlay rw\n";
        let mounts = parse(table).unwrap();
        assert_eq!(mounts[0].point.as_os_str().as_bytes(), b"/mnt/a b\t\\\xff");
        assert_eq!(mounts[0].flags, MountFlags::NOSUID | MountFlags::RELATIME);
        assert_eq!(mounts[1].flags, MountFlags::RDONLY | MountFlags::NOATIME);
        assert_eq!((mounts[1].id, mounts[1].kind.to_str()), (23, Some("overlay")));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_an_error_not_a_line_less() {
        for table in [&b"x 1 0:20 / / rw - a a rw\n"[..], b"22 1 0:20 /\n", b"22 1 0:20 / / rw shared:1\n"] {
            assert!(parse(table).is_err(), "{}", table.escape_ascii());
        }
    }

    #[test]
    fn this_process_has_a_root() {
        let table = table().unwrap();
        assert!(table.iter().any(|mount| mount.point == Path::new("/") && mount.reachable()));
    }
}
