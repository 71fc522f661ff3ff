//! The modules and kernels that the events concern, whose facts the plan needs.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, Verb};
use crate::tree::Snapshot;
use crate::types::version;
use crate::types::{ModuleId, ModuleName, Placement, Target};

/// Modules and kernels to survey.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Modules, with kernels, whose recipe and fingerprint are needed.
    pub cases: BTreeSet<Placement>,
    /// Kernels to survey, including those without modules.
    pub kernels: BTreeSet<Target>,
}

/// The newest usable version of every registered module.
pub fn newest(snapshot: &Snapshot) -> BTreeMap<&ModuleName, &ModuleId> {
    newest_but(snapshot, &BTreeSet::new())
}

/// The same, except for these.
fn newest_but<'a>(
    snapshot: &'a Snapshot,
    leaving: &BTreeSet<&ModuleId>,
) -> BTreeMap<&'a ModuleName, &'a ModuleId> {
    let mut newest: BTreeMap<&ModuleName, &ModuleId> = BTreeMap::new();
    for (id, entry) in &snapshot.modules {
        if entry.source_dir().is_none() || leaving.contains(id) {
            continue;
        }
        let best = newest.entry(&id.name).or_insert(id);
        if version::compare(id.version.as_str(), best.version.as_str()).is_gt() {
            *best = id;
        }
    }
    newest
}

/// The modules whose sources are removed.
pub(super) fn leaving(events: &[Event]) -> BTreeSet<&ModuleId> {
    events.iter().filter_map(Event::source_gone).collect()
}

/// The newest version of every module that is registered and remains, or that the events add.
pub(super) fn newest_with(events: &[Event], snapshot: &Snapshot) -> BTreeMap<ModuleName, ModuleId> {
    let mut newest: BTreeMap<ModuleName, ModuleId> = newest_but(snapshot, &leaving(events))
        .into_iter()
        .map(|(name, id)| (name.clone(), id.clone()))
        .collect();
    for module in events.iter().filter_map(Event::source_brought) {
        let best = newest.entry(module.name.clone()).or_insert_with(|| module.clone());
        if version::compare(module.version.as_str(), best.version.as_str()).is_gt() {
            *best = module.clone();
        }
    }
    newest
}

/// The installed versions of all modules, or of one, for a kernel.
pub(super) fn installed<'a>(
    snapshot: &'a Snapshot,
    target: &Target,
    only: Option<&ModuleName>,
) -> Vec<&'a ModuleId> {
    let active = |entry: &crate::tree::Entry| entry.builds.get(target).is_some_and(|build| build.active);
    let modules = snapshot
        .modules
        .iter()
        .filter(|(id, entry)| only.is_none_or(|only| id.name == *only) && active(entry));
    modules.map(|(id, _)| id).collect()
}

/// The modules whose state in the DKMS tree these events need; `None`: all.
pub fn concerned(events: &[Event]) -> Option<BTreeSet<ModuleName>> {
    events
        .iter()
        .map(|event| match event {
            Event::SourceReplaced(module) | Event::SourceGone(module) => Some(module.name.clone()),
            // A build may need other modules, and a kernel has all of them.
            Event::Requested(request) if !matches!(request.verb, Verb::Build | Verb::Install) => {
                Some(request.module.name.clone())
            }
            _ => None,
        })
        .collect()
}

/// The scope of these events.
pub fn scope(events: &[Event], snapshot: &Snapshot) -> Scope {
    let newest = newest_with(events, snapshot);
    let mut scope = Scope::default();
    for event in events {
        match event {
            Event::KernelAdded(target)
            | Event::HeadersAdded(target)
            | Event::Autoinstall(target)
            | Event::KernelIncoming(target) => {
                scope.kernels.insert(target.clone());
                scope.cases.extend(newest.values().map(|id| Placement::of(id, target)));
            }
            Event::SourceAdded { module, targets } | Event::SourceIncoming { module, targets } => {
                for target in targets {
                    scope.kernels.insert(target.clone());
                    scope.cases.insert(Placement::of(module, target));
                }
            }
            Event::Matched { template, target, only, .. } => {
                scope.kernels.insert(target.clone());
                let wanted = installed(snapshot, template, only.as_ref());
                scope.cases.extend(wanted.into_iter().map(|id| Placement::of(id, target)));
            }
            Event::Requested(request) if matches!(request.verb, Verb::Build | Verb::Install | Verb::Add) => {
                for target in &request.targets {
                    scope.kernels.insert(target.clone());
                    scope.cases.insert(Placement::of(&request.module, target));
                }
            }
            Event::Loaded(load) => {
                scope.kernels.insert(load.target.clone());
                scope.cases.insert(Placement::of(&load.module, &load.target));
            }
            Event::Requested(_)
            | Event::KernelRemoved(_)
            | Event::SourceReplaced(_)
            | Event::SourceGone(_) => {}
        }
    }
    scope
}

/// Modules outside of the scope that must be surveyed because they follow (BUILD_DEPENDS_REBUILD), directly or
/// indirectly, a module in scope that may be reinstalled. Each is given with the modules that it follows.
pub fn followers(
    cases: impl IntoIterator<Item = (ModuleName, Target)>,
    mut candidates: Vec<(Placement, Vec<ModuleName>)>,
) -> Vec<Placement> {
    let mut led: BTreeSet<(ModuleName, Target)> = cases.into_iter().collect();
    let mut found = Vec::new();
    loop {
        let (follow, rest): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|(placement, needs)| {
            needs.iter().any(|name| led.contains(&(name.clone(), placement.target.clone())))
        });
        if follow.is_empty() {
            return found;
        }
        led.extend(follow.iter().map(|(placement, _)| placement.by_name()));
        found.extend(follow.into_iter().map(|(placement, _)| placement));
        candidates = rest;
    }
}
