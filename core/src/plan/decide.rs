//! The decisions.

use std::collections::{BTreeMap, BTreeSet};

use super::scope::newest_with;
use super::{Case, Clear, Make, Plan, Registration, Settled, Survey, Unregister, order};
use crate::conf::{ConfError, Recipe};
use crate::event::{Event, Request, Verb};
use crate::kernel::Kernel;
use crate::policy::distro::Row;
use crate::report::{Failing, Outcome};
use crate::tree::{Build, Snapshot, Source};
use crate::types::{Fingerprint, ModuleId, ModuleName, Target};

/// Makes the plan that answers the events.
pub fn plan(events: &[Event], snapshot: &Snapshot, survey: &Survey, row: &Row) -> Plan {
    let mut planner = Planner {
        snapshot,
        survey,
        row,
        newest: newest_with(events, snapshot),
        plan: Plan::default(),
        installers: BTreeSet::new(),
    };
    for event in events {
        planner.event(event);
    }
    planner.finish()
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    survey: &'a Survey,
    row: &'a Row,
    /// The newest version of each module, those that the events bring among them.
    newest: BTreeMap<ModuleName, ModuleId>,
    plan: Plan,
    /// Kernels whose own installation is under way: its initramfs is made after us.
    installers: BTreeSet<Target>,
}

/// What is wanted of one module for one kernel.
#[derive(Clone, Copy)]
struct Wish {
    install: bool,
    force: bool,
    /// Nobody asked for this module by name: skip it when it does not want to be built by itself, and do not
    /// try again what failed with the same inputs.
    automatic: bool,
    /// A finished build of unknown inputs is taken as it is.
    trust_unknown: bool,
}

