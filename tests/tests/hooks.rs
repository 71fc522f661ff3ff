//! The hooks and helper scripts as called by other packages: their arguments, their output, their exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, stage};

/// A registered module that is not built yet, and a kernel with headers.
fn waiting() -> (Root, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let sources = Sources::new("waiting", "1.0");
    sources.unpack(&root);
    root.run("dkms add -m waiting -v 1.0").ok();
    (root, kernel)
}

fn builds_in_silence(command: &str) {
    let (root, kernel) = waiting();
    let command = command.replace("KERNEL", &kernel.release);
    root.run(&command).ok().quiet_stdout();
    root.expect_installed(&["waiting/1.0"], &kernel.release);
    kernel.expect_vermagic(&root);
}

#[test]
fn the_image_hook() {
    builds_in_silence(
        "DEB_MAINT_PARAMS='configure ' /etc/kernel/postinst.d/dkms KERNEL /boot/vmlinuz-KERNEL",
    );
}

#[test]
fn the_headers_hook() {
    builds_in_silence("DEB_MAINT_PARAMS='configure ' /etc/kernel/header_postinst.d/dkms KERNEL");
}

#[test]
fn the_autoinstaller_that_other_packages_and_boot_scripts_call() {
    builds_in_silence("/usr/lib/dkms/dkms_autoinstaller start KERNEL");
}

#[test]
fn run_parts_as_bookworm_calls_it() {
    builds_in_silence(
        "run-parts --report --exit-on-error --arg=KERNEL --arg=/boot/vmlinuz-KERNEL /etc/kernel/postinst.d",
    );
}

#[test]
fn common_postinst_with_the_arguments_of_dh_dkms() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    Sources::new("fresh", "1.0").unpack(&root);
    root.run("/usr/lib/dkms/common.postinst fresh 1.0 /usr/share/fresh-dkms '' ''").ok().quiet_stdout();
    root.expect_installed(&["fresh/1.0"], &kernel.release);
    // Configured again, as `dpkg --configure` does after an interruption: nothing to do.
    let counters = Counters::install(&root);
    root.run("/usr/lib/dkms/common.postinst fresh 1.0 /usr/share/fresh-dkms '' 1.0").ok().quiet_stdout();
    assert_eq!(counters.take().builds, 0);
    root.expect_installed(&["fresh/1.0"], &kernel.release);
}

#[test]
fn preinst_takes_nothing_away_and_prerm_only_on_removal() {
    let (root, kernel) = waiting();
    let release = &kernel.release;
    root.run(&format!("dkms install waiting/1.0 -k {release}")).ok();
    let files = kernel.module_files(&root);
    for params in ["install", "upgrade 1 2"] {
        let hook = format!(
            "DEB_MAINT_PARAMS='{params}' /etc/kernel/preinst.d/dkms {release} /boot/vmlinuz-{release}"
        );
        root.run(&hook).ok().quiet_stdout();
        assert_eq!(kernel.module_files(&root), files, "preinst {params}");
    }
    let prerm = |params: &str| {
        let hook =
            format!("DEB_MAINT_PARAMS='{params}' /etc/kernel/prerm.d/dkms {release} /boot/vmlinuz-{release}");
        root.run(&hook).ok().quiet_stdout();
    };
    prerm("upgrade 2");
    assert_eq!(kernel.module_files(&root), files, "an upgrade is not a removal");
    prerm("remove");
    assert_eq!(kernel.module_files(&root), [], "removed");
    assert!(!root.exists(&kernel.dkms_dir()), "no empty directory stays");
}

#[test]
fn hooks_refuse_what_is_no_kernel_release() {
    let (root, _) = waiting();
    for bad in ["../../etc", "'a b'", "-x", "''"] {
        for hook in ["postinst.d", "prerm.d", "header_postinst.d", "preinst.d"] {
            let told = root.run_within(60, &format!("/etc/kernel/{hook}/dkms {bad}"));
            assert!(told.status != 124 && told.status < 128, "no hang, no crash\n{told}");
            told.quiet_stdout().never_says(&["panicked"]);
        }
    }
    assert_eq!(
        root.find("/var/lib/dkms/waiting/1.0", "-mindepth 1 -maxdepth 1 -type d -not -name build"),
        [""; 0]
    );
}

/// apt and dpkg go on without our program, and with one that dies: before the transaction, for the kernel, for a module.
#[test]
fn a_missing_or_crashing_program_fails_no_package() {
    let (root, kernel) = stage::fine_and_broken(Suite::trixie());
    let hook = "/usr/lib/dkms/apt-hook";
    root.run(&format!("mv {hook} /usr/lib/dkms/away")).ok();
    let package = Sources::new("late", "1.0").package(&root);
    for (ends, said) in [
        ("#!/bin/sh\nkill -KILL $$\n", "exited with status 137"),
        ("#!/bin/sh\nexit 77\n", "exited with status 77"),
        ("#!/bin/sh\nexit 101\n", "exited with status 101"),
        ("#!/nonexistent/loader\n", "exited with status 12"),
    ] {
        root.write_script(hook, ends);
        let told = root.apt_install(&["--reinstall", &package, &kernel.image(), &kernel.headers()]).ok();
        told.says(&[
            said,
            "pre-build skipped",
            "kernel modules may be missing; to build them, run dkms autoinstall",
        ]);
        root.expect_clean_dpkg();
    }
    root.run(&format!("rm {hook}")).ok();
    root.apt_install(&["--reinstall", &package, &kernel.image(), &kernel.headers()]).ok();
    root.expect_clean_dpkg();
    // As the line says.
    root.run(&format!("mv /usr/lib/dkms/away {hook} && dkms autoinstall -k {}", kernel.release));
    root.expect_installed(&["fine/1.0"], &kernel.release);
}
