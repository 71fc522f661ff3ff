//! Properties of every world.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::notation::show;
use super::world::{Built, Conf, Kern, Link, Module, World, target, today};
use crate::event::{Event, Request, Verb};
use crate::plan::scope::versions;
use crate::types::{ModuleId, Target};

const KERNELS: [&str; 2] = ["k1", "k2"];

fn ids() -> Vec<ModuleId> {
    ["a/1", "a/2", "b/1", "b/2", "c/1", "d/1"].iter().map(|id| id.parse().unwrap()).collect()
}

fn kern() -> impl Strategy<Value = Kern> {
    (prop::bool::weighted(0.8), prop::bool::weighted(0.9), any::<bool>())
        .prop_map(|(headers, tools, initramfs)| Kern { headers, tools, exists: true, initramfs })
}

fn link() -> impl Strategy<Value = (Link, bool, bool)> {
    // The link, a directory in the DKMS tree, a source.
    prop_oneof![
        8 => Just((Link::Good, true, true)),
        1 => Just((Link::Dangling, true, false)),
        1 => Just((Link::None, true, true)),
        1 => Just((Link::None, true, false)),
        1 => Just((Link::None, false, true)),
    ]
}

/// A build as (current inputs, by shell DKMS, installed, its file exists, in modules.dep).
type Bits = (bool, bool, bool, bool, bool);

fn build() -> impl Strategy<Value = Option<Bits>> {
    let bits = (
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.8),
    );
    prop::option::of(bits)
}

fn module() -> impl Strategy<Value = Module> {
    let flags =
        (prop::bool::weighted(0.8), prop::bool::weighted(0.1), prop::bool::weighted(0.8), any::<bool>());
    let conf = prop_oneof![9 => Just(Conf::Good), 1 => Just(Conf::Bad)];
    (link(), conf, flags, prop::collection::btree_set(0..4usize, 0..2)).prop_map(
        |((link, dir, source), conf, (automatic, excluded, compiles, follows), needs)| Module {
            link,
            dir,
            kept: false,
            source,
            conf,
            automatic,
            excluded,
            compiles,
            needs: needs.into_iter().map(|name| ["a", "b", "c", "d"][name].parse().unwrap()).collect(),
            follows,
            builds: BTreeMap::new(),
            failed: BTreeMap::new(),
        },
    )
}

/// A module with, for each kernel, a build, and whether a failure with the current inputs is recorded.
type Parts = Option<(Module, [Option<Bits>; 2], [bool; 2])>;

fn parts() -> impl Strategy<Value = Parts> {
    let failed = [prop::bool::weighted(0.2), prop::bool::weighted(0.2)];
    prop::option::weighted(0.7, (module(), [build(), build()], failed))
}

fn world() -> impl Strategy<Value = World> {
    (prop::collection::vec(parts(), ids().len()), [kern(), kern()]).prop_map(|(modules, kernels)| {
        let kernels = KERNELS.iter().map(|kernel| target(kernel)).zip(kernels).collect();
        let mut world = World { kernels, ..World::default() };
        let mut taken = BTreeSet::new();
        for (id, parts) in ids().into_iter().zip(modules) {
            let Some((mut module, builds, failed)) = parts else { continue };
            let registered = module.dir && (module.link != Link::None || !module.source);
            for (kernel, (bits, failed)) in KERNELS.iter().zip(builds.into_iter().zip(failed)) {
                let target = target(kernel);
                if let Some(bits) = bits.filter(|_| registered) {
                    // At most one version of a module is installed for a kernel.
                    let active = bits.2 && taken.insert((id.name.clone(), target.clone()));
                    // A stand-in is installed; everything else was deleted.
                    if active || module.link != Link::None {
                        module.builds.insert(
                            target.clone(),
                            built(&id, &target, (bits.0, bits.1, active, bits.3, bits.4)),
                        );
                    }
                }
                // No failure is recorded for a module that compiles with the current inputs.
                if failed && registered && module.link != Link::None && !module.compiles {
                    module.failed.insert(target.clone(), today(&id, &target));
                }
            }
            world.modules.insert(id, module);
        }
        world
    })
}

fn built(id: &ModuleId, target: &Target, (fresh, shell, active, there, indexed): Bits) -> Built {
    let inputs = if fresh { today(id, target) } else { "old".to_owned() };
    Built {
        record: (!shell).then(|| inputs.clone()),
        // Whether the files of shell DKMS's builds exist is not recorded: see the `stories` about modules.dep.
        published: (active && (there || shell)).then(|| inputs.clone()),
        active,
        indexed: active && (indexed || shell),
        rotten: false,
        inputs,
    }
}

fn kernel() -> impl Strategy<Value = Target> {
    prop::sample::select(KERNELS.map(target).to_vec())
}

