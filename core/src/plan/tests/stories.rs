//! What is decided, story by story. Each row: a world, what happens, the plan.

use super::notation::{events, show};
use super::world::World;

/// World, events, plan.
type Row<'a> = (&'a str, &'a str, &'a str);

/// Checks all rows and shows every one that is not as expected.
fn check(rows: &[Row<'_>]) {
    let mut wrong = String::new();
    for (world, happens, expected) in rows {
        let plan = show(&World::new(world).plan(&events(happens)));
        if plan != *expected {
            wrong += &format!(
                "\n  world    {world}\n  events   {happens}\n  expected {expected}\n  planned  {plan}\n"
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Checks one event after the other, each in the world that the plan before leaves.
fn story(world: &str, steps: &[(&str, &str)]) {
    let mut world = World::new(world);
    for (happens, expected) in steps {
        let plan = world.plan(&events(happens));
        assert_eq!(show(&plan), *expected, "{happens}");
        world.apply(&plan);
    }
}

#[test]
fn a_kernel_arrives() {
    check(&[
        ("", "kernel+ k1", ""),
        ("a/1", "kernel+ k1", "make a/1@k1"),
        ("a/1; b/2; c/3", "kernel+ k1", "make a/1@k1; make b/2@k1; make c/3@k1"),
        ("a/1@k1 installed", "kernel+ k2", "make a/1@k2"),
        ("a/1 manual; b/1", "kernel+ k1", "make b/1@k1"),
        ("a/1 unregistered; b/1", "kernel+ k1", "make b/1@k1"),
        ("a/1", "headers+ k1", "make a/1@k1"),
        ("a/1", "autoinstall k1", "make a/1@k1"),
        // A module that was taken out by hand comes back with the next event, as with shell DKMS.
        ("a/1@k1 built", "kernel+ k1", "install a/1@k1"),
    ]);
}

#[test]
fn the_newest_version_wins() {
    check(&[
        ("a/1; a/2", "kernel+ k1", "make a/2@k1"),
        ("a/9; a/10", "kernel+ k1", "make a/10@k1"),
        ("a/2 gone; a/1", "kernel+ k1", "make a/1@k1"),
        ("a/2 unregistered; a/1", "kernel+ k1", "make a/1@k1"),
        ("a/1@k1 installed; a/2", "kernel+ k1", "make a/2@k1 over a/1"),
        ("a/1@k1 installed; a/2@k1 built", "kernel+ k1", "install a/2@k1 over a/1"),
        ("a/1@k1 built; a/2@k1 installed", "kernel+ k1", "a/2@k1 is up to date"),
        // Whether the newest one is built by itself is its own affair, not the older one's.
        ("a/1; a/2 manual", "kernel+ k1", ""),
        ("a/1; a/2 excluded", "kernel+ k1", "a/2@k1 is excluded"),
    ]);
}

#[test]
fn the_same_inputs_are_not_built_twice() {
    check(&[
        ("a/1@k1 installed", "kernel+ k1", "a/1@k1 is up to date"),
        ("a/1@k1 installed", "headers+ k1", "a/1@k1 is up to date"),
        ("a/1@k1 installed", "autoinstall k1", "a/1@k1 is up to date"),
        ("a/1@k1 installed", "source+ a/1 k1", "a/1@k1 is up to date"),
        ("a/1@k1 installed", "install a/1 k1", "a/1@k1 is up to date"),
        ("a/1@k1 installed", "build a/1 k1", "a/1@k1 is up to date"),
        ("a/1@k1 built", "build a/1 k1", "a/1@k1 is up to date"),
        ("a/1@k1 built", "autoinstall k1", "install a/1@k1"),
        ("a/1@k1 built", "install a/1 k1", "install a/1@k1"),
        ("a/1@k1 built", "source+ a/1 k1", "install a/1@k1"),
    ]);
}

#[test]
fn other_inputs_are_built_again() {
    check(&[
        ("a/1@k1 installed old", "kernel+ k1", "make a/1@k1"),
        ("a/1@k1 installed old", "headers+ k1", "make a/1@k1"),
        ("a/1@k1 installed old", "autoinstall k1", "make a/1@k1"),
        ("a/1@k1 installed old", "source+ a/1 k1", "make a/1@k1"),
        ("a/1@k1 installed old", "install a/1 k1", "make a/1@k1"),
        ("a/1@k1 installed old", "build a/1 k1", "build a/1@k1"),
        ("a/1@k1 built old", "kernel+ k1", "make a/1@k1"),
        ("a/1@k1 built old", "build a/1 k1", "build a/1@k1"),
        // Only the modules whose inputs changed, and only for the kernel that changed.
        ("a/1@k1 installed old; b/1@k1 installed", "kernel+ k1", "make a/1@k1; b/1@k1 is up to date"),
        ("a/1@k1 installed old; a/1@k2 installed", "kernel+ k2", "a/1@k2 is up to date"),
    ]);
}

#[test]
fn a_remembered_failure_is_tried_again_when_its_inputs_change_or_a_person_asks() {
    check(&[
        ("a/1@k1 failed", "kernel+ k1", "a/1@k1 is known to fail 10"),
        ("a/1@k1 failed", "headers+ k1", "a/1@k1 is known to fail 10"),
        ("a/1@k1 failed", "autoinstall k1", "a/1@k1 is known to fail 10"),
        ("a/1@k1 failed", "source+ a/1 k1", "a/1@k1 is known to fail 10"),
        ("a/1@k1 failed old", "kernel+ k1", "make a/1@k1"),
        ("a/1@k1 failed old", "source+ a/1 k1", "make a/1@k1"),
        ("a/1@k1 failed", "kernel+ k2", "make a/1@k2"),
        ("a/1@k1 failed", "install a/1 k1", "make a/1@k1"),
        ("a/1@k1 failed", "build a/1 k1", "build a/1@k1"),
        // A failure belongs to one version.
        ("a/1@k1 failed; a/2", "kernel+ k1", "make a/2@k1"),
        // A finished build of the same inputs counts for more than a failure.
        ("a/1@k1 built; a/1@k1 failed", "kernel+ k1", "install a/1@k1"),
        ("a/1@k1 installed old; a/1@k1 failed", "kernel+ k1", "a/1@k1 is known to fail 10"),
        // Whoever needs it waits, and does not try either.
        ("a/1@k1 failed; b/1 needs a", "kernel+ k1", "a/1@k1 is known to fail 10; b/1@k1 is deferred 13"),
        ("a/1@k1 failed; b/1", "kernel+ k1", "make b/1@k1; a/1@k1 is known to fail 10"),
    ]);
}

#[test]
fn a_remembered_failure_names_what_still_works() {
    let world = World::new("a/1@k0 installed; a/1@k1 failed; a/1@k2 installed old");
    let plan = world.plan(&events("kernel+ k1"));
    let crate::report::Outcome::Failed(failing) = &plan.settled[0].outcome else { panic!("{plan:?}") };
    assert_eq!(failing.remaining, "k2, k0 still have the module");
    assert_eq!(
        (failing.why.as_str(), failing.errors.as_slice()),
        ("make failed", ["a.c:1: error".to_owned()].as_slice())
    );
    let world = World::new("a/1@k1 installed old; a/2@k1 failed");
    let plan = world.plan(&events("kernel+ k1"));
    let crate::report::Outcome::Failed(failing) = &plan.settled[0].outcome else { panic!("{plan:?}") };
    assert_eq!(failing.remaining, "a/1 stays installed for this kernel");
}

#[test]
fn a_kernel_that_is_not_meant_is_left_alone() {
    check(&[
        ("a/1 excluded", "kernel+ k1", "a/1@k1 is excluded"),
        ("a/1 excluded", "source+ a/1 k1", "a/1@k1 is excluded"),
        ("a/1 excluded", "install a/1 k1", "a/1@k1 is excluded"),
        ("a/1 excluded", "build a/1 k1", "a/1@k1 is excluded"),
        ("a/1 excluded; k1 bare", "kernel+ k1", "a/1@k1 is excluded"),
        ("a/1 excluded manual", "kernel+ k1", ""),
        ("a/1 excluded; b/1 needs a", "kernel+ k1", "a/1@k1 is excluded; b/1@k1 is deferred 13"),
    ]);
}

#[test]
fn without_headers_everything_waits_and_what_is_finished_serves() {
    check(&[
        ("a/1; k1 bare", "kernel+ k1", "a/1@k1 is deferred 21"),
        ("a/1; b/1; k1 bare", "kernel+ k1", "a/1@k1 is deferred 21; b/1@k1 is deferred 21"),
        ("a/1; k1 bare", "source+ a/1 k1 k2", "make a/1@k2; a/1@k1 is deferred 21"),
        ("a/1; k1 bare", "install a/1 k1", "a/1@k1 is deferred 21"),
        ("a/1@k1 installed; k1 bare", "kernel+ k1", "a/1@k1 is up to date"),
        ("a/1@k1 built; k1 bare", "kernel+ k1", "install a/1@k1"),
        ("a/1@k1 built shell; k1 bare", "autoinstall k1", "install a/1@k1"),
        ("a/1@k1 installed; a/2; k1 bare", "kernel+ k1", "a/2@k1 is deferred 21"),
        ("a/1; k1 toolless", "kernel+ k1", "a/1@k1 is deferred 10"),
        ("a/1@k1 installed; k1 toolless", "kernel+ k1", "a/1@k1 is up to date"),
        ("a/1; k1 absent", "kernel+ k1", "a/1@k1 is refused 6"),
        ("a/1; k1 absent", "install a/1 k1", "a/1@k1 is refused 6"),
        ("a/1; k1 absent", "build a/1 k1", "build a/1@k1"),
    ]);
}

#[test]
fn a_deferral_names_the_package_to_install() {
    let world = World::new("a/1; k1 bare; k2 toolless");
    for (kernel, wanted) in [("k1", "install linux-headers-k1:"), ("k2", "install gcc,")] {
        let plan = world.plan(&events(&format!("kernel+ {kernel}")));
        let crate::report::Outcome::Deferred { advice, .. } = &plan.settled[0].outcome else {
            panic!("{plan:?}")
        };
        assert!(advice.contains(wanted), "{advice}");
    }
}

#[test]
fn dependencies_come_first() {
    check(&[
        ("a/1 needs b; b/1", "kernel+ k1", "make b/1@k1; make a/1@k1 after b/1"),
        (
            "a/1 needs b; b/1 needs c; c/1",
            "kernel+ k1",
            "make c/1@k1; make b/1@k1 after c/1; make a/1@k1 after b/1",
        ),
        ("a/1 needs b,c; b/1; c/1", "kernel+ k1", "make b/1@k1; make c/1@k1; make a/1@k1 after b/1,c/1"),
        ("a/1 needs b; b/1; b/2", "kernel+ k1", "make b/2@k1; make a/1@k1 after b/2"),
        // What is there already need not be made.
        ("a/1 needs b; b/1@k1 installed", "kernel+ k1", "make a/1@k1 after b/1; b/1@k1 is up to date"),
        ("a/1 needs b; b/1@k1 built", "kernel+ k1", "install b/1@k1; make a/1@k1 after b/1"),
        ("a/1 needs b; b/1@k1 installed", "install a/1 k1", "make a/1@k1 after b/1"),
        ("a/1 needs b; b/1@k1 installed", "source+ a/1 k1", "make a/1@k1 after b/1"),
        ("a/1 needs b; b/1 manual; b/1@k1 installed", "kernel+ k1", "make a/1@k1 after b/1"),
        // An older version that is installed satisfies when the newest one cannot be had.
        (
            "a/1 needs b; b/1@k1 installed; b/2@k1 failed",
            "kernel+ k1",
            "make a/1@k1 after b/2; b/2@k1 is known to fail 10",
        ),
    ]);
}

#[test]
fn a_missing_dependency_is_named_and_waits() {
    check(&[
        ("a/1 needs b", "kernel+ k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b", "install a/1 k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1", "install a/1 k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1 unregistered", "kernel+ k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1 manual", "kernel+ k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1 bad", "kernel+ k1", "b/1@k1 is refused 8; a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1@k2 installed", "source+ a/1 k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1 needs c", "kernel+ k1", "b/1@k1 is deferred 13; a/1@k1 is deferred 13"),
        ("a/1 needs b", "install! a/1 k1", "make a/1@k1 by force"),
        ("a/1 needs b", "build! a/1 k1", "build a/1@k1 by force"),
        // What is finished needs nobody.
        ("a/1 needs b; a/1@k1 installed", "kernel+ k1", "a/1@k1 is up to date"),
        ("a/1 needs b; a/1@k1 built", "kernel+ k1", "install a/1@k1"),
    ]);
    let plan = World::new("a/1 needs b,c; c/1").plan(&events("kernel+ k1"));
    let crate::report::Outcome::Deferred { why, .. } = &plan.settled[0].outcome else { panic!("{plan:?}") };
    assert_eq!(why, "it needs b (BUILD_DEPENDS), which is not installed for this kernel");
}

#[test]
fn a_dependency_that_fails_takes_only_its_dependents_with_it() {
    let mut world = World::new("a/1 needs b; b/1 fails; c/1");
    let plan = world.plan(&events("kernel+ k1"));
    assert_eq!(show(&plan), "make b/1@k1; make c/1@k1; make a/1@k1 after b/1");
    world.apply(&plan);
    let compiled: Vec<String> = world.compiled.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(compiled, ["b/1", "c/1"]);
    let plan = world.plan(&events("headers+ k1"));
    assert_eq!(show(&plan), "b/1@k1 is known to fail 10; c/1@k1 is up to date; a/1@k1 is deferred 13");
}

#[test]
fn circles_are_named_and_stop_nobody_else() {
    check(&[
        ("a/1 needs a", "kernel+ k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1 needs a", "kernel+ k1", "a/1@k1 is deferred 13; b/1@k1 is deferred 13"),
        (
            "a/1 needs b; b/1 needs a; c/1",
            "kernel+ k1",
            "make c/1@k1; a/1@k1 is deferred 13; b/1@k1 is deferred 13",
        ),
    ]);
    assert_eq!(circle("a/1 needs b; b/1 needs a; c/1", "kernel+ k1"), ["a/1, b/1", "a/1, b/1"]);
}

/// The members of the circles that a plan names.
fn circle(world: &str, happens: &str) -> Vec<String> {
    let plan = World::new(world).plan(&events(happens));
    plan.settled
        .iter()
        .filter_map(|settled| match &settled.outcome {
            crate::report::Outcome::Deferred { why, .. } => {
                Some(why.split_once("circles: ").unwrap_or_else(|| panic!("{why}")).1.to_owned())
            }
            _ => None,
        })
        .collect()
}

#[test]
fn only_a_circles_members_are_named() {
    // c depends on the circle, and is not in it: it must be told what it needs instead.
    let plan = World::new("a/1 needs b; b/1 needs a; c/1 needs a").plan(&events("kernel+ k1"));
    let text = serde_json::to_string(&plan.settled).unwrap();
    assert!(!text.contains("c/1, ") && !text.contains(", c/1"), "{text}");
}

#[test]
fn a_circle_is_named_once_for_each_kernel() {
    let world = "a/1 needs b; b/1 needs a";
    assert_eq!(circle(world, "kernel+ k1; kernel+ k2"), ["a/1, b/1"; 4]);
}

#[test]
fn broken_registrations_are_named_and_stop_nobody_else() {
    check(&[
        ("a/1 dangling; b/1", "kernel+ k1", "make b/1@k1; a/1@k1 is refused 4"),
        ("a/1 unlinked; b/1", "kernel+ k1", "make b/1@k1; a/1@k1 is refused 4"),
        ("a/1 dangling; a/2", "kernel+ k1", "make a/2@k1; a/1@k1 is refused 4"),
        ("a/1 dangling; b/1", "source+ b/1 k1", "make b/1@k1"),
        ("a/1 dangling", "install a/1 k1", "a/1 is refused 4"),
        ("a/1 dangling", "build a/1 k1", "a/1 is refused 4"),
        ("a/1 dangling", "add a/1", "a/1 is refused 4"),
        ("a/1 dangling", "remove a/1", "unregister a/1"),
        ("a/1 unlinked", "add a/1", "register a/1"),
        ("a/1 unlinked", "install a/1 k1", "a/1 is refused 4"),
        ("a/1 bad; b/1", "kernel+ k1", "make b/1@k1; a/1@k1 is refused 8"),
        ("a/1 unreadable; b/1", "kernel+ k1", "make b/1@k1; a/1@k1 is refused 4"),
        ("a/1 bad", "install a/1 k1", "a/1@k1 is refused 8"),
        // A kernel leaves all the same.
        ("a/1 dangling; a/1@k1 installed", "kernel- k1", "clear a/1@k1 leaving"),
    ]);
}

#[test]
fn a_source_arrives() {
    check(&[
        ("a/1 unregistered", "source+ a/1 k1", "register a/1; make a/1@k1"),
        ("a/1 unregistered", "source+ a/1 k1 k2", "register a/1; make a/1@k1; make a/1@k2"),
        ("a/1 unregistered", "source+ a/1", "register a/1"),
        ("a/1", "source+ a/1 k1", "make a/1@k1"),
        ("a/1 dangling", "source+ a/1 k1", "a/1 is refused 2"),
        ("a/1 unlinked", "source+ a/1 k1", "register a/1; make a/1@k1"),
        ("", "source+ a/1 k1", "a/1 is refused 2"),
        ("a/1 unregistered bad", "source+ a/1 k1", "a/1 is refused 8"),
        ("a/1 unregistered unreadable", "source+ a/1 k1", "a/1 is refused 4"),
        ("a/1 unregistered manual", "source+ a/1 k1", "register a/1"),
        ("a/1 unregistered excluded", "source+ a/1 k1", "register a/1; a/1@k1 is excluded"),
        ("a/1 unregistered; k1 bare", "source+ a/1 k1", "register a/1; a/1@k1 is deferred 21"),
        ("a/1@k1 installed; a/2 unregistered", "source+ a/2 k1", "register a/2; make a/2@k1 over a/1"),
        // Other modules are none of its business.
        ("a/1 unregistered; b/1", "source+ a/1 k1", "register a/1; make a/1@k1"),
    ]);
}

#[test]
fn a_person_asks() {
    check(&[
        ("a/1 unregistered", "add a/1", "register a/1"),
        ("a/1 unregistered", "add a/1 k1", "register a/1"),
        ("a/1 unregistered bad", "add a/1 k1", "a/1 is refused 8"),
        ("a/1", "add a/1", "a/1 is refused 3"),
        ("", "add a/1", "a/1 is refused 2"),
        ("a/1 unregistered", "build a/1 k1", "register a/1; build a/1@k1"),
        ("a/1 unregistered", "install a/1 k1", "register a/1; make a/1@k1"),
        ("", "install a/1 k1", "a/1 is refused 2"),
        ("a/1 manual", "install a/1 k1", "make a/1@k1"),
        ("a/1", "install a/1 k1 k2", "make a/1@k1; make a/1@k2"),
        ("a/1; a/2@k1 installed", "install a/1 k1", "make a/1@k1 over a/2"),
        ("a/1@k1 built; a/2@k1 installed", "install a/1 k1", "install a/1@k1 over a/2"),
        ("", "uninstall a/1 k1", "a/1 is refused 3"),
        ("", "unbuild a/1 k1", "a/1 is refused 3"),
        ("", "remove a/1", "a/1 is refused 3"),
        ("a/1 unregistered", "remove a/1", "a/1 is refused 3"),
    ]);
}

#[test]
fn force_does_again_what_is_done() {
    check(&[
        ("a/1@k1 installed", "install! a/1 k1", "install a/1@k1 by force"),
        ("a/1@k1 installed shell", "install! a/1 k1", "install a/1@k1 by force"),
        ("a/1@k1 built", "install! a/1 k1", "install a/1@k1 by force"),
        ("a/1@k1 installed old", "install! a/1 k1", "make a/1@k1 by force"),
        ("a/1@k1 built", "build! a/1 k1", "build a/1@k1 by force"),
        ("a/1@k1 installed", "build! a/1 k1", "build a/1@k1 by force"),
        ("a/1", "install! a/1 k1", "make a/1@k1 by force"),
        ("a/1@k1 failed", "install! a/1 k1", "make a/1@k1 by force"),
        // What is impossible stays so.
        ("a/1 excluded", "install! a/1 k1", "a/1@k1 is excluded"),
        ("a/1; k1 bare", "install! a/1 k1", "a/1@k1 is deferred 21"),
        ("a/1 bad", "install! a/1 k1", "a/1@k1 is refused 8"),
        ("a/1 dangling", "install! a/1 k1", "a/1 is refused 4"),
    ]);
}

#[test]
fn uninstall_and_unbuild() {
    check(&[
        ("a/1@k1 installed", "uninstall a/1 k1", "withdraw a/1@k1"),
        ("a/1@k1 built", "uninstall a/1 k1", "a/1@k1 is up to date"),
        ("a/1", "uninstall a/1 k1", "a/1@k1 is up to date"),
        ("a/1@k1 installed", "unbuild a/1 k1", "clear a/1@k1"),
        ("a/1@k1 built", "unbuild a/1 k1", "unbuild a/1@k1"),
        ("a/1@k1 installed; a/1@k2 installed", "unbuild a/1 k1", "clear a/1@k1"),
        ("a/1@k1 built; a/2@k1 installed", "uninstall a/1 k1", "a/1@k1 is up to date"),
        ("a/1@k1 installed; k1 bare", "uninstall a/1 k1", "withdraw a/1@k1"),
        ("a/1 gone; a/1@k1 installed", "uninstall a/1 k1", "withdraw a/1@k1"),
    ]);
}

#[test]
fn remove_takes_everything_of_a_version() {
    check(&[
        ("a/1", "remove a/1", "unregister a/1"),
        ("a/1@k1 installed", "remove a/1", "clear a/1@k1; unregister a/1"),
        ("a/1@k1 built; a/1@k2 installed", "remove a/1", "unbuild a/1@k1; clear a/1@k2; unregister a/1"),
        ("a/1@k1 installed", "remove a/1 k1", "clear a/1@k1; unregister a/1"),
        ("a/1@k1 installed; a/1@k2 installed", "remove a/1 k1", "clear a/1@k1"),
        ("a/1@k1 installed; a/2", "remove a/1", "clear a/1@k1; unregister a/1"),
        ("a/1 bad; a/1@k1 installed", "remove a/1", "clear a/1@k1; unregister a/1"),
    ]);
}

#[test]
fn remove_sweeps_builds_that_were_kept() {
    check(&[
        (
            "a/1 gone; a/1@k1 installed; a/2@k2 installed",
            "remove a/2",
            "clear a/2@k2; clear a/1@k1; unregister a/2; unregister a/1",
        ),
        // Another registered version may still need them.
        ("a/1 gone; a/1@k1 installed; a/2; a/3", "remove a/3", "unregister a/3"),
        ("a/1 gone; a/1@k1 installed", "remove a/1", "clear a/1@k1; unregister a/1"),
        ("a/1 gone; a/1@k1 installed; b/1", "remove b/1", "unregister b/1"),
    ]);
}

#[test]
fn a_package_upgrade_keeps_what_is_installed_until_its_successor_is_proven() {
    check(&[
        ("a/1@k1 installed", "source~ a/1", "unlink a/1"),
        ("a/1@k1 built", "source~ a/1", "unregister a/1"),
        ("a/1", "source~ a/1", "unregister a/1"),
        ("", "source~ a/1", ""),
        ("a/1 dangling; a/1@k1 installed", "source~ a/1", "unlink a/1"),
    ]);
    // dpkg: the old prerm, the old source goes and the new one comes, the new postinst.
    let mut world = World::new("a/1@k1 installed; a/1@k2 installed; a/2 unregistered");
    world.apply(&world.plan(&events("source~ a/1")));
    world.modules.get_mut(&"a/1".parse().unwrap()).unwrap().source = false;
    let plan = world.plan(&events("source+ a/2 k1"));
    assert_eq!(show(&plan), "register a/2; make a/2@k1 over a/1");
    world.apply(&plan);
    // The kernel that nobody built for yet still has the old one, and the next event brings the new one.
    assert_eq!(show(&world.plan(&events("autoinstall k1"))), "a/2@k1 is up to date");
    let plan = world.plan(&events("autoinstall k2"));
    assert_eq!(show(&plan), "make a/2@k2 over a/1");
    world.apply(&plan);
    assert_eq!(world.snapshot().modules.len(), 1);
}

#[test]
fn an_upgrade_whose_successor_fails_keeps_the_old_one() {
    let mut world = World::new("a/1@k1 installed; a/2 unregistered fails");
    world.apply(&world.plan(&events("source~ a/1")));
    world.modules.get_mut(&"a/1".parse().unwrap()).unwrap().source = false;
    world.apply(&world.plan(&events("source+ a/2 k1")));
    assert!(world.snapshot().build(&"a/1".parse().unwrap(), &super::world::target("k1")).unwrap().active);
    assert_eq!(show(&world.plan(&events("kernel+ k1"))), "a/2@k1 is known to fail 10");
}

#[test]
fn the_same_version_reinstalled_is_registered_again_and_not_rebuilt() {
    story(
        "a/1@k1 installed",
        &[("source~ a/1", "unlink a/1"), ("source+ a/1 k1", "register a/1; a/1@k1 is up to date")],
    );
}

#[test]
fn between_prerm_and_postinst_of_the_same_version_nothing_is_broken() {
    // dpkg may configure a kernel between the two; a critical module would make its package fail.
    story(
        "a/1@k1 installed; b/1",
        &[
            ("source~ a/1", "unlink a/1"),
            ("kernel+ k2", "register a/1; make a/1@k2; make b/1@k2"),
            ("source+ a/1 k1 k2", "a/1@k1 is up to date; a/1@k2 is up to date"),
        ],
    );
}

#[test]
fn a_kernel_leaves() {
    check(&[
        ("", "kernel- k1", ""),
        ("a/1", "kernel- k1", ""),
        ("a/1@k1 installed", "kernel- k1", "clear a/1@k1 leaving"),
        ("a/1@k1 built", "kernel- k1", "unbuild a/1@k1 leaving"),
        ("a/1@k1 installed", "kernel- k2", ""),
        ("a/1@k1 built; a/2@k1 installed", "kernel- k1", "unbuild a/1@k1 leaving; clear a/2@k1 leaving"),
        ("a/1@k1 installed shell; k1 bare", "kernel- k1", "clear a/1@k1 leaving"),
        ("a/1@k1 failed", "kernel- k1", "forget a/1@k1"),
        ("a/1@k1 failed; a/1@k2 failed", "kernel- k1", "forget a/1@k1"),
        // A build without a source leaves the registry with its last kernel.
        ("a/1 gone; a/1@k1 installed", "kernel- k1", "clear a/1@k1 leaving; unregister a/1"),
        ("a/1 gone; a/1@k1 installed; a/1@k2 installed", "kernel- k1", "clear a/1@k1 leaving"),
    ]);
    story(
        "a/1@k1 installed; a/2@k1 built; a/2@k2 installed; b/1@k1 failed",
        &[
            ("kernel- k1", "clear a/1@k1 leaving; unbuild a/2@k1 leaving; forget b/1@k1"),
            ("kernel- k1", ""),
            ("kernel+ k2", "make b/1@k2; a/2@k2 is up to date"),
        ],
    );
}

#[test]
fn a_kept_build_leaves_with_its_last_kernels_when_they_leave_together() {
    let mut world = World::new("a/1 gone; a/1@k1 installed; a/1@k2 installed");
    let plan = world.plan(&events("kernel- k1; kernel- k2"));
    assert_eq!(show(&plan), "clear a/1@k1 leaving; clear a/1@k2 leaving; unregister a/1");
    world.apply(&plan);
}

#[test]
fn a_damaged_installation_is_published_again_from_its_build() {
    check(&[
        ("a/1@k1 installed damaged", "kernel+ k1", "install a/1@k1"),
        ("a/1@k1 installed damaged", "autoinstall k1", "install a/1@k1"),
        ("a/1@k1 installed damaged", "install a/1 k1", "install a/1@k1"),
        ("a/1@k1 installed damaged old", "kernel+ k1", "make a/1@k1"),
        ("a/1@k1 installed damaged", "build a/1 k1", "a/1@k1 is up to date"),
    ]);
}

#[test]
fn a_damaged_installation_is_published_again_without_headers() {
    check(&[
        ("a/1@k1 installed damaged; k1 bare", "kernel+ k1", "install a/1@k1"),
        ("a/1@k1 installed damaged; k1 toolless", "kernel+ k1", "install a/1@k1"),
    ]);
}

#[test]
fn other_inputs_without_tools_are_deferred_not_up_to_date() {
    check(&[("a/1@k1 installed old; k1 toolless", "kernel+ k1", "a/1@k1 is deferred 10")]);
}

#[test]
fn asking_for_a_build_that_is_finished_needs_no_headers() {
    check(&[
        ("a/1@k1 built; k1 bare", "build a/1 k1", "a/1@k1 is up to date"),
        ("a/1@k1 built; k1 toolless", "build a/1 k1", "a/1@k1 is up to date"),
    ]);
}

#[test]
fn a_forced_build_without_headers_is_not_silently_up_to_date() {
    check(&[
        ("a/1@k1 installed; k1 bare", "build! a/1 k1", "a/1@k1 is deferred 21"),
        ("a/1@k1 installed; k1 bare", "install! a/1 k1", "install a/1@k1 by force"),
    ]);
}

#[test]
fn a_stale_index_needs_depmod_only() {
    check(&[
        ("a/1@k1 installed unindexed", "kernel+ k1", "a/1@k1 is up to date; depmod k1"),
        (
            "a/1@k1 installed unindexed; b/1@k1 installed unindexed",
            "kernel+ k1",
            "a/1@k1 is up to date; b/1@k1 is up to date; depmod k1",
        ),
        ("a/1@k1 installed unindexed; a/1@k2 installed", "kernel+ k2", "a/1@k2 is up to date"),
        ("a/1@k1 built unindexed", "kernel+ k1", "install a/1@k1"),
    ]);
    story(
        "a/1@k1 installed unindexed",
        &[("kernel+ k1", "a/1@k1 is up to date; depmod k1"), ("kernel+ k1", "a/1@k1 is up to date")],
    );
}

#[test]
fn the_initramfs_is_ours_only_when_nobody_makes_it_after_us() {
    check(&[
        ("a/1; k1 initramfs", "headers+ k1", "make a/1@k1; initramfs k1"),
        ("a/1; k1 initramfs", "autoinstall k1", "make a/1@k1; initramfs k1"),
        ("a/1; k1 initramfs", "source+ a/1 k1", "make a/1@k1; initramfs k1"),
        ("a/1; k1 initramfs", "install a/1 k1", "make a/1@k1; initramfs k1"),
        ("a/1; k1 initramfs", "kernel+ k1", "make a/1@k1"),
        // No matter in which order they come.
        ("a/1; k1 initramfs", "headers+ k1; kernel+ k1", "make a/1@k1"),
        ("a/1; k1 initramfs", "kernel+ k1; headers+ k1", "make a/1@k1"),
        ("a/1; k1 initramfs", "source+ a/1 k1; kernel+ k1", "make a/1@k1"),
        (
            "a/1; k1 initramfs; k2 initramfs",
            "headers+ k1; kernel+ k2",
            "make a/1@k1; make a/1@k2; initramfs k1",
        ),
        // One that was never made is made by whoever installs the kernel.
        ("a/1", "headers+ k1", "make a/1@k1"),
    ]);
}

#[test]
fn builds_of_shell_dkms_are_adopted_by_autoinstall_and_rebuilt_for_a_changed_kernel() {
    check(&[
        ("a/1@k1 installed shell", "autoinstall k1", "a/1@k1 is up to date; adopt a/1@k1"),
        ("a/1@k1 installed shell", "install a/1 k1", "a/1@k1 is up to date; adopt a/1@k1"),
        ("a/1@k1 built shell", "autoinstall k1", "install a/1@k1"),
        ("a/1@k1 built shell", "build a/1 k1", "a/1@k1 is up to date"),
        // The kernel or its headers have just changed: nobody knows what the build was made from.
        ("a/1@k1 installed shell", "kernel+ k1", "make a/1@k1"),
        ("a/1@k1 installed shell", "headers+ k1", "make a/1@k1"),
        ("a/1@k1 installed shell", "source+ a/1 k1", "make a/1@k1"),
    ]);
    story(
        "a/1@k1 installed shell",
        &[("autoinstall k1", "a/1@k1 is up to date; adopt a/1@k1"), ("kernel+ k1", "a/1@k1 is up to date")],
    );
}

#[test]
fn a_stale_index_is_found_when_a_build_is_adopted() {
    check(&[(
        "a/1@k1 installed shell unindexed",
        "autoinstall k1",
        "a/1@k1 is up to date; adopt a/1@k1; depmod k1",
    )]);
}

#[test]
fn events_that_arrive_together_do_the_work_once() {
    check(&[
        ("a/1", "kernel+ k1; kernel+ k1", "make a/1@k1"),
        ("a/1", "kernel+ k1; headers+ k1; autoinstall k1", "make a/1@k1"),
        ("a/1", "headers+ k1; kernel+ k1; source+ a/1 k1", "make a/1@k1"),
        ("a/1", "kernel+ k1; kernel+ k2", "make a/1@k1; make a/1@k2"),
        ("a/1@k1 installed", "kernel+ k1; headers+ k1", "a/1@k1 is up to date"),
        ("a/1; k1 bare", "kernel+ k1; headers+ k1", "a/1@k1 is deferred 21"),
        ("a/1@k1 installed", "kernel- k1; kernel- k1", "clear a/1@k1 leaving"),
        ("a/1@k1 installed", "unbuild a/1 k1; unbuild a/1 k1", "clear a/1@k1"),
        ("a/1 needs b; b/1", "kernel+ k1; headers+ k1", "make b/1@k1; make a/1@k1 after b/1"),
    ]);
}

#[test]
fn events_that_arrive_twice_decide_everything_once() {
    check(&[
        ("a/1 unregistered", "source+ a/1 k1; source+ a/1 k1", "register a/1; make a/1@k1"),
        ("a/1 unregistered", "source+ a/1 k1; source+ a/1 k2", "register a/1; make a/1@k1; make a/1@k2"),
        ("a/1", "remove a/1; remove a/1", "unregister a/1"),
        ("a/1 gone; a/1@k1 installed", "kernel- k1; kernel- k1", "clear a/1@k1 leaving; unregister a/1"),
        ("a/1@k1 failed", "kernel- k1; kernel- k1", "forget a/1@k1"),
        ("a/1@k1 installed shell", "autoinstall k1; autoinstall k1", "a/1@k1 is up to date; adopt a/1@k1"),
    ]);
}

#[test]
fn what_is_made_is_not_settled_as_well() {
    // The first row is a recovery: the interrupted installation comes first, then what the caller wanted.
    check(&[
        ("a/1@k1 installed", "install! a/1 k1; kernel+ k1", "install a/1@k1 by force"),
        ("a/1@k1 failed", "kernel+ k1; install a/1 k1", "make a/1@k1"),
        ("a/1@k1 installed shell", "autoinstall k1; kernel+ k1", "make a/1@k1"),
    ]);
}

#[test]
fn a_module_registered_by_the_plan_takes_part_in_it() {
    check(&[
        ("a/1 unregistered", "source+ a/1 k1; kernel+ k2", "register a/1; make a/1@k1; make a/1@k2"),
        (
            "a/1 unregistered; b/1 unregistered needs a",
            "source+ a/1 k1; source+ b/1 k1",
            "register a/1; register b/1; make a/1@k1; make b/1@k1 after a/1",
        ),
    ]);
}

#[test]
fn one_plan_installs_one_version_of_a_module() {
    check(&[("a/1; a/2", "source+ a/1 k1; kernel+ k1", "make a/2@k1")]);
}

#[test]
fn the_first_and_the_second_run_agree_on_what_waits_for_a_failed_dependency() {
    for world in ["a/1 needs b; a/1@k1 built; b/1 fails", "a/1 needs b; b/1 fails; b/1@k1 installed old"] {
        let mut world = World::new(world);
        world.apply(&world.plan(&events("kernel+ k1")));
        let second = world.plan(&events("headers+ k1"));
        assert!(second.is_empty(), "{}", show(&second));
    }
}
