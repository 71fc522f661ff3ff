//! Kills at every point of a transaction: the real program is killed without a chance to clean up. The next command
//! must find complete files and repair everything.
//!
//! The expected result is not listed, but computed: it is that of a second, undisturbed run of the same commands. After
//! a kill and the next command, everything on disk must be as if the killed command had been completed, or as if it had
//! not been run.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // a test makes files and stops at the first surprise

mod story;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::fs;

use story::{Story, play, play_again};
use world::World;

const KERNEL: &str = "6.1.0-1-fp";

/// Every rename and every deletion of the program.
const ANY_EFFECT: &str = "file:before-effect";

const TARGET: &str = "6.1.0-1-fp/x86_64";

fn run(world: &World, commands: &[&[&str]]) {
    for words in commands {
        let ended = world.dkms(words);
        assert_eq!(ended.code, 0, "{words:?}: {}", ended.stderr);
    }
}

const INSTALL_1: &[&str] = &["install", "a/1", "-k", TARGET];

const INSTALL_2: &[&str] = &["install", "a/2", "-k", TARGET];

const BUILD_1: &[&str] = &["build", "a/1", "-k", TARGET];

const BUILD_2: &[&str] = &["build", "a/2", "-k", TARGET];

const PUBLISH: &[&str] = &[
    "make:before-publish",
    "publish:staged",
    "publish:intended",
    "publish:originals-kept",
    "publish:between-files",
    "publish:renamed",
    "publish:swapped",
    "publish:before-activate",
    "publish:activated",
    "publish:noted",
    "finish:before-depmod",
    "finish:before-fulfilled",
];

const WITHDRAW: &[&str] = &[
    "withdraw:intended",
    "withdraw:restored",
    "withdraw:between-files",
    "withdraw:finished",
    "withdraw:before-deactivate",
    "withdraw:deactivated",
    "finish:before-depmod",
    "finish:before-fulfilled",
];

#[test]
fn a_first_installation() {
    play(&Story {
        before: |world| run(world, &[BUILD_1]),
        command: INSTALL_1,
        version: "1",
        parts: &[],
        also: "",
        points: PUBLISH,
    });
}

#[test]
fn an_installation_of_what_is_not_registered() {
    let points = &["make:before-adopt", "make:adopted"];
    play(&Story {
        before: |_| {},
        command: INSTALL_1,
        version: "1",
        parts: &[&["add", "a/1"], BUILD_1],
        also: "",
        points,
    });
}

#[test]
fn an_installation_over_the_kernels_own() {
    let before = |world: &World| {
        world.originals();
        run(world, &[BUILD_1]);
    };
    play(&Story { before, command: INSTALL_1, version: "1", parts: &[], also: "", points: PUBLISH });
}

#[test]
fn an_upgrade() {
    let before = |world: &World| run(world, &[INSTALL_1, BUILD_2]);
    play(&Story { before, command: INSTALL_2, version: "2", parts: &[], also: "", points: PUBLISH });
}

#[test]
fn an_upgrade_of_what_its_package_left() {
    let before = |world: &World| {
        run(world, &[INSTALL_1, BUILD_2]);
        world.replace();
    };
    play(&Story {
        before,
        command: INSTALL_2,
        version: "2",
        parts: &[],
        also: "",
        points: &["publish:activated", "publish:noted"],
    });
}

fn changed(world: &World) {
    run(world, &[INSTALL_1]);
    world.source("1", ["a", "b"], "1.1");
}

const AUTOINSTALL: &[&str] = &["autoinstall", "-k", TARGET];

#[test]
fn a_new_build_of_what_is_installed() {
    let points = &[
        "make:before-adopt",
        "make:adopted",
        "make:before-publish",
        "publish:between-files",
        "publish:noted",
    ];
    play(&Story { before: changed, command: AUTOINSTALL, version: "1", parts: &[], also: "", points });
}

#[test]
fn a_new_build_where_directories_cannot_be_exchanged() {
    let points = &["make:adopted", "publish:between-files"];
    play(&Story {
        before: changed,
        command: AUTOINSTALL,
        version: "1",
        parts: &[],
        also: "file:no-exchange=return",
        points,
    });
}

fn over_originals(world: &World) {
    world.originals();
    run(world, &[INSTALL_1]);
}

#[test]
fn an_uninstallation() {
    let command = &["uninstall", "a/1", "-k", TARGET];
    play(&Story { before: over_originals, command, version: "1", parts: &[], also: "", points: WITHDRAW });
}

#[test]
fn a_removal() {
    let points =
        &["withdraw:restored", "withdraw:between-files", "withdraw:deactivated", "withdraw:before-unbuild"];
    play(&Story {
        before: over_originals,
        command: &["remove", "a/1", "--all"],
        version: "1",
        // Not a part: what has begun to leave leaves.
        parts: &[],
        also: "",
        points,
    });
}

#[test]
fn a_removal_of_a_build() {
    play(&Story {
        before: over_originals,
        command: &["unbuild", "a/1", "-k", TARGET],
        version: "1",
        parts: &[],
        also: "",
        points: &["withdraw:finished", "withdraw:before-unbuild"],
    });
}

#[test]
fn a_kernel_that_leaves() {
    let points =
        &["withdraw:restored", "withdraw:between-files", "withdraw:deactivated", "withdraw:before-unbuild"];
    play(&Story {
        before: over_originals,
        command: &["kernel_prerm", "-k", TARGET],
        version: "1",
        parts: &[],
        also: "",
        points,
    });
}