/// Events of package managers, or of the service at boot, about kernels. Not both at once: they treat builds by shell
/// DKMS differently.
fn arrivals() -> impl Strategy<Value = Vec<Event>> {
    let hooks = prop_oneof![kernel().prop_map(Event::KernelAdded), kernel().prop_map(Event::HeadersAdded)];
    prop_oneof![
        3 => prop::collection::vec(hooks, 1..4),
        1 => prop::collection::vec(kernel().prop_map(Event::Autoinstall), 1..3),
    ]
}

/// Any events, several at once, consistent or not.
fn anything() -> impl Strategy<Value = Vec<Event>> {
    let id = || prop::sample::select(ids());
    let targets = || prop::sample::subsequence(KERNELS.map(target).to_vec(), 0..=2);
    let verb = prop::sample::select(vec![
        Verb::Add,
        Verb::Build,
        Verb::Install,
        Verb::Uninstall,
        Verb::Unbuild,
        Verb::Remove,
    ]);
    let one = prop_oneof![
        kernel().prop_map(Event::KernelAdded),
        kernel().prop_map(Event::HeadersAdded),
        kernel().prop_map(Event::Autoinstall),
        kernel().prop_map(Event::KernelRemoved),
        (id(), targets()).prop_map(|(module, targets)| Event::SourceAdded { module, targets }),
        id().prop_map(Event::SourceReplaced),
        id().prop_map(Event::SourceGone),
        (verb, id(), targets(), any::<bool>()).prop_map(|(verb, module, targets, force)| Event::Requested(
            Request { verb, module, targets, force }
        )),
    ];
    prop::collection::vec(one, 1..4)
}

/// The installed modules: name and kernel.
fn installed(world: &World) -> BTreeSet<(String, Target)> {
    let all = world.modules.iter().flat_map(|(id, module)| {
        module.builds.iter().map(move |(target, build)| (id.name.to_string(), target.clone(), build.active))
    });
    all.filter(|(_, _, active)| *active).map(|(name, target, _)| (name, target)).collect()
}

