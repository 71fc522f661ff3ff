//! The pre-build: what is built, and what must not be lost.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::world::target;
use super::*;
use crate::exit::Exit;
use crate::plan::{Stakes, at_stake};
use crate::policy::Admin;
use crate::report::{Failing, Fault, Outcome, Report, Waits};

#[test]
fn what_comes_is_built_and_nothing_else_is_touched() {
    check(&[
        ("a/1", "kernel? k1", "build a/1@k1"),
        ("a/1@k1 installed", "kernel? k2", "build a/1@k2"),
        ("a/1@k1 installed", "kernel? k1", "a/1@k1 is up to date"),
        ("a/1@k1 installed old", "kernel? k1", "build a/1@k1"),
        ("a/1@k1 installed damaged", "kernel? k1", "a/1@k1 is up to date"),
        ("a/1@k1 failed", "kernel? k1", "a/1@k1 is known to fail 10"),
        ("a/1 manual; b/1 excluded; c/1 bad", "kernel? k1", "b/1@k1 is excluded; c/1@k1 is refused 8"),
        // A broken registration is handled by the transaction.
        ("a/1 dangling; a/1@k1 installed; b/1", "kernel? k2", "build b/1@k2"),
        ("a/1; k1 bare", "kernel? k1", "a/1@k1 is deferred 21"),
        ("a/1", "kernel? k1; kernel? k2", "build a/1@k1; build a/1@k2"),
    ]);
}

#[test]
fn a_source_that_comes_is_tried_in_the_place_of_the_one_that_serves() {
    check(&[
        ("a/2 unregistered; a/1@k1 installed", "source? a/2 k1", "build a/2@k1 over a/1"),
        (
            "a/2 unregistered; a/1@k1 installed",
            "source? a/2 k1 k2; kernel? k2",
            "build a/2@k1 over a/1; build a/2@k2",
        ),
        ("a/2 unregistered", "source? a/2 k1", "build a/2@k1"),
        ("a/2 unregistered; a/2@k1 failed; a/1@k1 installed", "source? a/2 k1", "a/2@k1 is known to fail 10"),
    ]);
}

#[test]
fn what_is_built_upon_something_that_is_built_waits_for_the_transaction() {
    check(&[
        ("a/1; b/1 needs a", "kernel? k1", "build a/1@k1; b/1@k1 is deferred 0"),
        ("a/1@k1 installed; b/1 needs a", "kernel? k1", "build b/1@k1 after a/1; a/1@k1 is up to date"),
    ]);
}

/// A module that failed, or is excluded; the kernels that have it; the policy; whether the transaction is aborted.
#[test]
fn only_what_would_be_lost_stops_a_transaction() {
    let hold = "on_unbuildable = \"hold\"\n";
    let own = "on_unbuildable = \"hold\"\n[module.a]\non_unbuildable = \"warn\"\n";
    for (policy, world, outcome, in_place, used, allowed, stops) in [
        ("", "a/1", "failed", false, false, "", false),
        (hold, "a/1", "failed", false, false, "", true),
        (own, "a/1", "failed", false, false, "", false),
        ("critical = [\"a\"]\n", "a/1", "failed", false, false, "", true),
        (hold, "a/1", "failed", false, false, "a", false),
        (hold, "a/1", "failed", false, false, "b*", true),
        (hold, "a/1", "bad", false, false, "", true),
        // If the old kernel is removed, modules in use are protected without a policy.
        ("", "a/1", "failed", true, true, "", true),
        ("", "a/1", "failed", true, false, "", false),
        ("", "a/1", "failed", false, true, "", false),
        ("[module.a]\non_unbuildable = \"warn\"\n", "a/1", "failed", true, true, "", false),
        // A module that no kernel has is not lost; what could not be built proves nothing.
        (hold, "a/1", "excluded", false, false, "", false),
        (hold, "a/1@k1 installed", "excluded", false, false, "", true),
        (hold, "a/1@k1 installed", "deferred", false, false, "", false),
        (hold, "a/1@k1 installed", "built", false, false, "", false),
    ] {
        let world = World::new(world);
        let (snapshot, survey) = (world.snapshot(), world.survey(&events("kernel? k2")));
        let mut report = Report::default();
        report.add(&"a/1".parse().unwrap(), Some(&target("k2")), end(outcome));
        let admin = Admin::parse(policy, Path::new("policy.toml")).allowing(allowed);
        let in_use: BTreeSet<String> = used.then(|| "a".to_owned()).into_iter().collect();
        let incoming = BTreeSet::from([target("k2")]);
        let expired = BTreeSet::new();
        let stakes = Stakes {
            admin: &admin,
            replaces: in_place,
            in_use: &in_use,
            incoming: &incoming,
            expired: &expired,
        };
        let held = !at_stake(&report, &snapshot, &survey, &stakes).is_empty();
        assert_eq!(held, stops, "{policy:?} {outcome} in place {in_place} used {used} allowed {allowed:?}");
        // After hold_days, only a critical module still holds.
        let stakes = Stakes { expired: &BTreeSet::from(["a".parse().unwrap()]), ..stakes };
        let held = !at_stake(&report, &snapshot, &survey, &stakes).is_empty();
        assert_eq!(held, stops && policy.contains("critical"), "{policy:?} {outcome} expired");
    }
}

fn end(word: &str) -> Outcome {
    match word {
        "built" => Outcome::Built { seconds: 1.0 },
        "excluded" => Outcome::Excluded { why: "x".into() },
        "deferred" => Outcome::Deferred { why: "x".into(), advice: "y".into(), waits: Waits::Tools },
        "bad" => Outcome::Refused { why: "x".into(), advice: "y".into(), code: Exit::BAD_CONF },
        _ => Outcome::Failed(Failing::new(Fault::Module, Exit::BUILD_FAILED, "x".into())),
    }
}
