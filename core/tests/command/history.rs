//! `dkms history`.

use dkms_core::exit::Exit;
use dkms_core::layout::Layout;
use dkms_core::report::{Failing, Fault, Outcome, Report, Waits, history};

use super::*;
use support::schemas::valid;

/// Three transactions: one succeeded, one with a failure, one deferred.
fn three_transactions(layout: &Layout) {
    let mut good = Report { cause: "module-postinst a 1".into(), seconds: 12.3, ..Report::default() };
    good.add(&id("a/1"), None, Outcome::Registered);
    good.add(
        &id("a/1"),
        Some(&target()),
        Outcome::Installed { built: true, seconds: 11.0, notes: Vec::new(), store: None },
    );
    let mut bad = Report { cause: format!("kernel-postinst {KERNEL}"), ..Report::default() };
    let failing = Failing {
        errors: vec!["a.c:1: error: x".into()],
        log: Some("/log".into()),
        remaining: "not installed for any kernel".into(),
        ..Failing::new(Fault::Module, Exit::BUILD_FAILED, "make ended with status 2".into())
    };
    bad.add(&id("a/1"), Some(&target()), Outcome::Failed(failing));
    let mut later = Report { cause: format!("kernel-postinst {KERNEL}"), ..Report::default() };
    let deferred = Outcome::Deferred {
        why: "the headers are missing".into(),
        advice: "install them".into(),
        waits: Waits::Headers,
    };
    later.add(&id("a/1"), Some(&target()), deferred);
    for report in [good, bad, later] {
        history::store(layout, &report).unwrap();
    }
}

/// Replaces dates and durations.
fn timeless(text: &str) -> String {
    let fixed = |line: &str| match line.find(" 20") {
        // `2026-11-22 23:51`
        Some(at) if line.len() >= at + 17 => format!("{} <date>{}", &line[..at], &line[at + 17..]),
        _ if line.trim_start().starts_with("\"time\"") => "<time>".into(),
        _ => line.to_owned(),
    };
    text.lines().map(fixed).collect::<Vec<_>>().join("\n")
}

#[test]
fn history_as_text() {
    let root = Root::new("");
    three_transactions(&root.layout());
    insta::assert_snapshot!(timeless(root.dkms(&["history"]).ok()), @r"
    3  <date>  kernel-postinst 6.1.0-9-amd64: 1 module, 1 deferred
    2  <date>  kernel-postinst 6.1.0-9-amd64: 1 module, 1 FAILED
    1  <date>  module-postinst a 1: 1 module for 6.1.0-9-amd64
    ");
    insta::assert_snapshot!(timeless(root.dkms(&["history", "show", "2"]).ok()), @r"
    kernel-postinst 6.1.0-9-amd64, <date> (0 s)
    dkms: 6.1.0-9-amd64: 1 module FAILED
    dkms: FAILED: a/1 for 6.1.0-9-amd64: make ended with status 2
          a.c:1: error: x
          log: /log
          not installed for any kernel
    ");
    insta::assert_snapshot!(timeless(root.dkms(&["history", "show", "3"]).ok()), @r"
    kernel-postinst 6.1.0-9-amd64, <date> (0 s)
    dkms: 6.1.0-9-amd64: 1 module deferred
    dkms: deferred for 6.1.0-9-amd64: a/1
          the headers are missing
          install them
    ");
}

#[test]
fn history_in_json() {
    let root = Root::new("");
    three_transactions(&root.layout());
    insta::assert_snapshot!(timeless(root.dkms(&["history", "show", "3", "--json"]).ok()), @r#"
    {
      "format": 2,
      "id": 3,
    <time>
      "cause": "kernel-postinst 6.1.0-9-amd64",
      "lines": [
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "outcome": "deferred",
          "why": "the headers are missing",
          "advice": "install them",
          "code": 21
        }
      ],
      "depmod": [],
      "initramfs": [],
      "remarks": [],
      "problems": [],
      "repaired": [],
      "seconds": 0.0,
      "timeline": []
    }
    "#);
    valid("history-show", root.dkms(&["history", "show", "2", "--json"]).ok());
    let all = valid("history", root.dkms(&["history", "--json"]).ok());
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(all[1]["lines"][0]["outcome"], "failed");
}

#[test]
fn history_that_is_not_there() {
    let root = Root::new("");
    assert_eq!(root.dkms(&["history"]).ok(), "");
    for words in [&["history", "show", "1"][..], &["history", "show", "x"], &["history", "show", "-1"]] {
        assert_ne!(root.dkms(words).code, 0, "{words:?}");
    }
    insta::assert_snapshot!(root.dkms(&["history", "show", "1"]).stderr, @"dkms: transaction 1 not found; to list all transactions: dkms history");
}
