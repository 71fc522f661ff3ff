//! The JSON documents in dkms(8), compared with the fields of real values.

use std::collections::BTreeSet;

use dkms_core::exit::Exit;
use dkms_core::plan::{Loading, Plan, Registration, Removal, Skip, Task, Unregister};
use dkms_core::report::history::Kept;
use dkms_core::report::timeline::Span;
use dkms_core::report::{Failing, Fault, KernelStep, Line, Outcome, Report, Unfinished, Waits};
use dkms_core::types::{Fingerprint, ModuleId, Placement, Target};

use crate::page::{documented, fields, outcome, page, section, tags};

fn module() -> ModuleId {
    "a/1".parse().unwrap()
}

fn target() -> Target {
    Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() }
}

/// The next outcome after this one: a new outcome does not compile until it is added here, and then to the page.
fn next(outcome: Option<&Outcome>) -> Option<Outcome> {
    let (why, advice, code) = (String::new(), String::new(), Exit::BUILD_FAILED);
    Some(match outcome {
        None => Outcome::Registered,
        Some(Outcome::Registered) => Outcome::Unregistered,
        Some(Outcome::Unregistered) => Outcome::Built { seconds: 1.0 },
        Some(Outcome::Built { .. }) => Outcome::Loaded,
        Some(Outcome::Loaded) => Outcome::Present,
        Some(Outcome::Present) => {
            Outcome::Installed { built: true, seconds: 1.0, notes: Vec::new(), store: None }
        }
        Some(Outcome::Installed { .. }) => Outcome::UpToDate,
        Some(Outcome::UpToDate) => Outcome::Packaged { why },
        Some(Outcome::Packaged { .. }) => Outcome::Uninstalled,
        Some(Outcome::Uninstalled) => Outcome::Unbuilt,
        Some(Outcome::Unbuilt) => Outcome::Kept,
        Some(Outcome::Kept) => Outcome::Excluded { why },
        Some(Outcome::Excluded { .. }) => Outcome::Native { why },
        Some(Outcome::Native { .. }) => Outcome::Deferred { why, advice, waits: Waits::Tools },
        Some(Outcome::Deferred { .. }) => Outcome::Refused { why, advice, code },
        Some(Outcome::Refused { .. }) => {
            Outcome::Failed(Failing::new(Fault::Module, code, why).advice("advice"))
        }
        Some(Outcome::Failed(_)) => return None,
    })
}

fn outcomes() -> Vec<Outcome> {
    std::iter::successors(next(None), |outcome| next(Some(outcome))).collect()
}

#[test]
fn every_outcome_is_described_with_its_fields() {
    let real: BTreeSet<(String, BTreeSet<String>)> =
        outcomes().iter().map(|one| outcome(&serde_json::to_value(one).unwrap())).collect();
    let tags = tags(&section(&page("dkms.8"), ".SS Outcomes"));
    let mut described = BTreeSet::new();
    for tag in &tags {
        // `excluded (why), native (why)`
        for one in tag.split_inclusive(')').flat_map(|part| match part.contains('(') {
            true => vec![part],
            false => part.split(", ").collect(),
        }) {
            let (name, fields) = one.trim_start_matches(", ").split_once('(').unwrap_or((one, ""));
            let fields = fields.trim_end_matches(')').split(", ").filter(|field| !field.is_empty());
            described.insert((name.trim().to_owned(), fields.map(str::to_owned).collect()));
        }
    }
    assert_eq!(described, real);
}

#[test]
fn every_field_of_history_is_described() {
    let span = Span {
        lane: 0,
        module: Some(module()),
        target: Some(target()),
        phase: "compile".into(),
        from: 0.0,
        to: 1.0,
    };
    let line = |outcome| Line { module: module(), target: Some(target()), outcome };
    let report = Report {
        cause: "autoinstall".into(),
        lines: outcomes().into_iter().map(line).collect(),
        depmod: vec![target()],
        initramfs: vec![target()],
        remarks: vec!["a".into()],
        problems: vec!["b".into()],
        unfinished: vec![Unfinished {
            step: KernelStep::Initramfs,
            target: target(),
            modules: ["a".parse().unwrap()].into(),
            why: "d".into(),
            earlier: true,
        }],
        repaired: vec!["c".into()],
        seconds: 1.0,
        timeline: vec![span],
    };
    let kept = Kept { format: 1, id: 1, time: 1, report };
    let document = serde_json::to_value([kept]).unwrap();
    assert_eq!(documented(".SS history \\-\\-json"), fields(&document));
}

#[test]
fn every_field_of_a_plan_is_described() {
    let fingerprint = || Fingerprint("0".into());
    let task = Task {
        module: module(),
        target: target(),
        build: true,
        cached: false,
        install: true,
        fingerprint: fingerprint(),
        after: vec![module()],
        force: false,
        replaces: Some(module()),
        passed_over: Some(module()),
    };
    let removal =
        Removal { module: module(), target: target(), withdraw: true, unbuild: true, kernel_leaves: false };
    let settle = |outcome| Skip { module: module(), target: Some(target()), outcome };
    let plan = Plan {
        proof: true,
        post_remove: [Placement::of(&module(), &target())].into(),
        register: vec![Registration { module: module(), source: "/usr/src/a-1".into() }],
        load: vec![Loading { module: module(), target: target(), dir: "/tmp".into() }],
        tasks: vec![task],
        removals: vec![removal],
        unregister: vec![Unregister { module: module(), keep_builds: true }],
        settled: outcomes().into_iter().map(settle).collect(),
        adopt: vec![(module(), target(), fingerprint())],
        gone: [target()].into(),
        forget: vec![Placement::of(&module(), &target())],
        depmod: [target()].into(),
        initramfs: [target()].into(),
    };
    assert_eq!(documented(".SS \\-\\-dry\\-run"), fields(&serde_json::to_value(plan).unwrap()));
}
