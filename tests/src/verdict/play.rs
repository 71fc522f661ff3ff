//! Plays scenarios with both sides, and fails with all unexpected differences.

use std::io::Write as _;

use super::compare::{differences, faults};
use super::scenario::Declared;
use super::{Scenario, Side, Verdict};

/// Plays the scenarios of an area (those whose title contains `DKMS_SCENARIO`, when that is set).
pub fn play(area: &str, scenarios: &[Scenario], reference: &Side, tried: &Side) {
    let wanted = std::env::var("DKMS_SCENARIO").unwrap_or_default();
    let chosen = scenarios.iter().filter(|s| s.title.contains(&wanted));
    let told: Vec<String> = chosen.filter_map(|s| wrong(area, s, reference, tried)).collect();
    assert!(
        told.is_empty(),
        "{area}: {} of {} scenarios differ\n{}",
        told.len(),
        scenarios.len(),
        told.join("\n")
    );
}

/// What is wrong with a scenario, with the output of its commands.
fn wrong(area: &str, scenario: &Scenario, reference: &Side, tried: &Side) -> Option<String> {
    let title = &scenario.title;
    let (first, second) = match (reference.remembered(area, scenario), tried.play(scenario)) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(said), _) | (_, Err(said)) => return Some(format!("== {title}\n    {said}")),
    };
    let declared = scenario.declared.iter().map(|d| Declared { text: tried.named(&d.text), ..d.clone() });
    let faults = faults(&differences(&first, &second), &declared.collect::<Vec<_>>());
    let said = |side: &Side, verdict: &Verdict| {
        format!("  {} said:{}", side.name, verdict.said.replace('\n', "\n    | "))
    };
    (!faults.is_empty()).then(|| {
        let faults = faults.join("\n    ");
        // Immediately, not at the end of the area, and not into the test's captured output.
        writeln!(std::io::stderr(), "{area} == {title}\n    {faults}").ok();
        format!("== {title}\n    {faults}\n{}\n{}\n", said(reference, &first), said(tried, &second))
    })
}
