//! The DKMS tree, locked for writing. The owner of this value is the only writer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Failure, Installed, Record, Snapshot, Verdict};
use crate::layout::Layout;
use crate::sys::file::{self, Changed};
use crate::sys::hash::Digests;
use crate::sys::lock::{self, Lock};
use crate::types::{Fingerprint, ModuleId, ModuleName, Placement, Target};

/// The changes of kernels' modules that a transaction is about to make. Each operation can be repeated from the DKMS
/// tree alone, so that a run after a crash can complete it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Builds that are being published.
    #[serde(default)]
    pub publish: Vec<Pending>,
    /// Modules that are being withdrawn.
    #[serde(default)]
    pub withdraw: Vec<Placement>,
    /// Those of them whose builds are deleted afterwards.
    #[serde(default)]
    pub unbuild: BTreeSet<Placement>,
    /// Those modules that are unregistered afterwards.
    #[serde(default)]
    pub unregister: BTreeSet<ModuleId>,
    /// Installed modules whose POST_INSTALL has not ended.
    #[serde(default)]
    pub post_install: BTreeSet<Placement>,
    /// Withdrawn modules whose POST_REMOVE has not ended.
    #[serde(default)]
    pub post_remove: BTreeSet<Placement>,
    /// Module files (and directories of them) where temporary files may be left.
    #[serde(default)]
    pub touched: BTreeSet<PathBuf>,
    /// Directories of the kernel's own modules, for the same reason. They stay, even if they are empty.
    #[serde(default)]
    pub left: BTreeSet<PathBuf>,
    /// Kernels whose modules.dep is out of date until depmod has run.
    #[serde(default)]
    pub depmod: BTreeSet<Target>,
}

impl Intent {
    /// Whether it only concerns kernels whose directory is gone, or away: nothing can be done for them now.
    pub fn waits(&self, layout: &Layout) -> bool {
        self.only_for(|target| !layout.kernel(&target.kernel).is_dir())
    }

    /// Whether it concerns some kernels, and only such ones.
    pub fn only_for(&self, such: impl Fn(&Target) -> bool) -> bool {
        let publish = self.publish.iter().map(|pending| &pending.target);
        let placements = [&self.unbuild, &self.post_install, &self.post_remove].into_iter().flatten();
        let targets = publish.chain(self.withdraw.iter().chain(placements).map(|place| &place.target));
        let targets: BTreeSet<&Target> = targets.chain(&self.depmod).collect();
        self.unregister.is_empty() && !targets.is_empty() && targets.into_iter().all(such)
    }
}

/// A publication that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The module.
    pub module: ModuleId,
    /// The kernel.
    pub target: Target,
    /// Whether it was forced.
    pub force: bool,
}

impl Pending {
    /// Whether it is for this module and kernel.
    pub fn is(&self, module: &ModuleId, target: &Target) -> bool {
        self.module == *module && self.target == *target
    }
}

/// The DKMS tree with the write lock.
#[derive(Debug)]
pub struct LockedTree {
    /// All paths.
    pub layout: Layout,
    lock: Lock,
    /// The file name of our intent: unique, so that no other run's unfulfilled intent is overwritten.
    intent: String,
}

impl LockedTree {
    /// Waits for the lock and prints a message once.
    pub fn lock(layout: &Layout, waiting: impl FnOnce(&str) -> Result<()>) -> Result<Self> {
        let lock = lock::acquire(&layout.lock(), waiting)?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        Ok(Self { layout: layout.clone(), lock, intent: format!("{time}-{}.json", std::process::id()) })
    }

    /// The previous run was killed.
    pub fn unclean(&self) -> bool {
        self.lock.unclean()
    }

    /// No run of this boot has held the lock before. Without boot ids, as in some containers, none is the first.
    pub fn first_after_start(&self) -> bool {
        let known = file::text(self.layout.swept()).ok();
        self.layout.boot_id().is_some_and(|boot| known.is_none_or(|known| known != boot))
    }

    /// Notes that a run of this boot has held the lock. If this is lost, it is only done once more.
    pub fn note_start(&self) -> Result<()> {
        file::write_unsynced(&self.layout.swept(), self.layout.boot_id().unwrap_or_default().as_bytes())
    }

    /// The lock belongs to a dkms above this process, whose transaction is not complete: its intents are not ours to
    /// complete.
    pub fn nested(&self) -> bool {
        self.lock.inherited()
    }

