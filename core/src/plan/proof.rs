//! The pre-build: what can be built, and what a failure means.

use std::collections::{BTreeMap, BTreeSet};

use super::{Plan, Skip, Survey, Task};
use crate::policy::Admin;
use crate::policy::admin::Unbuildable;
use crate::report::{Line, Outcome, Report, Severity, Waits};
use crate::tree::Snapshot;
use crate::types::{ModuleId, ModuleName, Placement, Target};

/// The part of a plan that changes nothing: builds, and the known outcomes of the rest.
///
/// A module whose dependency is built in the same plan would need it in the DKMS tree. It is left to the transaction,
/// because its failure would prove nothing.
pub(super) fn only(plan: Plan, survey: &Survey) -> Plan {
    let made: BTreeSet<_> = plan.tasks.iter().map(|task| Placement::of(&task.module, &task.target)).collect();
    // A build with root's privileges must not run programs that are not installed.
    let unconfined = |task: &Task| {
        survey.cases.get(&Placement::of(&task.module, &task.target)).is_some_and(|case| case.unconfined)
    };
    let mut settled = plan.settled;
    let mut tasks: Vec<Task> = Vec::new();
    for task in plan.tasks.into_iter().filter(|task| task.build) {
        let first = task.after.iter().find(|id| made.contains(&Placement::of(id, &task.target)));
        let outcome = match first {
            _ if task.cached => Outcome::UpToDate,
            _ if unconfined(&task) => Outcome::Deferred {
                why: "the build is not sandboxed (unconfined in policy.toml)".into(),
                advice: "the module will be built during installation".into(),
                waits: Waits::Turn,
            },
            Some(first) => Outcome::Deferred {
                why: format!("depends on {first}, which is not installed yet"),
                advice: "the module will be built during installation".into(),
                waits: Waits::Turn,
            },
            None => {
                tasks.push(task);
                continue;
            }
        };
        settled.push(Skip { module: task.module, target: Some(task.target), outcome });
    }
    Plan { proof: true, tasks, settled, ..Plan::default() }
}

/// The facts that determine the consequences of a failure.
#[derive(Debug)]
pub struct Stakes<'a> {
    /// The admin's choices.
    pub admin: &'a Admin,
    /// The new kernel replaces the old one: there is no kernel to go back to.
    pub replaces: bool,
    /// The kernel's names of the modules in use on this machine.
    pub in_use: &'a BTreeSet<String>,
    /// Kernels that are about to be installed.
    pub incoming: &'a BTreeSet<Target>,
    /// Modules that have kept packages back for as long as the administrator accepts.
    pub expired: &'a BTreeSet<ModuleName>,
}

/// The modules, each with a kernel that it does not build for, because of which the transaction must be aborted.
pub fn at_stake<'r>(
    report: &'r Report,
    snapshot: &Snapshot,
    survey: &Survey,
    stakes: &Stakes<'_>,
) -> Vec<&'r Line> {
    let uses = used(survey, stakes.in_use);
    let holds = |line: &&Line| {
        let Some(target) = &line.target else { return false };
        let name = &line.module.name;
        let serves_somewhere =
            snapshot.versions(name).any(|(_, entry)| entry.builds.values().any(|build| build.active));
        let lost = match line.outcome.follows().severity {
            Severity::Wrong => stakes.incoming.contains(target) || snapshot.active(name, target).is_some(),
            // A module that no kernel of this machine has is not lost for the next one.
            Severity::LeftOut => serves_somewhere,
            // What could not be built for another reason proves nothing.
            Severity::Waiting | Severity::Fine => false,
        };
        let default = stakes.replaces && uses.get(&line.module).copied().unwrap_or(false);
        // A critical module would fail in the transaction.
        let expired = stakes.expired.contains(name) && !stakes.admin.critical(name);
        let choice = stakes.admin.on_unbuildable(name);
        lost && !expired
            && choice.unwrap_or(if default { Unbuildable::Hold } else { Unbuildable::Warn })
                == Unbuildable::Hold
    };
    report.lines.iter().filter(holds).collect()
}

/// The module packages that contain one of these kernel modules.
fn used(survey: &Survey, in_use: &BTreeSet<String>) -> BTreeMap<ModuleId, bool> {
    let mut uses: BTreeMap<ModuleId, bool> = BTreeMap::new();
    for (Placement { module, .. }, case) in &survey.cases {
        let Ok(recipe) = &case.recipe else { continue };
        let mut names = recipe.modules.iter().map(|module| module.dest_name.replace('-', "_"));
        *uses.entry(module.clone()).or_default() |= names.any(|name| in_use.contains(&name));
    }
    uses
}
