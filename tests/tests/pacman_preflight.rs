//! The pre-build under pacman: modules are built for packages before pacman installs them, while it can still be
//! stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::pacman::{Machine, machine};
use dkms_tests::photograph::Photograph;
use dkms_tests::{Output, Root};

/// Files that pacman always writes: downloaded packages, and its log.
const PACMANS: [&str; 2] = ["/var/cache/pacman", "/var/log/pacman.log"];
const HOLD: &str = "on_unbuildable = \"hold\"\n";
const INCOMING: &str = "/var/lib/dkms/.dkms-rs/incoming";

#[track_caller]
fn expect_nothing_unpacked(root: &Root) {
    assert_eq!(root.find(INCOMING, "-mindepth 1"), [""; 0]);
}

/// Aborted, and nothing has changed.
#[track_caller]
fn expect_held(root: &Root, command: &str, words: &[&str]) -> Output {
    let before = Photograph::of(root, &PACMANS);
    let told = root.run(command).exits(1).says(&["transaction aborted, nothing changed"]).says(words);
    before.expect_same(&Photograph::of(root, &PACMANS));
    expect_nothing_unpacked(root);
    told
}

#[test]
fn a_module_that_is_held_stops_an_upgrade_before_anything_is_changed() {
    let machine = Machine::with_everything();
    let root = &machine.root;
    let newer = &machine.kernels[1];
    root.run("pacman -S --noconfirm failing-dkms").ok();
    root.write("/etc/dkms/policy.toml", HOLD);
    let counters = Counters::install(root);
    // A file with a relative path: the hook has another working directory.
    let upgrade = format!(
        "cd /opt/repo && pacman -U --noconfirm {}",
        machine.kernel_files("linux", newer).replace("/opt/repo/", "")
    );
    let told = expect_held(
        root,
        &upgrade,
        &[
            "failing/1",
            &newer.release,
            "no_such_symbol_here",
            "DKMS_ALLOW=failing",
            "pacman -Syu --ignore linux,linux-headers",
        ],
    );
    root.expect_log(&told);
    machine.expect_counts(&counters, (3, 0));
    // The same command uses the recorded failure; and continues when this is requested.
    expect_held(root, &upgrade, &["failing/1"]);
    root.run(&upgrade.replace("pacman", "DKMS_ALLOW=failing pacman")).ok();
    machine.expect_counts(&counters, (0, 1));
    root.expect_installed(&["bbswitch/0.8", "acpi-call/1.2.2"], &newer.release);
    expect_nothing_unpacked(root);
}

/// From a repository: the files are in pacman's cache.
#[test]
fn a_first_kernel_from_a_repository_is_held_or_comes_with_each_module_compiled_once() {
    let machine = machine();
    let root = &machine.root;
    let linux = &machine.kernels[0];
    root.run("pacman -S --noconfirm bbswitch-dkms failing-dkms").ok();
    root.write("/etc/dkms/policy.toml", HOLD);
    let install = "pacman -S --noconfirm linux linux-headers";
    let counters = Counters::install(root);
    expect_held(root, install, &["failing/1", &linux.release]);
    machine.expect_counts(&counters, (2, 0));
    root.run("rm -r /etc/dkms/policy.toml /var/cache/dkms /var/lib/dkms/.dkms-rs/failures").ok();
    let told = root.run(install).ok().says(&["failing/1", "failed modules do not block this transaction"]);
    machine.expect_counts(&counters, (2, 1));
    let (before, after) = told
        .all()
        .split_once(":: Processing package changes")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    assert!(before.contains("bbswitch/0.8 built for") && !after.contains("built for"), "{told}");
    root.expect_installed(&["bbswitch/0.8"], &linux.release);
    expect_nothing_unpacked(root);
}

#[test]
fn a_new_version_of_a_module_is_tried_before_it_replaces_the_one_that_serves() {
    let machine = Machine::with_everything();
    let root = &machine.root;
    let [linux, _, lts] = &machine.kernels;
    root.write("/etc/dkms/policy.toml", "[module.bbswitch]\non_unbuildable = \"hold\"\n");
    let counters = Counters::install(root);
    let upgrade = format!("pacman -U --noconfirm {}", machine.file("bbswitch-dkms", "0.10"));
    expect_held(root, &upgrade, &["bbswitch/0.10", &linux.release, &lts.release]);
    machine.expect_counts(&counters, (2, 0));
    root.expect_installed(&["bbswitch/0.8"], &linux.release);
    // A module that compiles.
    machine.add(&machine.file("bbswitch-dkms", "0.9")).ok().never_says(&["command failed", "error:"]);
    machine.expect_counts(&counters, (2, 2));
    root.expect_installed(&["bbswitch/0.9"], &linux.release);
}

/// A machine whose display uses bbswitch, as shown by its /sys.
const IN_USE: &str = "mkdir -p /opt/sys && cd /opt/sys && device=devices/pci0000:00/0000:01:00.0
mkdir -p $device/drm/card0 class/drm bus/pci/drivers/switch module/bbswitch
ln -s ../../$device/drm/card0 class/drm/card0
ln -s ../../../bus/pci/drivers/switch $device/driver
ln -s ../../../../module/bbswitch bus/pci/drivers/switch/module
mount --bind /opt/sys /sys";

#[test]
fn a_module_in_use_is_held_without_a_policy() {
    let machine = Machine::with_everything();
    let root = &machine.root;
    let linux = &machine.kernels[0];
    let upgrade = format!("pacman -U --noconfirm {}", machine.file("bbswitch-dkms", "0.10"));
    root.run(IN_USE).ok();
    expect_held(root, &upgrade, &["bbswitch/0.10", &linux.release, "DKMS_ALLOW=bbswitch"]);
    root.expect_installed(&["bbswitch/0.8"], &linux.release);
    // The administrator's word counts more; and another module may fail.
    root.run(&format!("DKMS_ALLOW=bbswitch {upgrade}")).ok();
    assert_eq!(root.run("pacman -Q bbswitch-dkms").ok().stdout.trim(), "bbswitch-dkms 0.10-1");
    root.run("pacman -S --noconfirm failing-dkms").ok();
    // The same upgrade, where nothing uses the module.
    let machine = Machine::with_everything();
    machine.root.run(&upgrade).ok().says(&["failed modules do not block this transaction"]);
}

#[test]
fn what_is_not_known_is_not_tried_and_stops_nobody() {
    let machine = Machine::with_everything();
    let root = &machine.root;
    root.write("/etc/dkms/policy.toml", HOLD);
    let broken = machine.file("bbswitch-dkms", "0.10");
    root.run(&format!("echo {broken} | pacman -U --noconfirm -")).ok().says(&["pre-build skipped", "pipe"]);
    // A missing hook, and one that crashes.
    for program in ["", "#!/bin/sh\nkill -ABRT $$\n"] {
        machine.remove("bbswitch-dkms").ok();
        root.run("mv /usr/lib/dkms/alpm-hook /opt/alpm-hook").ok();
        if !program.is_empty() {
            root.write_script("/usr/lib/dkms/alpm-hook", program);
        }
        machine.add(&broken).ok();
        root.run("mv -f /opt/alpm-hook /usr/lib/dkms/alpm-hook").ok();
    }
    // No relation to modules: nothing is printed.
    root.run("pacman -S --noconfirm base").ok().never_says(&["dkms: "]);
}
