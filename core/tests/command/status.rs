//! `dkms status`.

use super::*;
use support::schemas::valid;

#[test]
fn status_of_every_state() {
    let root = every_state();
    let run = root.dkms(&["status"]);
    insta::assert_snapshot!(run.ok(), @r"
    added/1: added
    broken/1: broken
    built/1, 6.1.0-9-amd64, x86_64: built
    differs/1, 6.1.0-9-amd64, x86_64: installed (Original modules exist) (Differences between built and installed modules)
    fails/1: added
    good/1, 6.1.0-9-amd64, x86_64: installed
    kept/1, 6.1.0-9-amd64, x86_64: installed (Differences between built and installed modules)
    ");
    insta::assert_snapshot!(run.stderr, @r"
    dkms: kept/1 remains installed without its source until another version is built
    dkms: broken/1: source directory or source link is missing; reinstall its package
    dkms: fails/1 FAILED for 6.1.0-9-amd64: make ended with status 2: a.c:1: error: x (log: /log)
    ");
}

#[test]
fn the_format_of_status_in_json() {
    let root = every_state();
    let run = root.dkms(&["status", "--json"]);
    valid("status", run.ok());
    insta::assert_snapshot!(run.ok(), @r#"
    {
      "format": 2,
      "modules": [
        {
          "module": {
            "name": "added",
            "version": "1"
          },
          "state": "added"
        },
        {
          "module": {
            "name": "broken",
            "version": "1"
          },
          "state": "broken"
        },
        {
          "module": {
            "name": "built",
            "version": "1"
          },
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "state": "built"
        },
        {
          "module": {
            "name": "differs",
            "version": "1"
          },
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "state": "installed",
          "notes": [
            "Original modules exist",
            "Differences between built and installed modules"
          ]
        },
        {
          "module": {
            "name": "fails",
            "version": "1"
          },
          "state": "added"
        },
        {
          "module": {
            "name": "good",
            "version": "1"
          },
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "state": "installed"
        },
        {
          "module": {
            "name": "kept",
            "version": "1"
          },
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "state": "installed",
          "notes": [
            "Differences between built and installed modules"
          ]
        }
      ],
      "failures": [
        {
          "module": {
            "name": "fails",
            "version": "1"
          },
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "why": "make ended with status 2",
          "errors": [
            "a.c:1: error: x"
          ],
          "log": "/log"
        }
      ],
      "stale_initramfs": []
    }
    "#);
    assert_eq!(run.stderr, "");
}

#[test]
fn status_of_some() {
    let root = every_state();
    let of = |args: &[&str]| root.dkms(&[&["status"], args].concat()).ok().to_owned();
    let good = "good/1, 6.1.0-9-amd64, x86_64: installed\n";
    assert_eq!(of(&["good"]), good);
    assert_eq!(of(&["good/1"]), good);
    assert_eq!(of(&["-m", "good", "-v", "1"]), good);
    assert_eq!(of(&["-m", "good", "-k", KERNEL]), good);
    assert_eq!(of(&["-m", "good", "-k", "6.1.0-9-amd64/x86_64"]), good);
    assert_eq!(of(&["good/2"]), "");
    assert_eq!(of(&["nobody"]), "");
    assert_eq!(Root::new("").dkms(&["status"]).ok(), "");
}

#[test]
fn status_writes_nothing() {
    let root = every_state();
    let before = (root.list(""), root.list("lib/.dkms-rs"));
    root.dkms(&["status"]).ok();
    assert_eq!((root.list(""), root.list("lib/.dkms-rs")), before);
}

#[test]
fn status_for_prometheus() {
    let text = every_state().dkms(&["status", "--prometheus"]).ok().to_owned();
    let count = |family: &str| text.lines().filter(|line| line.starts_with(&format!("{family}{{"))).count();
    assert_eq!((count("dkms_module"), count("dkms_build_failed")), (7, 1), "{text}");
    assert!(text.contains("dkms_module{module=\"kept\",version=\"1\",kernel=\"6.1.0-9-amd64\","), "{text}");
}
