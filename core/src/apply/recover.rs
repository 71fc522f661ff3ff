//! Completes what an interrupted transaction began.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::event::{Event, Request, Verb};
use crate::step::withdraw;
use crate::sys::file::{self, TEMP_PREFIX};
use crate::tree::{Entry, Intent, LockedTree, Snapshot};
use crate::types::{ModuleId, Placement, Target};

/// The end of a repair without failures.
const COMPLETED: &str = "completed";

/// How to recover.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Events that complete the interrupted changes.
    pub events: Vec<Event>,
    /// Installed builds whose files must be published again, whatever state they are in.
    pub damaged: BTreeSet<Placement>,
    /// Withdrawn modules whose POST_REMOVE has not ended.
    pub post_remove: BTreeSet<Placement>,
    /// Kernels whose modules.dep may be out of date.
    pub depmod: BTreeSet<Target>,
    /// What was found, for the report, and how it ends if nothing fails.
    pub found: Vec<(String, String)>,
    /// Interrupted installations, and the installed versions that each was to replace: some of their files may be replaced already.
    replaced: BTreeMap<Placement, BTreeSet<ModuleId>>,
    files: Vec<PathBuf>,
}

impl Recovery {
    /// Publishes the versions again whose successors could not be installed.
    pub fn back(&self, failed: &BTreeSet<Placement>) -> Self {
        let mut back = Self::default();
        for (place, olds) in self.replaced.iter().filter(|(place, _)| failed.contains(place)) {
            back.put_back(place, olds);
        }
        back
    }

    fn put_back(&mut self, place: &Placement, olds: &BTreeSet<ModuleId>) {
        for old in olds {
            self.damaged.insert(Placement::of(old, &place.target));
            self.events.push(requested(Verb::Install, old, &place.target, true));
        }
    }

    /// Marks the recovery as complete.
    pub fn done(&self) -> Result<()> {
        self.files.iter().try_for_each(|path| file::remove_all(path))
    }
}

