//! The same verdicts as Debian's shell dkms: scenarios in `tests/scenarios`, played with both, compared after every
//! command.
//!
//! `DKMS_SCENARIO=text` plays only scenarios whose title contains it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use std::collections::BTreeSet;
use std::sync::OnceLock;

use dkms_tests::verdict::{self, Side, scenario};
use dkms_tests::{Suite, stage};

/// One test for each area, so that areas run in parallel.
macro_rules! areas {
    ($($area:ident)*) => {
        const AREAS: &[&str] = &[$(stringify!($area)),*];
        $(#[test] fn $area() { play_area(stringify!($area)); })*
    };
}

areas! { add arguments autoinstall broken build conf hooks install matching public settings status tarball uninstall }

fn sides() -> &'static [Side; 2] {
    static SIDES: OnceLock<[Side; 2]> = OnceLock::new();
    SIDES.get_or_init(prepare)
}

fn prepare() -> [Side; 2] {
    let (layer, kernels) = stage::two_kernels(Suite::trixie());
    let side = |name, layer| Side { name, layer, kernels: kernels.clone(), programs: "" };
    [side("Debian's dkms", stage::shell_dkms_over(&layer)), side("ours", stage::product_over(&layer))]
}

fn play_area(area: &str) {
    let [debian, ours] = sides();
    let scenarios = scenario::load(area);
    debian.forget_others(area, &scenarios);
    verdict::play(area, &scenarios, debian, ours);
}

#[test]
fn every_area_is_played() {
    // `interchange` has a separate test file.
    let played = AREAS.iter().chain(&["interchange"]).map(|a| (*a).to_owned());
    assert_eq!(BTreeSet::from_iter(scenario::areas()), played.collect());
    let count: usize = AREAS.iter().map(|area| scenario::load(area).len()).sum();
    assert!(count >= 120, "only {count} scenarios");
}

#[test]
fn every_deliberate_difference_is_explained_and_every_explanation_is_needed() {
    let declared =
        scenario::areas().into_iter().flat_map(|area| scenario::load(&area)).flat_map(|s| s.declared);
    let declared = BTreeSet::from_iter(declared.map(|d| d.key));
    let explained = BTreeSet::from_iter(scenario::explained());
    assert_eq!(declared, explained, "declared in scenarios; explained in tests/scenarios/README.md");
}
