//! The modules and kernels that the events concern, whose facts the plan needs.

use std::collections::{BTreeMap, BTreeSet};

use super::Case;
use crate::event::{Event, Verb};
use crate::tree::Snapshot;
use crate::types::version;
use crate::types::{ModuleId, ModuleName, Placement, Target};

/// Modules and kernels to survey.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Modules, with kernels, whose recipe and fingerprint are needed.
    pub cases: BTreeSet<Placement>,
    /// Older versions of modules in `cases`, newest first: they are surveyed if the newer ones are excluded from the kernel.
    pub older: BTreeMap<Placement, Vec<ModuleId>>,
    /// Kernels to survey, including those without modules.
    pub kernels: BTreeSet<Target>,
}

/// The usable versions of modules, newest first. No module has none.
pub type Versions = BTreeMap<ModuleName, Vec<ModuleId>>;

/// The newest usable version of every registered module.
pub fn newest(snapshot: &Snapshot) -> BTreeMap<ModuleName, ModuleId> {
    let first = |(name, ids): (ModuleName, Vec<ModuleId>)| Some((name, ids.into_iter().next()?));
    versions(snapshot).into_iter().filter_map(first).collect()
}

/// All usable versions of every registered module.
pub fn versions(snapshot: &Snapshot) -> Versions {
    versions_with(&[], snapshot)
}

/// The modules whose sources are removed.
pub(super) fn leaving(events: &[Event]) -> BTreeSet<&ModuleId> {
    events.iter().filter_map(Event::source_gone).collect()
}

/// All versions of every module that are registered and remain, or that the events add.
pub(super) fn versions_with(events: &[Event], snapshot: &Snapshot) -> Versions {
    let gone = leaving(events);
    let usable =
        snapshot.modules.iter().filter(|(id, entry)| entry.source_dir().is_some() && !gone.contains(id));
    let brought = events.iter().filter_map(Event::source_brought);
    let mut versions = Versions::new();
    for id in usable.map(|(id, _)| id).chain(brought) {
        let known = versions.entry(id.name.clone()).or_default();
        if !known.contains(id) {
            known.push(id.clone());
        }
    }
    for known in versions.values_mut() {
        known.sort_by(|a, b| version::compare(b.version.as_str(), a.version.as_str()));
    }
    versions
}

/// The newest version that is not passed over for this kernel; the newest one if all are. Versions that were not surveyed
/// are not considered.
pub fn meant<'a>(
    versions: &'a [ModuleId],
    cases: &BTreeMap<Placement, Case>,
    target: &Target,
) -> Option<&'a ModuleId> {
    let case = |id: &ModuleId| cases.get(&Placement::of(id, target));
    let mut surveyed = versions.iter().take_while(|id| case(id).is_some());
    surveyed.find(|id| case(id).is_some_and(|case| !case.passed_over())).or(versions.first())
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
    let versions = versions_with(events, snapshot);
    let mut scope = Scope::default();
    for event in events {
        match event {
            Event::KernelAdded(target)
            | Event::HeadersAdded(target)
            | Event::Autoinstall(target)
            | Event::KernelIncoming(target) => {
                scope.kernels.insert(target.clone());
                for (newest, older) in versions.values().filter_map(|ids| ids.split_first()) {
                    scope.cases.insert(Placement::of(newest, target));
                    if !older.is_empty() {
                        scope.older.insert(Placement::of(newest, target), older.to_vec());
                    }
                }
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
