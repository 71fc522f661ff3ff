//! Output for users and programs: an intended change is made here first.

use super::history::Kept;
use super::{
    Failing, Fault, History, KernelStep, Outcome, Report, Reported, Severity, Unfinished, Waits, text,
};
use crate::exit::Exit;
use crate::layout::Layout;
use crate::policy::Admin;
use crate::types::{ModuleId, Target};

const KERNEL: &str = "6.12.117+deb13-amd64";

fn id(text: &str) -> ModuleId {
    text.parse().unwrap()
}

fn target(kernel: &str) -> Target {
    Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() }
}

/// The admin's settings, with these critical modules.
fn admin(critical: &str) -> Admin {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    crate::sys::file::write_atomic(&path, format!("critical = [{critical}]\n").as_bytes(), 0o644).unwrap();
    let admin = Admin::load(&path);
    assert_eq!(admin.broken, None);
    admin
}

/// A report with these lines: module, kernel or none, outcome.
fn report(lines: Vec<(&str, &str, Outcome)>) -> Report {
    let mut report = Report { cause: format!("kernel-postinst {KERNEL}"), ..Report::default() };
    for (module, kernel, outcome) in lines {
        let target = (!kernel.is_empty()).then(|| target(kernel));
        report.add(&id(module), target.as_ref(), outcome);
    }
    report
}

fn summary(report: &Report) -> String {
    text::summary(report, &admin("\"zfs\""), Some(7), &Reported::default())
        .unwrap_or_else(|| "(silence)".into())
}

fn installed(notes: &[&str]) -> Outcome {
    let notes = notes.iter().map(|note| (*note).to_owned()).collect();
    Outcome::Installed { built: true, seconds: 12.3, notes, store: None }
}

fn failing() -> Failing {
    Failing {
        why: "make ended with status 2".into(),
        advice: "".into(),
        fault: Fault::Module,
        errors: vec![
            "driver/razer.c:12:5: error: 'foo' undeclared".into(),
            "driver/razer.c:20:1: error: bar".into(),
        ],
        log: Some(format!("/var/lib/dkms/.dkms-rs/failures/a/1/{KERNEL}/x86_64.log")),
        remembered: false,
        absent: false,
        remaining: "still installed for 6.12.100+deb13-amd64".into(),
        code: Exit::BUILD_FAILED,
    }
}

fn deferred(why: &str, advice: &str, waits: Waits) -> Outcome {
    Outcome::Deferred { why: why.into(), advice: advice.into(), waits }
}

fn headers() -> Outcome {
    deferred(
        &format!("kernel headers for {KERNEL} are not installed"),
        &format!("run `apt install linux-headers-{KERNEL}`; the module will then be built automatically"),
        Waits::Headers,
    )
}

fn refused(code: i32) -> Outcome {
    Outcome::Refused {
        why: "already in the DKMS tree".into(),
        advice: "dkms remove it first".into(),
        code: Exit::of_script(code),
    }
}

