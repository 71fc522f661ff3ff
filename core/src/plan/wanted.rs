//! One module for one kernel: the request, and the necessary actions.

use super::decide::Planner;
use super::why::{awaits, bad_conf, needs, refused, remaining};
use super::{Case, Task};
use crate::conf::Recipe;
use crate::exit::Exit;
use crate::kernel::{Kernel, Lack};
use crate::marker::Marker;
use crate::report::{Failing, Fault, Outcome, Severity, Waits};
use crate::tree::{Build, Failure, unsigned};
use crate::types::{Fingerprint, ModuleId, ModuleName, Placement, Target, version};

/// The request for one module and one kernel.
#[derive(Clone, Copy)]
pub(super) struct BuildRequest {
    pub(super) install: bool,
    pub(super) force: bool,
    /// The module was not requested by name: skip it without AUTOINSTALL, and do not repeat a failure with the same
    /// inputs.
    pub(super) automatic: bool,
    /// A build with unknown inputs is used as it is.
    pub(super) trust_unknown: bool,
    /// A module that it follows is reinstalled: it is rebuilt, with or without AUTOINSTALL.
    pub(super) led: bool,
}

impl Planner<'_> {
    /// Plans what is necessary. The new task, if there is one.
    pub(super) fn request(
        &mut self,
        id: &ModuleId,
        target: &Target,
        wanted: BuildRequest,
    ) -> Option<&mut Task> {
        match self.wanted(id, target, wanted) {
            Ok(Some(task)) => {
                self.plan.tasks.push(task);
                return self.plan.tasks.last_mut();
            }
            Ok(None) => {}
            Err(outcome) => self.settle(id, Some(target), outcome),
        }
        None
    }

    /// The task for one module and one kernel; `Ok(None)` if dkms does not handle it.
    pub(super) fn wanted(
        &mut self,
        id: &ModuleId,
        target: &Target,
        wanted: BuildRequest,
    ) -> Result<Option<Task>, Outcome> {
        let key = Placement::of(id, target);
        let (Some(case), Some(kernel)) = (self.survey.cases.get(&key), self.survey.kernels.get(target))
        else {
            return Ok(None);
        };
        if let Some(marker) = self.packaged(&id.name, target).filter(|_| wanted.install || wanted.automatic) {
            return self.left_to_package(id, target, wanted, marker).map(|()| None);
        }
        if let Some(marker) =
            self.damaged_package(&id.name, target).filter(|_| wanted.install && !wanted.force)
        {
            return Err(self.reinstall(marker));
        }
        let recipe = case.recipe.as_ref().map_err(bad_conf)?;
        if wanted.automatic && !recipe.autoinstall && !wanted.led {
            return Ok(None);
        }
        let damaged = self.survey.damaged.contains(&key);
        let build = self.snapshot.build(id, target).filter(|build| complete(build, recipe));
        if let Some(why) = &recipe.excluded {
            // As in shell DKMS: the rule counts if there is something to do.
            let is_done = |build: &Build| !wanted.install || build.active && !damaged;
            return Err(match build {
                Some(build) if !wanted.automatic && !wanted.force && is_done(build) => Outcome::UpToDate,
                _ => Outcome::Excluded { why: why.clone() },
            });
        }
        let replaces = self.snapshot.active(&id.name, target).filter(|active| *active != id).cloned();
        let task = |build: bool, install: bool, fingerprint: &Fingerprint| {
            Ok(Some(Task {
                module: id.clone(),
                target: target.clone(),
                build,
                cached: build && case.cached && !wanted.force,
                install,
                fingerprint: fingerprint.clone(),
                after: recipe
                    .build_depends
                    .iter()
                    .filter(|name| build || **name != id.name)
                    .filter(|name| self.packaged(name, target).is_none())
                    .filter_map(|name| self.provider(name, target))
                    .collect(),
                force: wanted.force,
                replaces: replaces.clone(),
                passed_over: None,
            }))
        };
        let Some(fingerprint) = &case.fingerprint else {
            // Without headers, an existing build is used as it is.
            return match build {
                Some(_) if !wanted.install && !wanted.force => Err(Outcome::UpToDate),
                Some(build) if build.active && wanted.install && !damaged && !wanted.force => {
                    Err(Outcome::UpToDate)
                }
                Some(build) if wanted.install && kernel.exists => {
                    let known = build.record.as_ref().map(|record| record.fingerprint.clone());
                    task(false, true, &known.unwrap_or(Fingerprint(String::new())))
                }
                _ => Err(self
                    .with_borrowed_headers(&key, case, wanted)
                    .unwrap_or_else(|| self.no_headers(target))),
            };
        };
        if wanted.install && !kernel.exists {
            return Err(refused(
                Exit::NO_KERNEL,
                format!("kernel {} is not installed", target.kernel),
                &format!(
                    "install the kernel first, or only build the module: dkms build {id} -k {}",
                    target.kernel
                ),
            ));
        }
        let unusable = self.survey.unusable.contains(&key);
        let usable = |build: &&Build| !unusable && current(build, fingerprint, case, wanted);
        if let Some(build) = build.filter(usable) {
            if !wanted.install {
                return if wanted.force { task(true, false, fingerprint) } else { Err(Outcome::UpToDate) };
            }
            if !build.active || damaged || wanted.force {
                return task(false, true, fingerprint);
            }
            // If these inputs are known to fail, the existing build has different ones.
            let fails =
                self.snapshot.failures.get(&key).is_some_and(|failure| failure.fingerprint == *fingerprint);
            if build.record.is_none() && !fails {
                self.plan.adopt.push((id.clone(), target.clone(), fingerprint.inputs()));
            }
            if kernel.index_damaged || !indexed(build, kernel) {
                self.plan.depmod.insert(target.clone());
            }
            return Err(Outcome::UpToDate);
        }
        let failure = self.snapshot.failures.get(&key).filter(|failure| failure.fingerprint == *fingerprint);
        let believed = wanted.automatic && !self.survey.doubtful.contains(&key);
        if let Some(failure) = failure.filter(|_| believed) {
            return Err(self.known_to_fail(&key, failure));
        }
        if let Some(other) = &kernel.other_architecture {
            let kernel = &target.kernel;
            return Err(Outcome::Deferred {
                why: format!("the headers of {kernel} are for {other}, not for {}", target.arch),
                advice: format!("to cross-compile: dkms build {id} -k {kernel} -a {other}"),
                waits: Waits::Tools,
            });
        }
        if !kernel.missing_tools.is_empty() {
            let tools = kernel.missing_tools.join(", ");
            return Err(Outcome::Deferred {
                why: format!("build tools are not installed: {tools}"),
                advice: format!("install {tools}, then run `dkms autoinstall -k {}`", target.kernel),
                waits: Waits::Tools,
            });
        }
        if let Some(Lack { why, advice }) = &case.lack {
            return Err(Outcome::Deferred { why: why.clone(), advice: advice.clone(), waits: Waits::Tools });
        }
        match (self.dependencies(recipe, target, wanted), build) {
            (Ok(()), _) => task(true, wanted.install, fingerprint),
            // As in shell DKMS: what was built is installed. It is verified before.
            (Err(_), Some(build)) if wanted.install && !wanted.automatic && !build.active => {
                task(false, true, fingerprint)
            }
            (Err(outcome), _) => Err(outcome),
        }
    }

    /// The package of a module whose files are damaged, unless a build of dkms has taken their place.
    fn damaged_package(&self, name: &ModuleName, target: &Target) -> Option<&Marker> {
        let marker = self.survey.damaged_packages.get(&(name.clone(), target.clone()));
        marker.filter(|_| self.snapshot.active(name, target).is_none())
    }

    fn reinstall(&self, marker: &Marker) -> Outcome {
        let Marker { module, package, .. } = marker;
        let why =
            format!("a file of package {package}, which has installed {module}, is missing or was changed");
        refused(Exit::NOT_INSTALLED, why, &self.distribution.advise_reinstall(package))
    }

    /// What a native package has installed for the kernel is neither built nor replaced.
    fn left_to_package(
        &mut self,
        id: &ModuleId,
        target: &Target,
        wanted: BuildRequest,
        marker: &Marker,
    ) -> Result<(), Outcome> {
        let (package, kernel) = (&marker.package, &target.kernel);
        if !wanted.automatic && (wanted.force || marker.module != *id) {
            let version = &marker.module.version;
            let why = format!("package {package} has installed {} {version} for {kernel}", id.name);
            return Err(refused(Exit::NEWER_IN_KERNEL, why, &format!("remove {package} first")));
        }
        self.give_way(&id.name, target);
        Err(Outcome::Packaged { why: format!("installed by package {package}") })
    }

    /// Rebuilds what follows (BUILD_DEPENDS_REBUILD) a module that is reinstalled, unless that was forced.
    pub(super) fn followers(&mut self) {
        let survey = self.survey;
        loop {
            let before = self.plan.tasks.len();
            for (Placement { module: id, target }, case) in &survey.cases {
                let Ok(recipe) = &case.recipe else { continue };
                let Some(build) = self.snapshot.build(id, target).filter(|_| recipe.follows) else {
                    continue;
                };
                let same = |task: &Task| task.module == *id && task.target == *target;
                let leads = |task: &&Task| {
                    // A module that names itself does not follow itself: another version of it replaces it.
                    task.install
                        && !task.force
                        && task.target == *target
                        && task.module.name != id.name
                        && recipe.build_depends.contains(&task.module.name)
                };
                // Of several versions, the newest is installed.
                let mut leaders: Vec<ModuleId> =
                    self.plan.tasks.iter().filter(leads).map(|task| task.module.clone()).collect();
                leaders.sort_by(|a, b| {
                    let newer = || version::compare(b.version.as_str(), a.version.as_str());
                    a.name.cmp(&b.name).then_with(newer)
                });
                leaders.dedup_by(|later, first| later.name == first.name);
                if leaders.is_empty() || self.plan.tasks.iter().any(same) {
                    continue;
                }
                let wanted = BuildRequest {
                    install: build.active,
                    force: false,
                    automatic: true,
                    trust_unknown: false,
                    led: true,
                };
                match self.wanted(id, target, wanted) {
                    Ok(Some(mut task)) => {
                        task.after.retain(|id| leaders.iter().all(|leader| leader.name != id.name));
                        task.after.extend(leaders.iter().cloned());
                        self.led.insert(Placement::of(id, target), leaders);
                        self.plan.tasks.push(task);
                    }
                    Ok(None) => {}
                    Err(outcome) if outcome.follows().severity <= Severity::LeftOut => {}
                    Err(outcome) => self.settle(id, Some(target), outcome),
                }
            }
            if self.plan.tasks.len() == before {
                return;
            }
        }
    }

    /// How a module will end again if headers are borrowed for it.
    fn with_borrowed_headers(&self, key: &Placement, case: &Case, wanted: BuildRequest) -> Option<Outcome> {
        let verdict = case.verdict.as_ref().filter(|_| wanted.automatic)?;
        if let Some(why) = &verdict.excluded {
            return Some(Outcome::Excluded { why: why.clone() });
        }
        let failure = self.snapshot.failures.get(key)?;
        Some(self.known_to_fail(key, failure))
    }

    /// It failed with the same inputs, and is not retried.
    fn known_to_fail(&self, key: &Placement, failure: &Failure) -> Outcome {
        Outcome::Failed(Failing {
            errors: failure.errors.clone(),
            log: Some(failure.log.display().to_string()),
            remembered: true,
            remaining: remaining(self.snapshot, &self.plan.gone, &key.module, &key.target),
            ..Failing::new(Fault::Module, failure.code, failure.why.clone())
        })
    }

    pub(super) fn no_headers(&self, target: &Target) -> Outcome {
        let package = self.survey.headers_package(self.distribution, target);
        let advice = match package.exact() {
            Some(_) if self.survey.fetch_headers => {
                let kernel = &target.kernel;
                format!(
                    "run `dkms autoinstall -k {kernel}`, which downloads them (fetch_headers in policy.toml)"
                )
            }
            _ => {
                let advice = package.advice(self.distribution, &target.kernel);
                format!("{advice}; the module will then be built automatically")
            }
        };
        Outcome::Deferred { why: package.lack(&target.kernel), advice, waits: Waits::Headers }
    }

    /// The module that satisfies a dependency, if it is in this plan or installed.
    pub(super) fn provider(&self, name: &ModuleName, target: &Target) -> Option<ModuleId> {
        let planned = self.meant(name, target);
        planned
            .filter(|id| self.survey.cases.contains_key(&Placement::of(id, target)))
            .or_else(|| self.snapshot.active(name, target))
            .cloned()
    }

    pub(super) fn dependencies(
        &self,
        recipe: &Recipe,
        target: &Target,
        wanted: BuildRequest,
    ) -> Result<(), Outcome> {
        let missing: Vec<_> = recipe
            .build_depends
            .iter()
            .filter(|name| self.provider(name, target).is_none() && self.packaged(name, target).is_none())
            .map(ToString::to_string)
            .collect();
        if missing.is_empty() || wanted.force {
            return Ok(());
        }
        let registered = recipe.build_depends.iter().filter(|name| self.versions.contains_key(*name));
        let known = registered.filter(|name| self.provider(name, target).is_none()).count();
        // Its package may be configured later in this run: then nothing has failed.
        Err(if wanted.automatic && known == 0 {
            awaits(&missing.join(", "))
        } else {
            needs(&missing.join(", "))
        })
    }
}

