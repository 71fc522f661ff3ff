//! A native package has installed a module for a kernel.

use super::*;
use crate::report::Outcome;

#[test]
fn what_a_package_has_installed_is_not_built() {
    check(&[
        ("a/1; a/1@k1 packaged", "kernel+ k1", "a/1@k1 is packaged"),
        ("a/1; a/1@k1 packaged", "headers+ k1", "a/1@k1 is packaged"),
        ("a/1; a/1@k1 packaged", "autoinstall k1", "a/1@k1 is packaged"),
        ("a/1; a/1@k1 packaged", "source+ a/1 k1 k2", "make a/1@k2; a/1@k1 is packaged"),
        ("a/1; a/1@k1 packaged", "kernel? k1", "a/1@k1 is packaged"),
        // Other kernels and modules are not affected, and neither is a version that is not registered.
        ("a/1; a/1@k1 packaged", "kernel+ k2", "make a/1@k2"),
        ("a/1; b/1; a/1@k1 packaged", "kernel+ k1", "make b/1@k1; a/1@k1 is packaged"),
        ("a/2; a/1@k1 packaged", "kernel+ k1", "a/2@k1 is packaged"),
        ("b/1; a/1@k1 packaged", "kernel+ k1", "make b/1@k1"),
        // Without headers or with a failure, too.
        ("a/1; a/1@k1 packaged; k1 bare", "kernel+ k1", "a/1@k1 is packaged"),
        ("a/1 excluded; a/1@k1 packaged", "kernel+ k1", "a/1@k1 is packaged"),
        ("a/1 bad; a/1@k1 packaged", "kernel+ k1", "a/1@k1 is packaged"),
        ("a/1@k1 failed; a/1@k1 packaged", "kernel+ k1", "a/1@k1 is packaged"),
    ]);
}

#[test]
fn what_dkms_had_installed_gives_way_and_its_build_is_kept() {
    check(&[
        ("a/1@k1 installed; a/1@k1 packaged", "autoinstall k1", "withdraw a/1@k1; a/1@k1 is packaged"),
        ("a/1@k1 installed damaged; a/1@k1 packaged", "kernel+ k1", "withdraw a/1@k1; a/1@k1 is packaged"),
        ("a/1@k1 installed; a/2; a/2@k1 packaged", "autoinstall k1", "withdraw a/1@k1; a/2@k1 is packaged"),
        (
            "a/1 manual; a/1@k1 installed; a/1@k1 packaged",
            "autoinstall k1",
            "withdraw a/1@k1; a/1@k1 is packaged",
        ),
        ("a/1 gone; a/1@k1 installed; a/1@k1 packaged", "autoinstall k1", "withdraw a/1@k1"),
        ("a/1@k1 built; a/1@k1 packaged", "autoinstall k1", "a/1@k1 is packaged"),
        // A pre-build changes nothing.
        ("a/1@k1 installed; a/1@k1 packaged", "kernel? k1", "a/1@k1 is packaged"),
    ]);
}

#[test]
fn a_request_does_not_replace_it() {
    check(&[
        ("a/1; a/1@k1 packaged", "install a/1 k1", "a/1@k1 is packaged"),
        ("a/1; a/1@k1 packaged", "install! a/1 k1", "a/1@k1 is refused 6"),
        ("a/2; a/1@k1 packaged", "install a/2 k1", "a/2@k1 is refused 6"),
        // Only a build is possible, for example to make the next package.
        ("a/2; a/1@k1 packaged", "build a/2 k1", "build a/2@k1"),
        ("a/1@k1 installed; a/1@k1 packaged", "uninstall a/1 k1", "withdraw a/1@k1"),
    ]);
}

#[test]
fn a_damaged_file_of_a_package_is_left_to_its_package_manager() {
    check(&[
        ("a/1; a/1@k1 package-damaged", "autoinstall k1", "a/1@k1 is refused 6"),
        ("a/1@k1 built; a/1@k1 package-damaged", "autoinstall k1", "a/1@k1 is refused 6"),
        ("a/2; a/1@k1 package-damaged", "install a/2 k1", "a/2@k1 is refused 6"),
        ("a/1; a/1@k1 package-damaged", "kernel+ k2", "make a/1@k2"),
        // A user may decide otherwise, or has done so.
        ("a/1@k1 built; a/1@k1 package-damaged", "install! a/1 k1", "install a/1@k1 by force"),
        ("a/1@k1 installed; a/1@k1 package-damaged", "autoinstall k1", "a/1@k1 is up to date"),
        ("a/1; a/1@k1 package-damaged", "build a/1 k1", "build a/1@k1"),
    ]);
    let world = World::new("a/1; a/1@k1 package-damaged");
    let plan = world.plan(&events("autoinstall k1"));
    let Outcome::Refused { why, advice, .. } = &plan.settled[0].outcome else { panic!("{plan:?}") };
    assert!(why.contains("a file of package") && advice.contains("--reinstall"), "{why}; {advice}");
}

#[test]
fn it_satisfies_the_modules_that_depend_on_it() {
    check(&[
        ("a/1; b/1 needs a; a/1@k1 packaged", "kernel+ k1", "make b/1@k1; a/1@k1 is packaged"),
        ("b/1 needs a; a/1@k1 packaged", "kernel+ k1", "make b/1@k1"),
        (
            "a/1@k1 installed; b/1 needs a; a/1@k1 packaged",
            "autoinstall k1",
            "make b/1@k1; withdraw a/1@k1; a/1@k1 is packaged",
        ),
    ]);
}

#[test]
fn dkms_takes_over_when_the_package_is_removed() {
    let mut world = World::new("a/1@k1 installed; a/1@k1 packaged");
    world.apply(&world.plan(&events("autoinstall k1")));
    world.packaged.clear();
    let plan = world.plan(&events("autoinstall k1"));
    assert_eq!(show(&plan), "install a/1@k1");
    world.apply(&plan);
    assert_eq!(show(&world.plan(&events("autoinstall k1"))), "a/1@k1 is up to date");
}
