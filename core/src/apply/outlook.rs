//! What the next automatic run would do, and why. Reads only.

use std::collections::BTreeSet;

use anyhow::Result;

use super::recover::Recovery;
use super::transaction::decide;
use crate::event::Event;
use crate::exit::Exit;
use crate::kernel::HeadersPackage;
use crate::plan::{Plan, Survey, Task};
use crate::report::{Outcome, Waits};
use crate::session::Session;
use crate::sys::confine;
use crate::tree::Snapshot;
use crate::types::{ModuleId, Placement, Target};

/// What the next run does with a module for a kernel, with the reason as a sentence.
#[derive(Debug)]
pub enum Prospect {
    /// It is built.
    Build(&'static str),
    /// Its build is installed.
    Install(&'static str),
    /// Nothing, as intended: this is its state.
    Unchanged(&'static str),
    /// Nothing, for this reason.
    Settled(Outcome),
}

/// The plan for one kernel.
#[derive(Debug)]
pub struct Outlook {
    snapshot: Snapshot,
    survey: Survey,
    plan: Plan,
    target: Target,
    /// The administrator leaves the kernel out.
    left_out: bool,
}

/// Plans as at the next start of the machine with this kernel.
pub fn outlook(session: &mut Session, target: &Target) -> Result<Outlook> {
    let snapshot = Snapshot::load(&session.layout)?;
    let events = [Event::Autoinstall(target.clone())];
    let (survey, plan) = decide(session, &snapshot, &events, &Recovery::default())?;
    let left_out = session.policy.admin.leaves_out(&target.kernel).is_some();
    Ok(Outlook { snapshot, survey, plan, target: target.clone(), left_out })
}

impl Outlook {
    /// The prospect of every version of every module that is not only kept until it is replaced.
    pub fn all(&self) -> Vec<(ModuleId, Prospect)> {
        let registered = self.snapshot.modules.iter().filter(|(_, entry)| !entry.stands_in());
        registered.map(|(id, _)| (id.clone(), self.of(id))).collect()
    }

    /// Build tools for this kernel that are not installed.
    pub fn missing_tools(&self) -> Vec<String> {
        self.survey.kernels.get(&self.target).map(|kernel| kernel.missing_tools.clone()).unwrap_or_default()
    }

    /// What installs the kernel's headers.
    pub fn headers_package(&self, session: &Session) -> HeadersPackage {
        self.survey.headers_package(&session.policy.distribution, &self.target)
    }

    /// The versions that are installed for this kernel.
    pub fn installed(&self) -> BTreeSet<ModuleId> {
        let active = |id: &&ModuleId| self.snapshot.build(id, &self.target).is_some_and(|build| build.active);
        self.snapshot.modules.keys().filter(active).cloned().collect()
    }

    /// Whether modules.dep of the kernel lacks installed modules.
    pub fn index_outdated(&self) -> bool {
        !self.left_out && self.plan.depmod.contains(&self.target)
    }

    /// Whether a task needs the sandbox.
    fn compiled_confined(&self, place: &Placement, task: &Task) -> bool {
        let unconfined = || self.survey.cases.get(place).is_some_and(|case| case.unconfined);
        task.build && !task.cached && !unconfined()
    }

    /// The prospect of one version of a module.
    pub fn of(&self, id: &ModuleId) -> Prospect {
        let place = Placement::of(id, &self.target);
        if self.left_out {
            let active = self.snapshot.build(id, &self.target).is_some_and(|build| build.active);
            return Prospect::Unchanged(if active {
                "installed; policy.toml leaves this kernel out, so that it is not rebuilt automatically"
            } else {
                "not built automatically: policy.toml leaves this kernel out"
            });
        }
        if let Some(task) =
            self.plan.tasks.iter().find(|task| task.module == *id && task.target == self.target)
        {
            // A run compiles nothing without a sandbox, however often it tries.
            if let Some(why) = self.compiled_confined(&place, task).then(confine::hindrance).flatten() {
                let advice = format!("then build it: dkms install {id} -k {}", self.target.kernel);
                return Prospect::Settled(Outcome::Deferred {
                    why,
                    advice,
                    waits: Waits::Machine(Exit::BUILD_FAILED),
                });
            }
            let build = self.snapshot.build(id, &self.target);
            return match (task.build, build) {
                (true, _) if task.cached => Prospect::Install("a cached build has the same inputs"),
                (true, None) => Prospect::Build("there is no build for this kernel"),
                (true, Some(build)) if build.record.is_none() => {
                    Prospect::Build("the inputs of the existing build are not known")
                }
                (true, Some(_)) if self.survey.unusable.contains(&place) => Prospect::Build(
                    "the files of its build, or those that it was compiled with, have changed or are damaged",
                ),
                (true, Some(_)) => Prospect::Build(
                    "its source, dkms.conf, kernel headers or build tools have changed since it was built",
                ),
                (false, Some(build)) if build.active && self.survey.damaged.contains(&place) => {
                    Prospect::Install("its installed files are missing or were changed")
                }
                (false, _) => Prospect::Install("it is built, and not installed"),
            };
        }
        let settled = self.plan.settled.iter().find(|skip| {
            skip.module == *id && skip.target.as_ref().is_none_or(|target| *target == self.target)
        });
        if let Some(skip) = settled.filter(|skip| skip.outcome != Outcome::UpToDate) {
            return Prospect::Settled(skip.outcome.clone());
        }
        let active = self.snapshot.build(id, &self.target).is_some_and(|build| build.active);
        let automatic = || {
            let case = self.survey.cases.get(&place)?;
            Some(case.recipe.as_ref().ok()?.autoinstall)
        };
        Prospect::Unchanged(match (active, automatic()) {
            (true, _) => "installed, and up to date",
            (false, Some(false)) => "not built automatically: its dkms.conf does not set AUTOINSTALL=yes",
            (false, _) => "not built: another version of the module is used for this kernel",
        })
    }
}
