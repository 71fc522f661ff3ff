//! `pacman -Syu` with real kernels in Arch's layout: one plan for the transaction, each module built once for each
//! kernel, one
//! depmod run of ours, all before the hook that generates the initramfs, and no leftovers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::pacman::{LINUX, Machine, machine};
use dkms_tests::{Kernel, Output, history};

const MODULES: [&str; 2] = ["bbswitch/0.8", "acpi-call/1.2.2"];

/// Both kernels and both modules, everything built.
fn both() -> Machine {
    Machine::with_everything()
}

fn files(machine: &Machine, kernel: &Kernel) -> Vec<(String, String)> {
    kernel.module_files(&machine.root)
}

/// Requires that the hook after ours found these modules in the kernel's modules.dep, and their files.
#[track_caller]
fn expect_seen(machine: &Machine, kernel: &Kernel, modules: &[&str]) {
    let mut seen: Vec<String> = machine
        .seen_late()
        .iter()
        .filter_map(|line| line.strip_prefix(&format!("{} ", kernel.release)).map(str::to_owned))
        .map(|file| file.rsplit('/').next().unwrap().split(".ko").next().unwrap().to_owned())
        .collect();
    seen.sort();
    let mut wanted: Vec<String> = modules.iter().map(|name| (*name).to_owned()).collect();
    wanted.sort();
    assert_eq!(seen, wanted, "{}", kernel.release);
}

#[track_caller]
fn expect_gone(machine: &Machine, kernel: &Kernel) {
    assert_eq!(
        machine.root.find(&kernel.modules_dir(), ""),
        [""; 0],
        "nothing may stay of {}",
        kernel.release
    );
    let pattern = format!("-path '*{}*' -not -path '*/.dkms-rs/history/*'", kernel.release);
    assert_eq!(machine.root.find("/var/lib/dkms", &pattern), [""; 0]);
}

/// pacman continues after a failed hook, and reports it.
#[track_caller]
fn expect_hook_failed(output: Output) -> Output {
    output.ok().says(&["command failed to execute correctly"])
}

#[track_caller]
fn expect_hook_succeeded(output: Output) -> Output {
    output.ok().never_says(&["command failed", "error:"])
}

#[test]
fn install() {
    let machine = machine();
    let root = &machine.root;
    let [linux, _, lts] = &machine.kernels;
    // Modules without any kernel: registered, nothing to build.
    let counters = Counters::install(root);
    expect_hook_succeeded(root.run("pacman -S --noconfirm bbswitch-dkms acpi-call-dkms"));
    machine.expect_counts(&counters, (0, 0));
    // Two kernels with their headers in one transaction.
    let all = format!("{} {}", machine.kernel_files("linux", linux), machine.kernel_files("linux-lts", lts));
    expect_hook_succeeded(machine.add(&all));
    machine.expect_counts(&counters, (4, 2));
    for kernel in [linux, lts] {
        root.expect_installed(&MODULES, &kernel.release);
        kernel.expect_vermagic(root);
        expect_seen(&machine, kernel, &["bbswitch", "acpi_call"]);
    }
    // The same again: nothing is built twice, and no result is printed.
    expect_hook_succeeded(machine.add(&all)).never_says(&["dkms: building", "installed for", "dkms: 6."]);
    machine.expect_counts(&counters, (0, 0));
    assert_eq!(history::transactions(root).len(), 2);
    // No key was generated: on Arch, signing is opt-in.
    assert!(!root.exists("/var/lib/dkms/mok.key"));
}

