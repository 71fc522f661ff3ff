//! Before anything is changed: what can be tried, and what a failure then means.

use std::collections::{BTreeMap, BTreeSet};

use super::{Plan, Skip, Survey, Task};
use crate::policy::Admin;
use crate::policy::admin::Unbuildable;
use crate::report::{Line, Outcome, Report, Severity, Waits};
use crate::tree::Snapshot;
use crate::types::{ModuleId, Placement, Target};

/// Of a plan for what is about to come, that which changes nothing: builds, and what is known about the rest.
///
/// A module that needs another one which is built here, too, would have to find that in the registry. It is left to the
/// transaction: a failure here would prove nothing.
pub(super) fn only(plan: Plan, survey: &Survey) -> Plan {
    let made: BTreeSet<_> = plan.make.iter().map(|make| Placement::of(&make.module, &make.target)).collect();
    // With root's rights nothing runs that is not installed.
    let unconfined = |make: &Task| {
        survey.cases.get(&Placement::of(&make.module, &make.target)).is_some_and(|case| case.unconfined)
    };
    let mut settled = plan.settled;
    let mut makes: Vec<Task> = Vec::new();
    for make in plan.make.into_iter().filter(|make| make.build) {
        let first = make.after.iter().find(|id| made.contains(&Placement::of(id, &make.target)));
        let outcome = match first {
            _ if make.cached => Outcome::UpToDate,
            _ if unconfined(&make) => Outcome::Deferred {
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
                makes.push(make);
                continue;
            }
        };
        settled.push(Skip { module: make.module, target: Some(make.target), outcome });
    }
    Plan { proof: true, make: makes, settled, ..Plan::default() }
}

/// What a failure puts at stake, and who has a say in it.
#[derive(Debug)]
pub struct Stakes<'a> {
    /// The admin's choices.
    pub admin: &'a Admin,
    /// The new kernel takes the place of the old one: there is none to go back to.
    pub replaces: bool,
    /// The kernel's names of the modules that this machine cannot do without now.
    pub in_use: &'a BTreeSet<String>,
    /// Kernels that are about to be installed.
    pub incoming: &'a BTreeSet<Target>,
}

/// The modules, each with the kernel that it was proven not to be built for, for which the transaction must not go on.
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
            // A module that is for no kernel of this machine is no loss on the next one.
            Severity::LeftOut => serves_somewhere,
            // What could not be tried proves nothing.
            Severity::Waiting | Severity::Fine => false,
        };
        let default = stakes.replaces && uses.get(&line.module).copied().unwrap_or(false);
        let choice = stakes.admin.on_unbuildable(name);
        lost && choice.unwrap_or(if default { Unbuildable::Hold } else { Unbuildable::Warn })
            == Unbuildable::Hold
    };
    report.lines.iter().filter(holds).collect()
}

/// Which modules bring one of these modules of the kernel.
fn used(survey: &Survey, in_use: &BTreeSet<String>) -> BTreeMap<ModuleId, bool> {
    let mut uses: BTreeMap<ModuleId, bool> = BTreeMap::new();
    for (Placement { module, .. }, case) in &survey.cases {
        let Ok(recipe) = &case.recipe else { continue };
        let mut names = recipe.modules.iter().map(|module| module.dest_name.replace('-', "_"));
        *uses.entry(module.clone()).or_default() |= names.any(|name| in_use.contains(&name));
    }
    uses
}
