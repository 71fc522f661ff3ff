//! The registry, held for writing. Whoever has this value is the one writer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Failure, Installed, Record, Snapshot};
use crate::layout::Layout;
use crate::sys::file;
use crate::sys::lock::{self, Lock};
use crate::types::{Fingerprint, ModuleId, ModuleName, Placement, Target};

/// What a transaction is about to change in the kernels' trees. Each operation can be done again from the
/// registry alone, so that a run after a crash completes what this one began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Builds whose modules are being published.
    #[serde(default)]
    pub publish: Vec<Pending>,
    /// Modules that are being taken out.
    #[serde(default)]
    pub withdraw: Vec<Placement>,
    /// Installed modules whose POST_INSTALL has not ended.
    #[serde(default)]
    pub post_install: BTreeSet<Placement>,
    /// Modules that were taken out and whose POST_REMOVE has not ended.
    #[serde(default)]
    pub post_remove: BTreeSet<Placement>,
    /// Module files (and directories of them) that may hold temporary files of ours.
    #[serde(default)]
    pub touched: BTreeSet<PathBuf>,
    /// Kernels whose index is stale until depmod has run.
    #[serde(default)]
    pub depmod: BTreeSet<Target>,
}

/// A publication that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The module.
    pub module: ModuleId,
    /// The kernel.
    pub target: Target,
    /// Against advice, as it was asked for.
    pub force: bool,
}

/// The registry with the write lock.
#[derive(Debug)]
pub struct LockedTree {
    /// All paths.
    pub layout: Layout,
    lock: Lock,
    /// The name of our intent: no other run has it, so that none is overwritten before it is fulfilled.
    intent: String,
}

impl LockedTree {
    /// Waits for the lock and says so once.
    pub fn lock(layout: &Layout, waiting: impl FnOnce(&str)) -> Result<Self> {
        let lock = lock::acquire(&layout.lock(), waiting)?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        Ok(Self { layout: layout.clone(), lock, intent: format!("{time}-{}.json", std::process::id()) })
    }

    /// The run before this one was killed.
    pub fn unclean(&self) -> bool {
        self.lock.unclean()
    }

    /// The lock is that of a dkms above us, which is in the middle of something: what it has begun is its own.
    pub fn nested(&self) -> bool {
        self.lock.inherited()
    }

