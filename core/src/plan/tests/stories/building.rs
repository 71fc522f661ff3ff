//! Kernels are added, inputs change, builds fail.

use super::*;

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
        // A module that was uninstalled manually is reinstalled by the next event, as with shell DKMS.
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
        // AUTOINSTALL of the newest version decides, not that of the older one.
        ("a/1; a/2 manual", "kernel+ k1", ""),
        ("a/1; a/2 excluded", "kernel+ k1", "make a/1@k1 instead of a/2"),
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
        // Only modules with changed inputs, and only for the kernel that changed.
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
        // A build with the same inputs takes precedence over a failure.
        ("a/1@k1 built; a/1@k1 failed", "kernel+ k1", "install a/1@k1"),
        ("a/1@k1 installed old; a/1@k1 failed", "kernel+ k1", "a/1@k1 is known to fail 10"),
        // A module that needs it waits, and is not built either.
        ("a/1@k1 failed; b/1 needs a", "kernel+ k1", "a/1@k1 is known to fail 10; b/1@k1 is deferred 13"),
        ("a/1@k1 failed; b/1", "kernel+ k1", "make b/1@k1; a/1@k1 is known to fail 10"),
    ]);
}

#[test]
fn a_remembered_failure_names_what_still_works() {
    let world = World::new("a/1@k0 installed; a/1@k1 failed; a/1@k2 installed old");
    let plan = world.plan(&events("kernel+ k1"));
    let crate::report::Outcome::Failed(failing) = &plan.settled[0].outcome else { panic!("{plan:?}") };
    assert_eq!(failing.remaining, "still installed for k2, k0");
    assert_eq!(
        (failing.why.as_str(), failing.errors.as_slice()),
        ("make failed", ["a.c:1: error".to_owned()].as_slice())
    );
    let world = World::new("a/1@k1 installed old; a/2@k1 failed");
    let plan = world.plan(&events("kernel+ k1"));
    let crate::report::Outcome::Failed(failing) = &plan.settled[0].outcome else { panic!("{plan:?}") };
    assert_eq!(failing.remaining, "a/1 remains installed for this kernel");
}

#[test]
fn a_kernel_that_is_not_meant_is_left_alone() {
    check(&[
        ("a/1 excluded", "kernel+ k1", "a/1@k1 is excluded"),
        ("a/1 excluded", "source+ a/1 k1", "a/1@k1 is excluded"),
        ("a/1 excluded", "install a/1 k1", "a/1@k1 is excluded"),
        ("a/1 excluded", "build a/1 k1", "a/1@k1 is excluded"),
        ("a/1 excluded; a/1@k1 installed", "install a/1 k1", "a/1@k1 is up to date"),
        ("a/1 excluded; a/1@k1 installed", "build a/1 k1", "a/1@k1 is up to date"),
        ("a/1 excluded; a/1@k1 built", "build a/1 k1", "a/1@k1 is up to date"),
        ("a/1 excluded; a/1@k1 built", "install a/1 k1", "a/1@k1 is excluded"),
        ("a/1 excluded; a/1@k1 installed", "autoinstall k1", "a/1@k1 is excluded"),
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
    for (kernel, wanted) in [("k1", "run `apt install linux-headers-k1`;"), ("k2", "install gcc,")] {
        let plan = world.plan(&events(&format!("kernel+ {kernel}")));
        let crate::report::Outcome::Deferred { advice, .. } = &plan.settled[0].outcome else {
            panic!("{plan:?}")
        };
        assert!(advice.contains(wanted), "{advice}");
    }
}

/// Two versions are registered, and the newest one does not support this kernel.
#[test]
fn the_newest_version_that_supports_the_kernel_is_installed() {
    check(&[
        ("a/1; a/2 excluded", "kernel+ k1", "make a/1@k1 instead of a/2"),
        ("a/1; a/2 excluded; a/3 excluded", "autoinstall k1", "make a/1@k1 instead of a/3"),
        ("a/1; a/2; a/3 excluded", "headers+ k1", "make a/2@k1 instead of a/3"),
        // The note belongs to its own kernel, not to the task planned before it.
        ("a/1; a/2 excluded; k2 bare", "source+ a/1 k1; kernel+ k2", "make a/1@k1; a/1@k2 is deferred 21"),
        ("a/1 excluded; a/2 excluded", "kernel+ k1", "a/2@k1 is excluded"),
        // A bad version is reported, and not passed over.
        ("a/1; a/2 bad", "kernel+ k1", "a/2@k1 is refused 8"),
        // The newest version is not installed automatically: nothing is.
        ("a/1; a/2 manual excluded", "kernel+ k1", ""),
        ("a/1; a/1@k1 installed; a/2 excluded", "kernel+ k1", "a/1@k1 is up to date"),
        // What needs it is built with that version.
        ("a/1; a/2 excluded; b/1 needs a", "kernel+ k1", "make a/1@k1 instead of a/2; make b/1@k1 after a/1"),
    ]);
}
