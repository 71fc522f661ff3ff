//! Sources and kernels are added and removed; users run commands.

use super::*;

#[test]
fn broken_registrations_are_named_and_stop_nobody_else() {
    check(&[
        ("a/1 dangling; b/1", "kernel+ k1", "make b/1@k1; a/1@k1 is refused 4"),
        ("a/1 unlinked; b/1", "kernel+ k1", "make b/1@k1; a/1@k1 is refused 4"),
        ("a/1 dangling; a/2", "kernel+ k1", "make a/2@k1; a/1@k1 is refused 4"),
        ("a/1 dangling; b/1", "source+ b/1 k1", "make b/1@k1"),
        ("a/1 dangling", "install a/1 k1", "a/1 is refused 4"),
        ("a/1 dangling", "build a/1 k1", "a/1 is refused 4"),
        ("a/1 dangling", "add a/1", "a/1 is refused 2"),
        ("a/1 dangling", "remove a/1", "unregister a/1"),
        ("a/1 unlinked", "add a/1", "register a/1"),
        ("a/1 unlinked", "install a/1 k1", "a/1 is refused 4"),
        ("a/1 bad; b/1", "kernel+ k1", "make b/1@k1; a/1@k1 is refused 8"),
        ("a/1 unreadable; b/1", "kernel+ k1", "make b/1@k1; a/1@k1 is refused 4"),
        ("a/1 bad", "install a/1 k1", "a/1@k1 is refused 8"),
        // The kernel is removed anyway.
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
        // Other modules are not affected.
        ("a/1 unregistered; b/1", "source+ a/1 k1", "register a/1; make a/1@k1"),
    ]);
}

/// pacman replaces the source directory, and reports this afterwards, with all other changes.
#[test]
fn a_source_leaves() {
    check(&[
        ("a/1", "source- a/1", "unregister a/1"),
        ("a/1 dangling; a/1@k1 installed", "source- a/1", "clear a/1@k1; unregister a/1"),
        ("a/1@k1 installed; b/1@k1 installed", "source- a/1", "clear a/1@k1; unregister a/1"),
        ("", "source- a/1", ""),
        // Another version that was present before is not the successor.
        ("a/1; a/2@k1 installed", "source- a/2", "clear a/2@k1; unregister a/2"),
        // The build that stood in for it is removed with it.
        (
            "a/1 gone; a/1@k1 installed; a/2 dangling",
            "source- a/2",
            "clear a/1@k1; unregister a/2; unregister a/1",
        ),
        // Its successor is added in the same run: until that is verified, the installed files are kept.
        (
            "a/1 dangling; a/1@k1 installed; a/2 unregistered",
            "source- a/1; source+ a/2 k1",
            "register a/2; make a/2@k1 over a/1; unlink a/1",
        ),
        (
            "a/1 dangling; a/1@k1 installed; a/2 unregistered bad",
            "source- a/1; source+ a/2 k1",
            "unlink a/1; a/2 is refused 8",
        ),
        (
            "a/2 dangling; a/2@k1 installed; a/1 unregistered",
            "source- a/2; source+ a/1 k1",
            "register a/1; make a/1@k1 over a/2; unlink a/2",
        ),
        // A kernel in the same run does not report it, and no build is started for it.
        (
            "a/1 dangling; a/1@k1 installed; a/2 unregistered; b/1",
            "source- a/1; source+ a/2 k1 k2; kernel+ k2",
            "register a/2; make a/2@k1 over a/1; make a/2@k2; make b/1@k2; unlink a/1",
        ),
        ("a/1@k1 installed", "source- a/1; kernel+ k2", "clear a/1@k1; unregister a/1"),
        // A kernel that is replaced loses its own builds, whatever happens to the module.
        ("a/1@k1 installed; a/1@k2 installed", "kernel- k1; kernel+ k3", "make a/1@k3; clear a/1@k1 leaving"),
        (
            "a/1@k1 installed; a/1@k2 installed",
            "kernel- k1; source- a/1",
            "clear a/1@k1 leaving; clear a/1@k2; unregister a/1",
        ),
    ]);
}