/// Reads the intents of interrupted transactions and deletes their temporary files. Changes no module.
pub fn examine(tree: &LockedTree, snapshot: &Snapshot, left: Vec<(PathBuf, Intent)>) -> Result<Recovery> {
    let mut recovery = Recovery::default();
    let there = |target: &Target| tree.layout.kernel(&target.kernel).is_dir();
    for (path, intent) in left {
        // Nothing can be done for a kernel whose directory is gone, or away: it would fail in every run. The intent stays until the
        // directory is there again, or the kernel's builds are deleted.
        if intent.waits(&tree.layout) && !intent.only_for(|target| !snapshot.targets().contains(target)) {
            continue;
        }
        // What was to leave leaves, unless a version of it was to stay.
        let stays = |id: &ModuleId| intent.publish.iter().any(|pending| pending.module.name == id.name);
        let leaving =
            |id: &ModuleId| intent.unregister.contains(id) && !stays(id) && snapshot.modules.contains_key(id);
        for id in intent.unregister.iter().filter(|id| leaving(id)) {
            recovery.events.push(Event::Requested(Request {
                verb: Verb::Remove,
                module: id.clone(),
                targets: Vec::new(),
                force: false,
            }));
            recovery.found.push((format!("interrupted removal of {id}"), COMPLETED.to_owned()));
        }
        intent.left.iter().try_for_each(|dir| sweep(dir))?;
        for dir in &intent.touched {
            sweep(dir)?;
            file::remove_empty_up_to(dir, &tree.layout.install_tree);
        }
        let published = intent.publish.iter().map(|pending| (&pending.module, &pending.target));
        for (id, target) in
            published.chain(intent.withdraw.iter().map(|placement| (&placement.module, &placement.target)))
        {
            sweep(&tree.layout.module(&id.name))?;
            sweep(&tree.layout.originals(&id.name, target))?;
        }
        for pending in &intent.publish {
            let (id, target) = (&pending.module, &pending.target);
            let active = |entry: &Entry| entry.builds.get(target).is_some_and(|build| build.active);
            let olds = snapshot.versions(&id.name).filter(|(other, entry)| *other != id && active(entry));
            let olds: BTreeSet<ModuleId> = olds.map(|(other, _)| other.clone()).collect();
            // Without its build or its source it cannot be published.
            let Some(build) = snapshot.build(id, target).filter(|_| snapshot.registered(id)) else {
                if !olds.is_empty() {
                    recovery.put_back(&Placement::of(id, target), &olds);
                    let olds: Vec<String> = olds.iter().map(ToString::to_string).collect();
                    recovery.found.push((
                        format!("interrupted installation of {id} for {}", target.kernel),
                        format!("rolled back to {}", olds.join(", ")),
                    ));
                }
                continue;
            };
            let record = build.record.as_ref().filter(|_| build.active);
            let intact = |file: &crate::tree::Installed| {
                file::content(&file.path).is_ok_and(|content| crate::sys::hash::hex(&content) == file.sha256)
            };
            if record
                .is_some_and(|record| !record.installed.is_empty() && record.installed.iter().all(intact))
                && snapshot.superseded(id, target).is_empty()
                // POST_INSTALL is the last step of an installation, so repeating the installation costs only this step.
                && !intent.post_install.contains(&Placement::of(id, target))
            {
                continue;
            }
            recovery.replaced.insert(Placement::of(id, target), olds);
            recovery.damaged.insert(Placement::of(id, target));
            recovery.events.push(requested(Verb::Install, id, target, pending.force));
            recovery.found.push((
                format!("interrupted installation of {id} for {}", target.kernel),
                COMPLETED.to_owned(),
            ));
        }
        for Placement { module: id, target } in &intent.withdraw {
            let place = Placement::of(id, target);
            let build = snapshot.build(id, target);
            let installed = build.is_some_and(|build| build.active);
            let unbuild = build.is_some() && intent.unbuild.contains(&place);
            if (installed || unbuild) && !leaving(id) {
                let verb = if unbuild { Verb::Unbuild } else { Verb::Uninstall };
                recovery.events.push(requested(verb, id, target, false));
                recovery.found.push((
                    format!("interrupted removal of {id} for {}", target.kernel),
                    COMPLETED.to_owned(),
                ));
            }
            if installed {
                continue;
            }
            // The steps after the module was marked as not installed.
            if intent.post_remove.contains(&place) && snapshot.registered(id) {
                recovery.post_remove.insert(place);
                recovery.found.push((
                    format!("interrupted POST_REMOVE of {id} for {}", target.kernel),
                    COMPLETED.to_owned(),
                ));
            }
            withdraw::forget_restored(&tree.layout, id, target)?;
            let record = snapshot.build(id, target).and_then(|build| build.record.clone());
            if let Some(mut record) = record.filter(|record| !record.installed.is_empty()) {
                record.installed.clear();
                tree.record(id, target, &record)?;
            }
            recovery.depmod.insert(target.clone());
        }
        recovery.depmod.extend(intent.depmod.iter().cloned());
        recovery.files.push(path);
    }
    recovery.depmod.retain(there);
    Ok(recovery)
}

/// Deletes files that never got their final names.
pub(super) fn sweep(dir: &Path) -> Result<()> {
    for left in file::sorted_entries(dir) {
        if left.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMP_PREFIX)) {
            file::remove_all(&left)?;
        }
    }
    Ok(())
}

fn requested(verb: Verb, module: &ModuleId, target: &Target, force: bool) -> Event {
    Event::Requested(Request { verb, module: module.clone(), targets: vec![target.clone()], force })
}

/// Deletes the working directories of dead processes, and creates the parent of ours. Only root may enter it, because
/// the directories in it are writable for the build user.
pub fn sweep_work(tree: &LockedTree) -> Result<()> {
    let work = tree.layout.work();
    if work.symlink_metadata().is_ok() {
        file::remove_all(&work)?;
    }
    tree.sweep()
}