fn remove(id: &ModuleId) -> Vec<Event> {
    vec![Event::Requested(Request {
        verb: Verb::Remove,
        module: id.clone(),
        targets: Vec::new(),
        force: false,
    })]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_question_gets_the_same_answer(world in world(), events in anything()) {
        prop_assert_eq!(world.plan(&events), world.plan(&events));
    }

    #[test]
    fn nothing_is_made_or_cleared_twice(world in world(), events in anything()) {
        let plan = world.plan(&events);
        let mut made = BTreeSet::new();
        prop_assert!(plan.tasks.iter().all(|task| made.insert((&task.module, &task.target))), "{}", show(&plan));
        let mut cleared = BTreeSet::new();
        let once = plan.removals.iter().all(|removal| cleared.insert((&removal.module, &removal.target)));
        prop_assert!(once, "{}", show(&plan));
        let twice: Vec<Event> = events.iter().chain(&events).cloned().collect();
        let again = world.plan(&twice);
        prop_assert_eq!(again.tasks, plan.tasks);
        prop_assert_eq!(again.removals, plan.removals);
        prop_assert_eq!(again.settled, plan.settled);
    }

    #[test]
    fn dependencies_are_made_earlier(world in world(), events in anything()) {
        let plan = world.plan(&events);
        let mut made = BTreeSet::new();
        let planned: BTreeSet<_> = plan.tasks.iter().map(|task| (&task.module, &task.target)).collect();
        for task in &plan.tasks {
            for other in task.after.iter().filter(|other| planned.contains(&(*other, &task.target))) {
                prop_assert!(made.contains(&(other, &task.target)), "{}", show(&plan));
            }
            made.insert((&task.module, &task.target));
        }
    }

    #[test]
    fn only_what_can_be_built_and_must_be_is_built(world in world(), events in arrivals()) {
        let snapshot = world.snapshot();
        for task in world.plan(&events).tasks.iter().filter(|task| task.build) {
            let kernel = &world.kernels[&task.target];
            let module = &world.modules[&task.module];
            let wanted = module.automatic || module.follows;
            prop_assert!(kernel.headers && kernel.tools && wanted && !module.excluded);
            prop_assert!(module.conf == Conf::Good && snapshot.registered(&task.module));
            let inputs = today(&task.module, &task.target);
            let finished = module.builds.get(&task.target).and_then(|build| build.record.as_ref());
            prop_assert_ne!(finished, Some(&inputs), "a finished build is made again");
            prop_assert_ne!(module.failed.get(&task.target), Some(&inputs), "a known failure is tried again");
        }
    }

    #[test]
    fn nobody_is_forgotten_in_silence(world in world(), kernel in kernel()) {
        let snapshot = world.snapshot();
        let plan = world.plan(&[Event::KernelAdded(kernel)]);
        for (_, ids) in versions(&snapshot) {
            let over = |id: &&ModuleId| {
                let module = &world.modules[*id];
                module.conf == Conf::Good && module.automatic && module.excluded
            };
            // The newest version that is meant for the kernel, else the newest one.
            let id = ids.iter().find(|id| !over(id)).unwrap_or(&ids[0]);
            let module = &world.modules[id];
            let made = plan.tasks.iter().filter(|task| task.module == *id).count();
            let settled = plan.settled.iter().filter(|settled| settled.module == *id).count();
            let expected = usize::from(module.conf != Conf::Good || module.automatic);
            // A module that follows another one may be installed with it.
            let most = expected.max(usize::from(module.follows));
            prop_assert!((expected..=most).contains(&(made + settled)), "{}: {}", id, show(&plan));
        }
        for (id, _) in snapshot.modules.iter().filter(|(_, entry)| entry.broken()) {
            prop_assert!(plan.settled.iter().any(|settled| settled.module == *id), "{}: {}", id, show(&plan));
        }
    }

    #[test]
    fn what_is_installed_stays_installed_in_some_version(world in world(), events in arrivals()) {
        let mut after = world.clone();
        let plan = world.plan(&events);
        after.apply(&plan);
        prop_assert!(plan.removals.is_empty() && plan.unregister.is_empty());
        prop_assert!(installed(&after).is_superset(&installed(&world)), "{}", show(&plan));
    }

    #[test]
    fn an_upgrade_takes_nothing_away(world in world(), id in prop::sample::select(ids())) {
        let mut after = world.clone();
        after.apply(&world.plan(&[Event::SourceReplaced(id)]));
        prop_assert_eq!(installed(&after), installed(&world));
    }

    #[test]
    fn the_second_plan_is_empty(world in world(), events in arrivals()) {
        let mut world = where_dependencies_compile(world);
        let first = world.plan(&events);
        world.apply(&first);
        let second = world.plan(&events);
        prop_assert!(second.is_empty(), "first: {}\nsecond: {}", show(&first), show(&second));
    }

    #[test]
    fn the_second_plan_for_a_source_is_empty(world in world(), id in prop::sample::select(ids())) {
        let mut world = where_dependencies_compile(world);
        let events = [Event::SourceAdded { module: id, targets: KERNELS.map(target).to_vec() }];
        let first = world.plan(&events);
        world.apply(&first);
        let second = world.plan(&events);
        prop_assert!(second.is_empty(), "first: {}\nsecond: {}", show(&first), show(&second));
    }

    #[test]
    fn a_kernel_that_leaves_takes_all_of_its_own_and_nothing_else(world in world(), kernel in kernel()) {
        let mut after = world.clone();
        let events = [Event::KernelRemoved(kernel.clone())];
        after.apply(&world.plan(&events));
        prop_assert!(world.plan(&events).tasks.is_empty());
        for (id, module) in &after.modules {
            prop_assert!(!module.builds.contains_key(&kernel));
            let failed = module.failed.contains_key(&kernel);
            prop_assert!(!failed || !after.snapshot().modules.contains_key(id), "a failure of {} stays", id);
            let others = |world: &World| -> Vec<_> {
                let builds = world.modules[id].builds.iter();
                builds.filter(|(target, _)| **target != kernel).map(|(target, build)| (target.clone(), build.clone())).collect()
            };
            prop_assert_eq!(others(&after), others(&world));
        }
        let second = after.plan(&events);
        prop_assert_eq!(&second.gone, &BTreeSet::from([kernel]));
        prop_assert_eq!(show(&second), "");
    }

    #[test]
    fn nothing_remains_of_what_is_removed(world in world()) {
        let mut world = world;
        for id in ids() {
            if world.snapshot().modules.get(&id).is_some_and(|entry| !entry.broken()) {
                world.apply(&world.plan(&remove(&id)));
                prop_assert!(!world.snapshot().modules.contains_key(&id));
                prop_assert!(world.plan(&remove(&id)).is_empty());
            }
        }
        let snapshot = world.snapshot();
        prop_assert!(snapshot.modules.values().all(|entry| entry.broken()), "{:?}", snapshot.modules);
    }
}

/// Makes every module compile that others need. Whether those wait for a module that fails and is installed in an older
/// build is tested by `stories::the_first_and_the_second_run_agree_on_what_waits_for_a_failed_dependency`.
fn where_dependencies_compile(mut world: World) -> World {
    let needed: BTreeSet<_> = world.modules.values().flat_map(|module| module.needs.clone()).collect();
    for (_, module) in world.modules.iter_mut().filter(|(id, _)| needed.contains(&id.name)) {
        module.compiles = true;
        module.failed.clear();
    }
    world
}