impl Planner<'_> {
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
            Event::KernelRemoved(target) => self.kernel_removed(target),
            Event::SourceAdded { module, targets } => {
                if self.register(module) {
                    for target in targets {
                        self.plan.initramfs.insert(target.clone());
                        let wish =
                            Wish { install: true, force: false, automatic: true, trust_unknown: false };
                        self.make(module, target, wish);
                    }
                }
            }
            Event::SourceReplaced(module) => self.source_replaced(module),
            Event::Asked(request) => self.asked(request),
        }
    }

    fn all_modules(&mut self, target: &Target, trust_unknown: bool) {
        for (id, entry) in self.snapshot.modules.iter().filter(|(_, entry)| entry.broken()) {
            self.settle(id, Some(target), broken(&entry.source));
        }
        let wish = Wish { install: true, force: false, automatic: true, trust_unknown };
        for id in &self.newest.clone().into_values().collect::<Vec<_>>() {
            // Its package is being replaced, or that went wrong: whatever is there now is the best there is.
            if let Some(Source::Kept(source)) = self.snapshot.modules.get(id).map(|entry| &entry.source) {
                self.plan.register.push(Registration { module: id.clone(), source: source.clone() });
            }
            self.make(id, target, wish);
        }
    }

    fn kernel_removed(&mut self, target: &Target) {
        self.plan.gone.insert(target.clone());
        for (id, entry) in &self.snapshot.modules {
            if let Some(build) = entry.builds.get(target) {
                self.plan.clear.push(Clear {
                    module: id.clone(),
                    target: target.clone(),
                    withdraw: build.active,
                    unbuild: true,
                    kernel_leaves: true,
                });
            }
        }
        for (id, failed) in self.snapshot.failures.keys().filter(|(_, failed)| failed == target) {
            self.plan.forget.push((id.clone(), failed.clone()));
        }
    }

    /// A build that stands in leaves the registry with its last kernel.
    fn forget_stand_ins(&mut self) {
        for (id, entry) in self.snapshot.modules.iter().filter(|(_, entry)| entry.stands_in()) {
            let cleared = |target: &Target| {
                self.plan
                    .clear
                    .iter()
                    .any(|clear| clear.unbuild && clear.module == *id && clear.target == *target)
            };
            if !entry.builds.is_empty() && entry.builds.keys().all(cleared) {
                self.plan.unregister.push(Unregister { module: id.clone(), keep_builds: false });
            }
        }
    }

    /// Registers a module unless it is registered. False when that is not possible.
    fn register(&mut self, id: &ModuleId) -> bool {
        if self.snapshot.registered(id) {
            return true;
        }
        match self.survey.sources.get(id) {
            Some(source) => {
                let recipes = self.survey.cases.iter().filter(|((module, _), _)| module == id);
                let bad = recipes.filter_map(|(_, case)| case.recipe.as_ref().err()).next();
                if let Some(error) = bad {
                    self.settle(id, None, bad_conf(error));
                    return false;
                }
                self.plan.register.push(Registration { module: id.clone(), source: source.clone() });
                true
            }
            None => {
                self.settle(
                    id,
                    None,
                    refused(
                        2,
                        format!("there is no source {}-{} in the source tree", id.name, id.version),
                        "install the package that brings it, or give the directory to dkms add",
                    ),
                );
                false
            }
        }
    }

    fn source_replaced(&mut self, id: &ModuleId) {
        let Some(entry) = self.snapshot.modules.get(id).filter(|entry| !entry.stands_in()) else { return };
        let keep = entry.builds.values().any(|build| build.active);
        self.plan.unregister.push(Unregister { module: id.clone(), keep_builds: keep });
    }

    fn asked(&mut self, request: &Request) {
        let id = &request.module;
        let entry = self.snapshot.modules.get(id);
        let registered = self.snapshot.registered(id);
        if let Some(entry) = entry.filter(|entry| entry.broken())
            && !(request.verb == Verb::Add && entry.source == Source::Unlinked)
            && matches!(request.verb, Verb::Add | Verb::Build | Verb::Install)
        {
            return self.settle(id, None, broken(&entry.source));
        }
        match request.verb {
            Verb::Add if registered => self.settle(
                id,
                None,
                refused(
                    3,
                    "it is registered already".into(),
                    "dkms remove it first, or give another version",
                ),
            ),
            Verb::Add => {
                self.register(id);
            }
            Verb::Build | Verb::Install => {
                if self.register(id) {
                    let wish = Wish {
                        install: request.verb == Verb::Install,
                        force: request.force,
                        automatic: false,
                        trust_unknown: true,
                    };
                    for target in &request.targets {
                        self.plan.initramfs.insert(target.clone());
                        self.make(id, target, wish);
                    }
                }
            }
            _ if entry.is_none_or(|entry| entry.stands_in() && entry.builds.is_empty()) => {
                self.settle(id, None, refused(3, "it is not registered".into(), "dkms status lists what is"))
            }
            Verb::Uninstall | Verb::Unbuild => {
                for target in &request.targets {
                    self.clear(id, target, request.verb == Verb::Unbuild);
                }
            }
            Verb::Remove => self.remove(request),
        }
    }

    fn remove(&mut self, request: &Request) {
        let id = &request.module;
        let Some(entry) = self.snapshot.modules.get(id) else { return };
        let all: Vec<&Target> = entry.builds.keys().collect();
        let targets: Vec<&Target> =
            if request.targets.is_empty() { all.clone() } else { request.targets.iter().collect() };
        for target in &targets {
            self.clear(id, target, true);
        }
        if !all.iter().all(|target| targets.contains(target)) {
            return;
        }
        self.plan.unregister.push(Unregister { module: id.clone(), keep_builds: false });
        // The last registered version takes the builds with it that stood in for it.
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

    fn clear(&mut self, id: &ModuleId, target: &Target, unbuild: bool) {
        match self.snapshot.build(id, target) {
            Some(build) if build.active || unbuild => self.plan.clear.push(Clear {
                module: id.clone(),
                target: target.clone(),
                withdraw: build.active,
                unbuild,
                kernel_leaves: false,
            }),
            // As shell DKMS has it: nothing to do is no error.
            _ => self.settle(id, Some(target), Outcome::UpToDate),
        }
    }

    fn settle(&mut self, id: &ModuleId, target: Option<&Target>, outcome: Outcome) {
        self.plan.settled.push(Settled { module: id.clone(), target: target.cloned(), outcome });
    }

    fn make(&mut self, id: &ModuleId, target: &Target, wish: Wish) {
        match self.wanted(id, target, wish) {
            Ok(Some(make)) => self.plan.make.push(make),
            Ok(None) => {}
            Err(outcome) => self.settle(id, Some(target), outcome),
        }
    }

    /// What to do for one module and one kernel; `Ok(None)` when it is none of our business.
    fn wanted(&mut self, id: &ModuleId, target: &Target, wish: Wish) -> Result<Option<Make>, Outcome> {
        let key = (id.clone(), target.clone());
        let (Some(case), Some(kernel)) = (self.survey.cases.get(&key), self.survey.kernels.get(target))
        else {
            return Ok(None);
        };
        let recipe = case.recipe.as_ref().map_err(bad_conf)?;
        if wish.automatic && !recipe.autoinstall {
            return Ok(None);
        }
        let build = self.snapshot.build(id, target);
        if let Some(why) = &recipe.excluded {
            return Err(Outcome::Excluded { why: why.clone() });
        }
        let replaces = self.snapshot.active(&id.name, target).filter(|active| *active != id).cloned();
        let make = |build: bool, install: bool, fingerprint: &Fingerprint| {
            Ok(Some(Make {
                module: id.clone(),
                target: target.clone(),
                build,
                install,
                fingerprint: fingerprint.clone(),
                after: recipe.build_depends.iter().filter_map(|name| self.provider(name, target)).collect(),
                force: wish.force,
                replaces: replaces.clone(),
            }))
        };
        let damaged = self.survey.damaged.contains(&key);
        let build = build.filter(|build| complete(build, recipe));
        let Some(fingerprint) = &case.fingerprint else {
            // Without headers a finished build serves as it is.
            return match build {
                Some(_) if !wish.install && !wish.force => Err(Outcome::UpToDate),
                Some(build) if build.active && wish.install && !damaged && !wish.force => {
                    Err(Outcome::UpToDate)
                }
                Some(build) if wish.install && kernel.exists => {
                    let known = build.record.as_ref().map(|record| record.fingerprint.clone());
                    make(false, true, &known.unwrap_or(Fingerprint(String::new())))
                }
                _ => Err(self.no_headers(target)),
            };
        };
        if wish.install && !kernel.exists {
            return Err(refused(
                6,
                format!("there is no kernel {} in the modules tree", target.kernel),
                "install that kernel first, or build without installing",
            ));
        }
        let usable = |build: &&Build| current(build, fingerprint, case, wish);
        if let Some(build) = build.filter(usable) {
            if !wish.install {
                return if wish.force { make(true, false, fingerprint) } else { Err(Outcome::UpToDate) };
            }
            if !build.active || damaged || wish.force {
                return make(false, true, fingerprint);
            }
            if build.record.is_none() {
                self.plan.adopt.push((id.clone(), target.clone(), fingerprint.clone()));
            }
            if !indexed(build, kernel) {
                self.plan.depmod.insert(target.clone());
            }
            return Err(Outcome::UpToDate);
        }
        if wish.automatic
            && let Some(failure) = self.snapshot.failures.get(&key)
            && failure.fingerprint == *fingerprint
        {
            return Err(Outcome::Failed(Failing {
                why: failure.why.clone(),
                errors: failure.errors.clone(),
                log: Some(failure.log.display().to_string()),
                remembered: true,
                remaining: remaining(self.snapshot, id, target),
                code: failure.code,
            }));
        }
        if !kernel.missing_tools.is_empty() {
            let tools = kernel.missing_tools.join(", ");
            return Err(Outcome::Deferred {
                why: format!("{tools} is needed to build and not installed"),
                advice: format!("install {tools}, then run: dkms autoinstall -k {}", target.kernel),
                code: 10,
            });
        }
        self.dependencies(recipe, target, wish)?;
        make(true, wish.install, fingerprint)
    }

    fn no_headers(&self, target: &Target) -> Outcome {
        let package = self.row.headers_package(target);
        Outcome::Deferred {
            why: format!("the headers of {} are not installed", target.kernel),
            advice: format!("install {package}: the module is then built by itself"),
            code: 21,
        }
    }

    /// The module that satisfies a dependency, when it takes part in this plan or is installed.
    fn provider(&self, name: &ModuleName, target: &Target) -> Option<ModuleId> {
        let planned = self.newest.get(name);
        planned
            .filter(|id| self.survey.cases.contains_key(&((*id).clone(), target.clone())))
            .or_else(|| self.snapshot.active(name, target))
            .cloned()
    }

    fn dependencies(&self, recipe: &Recipe, target: &Target, wish: Wish) -> Result<(), Outcome> {
        let missing: Vec<_> = recipe
            .build_depends
            .iter()
            .filter(|name| self.provider(name, target).is_none())
            .map(ToString::to_string)
            .collect();
        if missing.is_empty() || wish.force {
            return Ok(());
        }
        Err(needs(&missing.join(", ")))
    }

    fn finish(mut self) -> Plan {
        for target in &self.installers {
            self.plan.initramfs.remove(target);
        }
        let survey = self.survey;
        self.plan
            .initramfs
            .retain(|target| survey.kernels.get(target).is_some_and(|kernel| kernel.has_initramfs));
        // Two events may want the same; the first says it all.
        let mut seen = BTreeSet::new();
        self.plan.make.retain(|make| seen.insert((make.module.clone(), make.target.clone())));
        let mut seen = BTreeSet::new();
        self.plan.clear.retain(|clear| seen.insert((clear.module.clone(), clear.target.clone())));
        let mut seen = BTreeSet::new();
        self.plan.register.retain(|registration| seen.insert(registration.module.clone()));
        let mut seen = BTreeSet::new();
        self.plan.adopt.retain(|(id, target, _)| seen.insert((id.clone(), target.clone())));
        let mut seen = BTreeSet::new();
        self.plan.forget.retain(|forgotten| seen.insert(forgotten.clone()));
        self.one_version_each();
        self.forget_stand_ins();
        let mut seen = BTreeSet::new();
        self.plan.unregister.retain(|unregister| seen.insert(unregister.module.clone()));
        let mut seen: Vec<(ModuleId, Option<Target>)> = Vec::new();
        self.plan.settled.retain(|settled| {
            let key = (settled.module.clone(), settled.target.clone());
            let new = !seen.contains(&key);
            seen.push(key);
            new
        });
        self.drop_unsatisfied();
        let (sorted, circles) = order::sort(std::mem::take(&mut self.plan.make));
        for (make, members) in circles {
            let names: Vec<_> = members.iter().map(ToString::to_string).collect();
            let outcome = if members.contains(&make.module) {
                Outcome::Deferred {
                    why: format!("BUILD_DEPENDS goes round in circles: {}", names.join(", ")),
                    advice: "tell the packages' maintainers".into(),
                    code: 13,
                }
            } else {
                needs(&names.join(", "))
            };
            self.plan.settled.push(Settled { module: make.module, target: Some(make.target), outcome });
        }
        // What is done needs no other word.
        let made = |settled: &Settled| {
            sorted
                .iter()
                .any(|make| make.module == settled.module && Some(&make.target) == settled.target.as_ref())
        };
        self.plan.settled.retain(|settled| !made(settled));
        self.plan.adopt.retain(|(id, target, _)| {
            !sorted.iter().any(|make| make.module == *id && make.target == *target)
        });
        self.plan.make = sorted;
        self.plan
    }

    /// Only one version of a module can be installed for a kernel: the newest that the plan has.
    fn one_version_each(&mut self) {
        let newer = |a: &Make, b: &Make| {
            a.module.name == b.module.name
                && a.target == b.target
                && b.install
                && crate::conf::version::compare(b.module.version.as_str(), a.module.version.as_str()).is_gt()
        };
        let all = self.plan.make.clone();
        self.plan.make.retain(|make| !make.install || !all.iter().any(|other| newer(make, other)));
    }

    /// A build whose dependency is neither installed nor going to be waits, and so does what depends on it.
    fn drop_unsatisfied(&mut self) {
        loop {
            let planned: BTreeSet<_> =
                self.plan.make.iter().map(|make| (make.module.clone(), make.target.clone())).collect();
            let unmet = |make: &Make| {
                make.after
                    .iter()
                    .find(|id| {
                        !planned.contains(&((*id).clone(), make.target.clone()))
                            && self.snapshot.active(&id.name, &make.target).is_none()
                    })
                    .cloned()
            };
            let position =
                self.plan.make.iter().position(|make| make.build && !make.force && unmet(make).is_some());
            let Some(position) = position else { return };
            let unmet = unmet(&self.plan.make[position]);
            let make = self.plan.make.remove(position);
            let needed = unmet.map(|id| id.to_string()).unwrap_or_default();
            self.settle(&make.module, Some(&make.target), needs(&needed));
        }
    }
}

