//! Deletes and copies trees with untrusted owners through open directories, one name at a time. No link is followed,
//! even if the owner creates it concurrently, and deep nesting neither overflows the stack nor exhausts file
//! descriptors.

use std::cell::Cell;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps,
    Uid,
};
use rustix::io::Errno;

use super::{TEMP_PREFIX, TREE_LIMIT};
use crate::sys::signal;

const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);
/// The maximum depth of a tree that is copied or read. Sources have a dozen levels; each takes two file descriptors.
pub const DEPTH: usize = 64;

/// The part of a file that is copied at once.
const PART: u64 = 256 << 10;
/// The depth from which directories are moved up before they are emptied. Going down and up again takes longer for each
/// further level on some file systems, so that a build could leave a tree that takes days to delete.
const DEEP: usize = 64;
/// The number of directories after which a signal is noticed. Less than this is deleted also after a signal.
const SIGNALS: usize = 4096;

/// Deletes a directory with its content. Memory grows by one name per level, up to a limit; file descriptors and stack do
/// not.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let top = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())?;
    let mut dir = rustix::fs::openat(&top, c".", DIRECTORY, Mode::empty())?;
    // The names of the directories on the way, each with the identity of its parent.
    let mut above: Vec<(CString, (u64, u64))> = Vec::new();
    let mut moved = 0_u64;
    for count in 1_usize.. {
        if count % SIGNALS == 0 {
            signal::check().map_err(io::Error::other)?;
        }
        if let Some(child) = emptied(dir.as_fd())? {
            if above.len() >= DEEP && move_up(dir.as_fd(), &child, top.as_fd(), &mut moved)? {
                continue;
            }
            let next = rustix::fs::openat(&dir, &child, DIRECTORY, Mode::empty())?;
            above.push((child, identity(dir.as_fd())?));
            dir = next;
            continue;
        }
        let Some((name, parent)) = above.pop() else { break };
        let up = rustix::fs::openat(&dir, c"..", DIRECTORY, Mode::empty())?;
        if identity(up.as_fd())? != parent {
            return Err(io::Error::other("a directory was moved while it was being deleted"));
        }
        unlink(up.as_fd(), &name, AtFlags::REMOVEDIR)?;
        dir = up;
    }
    Ok(rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

/// Moves a directory to the top of the tree that is being deleted. False if the file system cannot: overlayfs.
fn move_up(
    dir: BorrowedFd<'_>,
    child: &CStr,
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> rustix::io::Result<bool> {
    loop {
        *moved += 1;
        let name = format!("{TEMP_PREFIX}{moved}");
        match rustix::fs::renameat_with(dir, child, top, name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Deletes files and empty directories. Returns the first directory that is not empty.
fn emptied(dir: BorrowedFd<'_>) -> io::Result<Option<CString>> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dot(name) {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                // Some file systems do not return file types in a listing.
                Err(Errno::ISDIR | Errno::PERM) if entry.file_type() == FileType::Unknown => {}
                Err(error) => return Err(error.into()),
            }
        }
        match unlink(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name.to_owned())),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// A missing file is not an error.
fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn identity(dir: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Copies a tree: files, links, directories, their modes and times; with a new owner if given. Devices, sockets and
/// fifos are omitted. Shares blocks if the file system supports it.
pub fn copy(from: &Path, to: &Path, owner: Option<u32>) -> Result<()> {
    copy_from(&opened(parent_of(from), ResolveFlags::empty())?, from, to, owner)
}

/// The same for a path that contains no link. One that a user puts there now is an error.
pub fn copy_real(from: &Path, to: &Path, owner: Option<u32>) -> Result<()> {
    copy_from(&opened(parent_of(from), ResolveFlags::NO_SYMLINKS)?, from, to, owner)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn opened(dir: &Path, resolve: ResolveFlags) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat2(CWD, dir, flags, Mode::empty(), resolve) {
        // Some containers forbid the system call.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(CWD, dir, flags, Mode::empty()),
        other => other,
    };
    opened.with_context(|| format!("opening {}", dir.display()))
}

/// Copies an entry of an open directory.
fn copy_from(source: &OwnedFd, from: &Path, to: &Path, owner: Option<u32>) -> Result<()> {
    let name = |path: &Path| CString::new(path.file_name().unwrap_or(OsStr::new(".")).as_bytes());
    let target = opened(parent_of(to), ResolveFlags::empty())?;
    let left = Cell::new(TREE_LIMIT);
    let pair = Pair { from: (source.as_fd(), &name(from)?), to: (target.as_fd(), &name(to)?), left: &left };
    entry(&pair, owner, 0).with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// The content of an [adopted](adopt) tree, by path below its directory.
pub type Adopted = Vec<(PathBuf, Entry)>;

/// What has a name in an [adopted](adopt) tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Dir,
    /// A regular file with a single name.
    File {
        /// Its owner may execute it.
        executable: bool,
    },
    /// A symbolic link with this target.
    Link(PathBuf),
}

/// Takes over a tree that another user wrote, whose processes have ended: the owner becomes root, files get mode 0644 or
/// 0755, directories 0755. Other kinds of files are errors.
pub fn adopt(dir: &Path, most: usize) -> Result<Adopted> {
    let context = || format!("taking over {}", dir.display());
    let open = rustix::fs::openat(CWD, dir, DIRECTORY, Mode::empty()).with_context(context)?;
    let mut found = Vec::new();
    adopt_dir(open.as_fd(), Path::new(""), &mut found, most, 0).with_context(context)?;
    Ok(found)
}

fn adopt_dir(
    dir: BorrowedFd<'_>,
    below: &Path,
    found: &mut Adopted,
    most: usize,
    depth: usize,
) -> Result<()> {
    if depth >= DEPTH {
        bail!("directories are nested more than {DEPTH} deep");
    }
    for name in names(dir)? {
        let path = below.join(OsStr::from_bytes(name.to_bytes()));
        if found.len() >= most {
            bail!("there are more than {most} files");
        }
        let context = || path.display().to_string();
        let kind = FileType::from_raw_mode(
            rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).with_context(context)?.st_mode,
        );
        match kind {
            FileType::Directory => {
                let inner = rustix::fs::openat(dir, &name, DIRECTORY, Mode::empty()).with_context(context)?;
                found.push((path.clone(), Entry::Dir));
                adopt_dir(inner.as_fd(), &path, found, most, depth + 1)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, &name, Vec::new()).with_context(context)?;
                let root = (Some(Uid::ROOT), Some(Gid::ROOT));
                rustix::fs::chownat(dir, &name, root.0, root.1, AtFlags::SYMLINK_NOFOLLOW)
                    .with_context(context)?;
                found.push((path, Entry::Link(OsStr::from_bytes(target.to_bytes()).into())));
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(dir, &name, flags, Mode::empty()).with_context(context)?;
                let stat = rustix::fs::fstat(&file).with_context(context)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
                    bail!("{} is not a file of its own", path.display());
                }
                let executable = stat.st_mode & 0o100 != 0;
                let mode = if executable { 0o755 } else { 0o644 };
                own(file.as_fd(), Some(0)).with_context(context)?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).with_context(context)?;
                found.push((path, Entry::File { executable }));
            }
            _ => bail!("{} is neither a file, a link nor a directory", path.display()),
        }
    }
    own(dir, Some(0))?;
    Ok(rustix::fs::fchmod(dir, Mode::from_raw_mode(0o755))?)
}

