//! A module that does not compile: an optional one never breaks a transaction, a critical one does, and in both cases
//! the reason is reported.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Output, Root, Suite, history, stage};

/// What `--json` prints is valid against the shipped schemas.
#[path = "../../core/tests/support/schemas.rs"]
mod schemas;

const BROKEN: &str = "broken-net/1.0";

/// The complete report: what failed, for which kernel, why, and where the log is.
#[track_caller]
fn expect_told(root: &Root, output: Output, kernel: &Kernel) {
    root.expect_log(&output);
    output.says(&[BROKEN, &kernel.release, "no_such_symbol_here"]).shows_compiler_error();
}

fn optional(suite: &'static Suite) {
    let (root, kernel) = stage::fine_and_broken(suite);
    root.write_script(
        "/etc/dkms/on-failure.d/note",
        "#!/bin/sh\ncat >>/opt/told; echo >>/opt/told; exit 1\n",
    );
    let told = kernel.install(&root).ok().says(&["dkms: /etc/dkms/on-failure.d/note: failed (exit code 1)"]);
    expect_told(&root, told, &kernel);
    // Once, although several hooks see it.
    let told = schemas::valid("history-show", &root.read("/opt/told"));
    assert_eq!(told["lines"][0]["module"]["name"], "broken-net", "{told:#}");
    root.expect_installed(&["fine/1.0"], &kernel.release);
    assert_ne!(root.state_of(BROKEN, &kernel.release), "installed");
    root.expect_clean_dpkg();
    kernel.expect_vermagic(&root);
}

fn critical(suite: &'static Suite) {
    let (root, kernel) = stage::fine_and_broken(suite);
    root.write("/etc/dkms/policy.toml", "critical = [\"zfs\", \"broken*\"]\n");
    // apt runs the pre-build.
    expect_told(&root, kernel.install(&root).exits(100).says(&["transaction aborted"]), &kernel);
    assert!(!root.exists(&kernel.modules_dir()));
    root.expect_clean_dpkg();
    // Without the pre-build, the failure occurs in the transaction.
    root.run("rm /etc/apt/apt.conf.d/05dkms").ok();
    expect_told(&root, kernel.install(&root).fails(), &kernel);
    root.expect_installed(&["fine/1.0"], &kernel.release);
    let audit = root.run("dpkg --audit").ok();
    assert!(audit.stdout.contains(&kernel.image()), "the kernel is held half-configured\n{audit}");
    // The admin changes the setting, and apt continues where it stopped.
    root.write("/etc/dkms/policy.toml", "critical = [\"zfs\"]\n");
    root.run("apt-get -q -y -f install").ok();
    root.expect_clean_dpkg();
}

