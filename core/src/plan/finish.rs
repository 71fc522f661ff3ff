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
                    .clear
                    .iter()
                    .any(|clear| clear.unbuild && clear.module == *id && clear.target == *target)
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
        self.plan.make.retain(|make| seen.insert(Placement::of(&make.module, &make.target)));
        let mut seen = BTreeSet::new();
        self.plan.clear.retain(|clear| seen.insert(Placement::of(&clear.module, &clear.target)));
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
        let (sorted, circles) = order::sort(std::mem::take(&mut self.plan.make));
        for (make, members) in circles {
            let names: Vec<_> = members.iter().map(ToString::to_string).collect();
            let outcome = if members.contains(&make.module) {
                Outcome::Deferred {
                    why: format!("circular dependency in BUILD_DEPENDS: {}", names.join(", ")),
                    advice: "report this to the package maintainers".into(),
                    waits: Waits::Dependency,
                }
            } else {
                needs(&names.join(", "))
            };
            // A build that waits for another one has unknown inputs.
            self.plan.adopt.retain(|(id, target, _)| (id, target) != (&make.module, &make.target));
            self.plan.settled.push(Skip { module: make.module, target: Some(make.target), outcome });
        }
        // What is done needs no other outcome.
        let made = |settled: &Skip| {
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

    /// Only one version of a module can be installed for a kernel: the newest in the plan.
    pub(super) fn one_version_each(&mut self) {
        let newer = |a: &Task, b: &Task| {
            a.module.name == b.module.name
                && a.target == b.target
                && b.install
                && crate::types::version::compare(b.module.version.as_str(), a.module.version.as_str())
                    .is_gt()
        };
        let all = self.plan.make.clone();
        self.plan.make.retain(|make| !make.install || !all.iter().any(|other| newer(make, other)));
    }

    /// Defers a build whose dependency is neither installed nor planned, and everything that depends on it.
    pub(super) fn drop_unsatisfied(&mut self) {
        loop {
            let planned: BTreeSet<_> =
                self.plan.make.iter().map(|make| Placement::of(&make.module, &make.target)).collect();
            let unmet = |make: &Task| {
                make.after
                    .iter()
                    .find(|id| {
                        let failed = self.plan.settled.iter().any(|settled| {
                            settled.module == **id
                                && settled.target.as_ref() == Some(&make.target)
                                && settled.outcome.failed()
                        });
                        let active = self.snapshot.build(id, &make.target).is_some_and(|build| build.active);
                        let installed = active && !failed;
                        !installed && !planned.contains(&Placement::of(id, &make.target))
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
