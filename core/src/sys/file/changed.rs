//! Directories whose entries changed, and that were not synced yet.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Staged, parent, remove_all, sync};

/// Collects the directories in which files got or lost their names. What relies on these changes after a power failure
/// must follow [`Changed::sync`], which syncs each directory once.
#[derive(Debug, Default)]
pub struct Changed(BTreeSet<PathBuf>);

impl Changed {
    /// Gives a complete file its final name.
    pub fn name(&mut self, mut staged: Staged) -> Result<()> {
        let named = staged.rename()?.to_owned();
        self.note(&named);
        Ok(())
    }

    /// Deletes a file, or a directory with its content. It may be missing.
    pub fn remove(&mut self, path: &Path) -> Result<()> {
        if path.symlink_metadata().is_ok() {
            remove_all(path)?;
            self.note(path);
        }
        Ok(())
    }

    /// An entry was made or deleted in another way.
    pub fn note(&mut self, path: &Path) {
        self.0.insert(parent(path).to_owned());
    }

    /// Syncs the directories. Of one that was deleted since, the nearest that exists has lost an entry.
    pub fn sync(&mut self) -> Result<()> {
        let existing = |dir: PathBuf| dir.ancestors().find(|dir| dir.is_dir()).map(Path::to_owned);
        let dirs: BTreeSet<PathBuf> = std::mem::take(&mut self.0).into_iter().filter_map(existing).collect();
        for dir in dirs {
            match sync(&dir) {
                // Another process has deleted it.
                Err(error) if is_missing(&error) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file;

    #[test]
    fn each_directory_is_synced_once_and_a_deleted_one_by_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let mut changed = Changed::default();
        for name in ["a/1", "a/2", "b/c/3"] {
            file::make_dirs(parent(&root.join(name))).unwrap();
            changed.name(Staged::new(&root.join(name), b"x", 0o644).unwrap()).unwrap();
        }
        assert_eq!(changed.0, [root.join("a"), root.join("b/c")].into());
        changed.sync().unwrap();
        assert_eq!(changed.0, [].into());
        changed.remove(&root.join("a/none")).unwrap();
        assert_eq!(changed.0, [].into(), "nothing was there");
        changed.remove(&root.join("b/c/3")).unwrap();
        file::remove_empty_up_to(&root.join("b/c"), root);
        changed.sync().unwrap();
        assert!(!root.join("b").exists() && root.join("a/1").exists());
    }
}
