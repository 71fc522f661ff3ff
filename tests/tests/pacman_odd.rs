//! pacman's hooks with unusual roots and unusual input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::pacman::{Machine, machine};
use dkms_tests::watch::Watch;
use dkms_tests::{Output, Root};

const MODULES: [&str; 2] = ["bbswitch/0.8", "acpi-call/1.2.2"];

/// Calls the hook as pacman does.
fn hook(root: &Root, verb: &str, lines: &str) -> Output {
    root.run_within(300, &format!("printf '{lines}' | /usr/lib/dkms/alpm-hook {verb}"))
}

#[test]
fn what_is_no_target_is_left_out_and_named() {
    let machine = Machine::with_everything();
    let root = &machine.root;
    let counters = Counters::install(root);
    for verb in ["post-transaction", "pre-remove"] {
        for lines in ["", "\\n\\n", "usr/bin/true\\n", "\\377\\376/\\001\\n"] {
            let told = hook(root, verb, lines).ok().quiet_stdout();
            assert_eq!(told.stderr, "", "{told}");
        }
    }
    for (line, why) in [
        ("usr/lib/modules/../vmlinuz", "contains"),
        ("usr/lib/modules/-x/vmlinuz", "option"),
        ("usr/lib/modules/a b/build/include/", "white space"),
    ] {
        hook(root, "post-transaction", &format!("{line}\\n"))
            .ok()
            .quiet_stdout()
            .says(&[line, why, "ignored"]);
    }
    // A source that is not a module's, or has an invalid name.
    for line in ["usr/src/gone-1/dkms.conf", "usr/src/nodash/dkms.conf", "usr/src/../dkms.conf"] {
        hook(root, "post-transaction", &format!("{line}\\n")).ok().quiet_stdout().never_says(&["panicked"]);
    }
    hook(root, "nonsense", "").exits(2).quiet_stdout();
    machine.expect_counts(&counters, (0, 0));
    for module in MODULES {
        root.expect_installed(&[module], &machine.kernels[0].release);
    }
}

/// The package manager goes on without our program, and with one that dies.
#[test]
fn a_missing_or_crashing_program_fails_nothing() {
    let machine = machine();
    let root = &machine.root;
    let linux = &machine.kernels[0];
    root.run("mv /usr/lib/dkms/alpm-hook /usr/lib/dkms/away").ok();
    let mut files = machine.kernel_files("linux", linux);
    for (ends, said) in [
        ("", "exited with status 127"),
        ("#!/bin/sh\nkill -KILL $$\n", "exited with status 137"),
        ("#!/bin/sh\nexit 77\n", "exited with status 77"),
        ("#!/nonexistent/loader\n", "exited with status 12"),
    ] {
        if !ends.is_empty() {
            root.write_script("/usr/lib/dkms/alpm-hook", ends);
        }
        let told = machine.add(&files).ok().says(&[said, "pre-build skipped", "dkms autoinstall"]);
        told.never_says(&["command failed"]);
        files = machine.file("bbswitch-dkms", "0.8");
    }
    machine.remove("bbswitch-dkms").ok().says(&["dkms autoinstall"]).never_says(&["command failed"]);
    root.run("mv /usr/lib/dkms/away /usr/lib/dkms/alpm-hook").ok();
    machine.add(&files).ok();
    root.expect_installed(&["bbswitch/0.8"], &linux.release);
}

/// AUR packages rely on the directory's name; some have a placeholder in dkms.conf.
#[test]
fn a_package_that_only_ships_a_source() {
    let machine = machine();
    let root = &machine.root;
    let linux = &machine.kernels[0];
    machine.add(&machine.kernel_files("linux", linux)).ok();
    let tree = machine.unpacked("bbswitch-dkms", "0.8");
    root.run(&format!(
        "cd {tree}/usr/src && mv bbswitch-0.8 bb-switch-r5.g1234 && sed -i 's/^PACKAGE_VERSION=.*/PACKAGE_VERSION=\"#MODULE_VERSION#\"/' */dkms.conf && \
         mkdir -p 'no dash' nodash && cp bb-switch-r5.g1234/* nodash/ && cp bb-switch-r5.g1234/* 'no dash/'"
    ))
    .ok();
    machine.make("bb-switch-git", "r5.g1234", "conflicts=(bbswitch-dkms)", &tree);
    let counters = Counters::install(root);
    machine.add(&machine.file("bb-switch-git", "r5.g1234")).ok().says(&["nodash", "no dash"]);
    machine.expect_counts(&counters, (1, 1));
    root.expect_installed(&["bb-switch/r5.g1234"], &linux.release);
    machine.remove("bb-switch-git").ok();
    assert_eq!(root.status(), []);
}