/// An existing build that is up to date.
fn current(build: &Build, fingerprint: &Fingerprint, case: &Case, wanted: BuildRequest) -> bool {
    match &build.record {
        // It is verified before it is published.
        Some(record) if record.loaded => wanted.trust_unknown,
        Some(record) => {
            let tried = || wanted.automatic && record.signer == case.signer.as_deref().map(unsigned);
            record.fingerprint.same_inputs(fingerprint)
                && (case.signer.is_none() || record.signer == case.signer || tried())
        }
        None => wanted.trust_unknown,
    }
}

/// A build with a file for each module.
fn complete(build: &Build, recipe: &Recipe) -> bool {
    let stem = |file: &str| file.split_once(".ko").map(|(stem, _)| stem.to_owned());
    recipe
        .modules
        .iter()
        .all(|module| build.files.iter().any(|file| stem(file).as_ref() == Some(&module.dest_name)))
}

/// Whether the kernel's modules.dep contains all published files. A kernel that is not installed has none.
fn indexed(build: &Build, kernel: &Kernel) -> bool {
    let Some(index) = &kernel.indexed else { return true };
    let marker = format!("/{}/", kernel.target.kernel);
    let Some(record) = &build.record else {
        // Built by shell DKMS: any file with its name is accepted.
        return build
            .files
            .iter()
            .all(|file| index.paths().any(|path| path.rsplit('/').next() == Some(file)));
    };
    record.installed.iter().all(|file| {
        let path = file.path.to_string_lossy();
        path.rsplit_once(&marker).is_none_or(|(_, relative)| index.contains(relative))
    })
}
