//! SIGKILL at random moments of a publication. After each: every module file is completely the old or the new one.
//! After the next run: all files have the same version, and there are no leftovers. 25 runs in `make test`, 200 in
//! `make test-long`; `DKMS_KILLS` sets another number.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use std::collections::{BTreeMap, BTreeSet};

use dkms_tests::modules::Sources;
use dkms_tests::random::Random;
use dkms_tests::{Kernel, Root, Suite, stage};

const MODULES: &[&str] = &["storm_a", "storm_b", "storm_c", "storm_d"];

/// The hashes of each file in version 1.0 and in version 2.0.
type Known = BTreeMap<String, [String; 2]>;

fn command(version: usize, kernel: &Kernel) -> String {
    format!("dkms install storm/{}.0 -k {} --force", version + 1, kernel.release)
}

fn known(root: &Root, kernel: &Kernel) -> Known {
    let mut known = Known::new();
    for version in [0, 1] {
        root.run(&command(version, kernel)).ok();
        for (path, sha) in kernel.module_files(root) {
            known.entry(path).or_default()[version] = sha;
        }
    }
    assert_eq!(known.len(), MODULES.len(), "{known:#?}");
    assert!(known.values().all(|[old, new]| old != new), "both versions must differ\n{known:#?}");
    known
}

/// The duration of a publication here, so that kills happen during it.
fn milliseconds_of_a_publish(root: &Root, kernel: &Kernel) -> u64 {
    let start = std::time::Instant::now();
    root.run(&command(0, kernel)).ok();
    start.elapsed().as_millis() as u64 + 20
}

#[track_caller]
fn expect_old_or_new(root: &Root, kernel: &Kernel, known: &Known) {
    let now: BTreeMap<String, String> = kernel.module_files(root).into_iter().collect();
    for (path, versions) in known {
        let sha = now.get(path).unwrap_or_else(|| panic!("{path} is missing"));
        assert!(versions.contains(sha), "{path} is neither old nor new: {sha}\n{versions:#?}");
    }
}

#[track_caller]
fn expect_repaired(root: &Root, kernel: &Kernel, known: &Known) {
    let found = root.find(&kernel.dkms_dir(), "-mindepth 1");
    assert_eq!(found, known.keys().cloned().collect::<Vec<_>>(), "leftovers in {}", kernel.dkms_dir());
    let now: BTreeMap<String, String> = kernel.module_files(root).into_iter().collect();
    let versions: BTreeSet<usize> =
        known.iter().map(|(path, v)| v.iter().position(|sha| *sha == now[path]).unwrap()).collect();
    assert_eq!(versions.len(), 1, "the files are of different versions\n{now:#?}");
    let version = versions.into_iter().next().unwrap();
    let status = root.status();
    let installed: Vec<_> =
        status.iter().filter(|l| l.state == "installed").map(|l| l.module.clone()).collect();
    assert_eq!(installed, [format!("storm/{}.0", version + 1)], "status and files agree\n{status:#?}");
    let intents = root.find("/var/lib/dkms/.dkms-rs", "-name '*.tmp*' -o -name '.*.tmp*'");
    assert_eq!(intents, [""; 0], "temporary files in the tree");
}

#[test]
fn killed_at_any_moment_old_or_new_and_repaired_by_the_next_run() {
    storm(25);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn the_same_after_two_hundred_kills() {
    storm(200);
}

fn storm(kills: u64) {
    let kills: u64 = std::env::var("DKMS_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(kills);
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    for version in ["1.0", "2.0"] {
        Sources::new("storm", version).modules(MODULES).unpack(&root);
        root.run(&format!("dkms add storm/{version} && dkms build storm/{version} -k {}", kernel.release))
            .ok();
    }
    let known = known(&root, &kernel);
    let longest = milliseconds_of_a_publish(&root, &kernel);
    let mut random = Random::from_env();
    let mut killed = 0;
    for n in 0..kills {
        let version = (n as usize + 1) % 2;
        let pause = random.below(longest * 1000);
        let told = root.run_within(
            120,
            &format!(
                "{} >/opt/out 2>&1 & p=$!; sleep {}.{:06}; kill -9 $p; wait $p",
                command(version, &kernel),
                pause / 1_000_000,
                pause % 1_000_000
            ),
        );
        killed += u64::from(told.status == 137);
        root.note(&format!("kill {n} after {pause} us"));
        expect_old_or_new(&root, &kernel, &known);
        root.run_within(120, &format!("dkms autoinstall -k {}", kernel.release)).ok();
        expect_repaired(&root, &kernel, &known);
    }
    eprintln!(
        "{killed} of {kills} runs were killed before they were done; a whole publish takes {longest} ms"
    );
    assert!(killed * 4 >= kills, "too few kills fell into a run: {killed} of {kills}");
}