/// If the package manager regenerates all images after a module's source was installed, dkms does not do this before
/// it.
#[test]
fn an_initramfs_that_is_remade_after_us_is_not_our_business() {
    let arch = crate::distro::Distribution::from_os_release("ID=arch");
    for (happens, ours) in
        [("source+ a/1 k1", false), ("headers+ k1", true), ("source+ a/1 k1; headers+ k1", false)]
    {
        let (world, happens) = (World::new("a/1; k1 initramfs"), events(happens));
        let plan = crate::plan::plan(&happens, &world.snapshot(), &world.survey(&happens), &arch);
        assert_eq!(!plan.initramfs.is_empty(), ours, "{happens:?}");
        assert!(World::new("a/1; k1 initramfs").plan(&happens).initramfs.len() == 1, "Debian's does not");
    }
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
fn a_kernel_gets_what_another_one_has() {
    check(&[
        ("a/1@k1 installed; b/1@k1 installed", "match k1 k2", "make a/1@k2; make b/1@k2"),
        ("a/1@k1 installed; b/1@k1 installed", "match k1 k2 b", "make b/1@k2"),
        // That exact version; a module that is only built does not count.
        ("a/1@k1 installed; a/2", "match k1 k2", "make a/1@k2"),
        ("a/1@k1 built; b/1", "match k1 k2", ""),
        ("a/1@k1 installed; a/2@k2 installed", "match k1 k2", "make a/1@k2 over a/2"),
        ("a/1@k1 installed; a/1@k2 installed", "match k1 k2", "a/1@k2 is up to date"),
        ("a/1@k1 installed; a/1@k2 built", "match k1 k2", "install a/1@k2"),
        ("a/1 manual; a/1@k1 installed", "match k1 k2", "make a/1@k2"),
        (
            "a/1 dangling; a/1@k1 installed; b/1@k1 installed",
            "match k1 k2",
            "make b/1@k2; a/1@k2 is refused 4",
        ),
        ("k2 bare; a/1@k1 installed", "match k1 k2", "a/1@k2 is deferred 21"),
    ]);
}

#[test]
fn a_tarball_arrives() {
    check(&[
        ("a/1 unregistered", "load a/1 k1 k2", "register a/1; load a/1@k1; load a/1@k2"),
        ("a/1 unregistered", "load a/1", "register a/1"),
        ("a/1 unregistered bad", "load a/1 k1", "a/1 is refused 8"),
        ("", "load a/1 k1", "a/1 is refused 2"),
        // Existing builds are kept, unless forced.
        ("a/1", "load a/1 k1", "a/1 is refused 8"),
        ("a/1", "load! a/1 k1", "load a/1@k1"),
        ("a/1 unlinked; a/1@k1 built", "load a/1 k1 k2", "register a/1; load a/1@k2; a/1@k1 is present"),
        ("a/1 dangling", "load! a/1 k1", "a/1 is refused 4"),
        // Other versions are not affected.
        ("a/1@k1 installed; a/2 unregistered", "load a/2 k1", "register a/2; load a/2@k1"),
    ]);
}

#[test]
fn a_loaded_build_serves_those_who_ask_for_it() {
    check(&[
        ("a/1@k1 built loaded", "install a/1 k1", "install a/1@k1"),
        ("a/1@k1 built loaded", "build a/1 k1", "a/1@k1 is up to date"),
        ("a/1@k1 built loaded; k1 bare", "install a/1 k1", "install a/1@k1"),
        ("a/1@k1 installed loaded", "install a/1 k1", "install a/1@k1"),
        ("a/1@k1 built loaded", "autoinstall k1", "install a/1@k1"),
        // Its inputs are unknown: a package's hook rebuilds it.
        ("a/1@k1 built loaded", "kernel+ k1", "make a/1@k1"),
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
        // What is impossible remains so.
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
    // dpkg: the old prerm, the old source is removed and the new one unpacked, the new postinst.
    let mut world = World::new("a/1@k1 installed; a/1@k2 installed; a/2 unregistered");
    world.apply(&world.plan(&events("source~ a/1")));
    world.modules.get_mut(&"a/1".parse().unwrap()).unwrap().source = false;
    let plan = world.plan(&events("source+ a/2 k1"));
    assert_eq!(show(&plan), "register a/2; make a/2@k1 over a/1");
    world.apply(&plan);
    // The kernel without a new build still has the old one, and the next event installs the new one.
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
    assert!(
        world.snapshot().build(&"a/1".parse().unwrap(), &super::super::world::target("k1")).unwrap().active
    );
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
        // A build without a source is removed from the DKMS tree with its last kernel.
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
