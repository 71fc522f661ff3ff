//! Which modules and kernels the events concern: what has to be found out before deciding.

use std::collections::{BTreeMap, BTreeSet};

use crate::conf::version;
use crate::event::{Event, Verb};
use crate::tree::Snapshot;
use crate::types::{ModuleId, ModuleName, Target};

/// Modules and kernels to look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Pairs whose recipe and fingerprint are needed.
    pub cases: BTreeSet<(ModuleId, Target)>,
    /// Kernels to look at, also without modules.
    pub kernels: BTreeSet<Target>,
}

/// The newest usable version of every registered module.
pub fn newest(snapshot: &Snapshot) -> BTreeMap<&ModuleName, &ModuleId> {
    let mut newest: BTreeMap<&ModuleName, &ModuleId> = BTreeMap::new();
    for (id, entry) in &snapshot.modules {
        if entry.source_dir().is_none() {
            continue;
        }
        let best = newest.entry(&id.name).or_insert(id);
        if version::compare(id.version.as_str(), best.version.as_str()).is_gt() {
            *best = id;
        }
    }
    newest
}

/// The newest version of every module that is registered, or that the events bring.
pub(super) fn newest_with(events: &[Event], snapshot: &Snapshot) -> BTreeMap<ModuleName, ModuleId> {
    let mut newest: BTreeMap<ModuleName, ModuleId> =
        newest(snapshot).into_iter().map(|(name, id)| (name.clone(), id.clone())).collect();
    for event in events {
        let Event::SourceAdded { module, .. } = event else { continue };
        let best = newest.entry(module.name.clone()).or_insert_with(|| module.clone());
        if version::compare(module.version.as_str(), best.version.as_str()).is_gt() {
            *best = module.clone();
        }
    }
    newest
}

/// What the events concern.
pub fn scope(events: &[Event], snapshot: &Snapshot) -> Scope {
    let newest = newest_with(events, snapshot);
    let mut scope = Scope::default();
    for event in events {
        match event {
            Event::KernelAdded(target) | Event::HeadersAdded(target) | Event::Autoinstall(target) => {
                scope.kernels.insert(target.clone());
                scope.cases.extend(newest.values().map(|id| (id.clone(), target.clone())));
            }
            Event::SourceAdded { module, targets } => {
                for target in targets {
                    scope.kernels.insert(target.clone());
                    scope.cases.insert((module.clone(), target.clone()));
                }
            }
            Event::Asked(request) if matches!(request.verb, Verb::Build | Verb::Install | Verb::Add) => {
                for target in &request.targets {
                    scope.kernels.insert(target.clone());
                    scope.cases.insert((request.module.clone(), target.clone()));
                }
            }
            Event::Loaded(load) => {
                scope.kernels.insert(load.target.clone());
                scope.cases.insert((load.module.clone(), load.target.clone()));
            }
            Event::Asked(_) | Event::KernelRemoved(_) | Event::SourceReplaced(_) => {}
        }
    }
    scope
}
