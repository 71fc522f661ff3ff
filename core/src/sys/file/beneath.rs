//! Changes below a directory in which other users may change everything: no directory on the way is a link, and none can become
//! one in between, because each is opened from the one above it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the directory of a relative path. If `make`, what is missing is created.
fn parent_of(root: &Path, relative: &Path, make: bool) -> Result<OwnedFd> {
    let mut path = root.to_owned();
    // The directory itself was named by root, and may be a link.
    let mut dir =
        openat(CWD, root, DIR, Mode::empty()).with_context(|| format!("opening {}", path.display()))?;
    for name in relative.parent().unwrap_or(Path::new("")) {
        path.push(name);
        if make {
            match mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).with_context(|| format!("creating {}", path.display())),
            }
        }
        dir = match openat(&dir, name, DIR | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(io::Error::other("it is not a directory, or it is a link"))
                    .with_context(|| format!("opening {}", path.display()));
            }
            other => other.with_context(|| format!("opening {}", path.display()))?,
        };
    }
    Ok(dir)
}

/// Writes a file and its missing directories: completely, synced, or not at all.
pub fn write_beneath(root: &Path, relative: &Path, content: &[u8]) -> Result<()> {
    let dir = parent_of(root, relative, true)?;
    let name = relative.file_name().context("a path without a name")?;
    let temp: PathBuf = super::temp_beside(Path::new(name));
    let write = || -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&dir, &temp, flags, Mode::from_raw_mode(0o644))?);
        file.write_all(content)?;
        file.sync_all()?;
        renameat(&dir, &temp, &dir, name)?;
        Ok(fsync(&dir)?)
    };
    write()
        .inspect_err(|_| {
            let _ = unlinkat(&dir, &temp, AtFlags::empty());
        })
        .with_context(|| format!("writing {}", root.join(relative).display()))
}

/// Deletes a file; it may be gone.
pub fn remove_beneath(root: &Path, relative: &Path) -> Result<()> {
    let dir = parent_of(root, relative, false)?;
    let name = relative.file_name().context("a path without a name")?;
    match unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("deleting {}", root.join(relative).display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::file;

    #[test]
    fn a_linked_directory_is_not_entered() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("store"), dir.path().join("outside"));
        file::make_dirs(&root).unwrap();
        file::write_atomic(&outside.join("file"), b"old", 0o644).unwrap();
        symlink(&outside, root.join("link")).unwrap();
        symlink(&root, dir.path().join("named")).unwrap();
        for root in [&root, &dir.path().join("named")] {
            write_beneath(root, Path::new("a/b/file"), b"new").unwrap();
            assert_eq!(file::content(root.join("a/b/file")).unwrap(), b"new");
            for relative in ["link/file", "link/sub/file", "a/b/file/below"] {
                let why = format!("{:#}", write_beneath(root, Path::new(relative), b"new").unwrap_err());
                assert!(why.contains("it is not a directory, or it is a link"), "{why}");
                remove_beneath(root, Path::new(relative)).unwrap_err();
            }
            // A link at the place of the file is replaced, or deleted.
            symlink(outside.join("file"), root.join("a/link")).unwrap();
            write_beneath(root, Path::new("a/link"), b"new").unwrap();
            remove_beneath(root, Path::new("a/link")).unwrap();
            remove_beneath(root, Path::new("a/link")).unwrap();
        }
        assert_eq!(file::content(outside.join("file")).unwrap(), b"old");
        let found = file::files_below(dir.path(), &[]);
        assert_eq!(found, [outside.join("file"), root.join("a/b/file")], "no temporary file is left");
    }
}
