//! A power cut at any write: every module file is old or new and complete, and the next run of dkms finishes or rolls back. `make powercut` tries all stories on all file systems; `DKMS_STATES` sets the number of states for each.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use std::time::Instant;

use dkms_tests::modules::Sources;
use dkms_tests::powercut::{LAYOUTS, Limits, STORIES, faults, run};
use dkms_tests::random::Random;
use dkms_tests::{Root, Suite, stage};

/// The syncs of a publication: for the whole transaction, and for each module.
const ONCE: usize = 21;
const EACH: usize = 9;

fn wanted(variable: &str, name: &str) -> bool {
    std::env::var(variable).is_ok_and(|wanted| wanted.is_empty() || name.contains(&wanted))
        || std::env::var(variable).is_err()
}

/// Every story of `stories` on every layout of `layouts`, as a table.
fn cut(layouts: &[&str], stories: &[&str], limits: Limits) {
    let states = std::env::var("DKMS_STATES").ok().and_then(|n| n.parse().ok()).unwrap_or(limits.states);
    let limits = Limits { states, ..limits };
    let mut random = Random::from_env();
    let mut bad = Vec::new();
    eprintln!("file system | story | events | states | booted | old | new | bad | seconds");
    for layout in LAYOUTS.iter().filter(|layout| layouts.is_empty() || layouts.contains(&layout.name)) {
        for story in STORIES.iter().filter(|story| stories.is_empty() || stories.contains(&story.name)) {
            if !wanted("DKMS_LAYOUT", layout.name) || !wanted("DKMS_STORY", story.name) {
                continue;
            }
            let began = Instant::now();
            let tally = run(layout, story, limits, &mut random);
            let ([old, new], seconds) = (tally.untouched, began.elapsed().as_secs());
            let line = format!(
                "{} | {} | {} | {} | {} | {old} | {new}",
                layout.name, story.name, tally.events, tally.states, tally.boots
            );
            eprintln!("{line} | {} | {seconds}", tally.bad.len());
            tally.bad.iter().take(5).for_each(|bad| eprintln!("  {bad}"));
            if old == 0 || new == 0 {
                bad.push(format!("{line}: one end was never seen"));
            }
            bad.extend(tally.bad.into_iter().map(|bad| format!("{}, {}: {bad}", layout.name, story.name)));
        }
    }
    assert!(bad.is_empty(), "{} bad states:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn on_ext4_old_or_new_after_a_power_cut() {
    cut(&["ext4"], &["replace a version", "replace the kernel's own"], Limits { states: 100, boots: 1 });
}

/// One failing system call in each run: the previous module is not lost, the message is there, the next run repairs.
fn fail(stories: &[&str], runs: usize) {
    let runs = std::env::var("DKMS_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(runs);
    let mut bad = Vec::new();
    for story in faults::stories().filter(|story| stories.is_empty() || stories.contains(&story.name)) {
        if !wanted("DKMS_STORY", story.name) {
            continue;
        }
        let began = Instant::now();
        let tried = faults::fail(story, runs);
        let seconds = began.elapsed().as_secs();
        eprintln!(
            "{} | {} runs | {} failed | {} bad | {seconds} s | {:?}",
            story.name,
            tried.runs,
            tried.failed,
            tried.bad.len(),
            tried.calls
        );
        tried.bad.iter().take(8).for_each(|bad| eprintln!("  {bad}"));
        // The one that fails anyway ends as it always does.
        assert!(tried.failed > 0 || story.act.ends_with("|| true"), "nothing failed");
        bad.extend(tried.bad.into_iter().map(|bad| format!("{}: {bad}", story.name)));
    }
    assert!(bad.is_empty(), "{} bad runs:\n{}", bad.len(), bad.join("\n"));
}

#[test]
#[ignore = "long: run by `make powercut`"]
fn every_call_fails_in_every_story() {
    fail(&[], 100_000);
}

#[test]
#[ignore = "long: run by `make powercut`"]
fn every_story_on_every_file_system() {
    cut(&[], &[], Limits { states: 2000, boots: 1 });
}

/// Syncs cost time on every disk: one more for each module is a decision.
#[test]
fn a_publication_syncs_as_often_as_it_must() {
    let modules: usize = std::env::var("DKMS_MODULES").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let layer = layer.prepared(&format!("{modules}-modules"), "1", |root| {
        root.apt_install(&["strace"]).ok();
        for number in 0..modules {
            let sources = Sources::new(&format!("sync{number}"), "1.0");
            sources.unpack(root);
            root.run(&format!("dkms add {0} && dkms build {0} -k {1}", sources.id(), kernel.release)).ok();
        }
    });
    let root = Root::on(&layer);
    let syncs = |command: &str| -> usize {
        let calls = "fsync,fdatasync,syncfs,sync,sync_file_range";
        root.run(&format!("strace -f -qq -y -e trace={calls} -o /opt/syncs {command}")).ok();
        root.run("cat /opt/syncs").stdout.lines().filter(|line| line.contains("sync")).count()
    };
    let autoinstall = format!("dkms autoinstall -k {}", kernel.release);
    let installed = syncs(&autoinstall);
    let nothing = syncs(&autoinstall);
    root.run(&format!(
        "for n in $(seq 0 {}); do dkms uninstall sync$n/1.0 -k {}; done",
        modules - 1,
        kernel.release
    ))
    .ok();
    let again = syncs(&autoinstall);
    eprintln!(
        "{modules} modules: {installed} syncs to install, {again} to install again, {nothing} for nothing"
    );
    assert_eq!((installed, nothing), (ONCE + EACH * modules, 0), "{}", root.transcript());
}

/// A registered source whose files are empty is broken, and nothing repairs it.
#[test]
fn a_source_from_a_tarball_is_synced_before_it_has_its_name() {
    let (layer, _) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    root.apt_install(&["strace"]).ok();
    let sources = Sources::new("synced", "1.0");
    sources.unpack(&root);
    root.run(
        "dkms add synced/1.0 && dkms mktarball synced/1.0 --source-only && cp /var/lib/dkms/synced/1.0/tarball/* /opt/synced.tar.gz && \
         dkms remove synced/1.0 --all && rm -r /usr/src/synced-1.0",
    )
    .ok();
    root.run("strace -f -qq -e trace=syncfs,/rename -o /opt/calls dkms ldtarball /opt/synced.tar.gz").ok();
    let calls = root.read("/opt/calls");
    let first = |wanted: &str| calls.lines().position(|line| line.contains(wanted));
    let (synced, named) = (first("syncfs("), first("\"/usr/src/synced-1.0\""));
    assert!(synced.is_some() && synced < named, "{synced:?} {named:?}\n{calls}");
}
