//! BUILD_DEPENDS.

use super::*;

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
        // An existing build is not repeated.
        ("a/1 needs b; b/1@k1 installed", "kernel+ k1", "make a/1@k1 after b/1; b/1@k1 is up to date"),
        ("a/1 needs b; b/1@k1 built", "kernel+ k1", "install b/1@k1; make a/1@k1 after b/1"),
        ("a/1 needs b; b/1@k1 installed", "install a/1 k1", "make a/1@k1 after b/1"),
        ("a/1 needs b; b/1@k1 installed", "source+ a/1 k1", "make a/1@k1 after b/1"),
        ("a/1 needs b; b/1 manual; b/1@k1 installed", "kernel+ k1", "make a/1@k1 after b/1"),
        // An older installed version satisfies the dependency if the newest one is not available.
        (
            "a/1 needs b; b/1@k1 installed; b/2@k1 failed",
            "kernel+ k1",
            "b/2@k1 is known to fail 10; a/1@k1 is deferred 13",
        ),
    ]);
}

#[test]
fn a_missing_dependency_is_named_and_waits() {
    check(&[
        // An unknown module is not a failure.
        ("a/1 needs b", "kernel+ k1", "a/1@k1 is deferred 0"),
        ("a/1 needs b,c; c/1", "kernel+ k1", "make c/1@k1; a/1@k1 is deferred 0"),
        ("a/1 needs b", "install a/1 k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1", "install a/1 k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1 unregistered", "kernel+ k1", "a/1@k1 is deferred 0"),
        ("a/1 needs b; b/1 manual", "kernel+ k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1 bad", "kernel+ k1", "b/1@k1 is refused 8; a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1@k2 installed", "source+ a/1 k1", "a/1@k1 is deferred 13"),
        ("a/1 needs b; b/1 needs c", "kernel+ k1", "b/1@k1 is deferred 0; a/1@k1 is deferred 13"),
        ("a/1 needs b", "install! a/1 k1", "make a/1@k1 by force"),
        ("a/1 needs b", "build! a/1 k1", "build a/1@k1 by force"),
        // What is forced does not wait for its own circle.
        ("a/1 needs a", "build! a/1 k1", "build a/1@k1 by force"),
        ("a/1 needs a", "build a/1 k1", "a/1@k1 is deferred 13"),
        ("a/1 needs a; a/1@k1 built", "install a/1 k1", "install a/1@k1"),
        // A build that is out of date is installed if it cannot be repeated.
        ("a/1 needs b; b/1; a/1@k1 built old", "install a/1 k1", "install a/1@k1"),
        ("a/1 needs b; b/1 manual; a/1@k1 built old", "kernel+ k1", "a/1@k1 is deferred 13"),
        // An existing build needs no dependency.
        ("a/1 needs b; a/1@k1 installed", "kernel+ k1", "a/1@k1 is up to date"),
        ("a/1 needs b; a/1@k1 built", "kernel+ k1", "install a/1@k1"),
    ]);
    let plan = World::new("a/1 needs b,c; c/1").plan(&events("kernel+ k1"));
    let crate::report::Outcome::Deferred { why, .. } = &plan.settled[0].outcome else { panic!("{plan:?}") };
    assert_eq!(why, "requires b (BUILD_DEPENDS), which is not in the DKMS tree");
}

#[test]
fn a_dependency_that_fails_takes_only_its_dependents_with_it() {
    let mut world = World::new("a/1 needs b; b/1 fails; c/1");
    let plan = world.plan(&events("kernel+ k1"));
    assert_eq!(show(&plan), "make b/1@k1; make c/1@k1; make a/1@k1 after b/1");
    world.apply(&plan);
    let compiled: Vec<String> = world.compiled.iter().map(|placement| placement.module.to_string()).collect();
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

#[test]
fn what_follows_is_built_again_with_what_it_needs() {
    check(&[
        // BUILD_DEPENDS_REBUILD: a was not requested, and its inputs have changed.
        ("a/1 follows b; b/1; a/1@k1 installed old", "install b/1 k1", "make b/1@k1; make a/1@k1 after b/1"),
        (
            "a/1 follows b; b/1; b/2; b/1@k1 installed; a/1@k1 installed old",
            "install b/2 k1",
            "make b/2@k1 over b/1; make a/1@k1 after b/2",
        ),
        // The older version again: a is built against it.
        (
            "a/1 follows b; b/1; b/2; b/2@k1 installed; a/1@k1 installed old",
            "install b/1 k1",
            "make b/1@k1 over b/2; make a/1@k1 after b/1",
        ),
        ("a/1 follows b; b/1; a/1@k1 installed old", "source+ b/1 k1", "make b/1@k1; make a/1@k1 after b/1"),
        // What was only built is not installed.
        ("a/1 follows b; b/1; a/1@k1 built old", "install b/1 k1", "make b/1@k1; build a/1@k1 after b/1"),
        // Along a chain, including modules without AUTOINSTALL.
        (
            "a/1 follows b; b/1 manual follows c; c/1; a/1@k1 installed old; b/1@k1 installed old",
            "install c/1 k1",
            "make c/1@k1; make b/1@k1 after c/1; make a/1@k1 after b/1",
        ),
        (
            "a/1 manual follows b; b/1; a/1@k1 installed old",
            "kernel+ k1",
            "make b/1@k1; make a/1@k1 after b/1",
        ),
        // Without BUILD_DEPENDS_REBUILD, with force, for another kernel, without a build, or with the same inputs: not
        // rebuilt.
        ("a/1 needs b; b/1; a/1@k1 installed old", "install b/1 k1", "make b/1@k1"),
        ("a/1 follows b; b/1; a/1@k1 installed old", "install! b/1 k1", "make b/1@k1 by force"),
        // What it follows is not reinstalled after all.
        (
            "b/1 needs d; d/1 manual; b/1@k1 installed old; a/1 manual follows b; a/1@k1 installed old",
            "headers+ k1",
            "b/1@k1 is deferred 13",
        ),
        ("a/1 follows b; b/1; a/1@k2 installed old", "install b/1 k1", "make b/1@k1"),
        ("a/1 follows b; b/1", "install b/1 k1", "make b/1@k1"),
        ("a/1 follows b; b/1; a/1@k1 installed", "install b/1 k1", "make b/1@k1"),
        ("a/1 follows b; b/1; a/1@k1 installed old", "build b/1 k1", "build b/1@k1"),
    ]);
}

/// The members of the circles that a plan reports.
fn circle(world: &str, happens: &str) -> Vec<String> {
    let plan = World::new(world).plan(&events(happens));
    plan.settled
        .iter()
        .filter_map(|settled| match &settled.outcome {
            crate::report::Outcome::Deferred { why, .. } => Some(
                why.split_once("dependency in BUILD_DEPENDS: ")
                    .unwrap_or_else(|| panic!("{why}"))
                    .1
                    .to_owned(),
            ),
            _ => None,
        })
        .collect()
}

#[test]
fn only_a_circles_members_are_named() {
    // c depends on the circle without being a member: its own message must name what it needs.
    let plan = World::new("a/1 needs b; b/1 needs a; c/1 needs a").plan(&events("kernel+ k1"));
    let text = serde_json::to_string(&plan.settled).unwrap();
    assert!(!text.contains("c/1, ") && !text.contains(", c/1"), "{text}");
}

#[test]
fn a_circle_is_named_once_for_each_kernel() {
    let world = "a/1 needs b; b/1 needs a";
    assert_eq!(circle(world, "kernel+ k1; kernel+ k2"), ["a/1, b/1"; 4]);
}
