//! A file that is complete and on the disk before it has its name.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Changed, make_dirs_synced, open_regular, parent, temp_beside};

/// A complete, synced file without its final name. If it is dropped without [`Staged::commit`], it is deleted.
#[derive(Debug)]
pub struct Staged {
    pub(super) temp: PathBuf,
    pub(super) dest: PathBuf,
    pub(super) done: bool,
}

impl Staged {
    /// Writes `content` next to `dest`. All disk space is allocated here: the later steps only rename.
    pub fn new(dest: &Path, content: &[u8], mode: u32) -> Result<Self> {
        Self::with(dest, mode, |file| file.write_all(content))
    }

    /// The same with what `fill` writes.
    pub fn with(dest: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<Self> {
        let staged = Self { temp: temp_beside(dest), dest: dest.to_owned(), done: false };
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&staged.temp)?;
            fill(&mut file)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        };
        write().with_context(|| format!("writing {}", dest.display()))?;
        Ok(staged)
    }

    /// Creates an empty file for another program to write, at [`Staged::path`]. [`Staged::complete`] follows.
    pub fn empty(dest: &Path, mode: u32) -> Result<Self> {
        Self::with(dest, mode, |_| Ok(()))
    }

    /// The path of the file before it has its final name.
    pub fn path(&self) -> &Path {
        &self.temp
    }

    /// Syncs what another program wrote. The program may have recreated the file with another mode.
    pub fn complete(&self, mode: u32) -> Result<()> {
        fs::set_permissions(&self.temp, Permissions::from_mode(mode))
            .and_then(|()| File::open(&self.temp)?.sync_all())
            .with_context(|| format!("writing {}", self.dest.display()))
    }

    /// Creates a link to `target` next to `dest`.
    pub fn link(dest: &Path, target: &Path) -> Result<Self> {
        let staged = Self { temp: temp_beside(dest), dest: dest.to_owned(), done: false };
        std::os::unix::fs::symlink(target, &staged.temp)
            .with_context(|| format!("linking {} to {}", dest.display(), target.display()))?;
        Ok(staged)
    }

    /// Copies a file next to `dest`, with its mode, owner and time of modification.
    pub fn copy(from: &Path, dest: &Path) -> Result<Self> {
        let open = || -> io::Result<_> {
            let (file, _) = open_regular(from)?;
            let meta = file.metadata()?;
            Ok((file, meta))
        };
        let (mut file, meta) = open().with_context(|| format!("reading {}", from.display()))?;
        make_dirs_synced(parent(dest))?;
        Self::with(dest, meta.mode() & 0o7777, |copy| {
            io::copy(&mut file, copy)?;
            std::os::unix::fs::fchown(&*copy, Some(meta.uid()), Some(meta.gid()))?;
            copy.set_modified(meta.modified()?)
        })
    }

    /// Renames the file, replacing an existing one: the old or the new one at any time, and after a power failure.
    pub fn commit(self) -> Result<()> {
        let mut changed = Changed::default();
        changed.name(self)?;
        changed.sync()
    }

    pub(super) fn rename(&mut self) -> Result<&Path> {
        fail::fail_point!("file:before-effect");
        fs::rename(&self.temp, &self.dest).with_context(|| format!("replacing {}", self.dest.display()))?;
        self.done = true;
        Ok(&self.dest)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.temp);
        }
    }
}
