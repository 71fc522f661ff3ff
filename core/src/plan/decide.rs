//! Events become decisions.

use std::collections::{BTreeMap, BTreeSet};

use super::proof;
use super::scope::{Versions, installed, leaving, meant, versions_with};
use super::wanted::BuildRequest;
use super::why::{bad_conf, broken, broken_as, refused, registered};
use super::{Loading, Plan, Registration, Removal, Skip, Survey, Unregister};
use crate::distro::Distribution;
use crate::event::{Event, Load, Request, Verb};
use crate::exit::Exit;
use crate::marker::Marker;
use crate::report::Outcome;
use crate::tree::{Snapshot, Source};
use crate::types::{ModuleId, ModuleName, Placement, Target};

/// The plan for these events.
pub fn plan(events: &[Event], snapshot: &Snapshot, survey: &Survey, distribution: &Distribution) -> Plan {
    let mut planner = Planner {
        snapshot,
        survey,
        distribution,
        versions: versions_with(events, snapshot),
        leaving: leaving(events).into_iter().cloned().collect(),
        coming: events.iter().filter_map(Event::source_added).cloned().collect(),
        proving: events.iter().any(Event::incoming),
        plan: Plan::default(),
        installers: BTreeSet::new(),
        led: BTreeMap::new(),
    };
    for event in events {
        planner.event(event);
    }
    if events.iter().any(Event::incoming) {
        return proof::only(planner.finish(), survey);
    }
    planner.followers();
    planner.finish()
}

/// The goal of a pre-build for a module: a build from any source.
const PROOF: BuildRequest =
    BuildRequest { install: false, force: false, automatic: true, trust_unknown: false, led: false };

/// A plan under construction.
pub(super) struct Planner<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) survey: &'a Survey,
    pub(super) distribution: &'a Distribution,
    /// The versions of each module, including those that the events add.
    pub(super) versions: Versions,
    /// Modules whose sources are removed.
    leaving: BTreeSet<ModuleId>,
    /// Modules whose sources are added.
    coming: BTreeSet<ModuleId>,
    /// A pre-build, which registers nothing.
    proving: bool,
    pub(super) plan: Plan,
    /// Kernels that are being installed: their initramfs is generated after dkms.
    pub(super) installers: BTreeSet<Target>,
    /// Tasks that exist only because these modules are reinstalled.
    pub(super) led: BTreeMap<Placement, Vec<ModuleId>>,
}