    /// The state, loaded after the lock was taken.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::load(&self.layout)
    }

    /// Deletes what killed runs left: temporary files, registrations that were not finished, empty directories, notes
    /// about what is gone. Readers write to our own directory without the lock: files of living processes stay.
    pub fn sweep(&self) -> Result<()> {
        let tree = &self.layout.dkms_tree;
        let mut open = vec![(self.layout.own(), 4)];
        let mut unlinked = BTreeSet::new();
        for name in file::sub_dirs(tree) {
            let module = tree.join(&name);
            for version in file::sub_dirs(&module) {
                let dir = module.join(&version);
                let mut kernels = file::sub_dirs(&dir);
                kernels.retain(|sub| sub != "build" && sub != "source");
                kernels.iter().for_each(|kernel| file::remove_empty_up_to(&dir.join(kernel), &dir));
                if dir.join("source").symlink_metadata().is_err() {
                    let mark = format!("{name}-{version}");
                    if kernels.is_empty() && self.layout.own().join("kept").join(&mark).exists() {
                        self.discard(&dir)?;
                    } else {
                        unlinked.insert(mark);
                    }
                }
            }
            file::remove_empty_up_to(&module, tree);
            open.push((module, 1));
        }
        for mark in file::sorted_entries(&self.layout.own().join("kept")) {
            if !mark.file_name().is_some_and(|name| unlinked.contains(name.to_string_lossy().as_ref())) {
                file::remove_all(&mark)?;
            }
        }
        while let Some((dir, depth)) = open.pop() {
            for path in file::sorted_entries(&dir) {
                if file::is_abandoned(&path) {
                    file::remove_all(&path)?;
                } else if depth > 0 && path.is_dir() && !path.is_symlink() {
                    open.push((path, depth - 1));
                }
            }
        }
        self.sweep_notes("failures", 2)?;
        self.sweep_notes("records", 4)
    }

    /// Deletes notes without that which they are about; the first `parts` of their paths are the same in the registry.
    fn sweep_notes(&self, kind: &str, parts: usize) -> Result<()> {
        let root = self.layout.own().join(kind);
        let mut open = vec![(root.clone(), 0)];
        while let Some((dir, depth)) = open.pop() {
            for path in file::sorted_entries(&dir) {
                let about = self.layout.dkms_tree.join(path.strip_prefix(&root)?);
                let about = if depth == 3 { about.with_extension("") } else { about };
                if about.symlink_metadata().is_err() {
                    file::remove_all(&path)?;
                    file::remove_empty_up_to(&dir, &self.layout.own());
                } else if depth + 1 < parts {
                    open.push((path, depth + 1));
                }
            }
        }
        Ok(())
    }

    /// Registers a module. The mark comes first: without it a directory without a link means a broken registry.
    pub fn register(&self, id: &ModuleId, source: &Path) -> Result<()> {
        file::write_atomic(&self.layout.kept_marker(id), b"", 0o644)?;
        file::make_dirs(&self.layout.build(id))?;
        file::symlink_atomic(source, &self.layout.source_link(id))?;
        file::remove_all(&self.layout.kept_marker(id))
    }

    /// Removes the link that makes a module registered, and leaves its builds. The mark comes first: without it a
    /// missing link means a broken registry.
    pub fn unlink_source(&self, id: &ModuleId) -> Result<()> {
        file::write_atomic(&self.layout.kept_marker(id), b"", 0o644)?;
        file::remove_all(&self.layout.source_link(id))?;
        file::remove_all(&self.layout.build(id))
    }

    /// Deletes a directory as one step: what is deleted half is nothing any more.
    fn discard(&self, dir: &Path) -> Result<()> {
        if dir.symlink_metadata().is_err() {
            return Ok(());
        }
        let trash = self.layout.work().join("trash");
        file::remove_all(&trash)?;
        file::set_aside(dir, &trash)
    }

    /// Deletes what is left of a version that has no builds any more, and of a module without versions.
    pub fn forget(&self, id: &ModuleId) -> Result<()> {
        self.discard(&self.layout.version(id))?;
        file::remove_all(&self.layout.kept_marker(id))?;
        for kind in ["records", "failures"] {
            let dir = self.layout.own_version(kind, id);
            file::remove_all(&dir)?;
            file::remove_empty_up_to(dir.parent().unwrap_or(&dir), &self.layout.own());
        }
        file::remove_all(&self.layout.source_hash(id))?;
        file::remove_empty_up_to(&self.layout.module(&id.name), &self.layout.dkms_tree);
        Ok(())
    }

    /// Deletes what is remembered about a kernel's headers, and all evaluations: those that are still needed are
    /// made again, and those of kernels and versions long gone do not pile up.
    pub fn forget_kernel(&self, target: &Target) -> Result<()> {
        file::remove_all(&self.layout.headers_hash(target))?;
        file::remove_all(&self.layout.evaluated())
    }

    /// Puts a finished build, staged in `dir`, in its place: the old one or the new one at any instant. Until it is
    /// noted, nobody knows which, or what went into it: so says its record, with the files that `installed` names.
    pub fn adopt_build(
        &self,
        id: &ModuleId,
        target: &Target,
        dir: &Path,
        installed: Vec<Installed>,
    ) -> Result<()> {
        self.record(id, target, &Record::unknown(installed))?;
        file::replace_dir(dir, &self.layout.built(id, target))
    }

    /// Puts a build that came in a tarball, unpacked in `dir`, in its place. It is noted as what it is: unproven.
    pub fn load_build(
        &self,
        id: &ModuleId,
        target: &Target,
        dir: &Path,
        installed: Vec<Installed>,
    ) -> Result<()> {
        file::sync_tree(dir)?;
        self.adopt_build(id, target, dir, installed.clone())?;
        self.record(id, target, &Record { loaded: true, ..Record::unknown(installed) })?;
        self.forget_failure(id, target)
    }

    /// Deletes a build and all that is noted about it.
    pub fn delete_build(&self, id: &ModuleId, target: &Target) -> Result<()> {
        let built = self.layout.built(id, target);
        self.discard(&built)?;
        file::remove_empty_up_to(built.parent().unwrap_or(&built), &self.layout.version(id));
        self.delete_note(&self.layout.record(id, target))?;
        self.forget_failure(id, target)
    }

    /// Notes a finished build.
    pub fn record(&self, id: &ModuleId, target: &Target, record: &Record) -> Result<()> {
        file::write_atomic(&self.layout.record(id, target), &serde_json::to_vec_pretty(record)?, 0o644)
    }

    /// Notes where a finished build was published.
    pub fn note_installed(
        &self,
        id: &ModuleId,
        target: &Target,
        fingerprint: &Fingerprint,
        installed: Vec<Installed>,
    ) -> Result<()> {
        let known = file::read_optional(&self.layout.record(id, target))?;
        let known: Option<Record> = known.and_then(|json| serde_json::from_slice(&json).ok());
        // What came in a tarball has been proven by now, and counts as made from what is there.
        let known = known.filter(|known| !known.loaded).unwrap_or(Record {
            fingerprint: fingerprint.clone(),
            installed: Vec::new(),
            signer: None,
            seconds: 0.0,
            loaded: false,
        });
        self.record(id, target, &Record { installed, ..known })
    }

    /// Notes a failed build, with its log.
    pub fn record_failure(&self, id: &ModuleId, target: &Target, failure: &Failure) -> Result<()> {
        file::write_atomic(&self.layout.failure(id, target), &serde_json::to_vec_pretty(failure)?, 0o644)
    }

    /// Forgets a failed build.
    pub fn forget_failure(&self, id: &ModuleId, target: &Target) -> Result<()> {
        file::remove_all(&self.layout.failure_log(id, target))?;
        self.delete_note(&self.layout.failure(id, target))
    }

    fn delete_note(&self, path: &Path) -> Result<()> {
        file::remove_all(path)?;
        file::remove_empty_up_to(path.parent().unwrap_or(path), &self.layout.own());
        Ok(())
    }

    /// Marks a build as the installed one.
    pub fn activate(&self, id: &ModuleId, target: &Target) -> Result<()> {
        let to = format!("{}/{}/{}", id.version, target.kernel, target.arch);
        file::symlink_atomic(Path::new(&to), &self.layout.active_link(&id.name, target))
    }

    /// Marks a module as not installed.
    pub fn deactivate(&self, name: &ModuleName, target: &Target) -> Result<()> {
        file::remove_all(&self.layout.active_link(name, target))
    }

    fn intent_file(&self) -> PathBuf {
        self.layout.intents().join(&self.intent)
    }

    /// Writes, durably, what is about to happen.
    pub fn intend(&self, intent: &Intent) -> Result<()> {
        file::write_atomic(&self.intent_file(), &serde_json::to_vec_pretty(intent)?, 0o600)
            .context("recording the intended changes")
    }

    /// All of it has happened.
    pub fn fulfilled(&self) -> Result<()> {
        file::remove_all(&self.intent_file())
    }

    /// Intents of runs that did not live to fulfil them: we hold the lock, so nobody is at work on any. One that
    /// cannot be read was never durable, so nothing of it has happened.
    pub fn unfulfilled(&self) -> Vec<(PathBuf, Intent)> {
        file::sorted_entries(&self.layout.intents())
            .into_iter()
            .filter_map(|path| {
                let intent: Intent = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
                Some((path, intent))
            })
            .collect()
    }
}
