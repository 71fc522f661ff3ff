//! Normalizes a plan: no duplicates, dependencies first, no contradictions.

use std::collections::BTreeSet;

use super::decide::Planner;
use super::why::needs;
use super::{Plan, Skip, Task, Unregister, order};
use crate::report::{Outcome, Waits};
use crate::types::{ModuleId, Placement, Target};

impl Planner<'_> {
    /// A stand-in is removed from the DKMS tree with its last kernel.
    pub(super) fn forget_stand_ins(&mut self) {
        for (id, entry) in self.snapshot.modules.iter().filter(|(_, entry)| entry.stands_in()) {
            let cleared = |target: &Target| {
                self.plan
                    .removals
                    .iter()
                    .any(|removal| removal.unbuild && removal.module == *id && removal.target == *target)
            };
            if !entry.builds.is_empty() && entry.builds.keys().all(cleared) {
                self.plan.unregister.push(Unregister { module: id.clone(), keep_builds: false });
            }
        }
    }

    pub(super) fn finish(mut self) -> Plan {
        for target in &self.installers {
            self.plan.initramfs.remove(target);
        }
        let survey = self.survey;
        self.plan
            .initramfs
            .retain(|target| survey.kernels.get(target).is_some_and(|kernel| kernel.has_initramfs));
        // Two events may request the same; the first one is complete.
        let mut seen = BTreeSet::new();
        self.plan.tasks.retain(|task| seen.insert(Placement::of(&task.module, &task.target)));
        let mut seen = BTreeSet::new();
        self.plan.removals.retain(|removal| seen.insert(Placement::of(&removal.module, &removal.target)));
        let mut seen = BTreeSet::new();
        self.plan.register.retain(|registration| seen.insert(registration.module.clone()));
        let mut seen = BTreeSet::new();
        self.plan.adopt.retain(|(id, target, _)| seen.insert(Placement::of(id, target)));
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
        let (sorted, circles) = self.in_order();
        for (task, members) in circles {
            let names: Vec<_> = members.iter().map(ToString::to_string).collect();
            let outcome = if members.contains(&task.module) {
                Outcome::Deferred {
                    why: format!("circular dependency in BUILD_DEPENDS: {}", names.join(", ")),
                    advice: "report this to the package maintainers".into(),
                    waits: Waits::Dependency,
                }
            } else {
                needs(&names.join(", "))
            };
            // A build that waits for another one has unknown inputs.
            self.plan.adopt.retain(|(id, target, _)| (id, target) != (&task.module, &task.target));
            self.plan.settled.push(Skip { module: task.module, target: Some(task.target), outcome });
        }
        // What is done needs no other outcome.
        let made = |settled: &Skip| {
            sorted
                .iter()
                .any(|task| task.module == settled.module && Some(&task.target) == settled.target.as_ref())
        };
        self.plan.settled.retain(|settled| !made(settled));
        self.plan.adopt.retain(|(id, target, _)| {
            !sorted.iter().any(|task| task.module == *id && task.target == *target)
        });
        self.plan.tasks = sorted;
        self.plan
    }

    /// The tasks, dependencies first, and those that are in a circle. What is forced does not wait for its circle.
    fn in_order(&mut self) -> (Vec<Task>, Vec<(Task, Vec<ModuleId>)>) {
        let mut tasks = std::mem::take(&mut self.plan.tasks);
        loop {
            let (sorted, circles) = order::sort(tasks.clone());
            let forced = |task: &Task| {
                task.force
                    && circles.iter().any(|(other, members)| {
                        other.target == task.target
                            && other.module == task.module
                            && members.contains(&task.module)
                    })
            };
            let Some(task) = tasks.iter_mut().find(|task| forced(task)) else { return (sorted, circles) };
            task.after.clear();
        }
    }

    /// Only one version of a module can be installed for a kernel: the newest in the plan.
    pub(super) fn one_version_each(&mut self) {
        let newer = |a: &Task, b: &Task| {
            a.module.name == b.module.name
                && a.target == b.target
                && b.install
                && crate::types::version::compare(b.module.version.as_str(), a.module.version.as_str())
                    .is_gt()
        };
        let all = self.plan.tasks.clone();
        self.plan.tasks.retain(|task| !task.install || !all.iter().any(|other| newer(task, other)));
    }

    /// Defers a build whose dependency is neither installed nor planned, and everything that depends on it.
    pub(super) fn drop_unsatisfied(&mut self) {
        loop {
            let planned: BTreeSet<_> =
                self.plan.tasks.iter().map(|task| Placement::of(&task.module, &task.target)).collect();
            // What follows modules that are not reinstalled after all stays as it is.
            let leaderless = |task: &Task| {
                let leaders = self.led.get(&Placement::of(&task.module, &task.target));
                leaders.is_some_and(|ids| {
                    !ids.iter().any(|id| planned.contains(&Placement::of(id, &task.target)))
                })
            };
            if let Some(position) = self.plan.tasks.iter().position(leaderless) {
                self.plan.tasks.remove(position);
                continue;
            }
            let unmet = |task: &Task| {
                task.after
                    .iter()
                    .find(|id| {
                        let failed = self.plan.settled.iter().any(|settled| {
                            settled.module == **id
                                && settled.target.as_ref() == Some(&task.target)
                                && settled.outcome.failed()
                        });
                        let active = self.snapshot.build(id, &task.target).is_some_and(|build| build.active);
                        let installed = active && !failed;
                        !installed && !planned.contains(&Placement::of(id, &task.target))
                    })
                    .cloned()
            };
            let position =
                self.plan.tasks.iter().position(|task| task.build && !task.force && unmet(task).is_some());
            let Some(position) = position else { return };
            let unmet = unmet(&self.plan.tasks[position]);
            let task = self.plan.tasks.remove(position);
            let needed = unmet.map(|id| id.to_string()).unwrap_or_default();
            self.settle(&task.module, Some(&task.target), needs(&needed));
        }
    }
}
