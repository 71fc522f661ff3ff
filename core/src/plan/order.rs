//! Dependencies first.

use std::collections::BTreeSet;

use super::Task;
use crate::types::{ModuleId, Placement};

/// Sorts so that every task comes after its dependencies. Returns separately the tasks that cannot be sorted, each with
/// the members of its circle.
pub fn sort(mut rest: Vec<Task>) -> (Vec<Task>, Vec<(Task, Vec<ModuleId>)>) {
    let mut sorted = Vec::with_capacity(rest.len());
    loop {
        let waiting: BTreeSet<Placement> =
            rest.iter().map(|task| Placement::of(&task.module, &task.target)).collect();
        let blocked = |task: &Task| {
            task.after.iter().any(|module| waiting.contains(&Placement::of(module, &task.target)))
        };
        let (still, ready): (Vec<_>, Vec<_>) = rest.into_iter().partition(blocked);
        if ready.is_empty() {
            let circles: Vec<Vec<ModuleId>> = still.iter().map(|task| circle(task, &still)).collect();
            return (sorted, still.into_iter().zip(circles).collect());
        }
        sorted.extend(ready);
        rest = still;
    }
}

/// The dependencies of a task that depend on it, for the same kernel.
fn circle(task: &Task, still: &[Task]) -> Vec<ModuleId> {
    let needs = |id: &ModuleId| -> BTreeSet<ModuleId> {
        let mut reached = BTreeSet::new();
        let mut open = vec![id.clone()];
        while let Some(next) = open.pop() {
            let found = still.iter().find(|other| other.module == next && other.target == task.target);
            for needed in found.into_iter().flat_map(|found| &found.after) {
                let present =
                    still.iter().any(|other| other.module == *needed && other.target == task.target);
                if present && reached.insert(needed.clone()) {
                    open.push(needed.clone());
                }
            }
        }
        reached
    };
    let mut candidates = needs(&task.module);
    candidates.insert(task.module.clone());
    candidates.into_iter().filter(|id| needs(id).contains(id)).collect()
}