#[test]
fn a_repair_of_an_installation() {
    let before = |world: &World| {
        world.originals();
        run(world, &[BUILD_1]);
    };
    let points = &["publish:between-files"];
    play_again(&Story { before, command: INSTALL_1, version: "1", parts: &[], also: "", points });
}

#[test]
fn a_repair_of_an_upgrade() {
    let before = |world: &World| {
        run(world, &[INSTALL_1, BUILD_2]);
        world.replace();
    };
    let points = &["publish:activated"];
    play_again(&Story { before, command: INSTALL_2, version: "2", parts: &[], also: "", points });
}

#[test]
fn a_repair_of_an_uninstallation() {
    let command = &["uninstall", "a/1", "-k", TARGET];
    let points = &["withdraw:restored"];
    play_again(&Story { before: over_originals, command, version: "1", parts: &[], also: "", points });
}

/// Version 1 with scripts that write a line.
fn with_scripts(world: &World) {
    world.root.add("src/a-1/note.sh = #!/bin/sh\\necho \"$1\" >> $ROOT/scripts\\n");
    let script = world.root.join("src/a-1/note.sh");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let conf = world.root.join("src/a-1/dkms.conf");
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{text}POST_INSTALL=\"note.sh installed\"\nPOST_REMOVE=\"note.sh removed\"\n"))
        .unwrap();
}

#[test]
fn scripts_that_a_death_kept_from_running_run_later() {
    let uninstall: &[&str] = &["uninstall", "a/1", "-k", TARGET];
    for (before, command, point, expected) in [
        (BUILD_1, INSTALL_1, "publish:intended", "installed"),
        (BUILD_1, INSTALL_1, "publish:activated", "installed"),
        (BUILD_1, INSTALL_1, "publish:noted", "installed"),
        (INSTALL_1, uninstall, "withdraw:intended", "removed"),
        (INSTALL_1, uninstall, "withdraw:deactivated", "removed"),
        (INSTALL_1, &["remove", "a/1", "--all"], "withdraw:deactivated", "removed"),
    ] {
        let world = World::new();
        with_scripts(&world);
        run(&world, &[before]);
        dkms_core::sys::file::remove_all(&world.root.join("scripts")).unwrap();
        let mut child = world.stop_at(command, &format!("{point}=sleep(100000)")).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!world.root.join("scripts").exists(), "{point}: it died before its script");
        // Any next command repairs it, once.
        let next: &[&str] = &["autoinstall", "-k", "6.1.0-2-other/x86_64"];
        world.dkms(next);
        let said = || fs::read_to_string(world.root.join("scripts")).unwrap_or_default();
        assert_eq!(said().trim(), expected, "{command:?} {point}");
        world.dkms(next);
        assert_eq!(said().trim(), expected, "{command:?} {point}: not again and again");
    }
}

/// Its directory may be away, or be gone for good: no other command fails for it, and it is completed when it is there again.
#[test]
fn an_interruption_for_a_kernel_that_is_gone_waits() {
    for (command, point) in [
        (INSTALL_2, "publish:between-files"),
        (INSTALL_2, "publish:activated"),
        (&["uninstall", "a/1", "-k", TARGET][..], "withdraw:intended"),
    ] {
        for comes_back in [true, false] {
            let world = World::new();
            run(&world, &[INSTALL_1, BUILD_2]);
            let mut child = world.stop_at(command, &format!("{point}=sleep(100000)")).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            let (dir, away) =
                (world.root.join(&format!("tree/lib/modules/{KERNEL}")), world.root.join("away"));
            fs::rename(&dir, &away).unwrap();
            for _ in 0..2 {
                let said = world.dkms(&["autoinstall", "-k", "6.1.0-2-other/x86_64"]).stderr;
                for word in ["repair", "restored", "next run"] {
                    assert!(!said.contains(word), "{point}: {said}");
                }
                assert!(world.interrupted(), "{point}");
            }
            if comes_back {
                fs::rename(&away, &dir).unwrap();
                world.dkms(&["autoinstall", "-k", "6.1.0-2-other/x86_64"]);
            } else {
                let gone = world.dkms(&["kernel_prerm", "-k", TARGET]);
                assert_eq!(gone.code, 0, "{point}: {}", gone.stderr);
                let said = world.dkms(&["autoinstall", "-k", "6.1.0-2-other/x86_64"]).stderr;
                assert!(!said.contains("failed") && !said.contains("restored"), "{point}: {said}");
                assert!(!dir.exists(), "{point}");
            }
            assert!(!world.interrupted(), "{point} {comes_back}");
        }
    }
}

#[test]
fn a_tarball_that_is_loaded() {
    let dir: &'static tempfile::TempDir = Box::leak(Box::new(tempfile::tempdir().unwrap()));
    let file: &'static str = Box::leak(dir.path().join("a.tar.gz").display().to_string().into_boxed_str());
    let maker = World::new();
    run(&maker, &[BUILD_1, &["mktarball", "a/1", "-k", TARGET, "--archive", file]]);
    play(&Story {
        before: |_| {},
        command: Box::leak(Box::new(["ldtarball", file])),
        version: "1",
        parts: &[&["add", "a/1"]],
        also: "",
        points: &["load:before-adopt", "load:adopted"],
    });
    fs::remove_dir_all(dir.path()).unwrap();
}