#[test]
fn trixie_an_optional_module_never_breaks_the_transaction() {
    optional(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_an_optional_module_never_breaks_the_transaction() {
    optional(Suite::bookworm());
}

#[test]
fn trixie_a_critical_module_stops_it_and_the_admin_can_change_his_mind() {
    critical(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_a_critical_module_stops_it_and_the_admin_can_change_his_mind() {
    critical(Suite::bookworm());
}

#[test]
fn a_failure_is_remembered_told_again_and_not_built_again() {
    let (root, kernel) = stage::fine_and_broken(Suite::trixie());
    // First: a failure of the pre-build is used while make and the compiler are unchanged, and these are replaced for
    // counting.
    let counters = Counters::install(&root);
    kernel.install(&root).ok();
    counters.take();
    let hook = format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}", kernel.release);
    root.run(&hook).ok().quiet_stdout().says(&[BROKEN]);
    assert_eq!(counters.take().builds, 0, "nothing in its key has changed");
    // An explicit command retries.
    expect_told(
        &root,
        root.run(&format!("dkms install {BROKEN} -k {} --force", kernel.release)).fails(),
        &kernel,
    );
    assert_eq!(counters.take().builds, 1);
    // A repaired source has another fingerprint.
    Sources::new("broken-net", "1.0").unpack(&root);
    root.run(&hook).ok().quiet_stdout();
    root.expect_installed(&[BROKEN], &kernel.release);
}

#[test]
fn history_repeats_the_summary_when_the_terminal_is_gone() {
    let (root, kernel) = stage::fine_and_broken(Suite::trixie());
    kernel.install(&root).ok();
    let transaction = history::transactions(&root)
        .into_iter()
        .find(|id| history::entries(&root, id).iter().any(|e| e.module == BROKEN && e.outcome == "failed"));
    let id = transaction.expect("the failed transaction is recorded");
    root.run("dkms history").ok().says(&[&id]);
    expect_told(&root, root.run(&format!("dkms history show {id}")).ok(), &kernel);
    root.run("dkms history show no-such-id").fails().says(&["no-such-id"]);
}

#[test]
fn a_typing_error_in_the_policy_is_named_with_file_and_line() {
    let (root, kernel) = stage::fine_and_broken(Suite::trixie());
    root.write("/etc/dkms/policy.toml", "# mine\ncritcal = [\"zfs\"]\n");
    let told = root.run(&format!("dkms autoinstall -k {}", kernel.release)).fails();
    told.says(&["/etc/dkms/policy.toml", "critcal", "2"]);
}

#[test]
fn the_summary_names_the_kernel_that_still_has_the_module() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    // Compiles for the installed kernel, but not for the next one.
    Sources::new("picky", "1.0").unpack(&root);
    let code = root.read("/usr/src/picky-1.0/picky.c");
    let code = format!(
        "#include <generated/utsrelease.h>\n#ifdef NEXT_KERNEL\n#error too new for picky\n#endif\n{code}"
    );
    root.write("/usr/src/picky-1.0/picky.c", code);
    root.run(&format!("dkms add picky/1.0 && dkms install picky/1.0 -k {}", kernel.release)).ok();
    let next = format!("9{}", kernel.release);
    let headers = format!("/usr/src/linux-headers-{next}");
    root.run(&format!(
        "cp -a /usr/src/{} {headers} && mkdir /usr/lib/modules/{next} && ln -s {headers} /usr/lib/modules/{next}/build && \
         cd {headers} && echo {next} >include/config/kernel.release && \
         printf '#define UTS_RELEASE \"{next}\"\\n#define NEXT_KERNEL\\n' >include/generated/utsrelease.h",
        kernel.headers()
    ))
    .ok();
    let told =
        root.run(&format!("/etc/kernel/postinst.d/dkms {next} /boot/vmlinuz-{next}")).ok().quiet_stdout();
    let told = told.says(&["picky/1.0", &next, "too new for picky"]).shows_compiler_error();
    root.expect_log(&told);
    let others = told.all().replace(&next, "");
    assert!(others.contains(&kernel.release), "the kernel that still has it is not named\n{told}");
    root.expect_installed(&["picky/1.0"], &kernel.release);
}

/// Programs that a build needs, and the words by which the call is known that must not survive.
const STRUCK: [(&str, &str, &str); 5] = [
    ("ld", "/usr/bin/x86_64-linux-gnu-ld", "struck.ko"),
    ("make", "/usr/bin/make", "modules"),
    ("bash", "/usr/bin/bash", "KERNELRELEASE="),
    ("sh", "/usr/bin/sh", "struck.ko"),
    ("cc1", "/usr/libexec/gcc/x86_64-linux-gnu/14/cc1", "struck.c"),
];

/// What was killed from outside is no fault of the module: the next run builds it, without --force.
#[test]
fn a_build_in_which_something_was_killed_is_built_by_the_next_run() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    for (name, program, words) in STRUCK {
        let root = Root::on(&layer);
        root.note(name);
        Sources::new("struck", "1.0").unpack(&root);
        root.run(&format!("cp /usr/bin/bash /opt/bash && cp -L {program} {program}.real && rm {program}"))
            .ok();
        root.write_script(
            program,
            &format!(
                "#!/opt/bash\ncase \"$*\" in *'{words}'*) [ ! -e /opt/strike ] || kill -KILL $$ ;; esac\nexec {program}.real \"$@\"\n"
            ),
        );
        root.write("/opt/strike", "");
        let autoinstall = format!("dkms add struck/1.0; dkms autoinstall -k {}", kernel.release);
        root.run(&autoinstall).exits(11).says(&["struck/1.0", "killed by signal 9"]);
        // It happens again, and is no reason to give up.
        root.run(&autoinstall).exits(11).says(&["killed by signal 9"]);
        root.run("rm /opt/strike").ok();
        root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok();
        root.expect_installed(&["struck/1.0"], &kernel.release);
    }
}

/// A makefile can print what it likes.
#[test]
fn a_signal_that_is_only_printed_is_not_believed() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let counters = Counters::install(&root);
    for (name, does) in [
        ("prints", "echo 'make[1]: *** [Makefile:3: all] Error 137'; echo 'make: *** [all] Killed'; false"),
        ("imitates", "exit 137"),
        ("misses", "echo '/bin/sh: 1: bc: not found'; echo 'make: *** [Makefile:1: all] Error 127'; false"),
    ] {
        Sources::new(name, "1.0").conf("PRE_BUILD=\"before.sh\"").unpack(&root);
        root.write_script(&format!("/usr/src/{name}-1.0/before.sh"), &format!("#!/bin/bash\n{does}\n"));
        let autoinstall = format!("dkms add {name}/1.0; dkms autoinstall -k {}", kernel.release);
        root.run(&autoinstall).exits(11).says(&[name]).never_says(&["killed by signal", "not installed\n"]);
        root.run(&format!("dkms remove {name}/1.0 --all")).ok();
    }
    // The same in a makefile: it is its own failure, and not repeated at every hook.
    Sources::new("makes", "1.0").conf("MAKE[0]=\"make pretend\"").unpack(&root);
    root.write(
        "/usr/src/makes-1.0/Makefile",
        "pretend:\n\t@echo 'make[1]: *** [Makefile:3: all] Error 137'; echo pretended; false\n",
    );
    let autoinstall = format!("dkms autoinstall -k {}", kernel.release);
    counters.take();
    root.run(&format!("dkms add makes/1.0; {autoinstall}")).exits(11).never_says(&["killed by signal"]);
    assert_eq!(counters.take().builds, 1);
    root.run(&autoinstall).exits(11);
    assert_eq!(counters.take().builds, 0);
}

/// A unit that failed at every boot because of an optional module would hide other failures.
#[test]
fn the_boot_service_fails_for_critical_modules_only() {
    let (root, kernel) = stage::fine_and_broken(Suite::trixie());
    kernel.install(&root).ok();
    let unit = root.read("/usr/lib/systemd/system/dkms.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let start = start.replace("%v", &kernel.release);
    root.run(&start).ok().says(&[BROKEN]);
    root.run("dkms status").ok().says(&[BROKEN, "FAILED"]);
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).exits(11);
    root.write("/etc/dkms/policy.toml", "critical = [\"broken*\"]\n");
    root.run(&start).exits(11).says(&[BROKEN]);
}
