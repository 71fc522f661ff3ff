//! Completion candidates after `dkms …`, printed by the program on temporary trees.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // a test makes files and stops at the first surprise

mod support;

use std::process::Command;

use support::Root;

fn tree() -> Root {
    Root::new(
        r#"src/zfs-2.3.1/dkms.conf
        src/zfs-2.2.0/dkms.conf
        src/new-module-0.9-2/dkms.conf
        src/linux-headers-6.1.0-9-amd64/Makefile
        lib/zfs/2.3.1/source -> $ROOT/src/zfs-2.3.1
        lib/zfs/2.2.0/source -> $ROOT/src/zfs-2.2.0
        lib/zfs/2.2.0/6.1.0-8-amd64/x86_64/module/zfs.ko
        src/v4l2loopback-0.15.0/dkms.conf
        lib/v4l2loopback/0.15.0/source -> $ROOT/src/v4l2loopback-0.15.0
        modules/6.1.0-9-amd64/modules.dep
        modules/left-over/x
        lib/.dkms-rs/history/000003.json = {"format": 1, "id": 3, "time": 0, "cause": "a", "lines": []}
        lib/.dkms-rs/history/000012.json = {"format": 1, "id": 12, "time": 0, "cause": "b", "lines": []}"#,
    )
}

/// The candidates for the last of these words, without explanations.
fn offered(root: &Root, words: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_dkms"))
        .args(["complete", "--", "--dkmstree"])
        .arg(root.join("lib"))
        .arg("--sourcetree")
        .arg(root.join("src"))
        .arg("--installtree")
        .arg(root.join("modules"))
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn modules_versions_and_kernels_come_from_the_registry() {
    let root = tree();
    for (words, expected) in [
        (&["stat"][..], &["status"][..]),
        (&["status", ""], &["v4l2loopback/0.15.0", "zfs/2.2.0", "zfs/2.3.1"]),
        (&["remove", "zfs/2.3"], &["zfs/2.3.1"]),
        (&["remove", "zfs/2.3.1", ""], &[]),
        (&["add", "new"], &["new-module/0.9-2", ":directories"]),
        (&["install", "n"], &["new-module/0.9-2"]),
        (&["install", "-m", ""], &["new-module", "v4l2loopback", "zfs"]),
        (&["remove", "-m", ""], &["v4l2loopback", "zfs"]),
        (&["remove", "-m", "zfs", "-v", ""], &["2.2.0", "2.3.1"]),
        (&["remove", "zfs", "-v", "2.3"], &["2.3.1"]),
        (&["build", "zfs/2.3.1", "-k", ""], &["6.1.0-8-amd64", "6.1.0-9-amd64"]),
        (&["-k", "6.1.0-9-amd64", "aut"], &["autoinstall"]),
        (&["status", "--module=z"], &["--module=zfs"]),
        (&["status", "--module", "=", "z"], &["zfs"]),
        (&["status", "--module", "="], &["v4l2loopback", "zfs"]),
        (&["check", "--secure-boot", ""], &["on", "off", ":files"]),
        (&["check", "zf"], &["zfs/2.2.0", "zfs/2.3.1", ":files"]),
        (&["check", "--enrolled", ""], &[":files"]),
        (&["build", "--kernelsourcedir", ""], &[":directories"]),
        (&["install", "--no-de"], &["--no-depmod"]),
        // An option that has no meaning for the action.
        (&["status", "--no-de"], &[]),
        (
            &["timeline", "--"],
            &["--quiet", "--dkmstree", "--sourcetree", "--installtree", "--root", "--svg", "--help"],
        ),
        (&["--no-de"], &["--no-depmod"]),
        (&["build", "--progress", ""], &["text", "json"]),
        (&["build", "--progress=j"], &["--progress=json"]),
        (&["history", ""], &["show"]),
        (&["history", "show", ""], &["3", "12"]),
        (&["history", "show", "3", ""], &[]),
        (&["timeline", "1"], &["12"]),
        (&["nonsense", ""], &[]),
        (&["status", "-j", ""], &[]),
    ] {
        assert_eq!(offered(&root, words), expected, "{words:?}");
    }
}

#[test]
fn every_action_that_help_shows_is_offered_with_its_explanation() {
    let root = tree();
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_dkms")).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let help = run(&["--help"]);
    let (_, listed) = help.split_once("Actions:\n").unwrap();
    let explained = run(&["complete", "--", "--dkmstree", root.join("lib").to_str().unwrap(), ""]);
    let offered: Vec<(&str, &str)> = explained.lines().map(|line| line.split_once('\t').unwrap()).collect();
    let shown: Vec<(&str, &str)> = listed
        .lines()
        .filter(|line| line.starts_with("  "))
        .map(|line| line.trim().split_once(' ').unwrap())
        .map(|(name, what)| (name, what.trim()))
        .collect();
    assert_eq!(offered, shown);
    assert_eq!(offered.len(), 27);
}

#[test]
fn every_option_that_help_shows_is_offered() {
    let root = tree();
    let help = Command::new(env!("CARGO_BIN_EXE_dkms")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let offered = offered(&root, &["-"]);
    let mut shown = 0;
    for word in
        help.split_whitespace().map(|word| word.trim_end_matches(',')).filter(|word| word.starts_with("--"))
    {
        assert!(offered.iter().any(|name| name == word), "{word} is not offered");
        shown += 1;
    }
    assert!(shown > 15);
}

#[test]
fn a_broken_tree_offers_nothing_and_says_nothing() {
    let root = Root::new("");
    assert_eq!(offered(&root, &["status", ""]), [""; 0]);
}
