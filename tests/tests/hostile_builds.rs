//! Builds that misbehave, in parallel with one that does not: the latter is installed, each of the others is reported
//! by name, and none of their processes is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Root, Suite, stage};

/// The misbehavior of a module before it is compiled, and the message in the summary; `None`: it is installed anyway.
const STORIES: &[(&str, &str, Option<&str>)] = &[
    ("prints-for-ever", "yes 'all work and no play'", Some("its log exceeded 64 MiB")),
    ("never-ends", "while :; do :; done", Some("timed out after 1 minutes")),
    // tail keeps a line without an end in memory.
    ("eats-memory", "tail /dev/zero", Some("the pre_build script failed")),
    ("asks-for-a-terminal", "read -r answer </dev/tty", Some("the pre_build script failed")),
    ("leaves-a-daemon", "setsid sleep 3600 >/dev/null 2>&1 & :", None),
    ("hides-a-daemon", "(trap '' HUP TERM INT; setsid sleep 3600 </dev/null >/dev/null 2>&1 &) ; :", None),
    ("multiplies", "f() { f | f & }; f; sleep 3; false", Some("the pre_build script failed")),
    // A search for the first errors in this log must not compare its lines with each other.
    (
        "repeats-itself",
        "yes '1:1: error: : In function ' | head -n 160000; false",
        Some("the pre_build script failed"),
    ),
    ("behaves", ":", None),
];

/// No process of a build is left: builds run as a dedicated user.
fn expect_no_leftovers(root: &Root) {
    let left = root.run("for p in /proc/[0-9]*; do stat -c %u $p 2>/dev/null | grep -Eqx '6552[0-9]|6553[0-2]' && tr '\\0' ' ' <$p/cmdline; done; ls -A /var/lib/dkms/.dkms-rs/work");
    assert_eq!(left.stdout.trim(), "", "{left}");
}

#[test]
fn bad_builds_beside_a_good_one() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    root.write("/etc/dkms/policy.toml", "[module.never-ends]\nbuild_minutes = 1\n");
    for (name, script, _) in STORIES {
        Sources::new(name, "1.0").conf("PRE_BUILD=\"before.sh\"").unpack(&root);
        root.write_script(&format!("/usr/src/{name}-1.0/before.sh"), &format!("#!/bin/bash\n{script}\n"));
        root.run(&format!("dkms add {name}/1.0")).ok();
    }
    let told = root.run_within(600, &format!("dkms autoinstall -k {} -j 2", kernel.release)).exits(11);
    for (name, _, end) in STORIES {
        let state = root.state_of(&format!("{name}/1.0"), &kernel.release);
        match end {
            None => assert_eq!(state, "installed", "{name}\n{told}"),
            Some(why) => {
                assert_eq!(state, "none", "{name}\n{told}");
                let line = format!("FAILED: {name}/1.0 for {}: ", kernel.release);
                let said = told.stderr.lines().find(|said| said.contains(&line)).unwrap_or_default();
                assert!(said.contains(why), "{name}: {said:?}\n{told}");
            }
        }
    }
    expect_no_leftovers(&root);
}

/// Root copies what POST_BUILD leaves next to the modules: the number and the size of these files are limited.
#[test]
fn files_that_post_build_leaves() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let rows = [
        ("many", "seq 200 | xargs -I N truncate -s 1K zN", "more than 100 files"),
        ("large", "truncate -s 60M z1 z2", "z2 is larger than 4 MiB"),
    ];
    for (name, leaves, why) in rows {
        Sources::new(name, "1.0").conf("POST_BUILD=\"after.sh\"").unpack(&root);
        let script =
            format!("#!/bin/bash\nset -e\ncd /var/lib/dkms/{name}/1.0/{}/x86_64\n{leaves}\n", kernel.release);
        root.write_script(&format!("/usr/src/{name}-1.0/after.sh"), &script);
        root.run(&format!("dkms add {name}/1.0")).ok();
        root.run(&format!("dkms install {name}/1.0 -k {}", kernel.release)).fails().says(&[why]);
    }
    let size = root
        .run("du -sm /var/lib/dkms /var/cache/dkms 2>/dev/null | awk '{ sum += $1 } END { print sum }'")
        .ok();
    assert!(size.stdout.trim().parse::<u32>().unwrap() < 50, "{size}");
}