/// One package replaces another: pacman removes that one first, and our hook must not.
#[test]
fn a_package_that_replaces_another_keeps_the_module_until_it_is_built() {
    let machine = Machine::with_everything();
    let root = &machine.root;
    let linux = &machine.kernels[0];
    let tree = machine.unpacked("bbswitch-dkms", "0.9");
    machine.make("bbswitch-git", "0.9", "provides=(bbswitch-dkms)\nconflicts=(bbswitch-dkms)", &tree);
    let counters = Counters::install(root);
    let watch = Watch::on(root, &format!("{}/bbswitch.ko*", linux.dkms_dir()));
    // 4: yes, the conflicting package is removed.
    root.run(&format!("pacman -U --noconfirm --ask 4 {}", machine.file("bbswitch-git", "0.9"))).ok();
    watch.expect_never_missing();
    machine.expect_counts(&counters, (2, 2));
    root.expect_installed(&["bbswitch/0.9"], &linux.release);
    assert!(!root.exists("/var/lib/dkms/bbswitch/0.8"));
}

/// Other programs use libalpm, too. Then the hook before the removal cannot detect that it is one.
#[test]
fn a_removal_by_another_front_end() {
    let machine = Machine::with_everything();
    let root = &machine.root;
    let [linux, _, lts] = &machine.kernels;
    root.run("cp /usr/bin/pacman /usr/local/bin/frontend").ok();
    let counters = Counters::install(root);
    root.run("/usr/local/bin/frontend -R --noconfirm bbswitch-dkms linux linux-headers").ok();
    machine.expect_counts(&counters, (0, 1));
    assert!(!root.exists("/var/lib/dkms/bbswitch"));
    assert_eq!(root.find(&linux.modules_dir(), ""), [""; 0]);
    assert_eq!(lts.module_files(root).len(), 1);
}

#[test]
fn headers_without_their_kernel_wait_for_it() {
    let machine = machine();
    let root = &machine.root;
    let linux = &machine.kernels[0];
    let counters = Counters::install(root);
    let headers = machine.file("linux-headers", &linux.release);
    machine.add(&headers).ok();
    machine.add(&machine.file("bbswitch-dkms", "0.8")).ok().never_says(&["command failed"]);
    // It is built for all kernels with headers, and installed for none.
    machine.expect_counts(&counters, (1, 0));
    assert!(!root.exists(&linux.dkms_dir()));
    // They are removed without leftovers.
    machine.remove("linux-headers").ok();
    assert_eq!(root.find(&linux.modules_dir(), ""), [""; 0]);
    machine.add(&headers).ok();
    machine.add(&machine.file("linux", &linux.release)).ok().never_says(&["command failed"]);
    machine.expect_counts(&counters, (0, 1));
    root.expect_installed(&["bbswitch/0.8"], &linux.release);
    // A kernel keeps its modules if only its headers are removed.
    machine.remove("linux-headers").ok();
    assert_eq!(linux.module_files(root).len(), 1);
}

#[test]
fn headers_without_a_makefile_fail_with_a_reason() {
    let machine = machine();
    let root = &machine.root;
    let linux = &machine.kernels[0];
    machine.add(&machine.kernel_files("linux", linux)).ok();
    root.run(&format!("rm {}/build/Makefile", linux.modules_dir())).ok();
    machine.add(&machine.file("bbswitch-dkms", "0.8")).ok().says(&[
        "command failed to execute correctly",
        "bbswitch/0.8",
        "no makefile found",
    ]);
    assert_eq!(linux.module_files(root), []);
}

#[test]
fn a_read_only_usr_is_said_and_made_up_for() {
    let machine = Machine::with_everything();
    let root = &machine.root;
    let linux = &machine.kernels[0];
    let release = &linux.release;
    root.run(&format!("dkms unbuild bbswitch/0.8 -k {release}")).ok();
    root.run("mount --bind /usr /usr && mount -o remount,bind,ro /usr").ok();
    let line = format!("usr/lib/modules/{release}/vmlinuz\\n");
    let said = "/lib/modules is read-only: no module can be installed";
    hook(root, "post-transaction", &line).ok().quiet_stdout().says(&[said]);
    root.run("dkms status").ok().says(&["read-only"]);
    root.run("umount -l /usr").ok();
    hook(root, "post-transaction", &line).ok().quiet_stdout();
    root.expect_installed(&MODULES, release);
    linux.expect_vermagic(root);
}

