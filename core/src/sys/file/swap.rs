//! Changes of several files that become one: until all of them are made, each can be undone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::{Changed, Staged, remove_all, temp_beside};

/// Files that get or lose their names. What was there keeps a temporary name until [`Swap::finish`], so that [`Swap::undo`]
/// needs no space and no content. Without either, the temporary files stay: the next run deletes what an intent
/// names.
#[derive(Debug, Default)]
pub struct Swap {
    changed: Changed,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    /// Nothing was there.
    Made(PathBuf),
    /// The old file has the first name, if there is still one at the second.
    Displaced(PathBuf, PathBuf),
}

impl Swap {
    /// The same with directories that were changed before.
    pub fn after(changed: Changed) -> Self {
        Self { changed, steps: Vec::new() }
    }

    /// Gives a complete file its final name: the old or the new one at any time.
    pub fn put(&mut self, mut staged: Staged) -> Result<()> {
        let context = || format!("replacing {}", staged.dest.display());
        let step = match staged.dest.symlink_metadata() {
            Err(_) => Step::Made(staged.rename()?.to_owned()),
            Ok(meta) if meta.is_dir() => bail!("{}: it is a directory", context()),
            Ok(_) => {
                fail::fail_point!("file:before-effect");
                let old = exchange(&staged).with_context(context)?;
                staged.done = true;
                Step::Displaced(old, staged.dest.clone())
            }
        };
        self.changed.note(&staged.dest);
        self.steps.push(step);
        Ok(())
    }

    /// Gives a file a temporary name. It may be missing.
    pub fn set_aside(&mut self, path: &Path) -> Result<()> {
        if path.symlink_metadata().is_ok() {
            fail::fail_point!("file:before-effect");
            let temp = temp_beside(path);
            fs::rename(path, &temp).with_context(|| format!("deleting {}", path.display()))?;
            self.changed.note(path);
            self.steps.push(Step::Displaced(temp, path.to_owned()));
        }
        Ok(())
    }

    /// Syncs what was changed up to now.
    pub fn sync(&mut self) -> Result<()> {
        self.changed.sync()
    }

    /// Restores everything. Continues after an error, and returns the first one.
    pub fn undo(mut self) -> Result<()> {
        let mut result = Ok(());
        for step in self.steps.iter().rev() {
            let undone = match step {
                Step::Made(path) => remove_all(path),
                Step::Displaced(old, path) => {
                    fs::rename(old, path).with_context(|| format!("restoring {}", path.display()))
                }
            };
            result = result.and(undone);
        }
        result.and(self.changed.sync())
    }

    /// Deletes what was replaced. When this returns, a power failure undoes nothing.
    pub fn finish(mut self) -> Result<()> {
        for step in &self.steps {
            if let Step::Displaced(old, _) = step {
                self.changed.remove(old)?;
            }
        }
        self.changed.sync()
    }
}

/// Renames a file to its final name, and returns the name that the file has which it replaced.
fn exchange(staged: &Staged) -> Result<PathBuf> {
    let (temp, dest) = (&staged.temp, &staged.dest);
    let exchanged = || -> rustix::io::Result<()> {
        fail::fail_point!("file:no-exchange", |_| Err(Errno::NOTSUP));
        rustix::fs::renameat_with(CWD, temp, CWD, dest, RenameFlags::EXCHANGE)
    };
    match exchanged() {
        Ok(()) => Ok(temp.clone()),
        // Some file systems do not support this: the old file gets a second name first.
        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            let old = temp_beside(dest);
            if fs::hard_link(dest, &old).is_err() {
                fs::copy(dest, &old)?;
            }
            fs::rename(temp, dest)?;
            Ok(old)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::{self, sorted_entries};

    /// A directory with two files.
    fn two() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::write(dir.path().join(name), format!("old {name}")).unwrap();
        }
        dir
    }

    fn content(dir: &Path) -> Vec<(String, String)> {
        let read = |path: PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        };
        sorted_entries(dir).into_iter().map(read).collect()
    }

    fn swapped(dir: &Path) -> Swap {
        let mut swap = Swap::default();
        for name in ["a", "c"] {
            swap.put(Staged::new(&dir.join(name), format!("new {name}").as_bytes(), 0o644).unwrap()).unwrap();
        }
        swap.set_aside(&dir.join("b")).unwrap();
        swap.set_aside(&dir.join("missing")).unwrap();
        swap
    }

    #[test]
    fn a_finished_swap_leaves_the_new_files_alone() {
        let dir = two();
        swapped(dir.path()).finish().unwrap();
        let expected =
            [("a", "new a"), ("c", "new c")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(content(dir.path()), expected);
    }

    #[test]
    fn an_undone_swap_leaves_the_old_files_alone() {
        let dir = two();
        let inode = |name: &str| {
            use std::os::unix::fs::MetadataExt;
            dir.path().join(name).metadata().unwrap().ino()
        };
        let before = (content(dir.path()), inode("a"), inode("b"));
        swapped(dir.path()).undo().unwrap();
        assert_eq!((content(dir.path()), inode("a"), inode("b")), before, "the very files");
    }

    #[test]
    fn a_directory_is_not_replaced() {
        let dir = two();
        file::make_dirs(&dir.path().join("c/d")).unwrap();
        let mut swap = Swap::default();
        let why = swap.put(Staged::new(&dir.path().join("c"), b"x", 0o644).unwrap()).unwrap_err();
        assert!(format!("{why:#}").contains("it is a directory"), "{why:#}");
        assert!(dir.path().join("c/d").is_dir() && sorted_entries(dir.path()).len() == 3);
    }
}