/// A finished build that can be used as it is.
fn current(build: &Build, fingerprint: &Fingerprint, case: &Case, wish: Wish) -> bool {
    match &build.record {
        Some(record) => {
            record.fingerprint == *fingerprint && (case.signer.is_none() || record.signer == case.signer)
        }
        None => wish.trust_unknown,
    }
}

/// A build that has a file for each module.
fn complete(build: &Build, recipe: &Recipe) -> bool {
    let stem = |file: &str| file.split_once(".ko").map(|(stem, _)| stem.to_owned());
    recipe
        .modules
        .iter()
        .all(|module| build.files.iter().any(|file| stem(file).as_ref() == Some(&module.dest_name)))
}

/// Whether the kernel's module index knows all published files. A kernel that is not installed has none.
fn indexed(build: &Build, kernel: &Kernel) -> bool {
    let Some(index) = &kernel.indexed else { return true };
    let marker = format!("/{}/", kernel.target.kernel);
    let Some(record) = &build.record else {
        // Shell DKMS's: somewhere under its name must do.
        return build.files.iter().all(|file| index.iter().any(|path| path.rsplit('/').next() == Some(file)));
    };
    record.installed.iter().all(|file| {
        let path = file.path.to_string_lossy();
        path.rsplit_once(&marker).is_none_or(|(_, relative)| index.contains(relative))
    })
}