/// One module's make takes every token of the job budget and returns none; another one ignores the budget.
#[test]
fn a_budget_that_is_stolen_or_ignored() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let steal = "obj-m := thief.o\nsteal:\n\t+@auth=$${MAKEFLAGS##*--jobserver-auth=}; auth=$${auth%% *}; \
                 timeout 3 cat <$${auth#fifo:} >/dev/null; test -n \"$$auth\"\n\
                 \t+$(MAKE) -C $(K) M=$(CURDIR) modules\n";
    Sources::new("thief", "1.0").conf("MAKE[0]=\"make steal K=${kernel_source_dir}\"").unpack(&root);
    root.write("/usr/src/thief-1.0/Makefile", steal);
    Sources::new("ignores", "1.0")
        .conf("MAKE[0]=\"make -j8 -C ${kernel_source_dir} M=${dkms_tree}/ignores/1.0/build modules\"")
        .unpack(&root);
    let honest = ["one", "two", "three", "four"];
    for name in honest {
        Sources::new(name, "1.0").unpack(&root);
    }
    for name in honest.iter().chain(&["thief", "ignores"]) {
        root.run(&format!("dkms add {name}/1.0")).ok();
    }
    root.run_within(300, &format!("dkms autoinstall -k {} -j 2", kernel.release)).ok();
    let all = ["thief/1.0", "ignores/1.0", "one/1.0", "two/1.0", "three/1.0", "four/1.0"];
    root.expect_installed(&all, &kernel.release);
    expect_no_leftovers(&root);
}

/// SIGINT while two modules are being built in parallel.
#[test]
fn an_interrupt_stops_all_builds() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    for name in ["left", "right"] {
        Sources::new(name, "1.0").unpack(&root);
        root.run(&format!("dkms install {name}/1.0 -k {}", kernel.release)).ok();
        Sources::new(name, "2.0").conf("PRE_BUILD=\"pause.sh\"").unpack(&root);
        root.write_script(
            &format!("/usr/src/{name}-2.0/pause.sh"),
            "#!/bin/sh\necho begun >begun\nsleep 600\n",
        );
        root.run(&format!("dkms add {name}/2.0")).ok();
    }
    let files = kernel.module_files(&root);
    // The signal arrives while both are in their pause; a second later no process of them may be left.
    let told = root.run_within(
        120,
        &format!(
            "setsid bash -c 'trap - INT; echo $$ >/opt/pid; exec dkms autoinstall -k {} -j 2' & \
             until [ $(find /var/lib/dkms/.dkms-rs/work -name begun | wc -l) = 2 ]; do sleep 0.1; done; \
             kill -INT $(cat /opt/pid); sleep 1; for p in /proc/[0-9]*; do stat -c %u $p 2>/dev/null | grep -Eqx '6552[0-9]|6553[0-2]' && echo still-running; done; wait $!",
            kernel.release
        ),
    );
    assert!(told.status != 0 && told.status != 124, "{told}");
    told.says(&["interrupted"]).never_says(&["still-running", "panicked"]);
    expect_no_leftovers(&root);
    assert_eq!(kernel.module_files(&root), files, "the old modules are in place");
    root.expect_installed(&["left/1.0", "right/1.0"], &kernel.release);
}

/// A user of the same number could change what is being built: the next number that is free is used.
#[test]
fn builds_run_as_a_user_that_has_no_entry_and_no_process() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    // All candidates but 65526 are taken, in different ways.
    root.run(
        "for id in $(seq 65520 65532); do case $id in 65526 | 65527 | 65528) ;; *) useradd -M -u $id -g 0 other$id ;; esac; done && \
         groupadd -g 65528 others",
    )
    .ok();
    root.start("exec setpriv --reuid=65527 --regid=65527 --clear-groups sleep 600");
    root.run("until grep -q '^Uid:.65527' /proc/[0-9]*/status; do sleep 0.1; done").ok();
    Sources::new("asks", "1.0").conf("PRE_BUILD=\"before.sh\"").unpack(&root);
    root.write_script("/usr/src/asks-1.0/before.sh", "#!/bin/bash\necho \"as $(id -u) $(id -g)\"\n");
    root.run(&format!("dkms add asks/1.0 && dkms install asks/1.0 -k {}", kernel.release)).ok();
    root.expect_installed(&["asks/1.0"], &kernel.release);
    root.run("grep -rqx 'as 65526 65526' /var/lib/dkms/asks --include=make.log").ok();
}