#[test]
fn upgrade_of_one_of_two_kernels() {
    let machine = both();
    let root = &machine.root;
    let [linux, newer, lts] = &machine.kernels;
    let untouched = files(&machine, lts);
    let counters = Counters::install(root);
    expect_hook_succeeded(machine.add(&machine.kernel_files("linux", newer)));
    machine.expect_counts(&counters, (2, 1));
    root.expect_installed(&MODULES, &newer.release);
    newer.expect_vermagic(root);
    expect_seen(&machine, newer, &["bbswitch", "acpi_call"]);
    expect_gone(&machine, linux);
    assert_eq!(files(&machine, lts), untouched, "the kernel beside it is not touched");
    expect_seen(&machine, lts, &["bbswitch", "acpi_call"]);
    assert_eq!(root.run("pacman -Qk linux linux-headers linux-lts 2>&1 | grep -v ', 0 missing'").stdout, "");
    let console = dkms_tests::boot::boot_and_load(root, newer, "acpi_call");
    for wanted in ["LOADED acpi_call", "PROC acpi_call"] {
        assert!(console.contains(wanted), "{wanted:?} is not on the console\n{console}");
    }
}

#[test]
fn removal_of_a_kernel() {
    let machine = both();
    let [linux, _, lts] = &machine.kernels;
    let untouched = files(&machine, lts);
    let counters = Counters::install(&machine.root);
    expect_hook_succeeded(machine.remove("linux linux-headers"));
    machine.expect_counts(&counters, (0, 0));
    expect_gone(&machine, linux);
    assert_eq!(files(&machine, lts), untouched);
    machine.root.expect_installed(&MODULES, &lts.release);
}

#[test]
fn a_module_package_comes_changes_and_goes() {
    let machine = machine();
    let root = &machine.root;
    let [linux, _, lts] = &machine.kernels;
    expect_hook_succeeded(machine.add(&format!(
        "{} {}",
        machine.kernel_files("linux", linux),
        machine.kernel_files("linux-lts", lts)
    )));
    let counters = Counters::install(root);
    expect_hook_succeeded(machine.add(&machine.file("bbswitch-dkms", "0.8")));
    machine.expect_counts(&counters, (2, 2));
    expect_seen(&machine, linux, &["bbswitch"]);
    // Upgraded: the new version replaces the old one.
    expect_hook_succeeded(machine.add(&machine.file("bbswitch-dkms", "0.9")));
    machine.expect_counts(&counters, (2, 2));
    root.expect_installed(&["bbswitch/0.9"], &linux.release);
    assert!(!root.exists("/var/lib/dkms/bbswitch/0.8"), "the old version is forgotten");
    let (before, before_lts) = (files(&machine, linux), files(&machine, lts));
    // A new version that does not compile does not remove the old one.
    let told = expect_hook_failed(machine.add(&machine.file("bbswitch-dkms", "0.10")))
        .says(&["bbswitch/0.10"])
        .shows_compiler_error();
    root.expect_log(&told);
    assert_eq!(files(&machine, linux), before, "the old module stays until its successor is proven");
    assert_eq!(files(&machine, lts), before_lts);
    expect_seen(&machine, linux, &["bbswitch"]);
    counters.take();
    // Removed: nothing is left, including stand-ins.
    let told = expect_hook_succeeded(machine.remove("bbswitch-dkms"));
    let (before, after) = told.stdout.split_once(":: Processing package changes").expect("pacman removes");
    assert!(before.contains("bbswitch/0.9 removed from"), "while its scripts are there\n{told}");
    assert!(!after.contains("dkms: "), "once\n{told}");
    machine.expect_counts(&counters, (0, 2));
    for kernel in [linux, lts] {
        assert!(!root.exists(&kernel.dkms_dir()), "no empty directory stays");
        assert!(!root.read(&format!("{}/modules.dep", kernel.modules_dir())).contains("bbswitch"));
    }
    assert!(!root.exists("/var/lib/dkms/bbswitch"));
    assert_eq!(root.find("/usr/src", "-name 'bbswitch*'"), [""; 0]);
}