    /// The state, loaded while the lock is held.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::load(&self.layout)
    }

    /// Deletes what killed runs left: temporary files, incomplete registrations, empty directories, records without a
    /// build. Readers write to our own directory without the lock: files of running processes are kept. Empty directories
    /// may be those of others, unless a run is known to have been killed.
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
                if self.unclean() {
                    kernels.iter().for_each(|kernel| file::remove_empty_up_to(&dir.join(kernel), &dir));
                }
                if dir.join("source").symlink_metadata().is_err() {
                    let mark = format!("{name}-{version}");
                    if kernels.is_empty() && self.layout.own().join("kept").join(&mark).exists() {
                        self.discard(&dir)?;
                    } else {
                        unlinked.insert(mark);
                    }
                }
            }
            if self.unclean() {
                file::remove_empty_up_to(&module, tree);
            }
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
        // An intent that is unreadable leads nowhere.
        let known: BTreeSet<PathBuf> = self.unfulfilled().into_iter().map(|(path, _)| path).collect();
        for path in file::sorted_entries(&self.layout.intents()) {
            if !known.contains(&path) {
                file::remove_all(&path)?;
            }
        }
        self.sweep_notes("failures", 2)?;
        self.sweep_notes("verdicts", 2)?;
        self.sweep_notes("records", 4)
    }

    /// Deletes records whose subject no longer exists; the first `parts` components of their paths are the same in the
    /// DKMS tree.
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

    /// Registers a module. The marker comes first: without it, a directory without a link would count as broken.
    pub fn register(&self, id: &ModuleId, source: &Path) -> Result<()> {
        file::write_atomic(&self.layout.kept_marker(id), b"", 0o644)?;
        file::make_dirs(&self.layout.build(id))?;
        file::symlink_atomic(source, &self.layout.source_link(id))?;
        file::remove_all(&self.layout.kept_marker(id))
    }

    /// Registers a module whose builds come from a tarball without its source: its dkms.conf is kept in the DKMS tree, where
    /// shell DKMS keeps it.
    pub fn register_conf(&self, id: &ModuleId, conf: &[u8]) -> Result<()> {
        file::write_atomic(&self.layout.kept_marker(id), b"", 0o644)?;
        file::write_atomic(&self.layout.source_link(id).join("dkms.conf"), conf, 0o644)?;
        file::remove_all(&self.layout.kept_marker(id))
    }

    /// Removes the link that registers a module, and keeps its builds. The marker comes first: without it, a missing
    /// link would count as broken.
    pub fn unlink_source(&self, id: &ModuleId) -> Result<()> {
        file::write_atomic(&self.layout.kept_marker(id), b"", 0o644)?;
        let mut changed = Changed::default();
        changed.remove(&self.layout.source_link(id))?;
        changed.sync()?;
        file::remove_all(&self.layout.build(id))
    }

    /// Deletes a directory atomically: a partly deleted one is never visible.
    fn discard(&self, dir: &Path) -> Result<()> {
        if dir.symlink_metadata().is_err() {
            return Ok(());
        }
        let trash = self.layout.work().join("trash");
        file::remove_all(&trash)?;
        file::set_aside(dir, &trash)
    }

    /// Deletes a version that has no builds, and a module without versions.
    pub fn forget(&self, id: &ModuleId) -> Result<()> {
        self.discard(&self.layout.version(id))?;
        file::remove_all(&self.layout.kept_marker(id))?;
        for kind in ["records", "failures", "verdicts"] {
            let dir = self.layout.own_version(kind, id);
            file::remove_all(&dir)?;
            file::remove_empty_up_to(dir.parent().unwrap_or(&dir), &self.layout.own());
        }
        file::remove_all(&self.layout.source_hash(id))?;
        file::remove_empty_up_to(&self.layout.module(&id.name), &self.layout.dkms_tree);
        Ok(())
    }

    /// Deletes the notes about a kernel: that its initramfs is out of date, the stored hash of its headers, and all stored evaluations: those that are still needed are
    /// repeated, and those of removed kernels and versions do not accumulate.
    pub fn forget_kernel(&self, target: &Target) -> Result<()> {
        self.forget_stale(target)?;
        file::remove_all(&self.layout.replaced(target))?;
        file::remove_all(&self.layout.headers_hash(target))?;
        file::remove_all(&self.layout.evaluated())
    }

    /// Moves a build, staged in `dir` and synced, to its place: the old one or the new one at any time. Until it is recorded, its
    /// inputs are unknown: its record states this, with the files in `installed`.
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

    /// Moves a build from a tarball, unpacked in `dir`, to its place. It is recorded as unverified.
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

    /// Deletes a build and its records.
    pub fn delete_build(&self, id: &ModuleId, target: &Target) -> Result<()> {
        let built = self.layout.built(id, target);
        self.discard(&built)?;
        file::remove_empty_up_to(built.parent().unwrap_or(&built), &self.layout.version(id));
        self.delete_note(&self.layout.record(id, target))?;
        self.forget_failure(id, target)
    }

    /// Records a build.
    pub fn record(&self, id: &ModuleId, target: &Target, record: &Record) -> Result<()> {
        file::write_atomic(&self.layout.record(id, target), &serde_json::to_vec_pretty(record)?, 0o644)
    }

    /// Records where a build was published, which of its modules were not, and with which packages it is in conflict.
    pub fn note_installed(
        &self,
        id: &ModuleId,
        target: &Target,
        fingerprint: &Fingerprint,
        installed: Vec<Installed>,
        withheld: Vec<String>,
        shares: BTreeSet<ModuleName>,
    ) -> Result<()> {
        let known = file::read_optional(&self.layout.record(id, target))?;
        let known: Option<Record> = known.and_then(|json| serde_json::from_slice(&json).ok());
        // A build from a tarball has been verified by now, and counts as made from the current inputs.
        let known = known.filter(|known| !known.loaded).unwrap_or(Record {
            fingerprint: fingerprint.inputs(),
            installed: Vec::new(),
            withheld: Vec::new(),
            shares: BTreeSet::new(),
            signer: None,
            seconds: 0.0,
            loaded: false,
            store: None,
            renamed: BTreeMap::new(),
            outside: Digests::default(),
        });
        self.record(id, target, &Record { installed, withheld, shares, ..known })
    }

    /// Records a failed build, with its log.
    pub fn record_failure(&self, id: &ModuleId, target: &Target, failure: &Failure) -> Result<()> {
        file::write_atomic(&self.layout.failure(id, target), &serde_json::to_vec_pretty(failure)?, 0o644)
    }

    /// Records how a module ended with borrowed headers; `None`: nothing is known any more.
    pub fn judge(&self, id: &ModuleId, target: &Target, verdict: Option<&Verdict>) -> Result<()> {
        let path = self.layout.verdict(id, target);
        match verdict {
            Some(verdict) => file::write_atomic(&path, &serde_json::to_vec(verdict)?, 0o644),
            None if path.exists() => self.delete_note(&path),
            None => Ok(()),
        }
    }

    /// Deletes the record of a failed build.
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
        let mut changed = Changed::default();
        changed.remove(&self.layout.active_link(name, target))?;
        changed.sync()
    }

    fn intent_file(&self) -> PathBuf {
        self.layout.intents().join(&self.intent)
    }

    /// Writes and syncs the intent. If there is no space for it, what only saves time is deleted: who removes a module may do this
    /// because the disk is full.
    pub fn intend(&self, intent: &Intent) -> Result<()> {
        let text = serde_json::to_vec_pretty(intent)?;
        let write = || file::write_atomic(&self.intent_file(), &text, 0o600);
        let mut written = write();
        for unneeded in [self.layout.hashes(), self.layout.evaluated(), self.layout.cache()] {
            if !written.as_ref().is_err_and(file::is_full) {
                break;
            }
            // The error that is reported is that of the intent.
            let _ = file::remove_all(&unneeded);
            written = write();
        }
        written.context("recording the intended changes")
    }

    /// Deletes the intent, after it was fulfilled.
    pub fn fulfilled(&self) -> Result<()> {
        file::remove_all(&self.intent_file())
    }

    /// Intents of interrupted runs: while we hold the lock, no process works on them.
    pub fn unfulfilled(&self) -> Vec<(PathBuf, Intent)> {
        unfulfilled(&self.layout)
    }

    /// Whether the next run will complete something.
    pub fn owes(&self) -> bool {
        self.unfulfilled().iter().any(|(_, intent)| !intent.waits(&self.layout))
    }
}

/// All intents, also that of a running transaction. An unreadable one was never synced, so none of its changes were made.
pub fn unfulfilled(layout: &Layout) -> Vec<(PathBuf, Intent)> {
    file::sorted_entries(&layout.intents())
        .into_iter()
        .filter_map(|path| {
            let intent: Intent = serde_json::from_slice(&file::content(&path).ok()?).ok()?;
            Some((path, intent))
        })
        .collect()
}