/// A copy of the machine below /mnt/other; changes in it stay in it.
fn other_root(root: &Root, proc: bool) -> &'static str {
    root.run(
        "mkdir -p /mnt/other /run/layer && mount -t tmpfs tmpfs /run/layer && mkdir /run/layer/upper /run/layer/work && \
         mount -t overlay overlay -o lowerdir=/,upperdir=/run/layer/upper,workdir=/run/layer/work /mnt/other && \
         mknod -m 666 /mnt/other/dev/null c 1 3 2>/dev/null; true",
    )
    .ok();
    if proc {
        root.run("mount -t proc proc /mnt/other/proc").ok();
    }
    "/mnt/other"
}

fn below(option: &str) {
    let machine = Machine::with_everything();
    let root = &machine.root;
    let [linux, newer, lts] = &machine.kernels;
    let other = other_root(root, true);
    let before = linux.module_files(root);
    let files = machine.kernel_files("linux", newer);
    root.run(&format!("pacman {option} {other} -U --noconfirm {files}")).ok().never_says(&["command failed"]);
    // Everything happened there, and nothing here.
    assert_eq!(linux.module_files(root), before);
    assert!(!root.exists(&newer.modules_dir()));
    let there =
        |kernel: &dkms_tests::Kernel| root.find(&format!("{other}{}", kernel.dkms_dir()), "-name '*.ko*'");
    assert_eq!((there(linux).len(), there(newer).len(), there(lts).len()), (0, 2, 2));
    let vermagic = root.run(&format!("modinfo -F vermagic {}", there(newer)[0])).ok().stdout;
    assert!(vermagic.starts_with(&format!("{} ", newer.release)), "{vermagic}");
    assert_eq!(root.find(&format!("{other}{}", linux.modules_dir()), ""), [""; 0]);
}

#[test]
fn another_root() {
    below("--root");
}

/// objtool of newer kernels reads /proc; for other kernels only the sandbox is missing, and this is reported.
#[test]
fn another_root_without_proc() {
    let machine = Machine::with_everything();
    let root = &machine.root;
    let [linux, _, lts] = &machine.kernels;
    let other = other_root(root, false);
    let package = machine.file("bbswitch-dkms", "0.9");
    root.run(&format!("pacman --root {other} -U --noconfirm {package}"))
        .ok()
        .never_says(&["command failed"])
        .says(&["bbswitch/0.9 built and installed", "builds are not sandboxed"]);
    for kernel in [linux, lts] {
        let built = format!("/var/lib/dkms/bbswitch/0.9/{}", kernel.release);
        assert!(root.exists(&format!("{other}{built}")) && !root.exists(&built));
        assert_eq!(root.find(&format!("{other}{}", kernel.dkms_dir()), "-name '*.ko*'").len(), 2);
    }
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn another_sysroot() {
    below("--sysroot");
}

#[test]
fn a_masked_hook_does_nothing() {
    let machine = machine();
    let root = &machine.root;
    root.run(
        "mkdir -p /etc/pacman.d/hooks && cd /etc/pacman.d/hooks && \
         for hook in 00-dkms-incoming 70-dkms-install; do ln -s /dev/null $hook.hook; done",
    )
    .ok();
    let counters = Counters::install(root);
    machine.add(&machine.kernel_files("linux", &machine.kernels[0])).ok();
    machine.add(&machine.file("bbswitch-dkms", "0.8")).ok();
    machine.expect_counts(&counters, (0, 0));
    assert_eq!(root.status(), []);
}

/// The hook runs after a transaction that may have replaced the library.
#[test]
fn only_the_question_about_headers_needs_pacmans_library() {
    let machine = machine();
    let root = &machine.root;
    let needs = |program: &str| root.run(&format!("readelf -d {program}")).ok().stdout.contains("libalpm.so");
    assert!(needs("/usr/lib/dkms/alpm-headers"));
    assert!(!needs("/usr/lib/dkms/alpm-hook") && !needs("/usr/bin/dkms"));
    root.run("pacman -Qi dkms-rs").ok().says(&["dkms=3.4.3"]);
    root.run("pacman -Qkk dkms-rs").ok().says(&["0 altered files"]);
    assert_eq!(root.run("pacman -Qii dkms-rs").ok().stdout.matches("[unmodified]").count(), 4);
}
