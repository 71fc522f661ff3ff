//! What is damaged, stale, unknown, or wanted twice.

use super::*;

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
fn a_build_of_shell_dkms_is_not_noted_as_made_from_what_fails() {
    check(&[
        ("a/1@k1 installed shell; a/1@k1 failed", "autoinstall k1", "a/1@k1 is up to date"),
        ("a/1@k1 installed shell; a/1@k1 failed old", "autoinstall k1", "a/1@k1 is up to date; adopt a/1@k1"),
        // Another version of a module takes its place: it follows nobody.
        ("b/1 unregistered; b/2@k1 installed follows b; b/2 follows b", "kernel+ k1", "b/2@k1 is up to date"),
    ]);
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
