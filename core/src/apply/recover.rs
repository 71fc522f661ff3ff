//! Completes what a transaction that did not live to its end had begun.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::event::{Event, Request, Verb};
use crate::sys::file::{self, TEMP_PREFIX};
use crate::tree::{LockedTree, Snapshot};
use crate::types::{ModuleId, Target};

/// What to do about it.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Events that complete what was begun.
    events: Vec<Event>,
    /// Kernels whose index may be stale.
    pub depmod: BTreeSet<Target>,
    /// What was found, for the report.
    pub found: Vec<String>,
    files: Vec<PathBuf>,
}

/// Reads unfulfilled intents and sweeps what they left half written. Changes no module.
pub fn look(tree: &LockedTree, snapshot: &Snapshot) -> Result<Recovery> {
    let mut recovery = Recovery::default();
    for (path, intent) in tree.unfulfilled() {
        for dir in &intent.touched {
            sweep(dir)?;
            file::remove_empty_up_to(dir, &tree.layout.install_tree);
        }
        for (id, target) in intent.publish.iter().chain(&intent.withdraw) {
            sweep(&tree.layout.module(&id.name))?;
            sweep(&tree.layout.originals(&id.name, target))?;
        }
        for (id, target) in &intent.publish {
            // Without its build it was never about to be published; without its source it cannot be.
            if snapshot.build(id, target).is_some() && snapshot.registered(id) {
                recovery.events.push(asked(Verb::Install, id, target));
                recovery.found.push(format!("{id} for {target}: its interrupted installation was completed"));
            }
        }
        for (id, target) in &intent.withdraw {
            if snapshot.build(id, target).is_some_and(|build| build.active) {
                recovery.events.push(asked(Verb::Uninstall, id, target));
                recovery.found.push(format!("{id} for {target}: its interrupted removal was completed"));
            }
        }
        recovery.depmod.extend(intent.depmod.iter().cloned());
        recovery.files.push(path);
    }
    Ok(recovery)
}

/// Deletes files that never got their final names.
fn sweep(dir: &Path) -> Result<()> {
    for left in file::sorted_entries(dir) {
        if left.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMP_PREFIX)) {
            file::remove_all(&left)?;
        }
    }
    Ok(())
}

fn asked(verb: Verb, module: &ModuleId, target: &Target) -> Event {
    Event::Asked(Request { verb, module: module.clone(), targets: vec![target.clone()], force: true })
}

impl Recovery {
    /// The events, without removals of what is wanted now.
    pub fn events(&self, wanted: &BTreeSet<(ModuleId, Target)>) -> Vec<Event> {
        let needless = |event: &&Event| match event {
            Event::Asked(request) if request.verb == Verb::Uninstall => request
                .targets
                .iter()
                .any(|target| wanted.contains(&(request.module.clone(), target.clone()))),
            _ => false,
        };
        self.events.iter().filter(|event| !needless(event)).cloned().collect()
    }

    /// All of it is done.
    pub fn done(&self) -> Result<()> {
        self.files.iter().try_for_each(|path| file::remove_all(path))
    }
}

/// Deletes working directories of processes that are gone.
pub fn sweep_work(tree: &LockedTree) -> Result<()> {
    for dir in file::sorted_entries(&tree.layout.work()) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pid = name.split('-').next().unwrap_or_default();
        let alive = Path::new("/proc").join(pid).exists() && pid != std::process::id().to_string();
        let above = crate::sys::run::ancestors().iter().any(|ancestor| ancestor.pid.to_string() == pid);
        // We hold the lock: a living process of that number that is not above us is somebody else's.
        if !(alive && above) {
            file::remove_all(&dir)?;
        }
    }
    Ok(())
}
