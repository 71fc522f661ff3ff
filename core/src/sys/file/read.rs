//! Reads files, also those with untrusted names: without following links out of a directory, waiting for a fifo, opening a
//! device, or reading without end.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The content of a regular file. Everything outside of this room reads with this function or the next ones: `fs::read` waits for
/// a writer if there is a fifo, and so blocks a package transaction. `/dev/null` is an empty file, because
/// links to it are a common way to disable a configuration file.
pub fn content(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    let (mut file, size) = match open_regular(path) {
        Err(_) if is_null(path) => return Ok(Vec::new()),
        other => other?,
    };
    let mut content = Vec::new();
    // A sparse file may be larger than the memory: an error, and not the end of the process.
    content.try_reserve_exact(usize::try_from(size).unwrap_or(usize::MAX))?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// The content of a regular file as text; an error if it is not UTF-8.
pub fn text(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(content(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Whether a path leads to `/dev/null`.
pub fn is_null(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == rustix::fs::makedev(1, 3))
}

/// What a directory entry can be, as text.
pub const A_DIRECTORY: &str = "a directory";
/// The same for a regular file.
pub const A_FILE: &str = "a regular file";
/// The same for a symbolic link.
pub const A_LINK: &str = "a symbolic link";

/// What a path leads to, as text; with `itself`, a link is not followed. `None` if there is nothing.
pub fn kind_of(path: &Path, itself: bool) -> Option<&'static str> {
    let meta = if itself { path.symlink_metadata() } else { path.metadata() };
    meta.ok().map(|meta| kind(&meta))
}

fn kind(meta: &fs::Metadata) -> &'static str {
    let kind = meta.file_type();
    if kind.is_dir() {
        A_DIRECTORY
    } else if kind.is_file() {
        A_FILE
    } else if kind.is_symlink() {
        A_LINK
    } else if kind.is_fifo() {
        "a fifo"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    }
}

/// The error about something with the name of a regular file.
pub fn irregular(meta: &fs::Metadata) -> io::Error {
    let kind_of_error = if meta.is_dir() { io::ErrorKind::IsADirectory } else { io::ErrorKind::Other };
    io::Error::new(kind_of_error, format!("it is {}, not a regular file", kind(meta)))
}

/// A file's content, or `None` when it does not exist.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match content(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// The largest size of one of our records.
const RECORD_LIMIT: u64 = 64 << 20;

/// One of our records; `None` if it is missing, damaged, or no regular file.
pub fn record<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let mut content = Vec::new();
    open_data(path, RECORD_LIMIT).ok()?.read_to_end(&mut content).ok()?;
    serde_json::from_slice(&content).ok()
}

/// Whether two files have the same content; an error if one cannot be read.
pub fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let ((mut one, mut left), (mut other, size)) = (open_regular(one)?, open_regular(other)?);
    if left != size {
        return Ok(false);
    }
    let part = left.min(1 << 16) as usize;
    let (mut ours, mut theirs) = (vec![0; part], vec![0; part]);
    while left > 0 {
        let part = left.min(part as u64) as usize;
        one.read_exact(&mut ours[..part])?;
        other.read_exact(&mut theirs[..part])?;
        if ours[..part] != theirs[..part] {
            return Ok(false);
        }
        left -= part as u64;
    }
    Ok(true)
}

/// Reads a regular file that an untrusted process created in its own directory. A link that leads out of the directory,
/// in any component, is an error, and so is a file that is too large.
pub fn read_untrusted(root: &Path, relative: &Path, limit: u64) -> Result<Vec<u8>> {
    let path = root.join(relative);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = || -> io::Result<File> {
        match rustix::fs::openat2(&File::open(root)?, relative, flags, Mode::empty(), beneath) {
            // Some containers forbid the system call. No process that could change the links is running any more, so
            // checking before opening is safe.
            Err(Errno::NOSYS | Errno::PERM) => {
                let real = path.canonicalize()?;
                if !real.starts_with(root.canonicalize()?) {
                    return Err(Errno::XDEV.into());
                }
                // A fifo must not block here either.
                Ok(File::from(rustix::fs::open(real, flags, Mode::empty())?))
            }
            other => Ok(File::from(other?)),
        }
    };
    let outside = |error: io::Error| match Errno::from_io_error(&error) {
        Some(Errno::XDEV) => io::Error::other(format!("it is a link that leads out of {}", root.display())),
        _ => error,
    };
    let file = open().map_err(outside).with_context(|| format!("opening {}", path.display()))?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        bail!("{} is not a regular file", path.display());
    }
    if meta.len() > limit {
        bail!("{} is larger than {}", path.display(), amount(limit));
    }
    let mut content = Vec::with_capacity(meta.len() as usize);
    file.take(limit).read_to_end(&mut content).with_context(|| format!("reading {}", path.display()))?;
    Ok(content)
}

/// The largest total size of a source tree, with the holes of sparse files. The largest known driver has a tenth of it.
pub const TREE_LIMIT: u64 = 4 << 30;

/// A limit in a message.
fn amount(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// Opens a file with an untrusted name; returns its size. A fifo or a device has no size to check against a limit, and
/// may have no end; opening one may block, or start something.
pub fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    // What has the name may be replaced at any time: the opened file is examined before it is opened for reading.
    let found = File::from(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
    let meta = found.metadata()?;
    if !meta.is_file() {
        return Err(irregular(&meta));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    let opened = match rustix::fs::open(again, flags, Mode::empty()) {
        // Without /proc, it may have been replaced in between.
        Err(Errno::NOENT) => rustix::fs::open(path, flags, Mode::empty()),
        other => other,
    };
    let file = File::from(opened?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(irregular(&meta));
    }
    Ok((file, meta.len()))
}

/// Opens a file of an untrusted tree, of at most `limit` bytes. A symbolic link may lead to a device, or to a file of procfs,
/// which has a size of zero and may never end: at most its size is read.
pub fn open_data(path: &Path, limit: u64) -> io::Result<io::Take<File>> {
    let (file, size) = open_regular(path)?;
    if size > limit {
        return Err(io::Error::other(format!("it is larger than {}", amount(limit))));
    }
    Ok(file.take(size))
}

/// The beginning and the end of a file, with the sizes `ends`, and a line between them if something was left out.
pub fn read_ends(path: &Path, ends: (u64, u64)) -> io::Result<Vec<u8>> {
    let (mut file, size) = open_regular(path)?;
    let (head, tail) = ends;
    let mut content = Vec::new();
    if size <= head + tail {
        file.read_to_end(&mut content)?;
        return Ok(content);
    }
    (&mut file).take(head).read_to_end(&mut content)?;
    content.extend(format!("\n[... {} bytes omitted ...]\n", size - head - tail).into_bytes());
    file.seek(io::SeekFrom::Start(size - tail))?;
    file.take(tail).read_to_end(&mut content)?;
    Ok(content)
}