/// What serves this kernel now, and which other kernels have the module.
pub fn remaining(snapshot: &Snapshot, id: &ModuleId, target: &Target) -> String {
    let mut parts = Vec::new();
    if let Some(active) = snapshot.active(&id.name, target) {
        parts.push(format!("{active} stays installed for this kernel"));
    }
    let mut others: Vec<String> = snapshot
        .targets()
        .into_iter()
        .filter(|other| other != target && snapshot.active(&id.name, other).is_some())
        .map(|other| other.kernel.to_string())
        .collect();
    others.sort_by(|a, b| crate::conf::version::compare(b, a));
    match others.as_slice() {
        [] => {}
        [one] => parts.push(format!("{one} still has the module")),
        many => parts.push(format!("{} still have the module", many.join(", "))),
    }
    if parts.is_empty() { "no installed kernel has this module".into() } else { parts.join("; ") }
}

fn needs(missing: &str) -> Outcome {
    Outcome::Deferred {
        why: format!("it needs {missing} (BUILD_DEPENDS), which is not installed for this kernel"),
        advice: "install that first; --force builds without it".into(),
        code: 13,
    }
}

fn refused(code: i32, why: String, advice: &str) -> Outcome {
    Outcome::Refused { why, advice: advice.into(), code }
}

fn bad_conf(error: &ConfError) -> Outcome {
    let code = match error {
        ConfError::Unreadable { .. } => 4,
        ConfError::Bad { .. } => 8,
    };
    refused(code, error.to_string(), "correct the file, or reinstall the package that brought it")
}

fn broken(source: &Source) -> Outcome {
    let why = match source {
        Source::Dangling(to) => format!("its source {} is gone", to.display()),
        _ => "the link to its source is gone".to_owned(),
    };
    refused(
        4,
        format!("it is broken: {why}"),
        "reinstall the package that brought it, or delete its directory in the registry",
    )
}
