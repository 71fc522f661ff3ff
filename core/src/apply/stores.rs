//! Looks for the builds of a plan in the stores of the administrator, before anything is compiled.

use anyhow::Result;

use super::{Work, task};
use crate::plan::{Plan, Task};
use crate::store::{Wanted, fetch};
use crate::types::Placement;

/// Fetches what the plan would compile. Only an interruption is an error.
pub(super) fn ask(work: &mut Work<'_>, plan: &Plan) -> Result<()> {
    if work.session.policy.admin.store().url.is_empty() {
        return Ok(());
    }
    // A forced build is requested because a build is in doubt.
    let open = plan.tasks.iter().filter(|task| task.build && !task.cached && !task.force);
    let environments: Vec<(&Task, String)> =
        open.map(|task| (task, task::environment(work, &task.target))).collect();
    let wanted = environments.iter().filter_map(|(task, environment)| {
        let (_, recipe, _) = task::known(work, task).ok()?;
        Some(Wanted {
            place: Placement::of(&task.module, &task.target),
            fingerprint: &task.fingerprint,
            environment,
            recipe: recipe.ok()?,
        })
    });
    let wanted: Vec<Wanted<'_>> = wanted.collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let fetched = fetch(work.session, &wanted)?;
    work.report.remarks.extend(fetched.remarks);
    work.fetched = fetched.builds;
    Ok(())
}

impl Work<'_> {
    /// Whether a build needs no compiler.
    pub(super) fn ready(&self, task: &Task) -> bool {
        task.cached || self.store_of(task).is_some()
    }

    /// The store that a build has just come from.
    pub(super) fn store_of(&self, task: &Task) -> Option<&String> {
        self.fetched.get(&Placement::of(&task.module, &task.target))
    }
}
