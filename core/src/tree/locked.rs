//! The registry, held for writing. Whoever has this value is the one writer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Failure, Record, Snapshot};
use crate::layout::Layout;
use crate::sys::lock::{self, Lock};
use crate::sys::{file, run};
use crate::types::{ModuleId, ModuleName, Target};

/// What a transaction is about to change in the kernels' trees. Each operation can be done again from the
/// registry alone, so that a run after a crash completes what this one began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The process that wrote it.
    pub pid: u32,
    /// Builds whose modules are being published.
    #[serde(default)]
    pub publish: Vec<(ModuleId, Target)>,
    /// Modules that are being taken out.
    #[serde(default)]
    pub withdraw: Vec<(ModuleId, Target)>,
    /// Module files (and directories of them) that may hold temporary files of ours.
    #[serde(default)]
    pub touched: BTreeSet<PathBuf>,
    /// Kernels whose index is stale until depmod has run.
    #[serde(default)]
    pub depmod: BTreeSet<Target>,
}

/// The registry with the write lock.
#[derive(Debug)]
pub struct LockedTree {
    /// All paths.
    pub layout: Layout,
    _lock: Lock,
}

impl LockedTree {
    /// Waits for the lock and says so once.
    pub fn lock(layout: &Layout, waiting: impl FnOnce(&str)) -> Result<Self> {
        let lock = lock::acquire(&layout.lock(), waiting)?;
        Ok(Self { layout: layout.clone(), _lock: lock })
    }

    /// The state, loaded after the lock was taken.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::load(&self.layout)
    }

    /// Registers a module.
    pub fn register(&self, id: &ModuleId, source: &Path) -> Result<()> {
        std::fs::create_dir_all(self.layout.build(id))
            .with_context(|| format!("making {}", self.layout.build(id).display()))?;
        file::symlink_atomic(source, &self.layout.source_link(id))
    }

    /// Removes the link that makes a module registered, and nothing else.
    pub fn unlink_source(&self, id: &ModuleId) -> Result<()> {
        file::remove_all(&self.layout.source_link(id))?;
        file::remove_all(&self.layout.build(id))
    }

    /// Deletes what is left of a version that has no builds any more, and of a module without versions.
    pub fn forget(&self, id: &ModuleId) -> Result<()> {
        let version = self.layout.version(id);
        file::remove_all(&version)?;
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

    /// Puts a finished build, staged in `dir`, in its place: the old one or the new one at any instant.
    pub fn adopt_build(&self, id: &ModuleId, target: &Target, dir: &Path) -> Result<()> {
        file::replace_dir(dir, &self.layout.built(id, target))
    }

    /// Deletes a build and all that is noted about it.
    pub fn delete_build(&self, id: &ModuleId, target: &Target) -> Result<()> {
        let built = self.layout.built(id, target);
        file::remove_all(&built)?;
        file::remove_empty_up_to(built.parent().unwrap_or(&built), &self.layout.version(id));
        self.delete_note(&self.layout.record(id, target))?;
        self.forget_failure(id, target)
    }

    /// Notes a finished build.
    pub fn record(&self, id: &ModuleId, target: &Target, record: &Record) -> Result<()> {
        file::write_atomic(&self.layout.record(id, target), &serde_json::to_vec_pretty(record)?, 0o644)
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
        self.layout.intents().join(format!("{}.json", std::process::id()))
    }

    /// Writes, durably, what is about to happen.
    pub fn intend(&self, intent: &Intent) -> Result<()> {
        file::write_atomic(&self.intent_file(), &serde_json::to_vec_pretty(intent)?, 0o600)
            .context("writing down what is about to happen")
    }

    /// All of it has happened.
    pub fn fulfilled(&self) -> Result<()> {
        file::remove_all(&self.intent_file())
    }

    /// Intents of processes that did not live to fulfil them. One that cannot be read was never durable, so
    /// nothing of it has happened.
    pub fn unfulfilled(&self) -> Vec<(PathBuf, Intent)> {
        let above: Vec<u32> = run::ancestors().iter().map(|ancestor| ancestor.pid).collect();
        file::sorted_entries(&self.layout.intents())
            .into_iter()
            .filter_map(|path| {
                let intent: Intent = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
                // A dkms above us is at work on it: we are called by a module's script.
                (!above.contains(&intent.pid)).then_some((path, intent))
            })
            .collect()
    }
}