/// A name in an open directory, and the name of its copy in another one.
struct Pair<'a> {
    from: (BorrowedFd<'a>, &'a CStr),
    to: (BorrowedFd<'a>, &'a CStr),
    /// The bytes that may still be copied.
    left: &'a Cell<u64>,
}

fn entry(pair: &Pair<'_>, owner: Option<u32>, depth: usize) -> Result<()> {
    let (dir, name) = pair.from;
    let context = || name.to_string_lossy().into_owned();
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).with_context(context)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => link(pair, owner).with_context(context),
        FileType::Directory => directory(pair, owner, depth),
        FileType::RegularFile => file(pair, owner).with_context(context),
        _ => Ok(()),
    }
}

fn own(fd: BorrowedFd<'_>, owner: Option<u32>) -> io::Result<()> {
    match owner {
        Some(id) => Ok(rustix::fs::fchown(fd, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))?),
        None => Ok(()),
    }
}

fn link(pair: &Pair<'_>, owner: Option<u32>) -> io::Result<()> {
    let target = rustix::fs::readlinkat(pair.from.0, pair.from.1, Vec::new())?;
    let (dir, name) = pair.to;
    rustix::fs::symlinkat(&target, dir, name)?;
    if let Some(id) = owner {
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        rustix::fs::chownat(dir, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn directory(pair: &Pair<'_>, owner: Option<u32>, depth: usize) -> Result<()> {
    let context = || pair.from.1.to_string_lossy().into_owned();
    if depth >= DEPTH {
        bail!("directories are nested more than {DEPTH} deep");
    }
    let from =
        rustix::fs::openat(pair.from.0, pair.from.1, DIRECTORY, Mode::empty()).with_context(context)?;
    match rustix::fs::mkdirat(pair.to.0, pair.to.1, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).with_context(context),
    }
    let to = rustix::fs::openat(pair.to.0, pair.to.1, DIRECTORY, Mode::empty()).with_context(context)?;
    for name in names(from.as_fd()).with_context(context)? {
        let inner = Pair { from: (from.as_fd(), &name), to: (to.as_fd(), &name), left: pair.left };
        entry(&inner, owner, depth + 1).with_context(context)?;
    }
    let stat = rustix::fs::fstat(&from)?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o755 | 0o700)).with_context(context)?;
    own(to.as_fd(), owner).with_context(context)
}