impl<'a> Planner<'a> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::KernelAdded(target) => {
                self.installers.insert(target.clone());
                self.all_modules(target, false);
            }
            Event::HeadersAdded(target) => {
                self.plan.initramfs.insert(target.clone());
                self.all_modules(target, false);
            }
            Event::Autoinstall(target) => {
                self.plan.initramfs.insert(target.clone());
                self.all_modules(target, true);
            }
            Event::KernelIncoming(target) => {
                for name in self.versions.keys().cloned().collect::<Vec<_>>() {
                    self.request_newest(&name, target, PROOF);
                }
            }
            Event::SourceIncoming { module, targets } => {
                for target in targets {
                    self.request(module, target, PROOF);
                }
            }
            Event::KernelRemoved(target) => self.kernel_removed(target),
            Event::SourceAdded { module, targets } => {
                if self.register(module) {
                    for target in targets {
                        let kernel = self.survey.kernels.get(target);
                        let other = kernel.is_some_and(|kernel| kernel.has_other_initramfs);
                        if self.distribution.sources_regenerate_initramfs && !other {
                            self.installers.insert(target.clone());
                        }
                        self.plan.initramfs.insert(target.clone());
                        let wanted = BuildRequest {
                            install: true,
                            force: false,
                            automatic: true,
                            trust_unknown: false,
                            led: false,
                        };
                        self.request(module, target, wanted);
                    }
                }
            }
            Event::SourceReplaced(module) => self.source_replaced(module),
            Event::SourceGone(module) => self.source_gone(module),
            Event::Matched { template, target, only, force } => {
                self.plan.initramfs.insert(target.clone());
                let wanted = BuildRequest {
                    install: true,
                    force: *force,
                    automatic: false,
                    trust_unknown: true,
                    led: false,
                };
                for id in installed(self.snapshot, template, only.as_ref()) {
                    match self.snapshot.modules.get(id).filter(|entry| entry.broken()) {
                        Some(entry) => self.settle(id, Some(target), broken(id, &entry.source)),
                        None => drop(self.request(id, target, wanted)),
                    }
                }
            }
            Event::Loaded(load) => self.loaded(load),
            Event::Requested(request) => self.requested(request),
        }
    }

    /// The marker of the package that has installed a module for a kernel.
    pub(super) fn packaged(&self, name: &ModuleName, target: &Target) -> Option<&'a Marker> {
        self.survey.packaged.get(&(name.clone(), target.clone()))
    }

    /// A package has installed this module for the kernel: what dkms installed before is removed, and its build is kept.
    pub(super) fn give_way(&mut self, name: &ModuleName, target: &Target) {
        if let Some(active) = self.snapshot.active(name, target).filter(|_| !self.proving) {
            self.clear(active, target, false);
        }
    }

    fn all_modules(&mut self, target: &Target, trust_unknown: bool) {
        let survey = self.survey;
        for (name, _) in survey.packaged.keys().filter(|(_, kernel)| kernel == target) {
            self.give_way(name, target);
        }
        for (id, entry) in self.snapshot.modules.iter().filter(|(_, entry)| entry.broken()) {
            if !self.leaving.contains(id) {
                self.settle(id, Some(target), broken(id, &entry.source));
            }
        }
        let wanted = BuildRequest { install: true, force: false, automatic: true, trust_unknown, led: false };
        for name in self.versions.keys().cloned().collect::<Vec<_>>() {
            self.request_newest(&name, target, wanted);
        }
    }

    /// Requests the newest version of a module that is meant for this kernel.
    fn request_newest(&mut self, name: &ModuleName, target: &Target, wanted: BuildRequest) {
        let Some(newest) = self.versions.get(name).and_then(|versions| versions.first()).cloned() else {
            return;
        };
        let id = self.meant(name, target).unwrap_or(&newest).clone();
        // Its package is being replaced, or this failed: keep what is installed.
        let source = self.snapshot.modules.get(&id).map(|entry| &entry.source);
        if let Some(Source::Kept(source)) = source.filter(|_| !self.proving) {
            self.plan.register.push(Registration { module: id.clone(), source: source.clone() });
        }
        if let Some(task) = self.request(&id, target, wanted).filter(|_| id != newest) {
            task.passed_over = Some(newest);
        }
    }

    /// The newest version of a module that is meant for this kernel.
    pub(super) fn meant(&self, name: &ModuleName, target: &Target) -> Option<&ModuleId> {
        meant(self.versions.get(name)?, &self.survey.cases, target)
    }

    fn kernel_removed(&mut self, target: &Target) {
        self.plan.gone.insert(target.clone());
        for (id, entry) in &self.snapshot.modules {
            if let Some(build) = entry.builds.get(target) {
                self.plan.removals.push(Removal {
                    module: id.clone(),
                    target: target.clone(),
                    withdraw: build.active,
                    unbuild: true,
                    kernel_leaves: true,
                });
            }
        }
        let failed = self.snapshot.failures.keys().filter(|placement| placement.target == *target);
        self.plan.forget.extend(failed.cloned());
    }

    /// Registers a module unless it is registered. False if that is not possible.
    pub(super) fn register(&mut self, id: &ModuleId) -> bool {
        if self.snapshot.registered(id) {
            return true;
        }
        match self.survey.sources.get(id) {
            Some(source) => {
                let recipes = self.survey.cases.iter().filter(|(placement, _)| placement.module == *id);
                let bad = recipes.filter_map(|(_, case)| case.recipe.as_ref().err()).next();
                if let Some(error) = bad {
                    self.settle(id, None, bad_conf(error));
                    return false;
                }
                self.plan.register.push(Registration { module: id.clone(), source: source.clone() });
                true
            }
            None => {
                let tree = &self.survey.source_tree;
                self.settle(
                    id,
                    None,
                    refused(
                        Exit::NO_SOURCE,
                        format!("source directory {}/{}-{} not found", tree.display(), id.name, id.version),
                        "install its package, or run `dkms add DIRECTORY`",
                    ),
                );
                false
            }
        }
    }

    /// Registers a module from a tarball, and imports its builds. Existing builds are kept unless forced.
    fn loaded(&mut self, load: &Load) {
        let id = &load.module;
        let entry = self.snapshot.modules.get(id).filter(|entry| entry.broken());
        if let Some(entry) = entry.filter(|entry| entry.source != Source::Unlinked) {
            return self.settle(id, None, broken(id, &entry.source));
        }
        if self.snapshot.registered(id) && !load.force {
            return self.settle(id, None, registered(Exit::TARBALL_OF_ADDED, id));
        }
        if !self.register(id) {
            return;
        }
        for (target, dir) in &load.builds {
            if self.snapshot.build(id, target).is_some() && !load.force {
                self.settle(id, Some(target), Outcome::Present);
            } else {
                let (module, target, dir) = (id.clone(), target.clone(), dir.clone());
                self.plan.load.push(Loading { module, target, dir });
            }
        }
    }

    pub(super) fn source_replaced(&mut self, id: &ModuleId) {
        let Some(entry) = self.snapshot.modules.get(id).filter(|entry| !entry.stands_in()) else { return };
        let keep = entry.builds.values().any(|build| build.active);
        self.plan.unregister.push(Unregister { module: id.clone(), keep_builds: keep });
    }

    /// An older registered version is not a successor: no event requested it.
    fn source_gone(&mut self, id: &ModuleId) {
        if self.coming.iter().any(|other| other.name == id.name && other != id) {
            self.source_replaced(id);
        } else {
            self.remove(id, &[]);
        }
    }

    pub(super) fn requested(&mut self, request: &Request) {
        let id = &request.module;
        let entry = self.snapshot.modules.get(id);
        let is_registered = self.snapshot.registered(id);
        let stopped = entry.filter(|entry| match request.verb {
            Verb::Add => entry.broken() && entry.source != Source::Unlinked,
            Verb::Build | Verb::Install => entry.broken(),
            _ => false,
        });
        if let Some(entry) = stopped {
            // To add a module, its source is missing, not the link.
            let code = if request.verb == Verb::Add { Exit::NO_SOURCE } else { Exit::BROKEN };
            return self.settle(id, None, broken_as(code, id, &entry.source));
        }
        match request.verb {
            Verb::Add if is_registered => self.settle(id, None, registered(Exit::ALREADY_ADDED, id)),
            Verb::Add => {
                self.register(id);
            }
            Verb::Build | Verb::Install => {
                if self.register(id) {
                    let wanted = BuildRequest {
                        install: request.verb == Verb::Install,
                        force: request.force,
                        automatic: false,
                        trust_unknown: true,
                        led: false,
                    };
                    for target in &request.targets {
                        self.plan.initramfs.insert(target.clone());
                        self.request(id, target, wanted);
                    }
                }
            }
            _ if entry.is_none_or(|entry| entry.stands_in() && entry.builds.is_empty()) => self.settle(
                id,
                None,
                refused(Exit::NOT_ADDED, "not in the DKMS tree".into(), "to list all modules: dkms status"),
            ),
            Verb::Uninstall | Verb::Unbuild => {
                for target in &request.targets {
                    self.clear(id, target, request.verb == Verb::Unbuild);
                }
            }
            Verb::Remove => self.remove(id, &request.targets),
        }
    }

    /// Removes a module for these kernels; if empty, for all that it was built for.
    pub(super) fn remove(&mut self, id: &ModuleId, targets: &[Target]) {
        let Some(entry) = self.snapshot.modules.get(id) else { return };
        let all: Vec<&Target> = entry.builds.keys().collect();
        let targets: Vec<&Target> = if targets.is_empty() { all.clone() } else { targets.iter().collect() };
        for target in &targets {
            self.clear(id, target, true);
        }
        if !all.iter().all(|target| targets.contains(target)) {
            return;
        }
        self.plan.unregister.push(Unregister { module: id.clone(), keep_builds: false });
        // Removing the last registered version also removes the builds that were standing in for it.
        if self.snapshot.versions(&id.name).all(|(other, entry)| other == id || entry.stands_in()) {
            let kept: Vec<_> = self.snapshot.versions(&id.name).filter(|(other, _)| *other != id).collect();
            for (other, entry) in kept {
                for target in entry.builds.keys() {
                    self.clear(other, target, true);
                }
                self.plan.unregister.push(Unregister { module: other.clone(), keep_builds: false });
            }
        }
    }

    pub(super) fn clear(&mut self, id: &ModuleId, target: &Target, unbuild: bool) {
        match self.snapshot.build(id, target) {
            Some(build) if build.active || unbuild => self.plan.removals.push(Removal {
                module: id.clone(),
                target: target.clone(),
                withdraw: build.active,
                unbuild,
                kernel_leaves: false,
            }),
            // As in shell DKMS: nothing to do is not an error.
            _ => self.settle(id, Some(target), Outcome::UpToDate),
        }
    }

    pub(super) fn settle(&mut self, id: &ModuleId, target: Option<&Target>, outcome: Outcome) {
        self.plan.settled.push(Skip { module: id.clone(), target: target.cloned(), outcome });
    }
}