#[test]
fn missing_headers_are_named_and_make_up_for_it_when_they_come() {
    let machine = machine();
    let root = &machine.root;
    let lts = &machine.kernels[2];
    expect_hook_succeeded(root.run("pacman -S --noconfirm bbswitch-dkms"));
    let counters = Counters::install(root);
    expect_hook_failed(machine.add(&machine.file("linux-lts", &lts.release)))
        .says(&["run `pacman -S linux-lts-headers`", "bbswitch/0.8"]);
    machine.expect_counts(&counters, (0, 0));
    // If the package database has no answer, the kernel's package base is used.
    root.run("chmod 644 /usr/lib/dkms/alpm-headers").ok();
    root.run(&format!("dkms autoinstall -k {}", lts.release)).says(&["run `pacman -S linux-lts-headers`"]);
    root.run("chmod 755 /usr/lib/dkms/alpm-headers").ok();
    expect_hook_succeeded(machine.add(&machine.file("linux-lts-headers", &lts.release)));
    machine.expect_counts(&counters, (1, 1));
    root.expect_installed(&["bbswitch/0.8"], &lts.release);
}

#[test]
fn headers_of_another_version_are_named_with_both_versions() {
    let machine = both();
    let newer = &machine.kernels[1];
    let (old, new) = (LINUX.version(&machine.kernels[0].release), LINUX.version(&newer.release));
    let told = format!("upgrade linux-headers from {old}-1 to {new}-1");
    expect_hook_failed(machine.add(&machine.file("linux", &newer.release))).says(&[&told]);
}

#[test]
fn a_module_that_fails_is_the_last_word_and_stops_nobody_else() {
    let machine = machine();
    let root = &machine.root;
    let linux = &machine.kernels[0];
    expect_hook_succeeded(root.run("pacman -S --noconfirm bbswitch-dkms failing-dkms"));
    let counters = Counters::install(root);
    let told = expect_hook_failed(machine.add(&machine.kernel_files("linux", linux)))
        .says(&["FAILED: failing/1", "dkms history show"])
        .shows_compiler_error();
    root.expect_log(&told);
    machine.expect_counts(&counters, (2, 1));
    root.expect_installed(&["bbswitch/0.8"], &linux.release);
    expect_seen(&machine, linux, &["bbswitch"]);
}

/// The replaced kernel is not listed among the kernels with the module.
#[test]
fn a_module_that_fails_for_the_new_kernel_names_the_kernels_that_stay() {
    let machine = both();
    let root = &machine.root;
    let [linux, newer, lts] = &machine.kernels;
    let packages =
        format!("{} {}", machine.kernel_files("linux", newer), machine.file("bbswitch-dkms", "0.10"));
    let before = files(&machine, lts);
    let told = expect_hook_failed(machine.add(&packages));
    let (before_changes, after) = told
        .all()
        .split_once(":: Processing package changes")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    // Explained before, and counted after.
    assert!(before_changes.contains("dkms: FAILED: bbswitch/0.10 for "), "{told}");
    assert!(after.contains("1 FAILED (dkms history show ") && !after.contains("dkms: FAILED: "), "{told}");
    assert!(
        !after.contains(&format!("{}, ", linux.release))
            && !after.contains(&format!("still installed for {}", linux.release)),
        "{told}"
    );
    expect_gone(&machine, linux);
    assert_eq!(files(&machine, lts), before, "the old module serves until its successor is proven");
    root.expect_installed(&["acpi-call/1.2.2"], &newer.release);
    expect_seen(&machine, newer, &["acpi_call"]);
}

/// A transaction with everything at once still has one plan.
#[test]
fn everything_at_once() {
    let machine = both();
    let root = &machine.root;
    let [linux, newer, lts] = &machine.kernels;
    let counters = Counters::install(root);
    let files = [
        machine.kernel_files("linux", newer),
        machine.file("bbswitch-dkms", "0.9"),
        machine.file("acpi-call-dkms", "1.2.2"),
    ];
    expect_hook_succeeded(machine.add(&files.join(" ")));
    // Both for the new kernel, the upgraded one for the other kernel.
    machine.expect_counts(&counters, (3, 2));
    expect_gone(&machine, linux);
    root.expect_installed(&["bbswitch/0.9", "acpi-call/1.2.2"], &newer.release);
    root.expect_installed(&["bbswitch/0.9", "acpi-call/1.2.2"], &lts.release);
    assert_eq!(history::transactions(root).len(), 2, "one plan");
}