#[test]
fn a_transaction_with_failures() {
    let unsigned = "it is not signed: no key";
    let mut lines = vec![
        ("lttng-modules/2.13.18", KERNEL, Outcome::Failed(failing())),
        ("zfs/2.3.2", KERNEL, Outcome::Failed(Failing { errors: Vec::new(), log: None, ..failing() })),
        ("nvidia/550", KERNEL, installed(&["it is signed with the old key"])),
    ];
    for module in ["bbswitch/0.8", "v4l2loopback/0.15.0"] {
        lines.push((module, KERNEL, installed(&[unsigned])));
    }
    insta::assert_snapshot!(summary(&report(lines)), @r"
    dkms: 6.12.117+deb13-amd64: 5 modules: 3 installed, 2 FAILED
    dkms: FAILED: lttng-modules/2.13.18 for 6.12.117+deb13-amd64: make ended with status 2
          driver/razer.c:12:5: error: 'foo' undeclared
          driver/razer.c:20:1: error: bar
          log: dkms log lttng-modules/2.13.18 -k 6.12.117+deb13-amd64
          still installed for 6.12.100+deb13-amd64
    dkms: FAILED (critical): zfs/2.3.2 for 6.12.117+deb13-amd64: make ended with status 2
          still installed for 6.12.100+deb13-amd64
    dkms: 2 modules: it is not signed: no key
    dkms: nvidia/550 for 6.12.117+deb13-amd64: it is signed with the old key
    dkms: details: dkms history show 7
    ");
}

#[test]
fn a_transaction_without_failures() {
    insta::assert_snapshot!(summary(&report(vec![("bbswitch/0.8", KERNEL, installed(&[]))])), @"dkms: 6.12.117+deb13-amd64: 1 module installed");
    insta::assert_snapshot!(summary(&report(vec![
        ("a/1", KERNEL, installed(&[])),
        ("b/1", KERNEL, Outcome::UpToDate),
        ("c/1", KERNEL, Outcome::Excluded { why: "it needs CONFIG_X".into() }),
        ("d/1", "6.1.0-9-amd64", Outcome::Built { seconds: 3.0 }),
    ])), @r"
    dkms: 6.1.0-9-amd64: 1 module built
    dkms: 6.12.117+deb13-amd64: 3 modules: 1 installed, 1 up to date, 1 excluded by dkms.conf
    ");
}

#[test]
fn what_is_not_installed_cannot_be_retried_by_a_command() {
    let line = |absent| {
        let failing = Failing { remembered: true, absent, ..failing() };
        summary(&report(vec![("a/1", KERNEL, Outcome::Failed(failing))]))
    };
    let retry = format!("to retry: dkms install a/1 -k {KERNEL}");
    assert!(line(false).contains(&retry) && !line(true).contains("to retry"), "{}", line(true));
}

#[test]
fn the_second_hook_of_a_transaction_repeats_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout { dkms_tree: dir.path().into(), ..Layout::default() };
    let reported = || Reported::load(&layout, Some("apt".into()));
    let second = |lines: Vec<(&str, &str, Outcome)>| {
        text::summary(&report(lines), &admin("\"zfs\""), Some(8), &reported()).unwrap_or("(silence)".into())
    };
    let failed = || ("razer/3", KERNEL, Outcome::Failed(failing()));
    let needs =
        || Outcome::Deferred { why: "no headers".into(), advice: "install".into(), waits: Waits::Headers };
    let waits = || ("wl/6", KERNEL, needs());
    reported().record(&layout, &report(vec![failed(), waits()]), Some(7));
    let known = ("razer/3", KERNEL, Outcome::Failed(Failing { remembered: true, ..failing() }));
    let new = || {
        (
            "b/1",
            KERNEL,
            Outcome::Failed(Failing {
                why: "another reason".into(),
                log: None,
                errors: Vec::new(),
                ..failing()
            }),
        )
    };
    insta::assert_snapshot!(second(vec![("a/1", KERNEL, installed(&[])), known.clone()]), @"dkms: 6.12.117+deb13-amd64: 2 modules: 1 installed, 1 FAILED (dkms history show 7)");
    insta::assert_snapshot!(second(vec![("a/1", KERNEL, Outcome::UpToDate), known, waits()]), @"(silence)");
    let last = report(vec![("a/1", KERNEL, Outcome::UpToDate), failed()]);
    let last = text::summary(&last, &admin(""), Some(8), &reported().recap(true)).unwrap();
    insta::assert_snapshot!(last, @"dkms: 6.12.117+deb13-amd64: 2 modules: 1 installed, 1 FAILED (dkms history show 7)");
    insta::assert_snapshot!(second(vec![new(), failed()]), @r"
    dkms: 6.12.117+deb13-amd64: 2 modules FAILED (dkms history show 7)
    dkms: FAILED: b/1 for 6.12.117+deb13-amd64: another reason
          still installed for 6.12.100+deb13-amd64
    dkms: details: dkms history show 8
    ");
    // A critical module fails the hook, which must not be silent.
    let zfs = || ("zfs/2.3.2", KERNEL, Outcome::Failed(failing()));
    reported().record(&layout, &report(vec![zfs()]), None);
    insta::assert_snapshot!(second(vec![zfs()]), @"dkms: 6.12.117+deb13-amd64: 1 module FAILED (dkms history show 7)");
}

#[test]
fn nothing_to_say() {
    let quiet = report(vec![
        ("a/1", KERNEL, Outcome::UpToDate),
        ("b/1", KERNEL, Outcome::Excluded { why: "it needs CONFIG_X".into() }),
        ("c/1", "", Outcome::Registered),
    ]);
    assert_eq!(text::summary(&quiet, &admin(""), Some(7), &Reported::default()), None);
    assert_eq!(text::summary(&Report::default(), &admin(""), None, &Reported::default()), None);
}

#[test]
fn what_waits_for_the_same_thing_shares_its_lines() {
    insta::assert_snapshot!(summary(&report(vec![
        ("a/1", KERNEL, headers()),
        ("b/1", KERNEL, headers()),
        ("c/1", KERNEL, deferred("requires d (BUILD_DEPENDS), which is not installed for this kernel", "install d first", Waits::Dependency)),
    ])), @r"
    dkms: 6.12.117+deb13-amd64: 3 modules deferred
    dkms: deferred for 6.12.117+deb13-amd64: a/1, b/1
          kernel headers for 6.12.117+deb13-amd64 are not installed
          run `apt install linux-headers-6.12.117+deb13-amd64`; the module will then be built automatically
    dkms: deferred for 6.12.117+deb13-amd64: c/1
          requires d (BUILD_DEPENDS), which is not installed for this kernel
          install d first
    ");
}

#[test]
fn what_waits_for_two_kernels_names_both() {
    let needs = || {
        deferred(
            "requires d (BUILD_DEPENDS), which is not installed for this kernel",
            "install d first",
            Waits::Dependency,
        )
    };
    let text = summary(&report(vec![("a/1", "6.1", needs()), ("a/1", "6.2", needs())]));
    let text: String = text.lines().filter(|line| line.contains("deferred for")).collect();
    assert!(text.contains("6.1") && text.contains("6.2"), "{text}");
}

#[test]
fn a_remembered_failure_says_so() {
    let known = Failing { remembered: true, ..failing() };
    insta::assert_snapshot!(summary(&report(vec![("a/1", KERNEL, Outcome::Failed(known))])), @r"
    dkms: 6.12.117+deb13-amd64: 1 module FAILED
    dkms: FAILED: a/1 for 6.12.117+deb13-amd64: make ended with status 2 (not retried: inputs unchanged)
          driver/razer.c:12:5: error: 'foo' undeclared
          driver/razer.c:20:1: error: bar
          log: dkms log a/1 -k 6.12.117+deb13-amd64
          to retry: dkms install a/1 -k 6.12.117+deb13-amd64
          still installed for 6.12.100+deb13-amd64
    dkms: details: dkms history show 7
    ");
}

#[test]
fn a_refusal_says_what_to_do() {
    insta::assert_snapshot!(summary(&report(vec![
        ("a/1", "", refused(3)),
        ("b/1", KERNEL, refused(4)),
    ])), @r"
    dkms: a/1: already in the DKMS tree
          dkms remove it first
    dkms: b/1 for 6.12.117+deb13-amd64: already in the DKMS tree
          dkms remove it first
    ");
}

#[test]
fn a_kernel_that_left() {
    insta::assert_snapshot!(summary(&report(vec![
        ("a/1", KERNEL, Outcome::Unbuilt),
        ("b/1", KERNEL, Outcome::Unbuilt),
        ("b/1", "", Outcome::Unregistered),
        ("c/1", "", Outcome::Kept),
    ])), @"dkms: 6.12.117+deb13-amd64: 2 modules removed");
}

#[test]
fn repairs_remarks_and_problems() {
    let mut report = report(vec![("a/1", KERNEL, installed(&[]))]);
    report.repaired.push(format!("a/1 for {KERNEL}: its interrupted installation was completed"));
    report.remarks.push("a/1: post_install ended with status 1".into());
    report.problems.push(format!("remaking the module index of {KERNEL}: depmod ended with status 1"));
    insta::assert_snapshot!(summary(&report), @r"
    dkms: repaired: a/1 for 6.12.117+deb13-amd64: its interrupted installation was completed
    dkms: 6.12.117+deb13-amd64: 1 module installed
    dkms: a/1: post_install ended with status 1
    dkms: remaking the module index of 6.12.117+deb13-amd64: depmod ended with status 1
    dkms: details: dkms history show 7
    ");
    // A transaction without an entry in the history does not refer to it.
    assert!(!text::summary(&report, &admin(""), None, &Reported::default()).unwrap().contains("history"));
}

#[test]
fn lines_of_progress() {
    let line = |outcome: Outcome| text::progress(&id("a/1"), &target(KERNEL), &outcome, Some((3, 23)));
    let lines = [
        installed(&[]),
        Outcome::Installed { built: false, seconds: 0.0, notes: Vec::new(), store: None },
        Outcome::Built { seconds: 0.4 },
        Outcome::Uninstalled,
        Outcome::Unbuilt,
        Outcome::Failed(failing()),
        headers(),
    ]
    .map(line);
    insta::assert_snapshot!(lines.join("\n"), @r"
    dkms: [ 3/23] a/1 built and installed for 6.12.117+deb13-amd64 (12 s)
    dkms: [ 3/23] a/1 installed for 6.12.117+deb13-amd64 (cached build)
    dkms: [ 3/23] a/1 built for 6.12.117+deb13-amd64 (0 s)
    dkms: [ 3/23] a/1 uninstalled from 6.12.117+deb13-amd64
    dkms: [ 3/23] a/1 removed from 6.12.117+deb13-amd64
    dkms: [ 3/23] a/1 FAILED for 6.12.117+deb13-amd64
    dkms: [ 3/23] a/1 deferred for 6.12.117+deb13-amd64: kernel headers for 6.12.117+deb13-amd64 are not installed
    ");
    let alone = text::progress(&id("a/1"), &target(KERNEL), &installed(&[]), None);
    assert_eq!(alone, format!("dkms: a/1 built and installed for {KERNEL} (12 s)"));
}

/// One line of each kind.
fn all_kinds() -> Report {
    let mut report = report(vec![
        ("a/1", "", Outcome::Registered),
        ("a/1", "", Outcome::Unregistered),
        ("a/1", "", Outcome::Kept),
        ("a/1", "k", Outcome::Built { seconds: 1.5 }),
        ("a/1", "k", installed(&["a note"])),
        ("a/1", "k", Outcome::UpToDate),
        ("a/1", "k", Outcome::Uninstalled),
        ("a/1", "k", Outcome::Unbuilt),
        ("a/1", "k", Outcome::Excluded { why: "why".into() }),
        ("a/1", "k", deferred("why", "advice", Waits::Headers)),
        ("a/1", "k", refused(3)),
        ("a/1", "k", Outcome::Failed(failing())),
    ]);
    report.depmod.push(target("k"));
    report.initramfs.push(target("k"));
    report.remarks.push("remark".into());
    report.problems.push("problem".into());
    report.repaired.push("repaired".into());
    report.seconds = 2.5;
    report
}

#[test]
fn the_format_of_the_history() {
    let kept = Kept { format: 1, id: 7, time: 1_795_391_460, report: all_kinds() };
    let json = serde_json::to_string_pretty(&kept).unwrap();
    assert_eq!(serde_json::from_str::<Kept>(&json).unwrap(), kept, "what is kept comes back");
    insta::assert_snapshot!(json, @r#"
    {
      "format": 1,
      "id": 7,
      "time": 1795391460,
      "cause": "kernel-postinst 6.12.117+deb13-amd64",
      "lines": [
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "outcome": "registered"
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "outcome": "unregistered"
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "outcome": "kept"
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "k",
          "arch": "x86_64",
          "outcome": "built",
          "seconds": 1.5
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "k",
          "arch": "x86_64",
          "outcome": "installed",
          "built": true,
          "seconds": 12.3,
          "notes": [
            "a note"
          ]
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "k",
          "arch": "x86_64",
          "outcome": "up-to-date"
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "k",
          "arch": "x86_64",
          "outcome": "uninstalled"
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "k",
          "arch": "x86_64",
          "outcome": "unbuilt"
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "k",
          "arch": "x86_64",
          "outcome": "excluded",
          "why": "why"
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "k",
          "arch": "x86_64",
          "outcome": "deferred",
          "why": "why",
          "advice": "advice",
          "code": 21
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "k",
          "arch": "x86_64",
          "outcome": "refused",
          "why": "already in the DKMS tree",
          "advice": "dkms remove it first",
          "code": 3
        },
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "k",
          "arch": "x86_64",
          "outcome": "failed",
          "why": "make ended with status 2",
          "errors": [
            "driver/razer.c:12:5: error: 'foo' undeclared",
            "driver/razer.c:20:1: error: bar"
          ],
          "log": "/var/lib/dkms/.dkms-rs/failures/a/1/6.12.117+deb13-amd64/x86_64.log",
          "remembered": false,
          "remaining": "still installed for 6.12.100+deb13-amd64",
          "code": 10
        }
      ],
      "depmod": [
        {
          "kernel": "k",
          "arch": "x86_64"
        }
      ],
      "initramfs": [
        {
          "kernel": "k",
          "arch": "x86_64"
        }
      ],
      "remarks": [
        "remark"
      ],
      "problems": [
        "problem"
      ],
      "repaired": [
        "repaired"
      ],
      "seconds": 2.5,
      "timeline": []
    }
    "#);
}

#[test]
fn a_history_of_today_is_read_by_the_versions_to_come() {
    // The minimal content of a file of format 1. Never change this text: add another one.
    let frozen = r#"{"format": 1, "id": 1, "time": 0, "cause": "c", "lines": []}"#;
    let kept: Kept = serde_json::from_str(frozen).unwrap();
    assert_eq!(kept.report, Report { cause: "c".into(), ..Report::default() });
}

/// A file of the history as written by version 0.1.0, with one line of each kind. Never change it: add another one.
const FROZEN: &str = include_str!("frozen/history-1.json");

#[test]
fn a_history_of_the_released_program_is_read_and_written_as_it_was() {
    let kept: Kept = serde_json::from_str(FROZEN).unwrap();
    let waits: Vec<Waits> = kept
        .report
        .lines
        .iter()
        .filter_map(|line| match line.outcome {
            Outcome::Deferred { waits, .. } => Some(waits),
            _ => None,
        })
        .collect();
    let killed = Waits::Machine(Exit::of_script(137));
    assert_eq!(waits, [Waits::Headers, Waits::Turn, Waits::Tools, Waits::Dependency, killed]);
    assert_eq!(serde_json::to_string_pretty(&kept).unwrap(), FROZEN.trim_end());
}

#[test]
fn advice_about_a_failure_is_shown_and_kept() {
    let advised = Outcome::Failed(failing().advice("use --force to install anyway"));
    let report = report(vec![("a/1", KERNEL, advised)]);
    let text = summary(&report);
    assert!(text.contains("amd64\n      use --force to install anyway\n"), "{text}");
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}

#[test]
fn whose_fault_it_is_decides_what_is_remembered_and_not_what_a_command_returns() {
    for (fault, lasts) in
        [(Fault::Module, true), (Fault::Machine, false), (Fault::Unknown, true), (Fault::Dkms, false)]
    {
        assert_eq!(fault.lasts(), lasts, "{fault:?}");
        let report = report(vec![("a/1", KERNEL, Outcome::Failed(Failing { fault, ..failing() }))]);
        assert_eq!(report.code(), Exit::BUILD_FAILED, "{fault:?}");
        assert_eq!(report.failures(), 1);
    }
}

#[test]
fn what_earns_a_transaction_its_place_in_the_history() {
    let known = Outcome::Failed(Failing { remembered: true, ..failing() });
    for (outcome, history) in [
        (Outcome::UpToDate, History::No),
        (Outcome::Excluded { why: String::new() }, History::No),
        (Outcome::Native { why: String::new() }, History::No),
        (known, History::No),
        (refused(3), History::WithChanges),
        (headers(), History::Yes),
        (Outcome::Failed(failing()), History::Yes),
        (installed(&[]), History::Yes),
        (Outcome::Present, History::Yes),
        (Outcome::Kept, History::Yes),
    ] {
        assert_eq!(outcome.follows().history, history, "{outcome:?}");
        let report = report(vec![("a/1", KERNEL, outcome)]);
        assert_eq!(report.memorable(), history > History::No);
    }
}

#[test]
fn how_bad_an_end_is() {
    let turn = || deferred("", "", Waits::Turn);
    let all = [
        (Severity::Fine, vec![installed(&[]), Outcome::UpToDate, Outcome::Native { why: String::new() }]),
        (Severity::LeftOut, vec![Outcome::Excluded { why: String::new() }]),
        (Severity::Waiting, vec![headers(), turn(), deferred("", "", Waits::Tools)]),
        (Severity::Wrong, vec![refused(3), Outcome::Failed(failing())]),
    ];
    for (severity, outcomes) in all {
        for outcome in outcomes {
            assert_eq!(outcome.follows().severity, severity, "{outcome:?}");
        }
    }
}

#[test]
fn exit_codes() {
    let failed = || Outcome::Failed(failing());
    let excluded = || Outcome::Excluded { why: String::new() };
    let needs = || deferred("", "", Waits::Dependency);
    // Outcomes; the exit codes of a command, of autoinstall, of a hook, and of a hook if `a` is critical.
    let rows: Vec<(&str, Vec<Outcome>, [i32; 4])> = vec![
        ("nothing", vec![], [0, 0, 0, 0]),
        ("installed", vec![installed(&[])], [0, 0, 0, 0]),
        ("up to date", vec![Outcome::UpToDate], [0, 0, 0, 0]),
        ("excluded", vec![excluded()], [77, 0, 0, 11]),
        ("headers", vec![headers()], [21, 21, 0, 0]),
        ("tools", vec![deferred("", "", Waits::Tools)], [10, 21, 0, 11]),
        ("its turn", vec![deferred("", "", Waits::Turn)], [0, 0, 0, 11]),
        ("provided by the kernel", vec![Outcome::Native { why: String::new() }], [6, 0, 0, 0]),
        ("needs another", vec![needs()], [13, 11, 0, 11]),
        ("failed", vec![failed()], [10, 11, 0, 11]),
        ("refused", vec![refused(3)], [3, 11, 0, 11]),
        ("one of many failed", vec![installed(&[]), failed(), headers()], [10, 11, 0, 11]),
        ("a failure counts for more than a rule", vec![excluded(), failed()], [10, 11, 0, 11]),
        ("the first failure counts", vec![refused(4), failed()], [4, 11, 0, 11]),
    ];
    for (what, outcomes, codes) in rows {
        let report = report(outcomes.into_iter().map(|outcome| ("a/1", KERNEL, outcome)).collect());
        let is = [
            report.code(),
            report.autoinstall_code(),
            report.hook_code(&admin("")),
            report.hook_code(&admin("\"a\"")),
        ];
        assert_eq!(is.map(Exit::number), codes, "{what}");
    }
    let broken = Report { problems: vec!["depmod".into()], ..Report::default() };
    let is = [broken.code(), broken.autoinstall_code(), broken.hook_code(&admin(""))];
    assert_eq!(is.map(Exit::number), [1, 1, 11]);

    for step in [KernelStep::Depmod, KernelStep::Initramfs] {
        let unfinished = Report { unfinished: vec![unfinished(step)], ..Report::default() };
        let is = [
            unfinished.code(),
            unfinished.autoinstall_code(),
            unfinished.hook_code(&admin("\"b\"")),
            unfinished.hook_code(&admin("\"a\"")),
        ];
        assert_eq!(is.map(Exit::number), [1, 1, 0, 11], "{step:?}");
        assert!(unfinished.memorable());
        let mut earlier = unfinished;
        earlier.unfinished[0].earlier = true;
        let is = [earlier.code(), earlier.hook_code(&admin("\"b\"")), earlier.hook_code(&admin("\"a\""))];
        assert_eq!(is.map(Exit::number), [0, 0, 11], "{step:?}, of an earlier run");
        assert!(!earlier.memorable());
    }
}

fn unfinished(step: KernelStep) -> Unfinished {
    let modules = ["a".parse().unwrap(), "c".parse().unwrap()].into();
    Unfinished {
        step,
        target: target(KERNEL),
        modules,
        why: "update-initramfs failed".into(),
        earlier: false,
    }
}

#[test]
fn a_step_that_is_repeated_by_the_next_run() {
    let mut report = report(vec![("a/1", KERNEL, installed(&[]))]);
    report.unfinished = vec![unfinished(KernelStep::Depmod), unfinished(KernelStep::Initramfs)];
    insta::assert_snapshot!(summary(&report), @r"
    dkms: 6.12.117+deb13-amd64: 1 module installed
    dkms: depmod FAILED for 6.12.117+deb13-amd64: update-initramfs failed
          the next run of dkms retries this; to retry now: dkms autoinstall -k 6.12.117+deb13-amd64
    dkms: the initramfs for 6.12.117+deb13-amd64 is out of date: it lacks the installed version of a, c: update-initramfs failed
          the next run of dkms retries this; to retry now: dkms autoinstall -k 6.12.117+deb13-amd64
    dkms: details: dkms history show 7
    ");
}