/// The names in a directory, in byte order.
fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if !is_dot(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn file(pair: &Pair<'_>, owner: Option<u32>) -> io::Result<()> {
    let (dir, name) = pair.from;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    // The open file counts, not what had the name before.
    let stat = rustix::fs::fstat(&from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    borrowed(dir, &stat)?;
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let Some(left) = pair.left.get().checked_sub(size) else {
        let why = format!("the directory contains more than {} MiB", TREE_LIMIT >> 20);
        return Err(io::Error::other(why));
    };
    pair.left.set(left);
    // A link at the destination is not followed, and a set-user-id bit is not copied.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(pair.to.0, pair.to.1, flags, Mode::RUSR | Mode::WUSR)?;
    let to = content(from, to, size)?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o755))?;
    keep_times(to.as_fd(), &stat)?;
    own(to.as_fd(), owner)
}

/// A hard link to another owner's file would make root copy a file that only root may read.
fn borrowed(dir: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let place = rustix::fs::fstat(dir)?;
    if place.st_uid != 0 && stat.st_uid != place.st_uid && stat.st_nlink > 1 {
        return Err(io::Error::other("it is a hard link to a file of another owner"));
    }
    Ok(())
}

/// Shares blocks if the file system supports it (a hard link would let a build write to the original).
fn content(from: OwnedFd, to: OwnedFd, size: u64) -> io::Result<OwnedFd> {
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        return Ok(to);
    }
    // It may grow without end while it is copied.
    let (mut from, mut to) = (File::from(from).take(size), File::from(to));
    let mut buffer = vec![0; usize::try_from(size.clamp(1, PART)).map_err(io::Error::other)?];
    loop {
        signal::check().map_err(io::Error::other)?;
        let count = from.read(&mut buffer)?;
        let part = buffer.get(..count).unwrap_or_default();
        if part.is_empty() {
            break;
        }
        // The holes of a sparse file stay holes.
        if part.iter().all(|byte| *byte == 0) {
            to.seek(io::SeekFrom::Current(i64::try_from(count).map_err(io::Error::other)?))?;
        } else {
            to.write_all(part)?;
        }
    }
    let end = to.stream_position()?;
    to.set_len(end)?;
    Ok(to.into())
}

/// make compares times: a copy that is newer than the original would change the build.
fn keep_times(to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of directories, created without using a path of that length.
    fn nest(dir: &Path, depth: usize) {
        let mut at = rustix::fs::openat(CWD, dir, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&at, c"e", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, c"d", DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn any_depth_is_deleted_and_none_is_copied() {
        // On tmpfs: a disk may need ten milliseconds to delete a directory.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let deep = dir.path().join("deep");
        std::fs::create_dir(&deep).unwrap();
        nest(&deep, 20_000);
        // On a thread with a small stack.
        let copied = std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().stack_size(256 << 10);
            let worker = || {
                let copied = copy(&deep, &dir.path().join("copy"), None);
                remove(&deep).unwrap();
                copied
            };
            builder.spawn_scoped(scope, worker).unwrap().join().unwrap()
        });
        assert!(format!("{:#}", copied.unwrap_err()).contains("nested more than 64 deep"));
        assert!(!deep.exists());
    }

    #[test]
    fn links_are_deleted_and_copied_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
        for path in [&outside, &tree] {
            std::fs::create_dir(path).unwrap();
        }
        File::create(outside.join("kept")).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        copy(&tree, &dir.path().join("copy"), None).unwrap();
        assert!(dir.path().join("copy/link").is_symlink());
        // A link in place of a directory that is to be created.
        std::fs::create_dir(tree.join("sub")).unwrap();
        std::fs::remove_dir_all(dir.path().join("copy")).unwrap();
        std::fs::create_dir(dir.path().join("copy")).unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join("copy/sub")).unwrap();
        assert!(copy(&tree.join("sub"), &dir.path().join("copy/sub"), None).is_err());
        remove(&tree).unwrap();
        assert!(outside.join("kept").exists() && !tree.exists());
    }
}
