//! Random sequences of commands, played with shell DKMS and with ours: the first difference of each sequence is a deliberate
//! one. `DKMS_UPSTREAM=FILE` names the script of another version of shell DKMS, `DKMS_WALKS=300` the number of sequences.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use dkms_tests::verdict::walk::{self, Divergence};
use dkms_tests::verdict::{Side, scenario};
use dkms_tests::{Suite, host, stage};

/// Sequences in one root.
const AT_ONCE: u64 = 10;
/// Commands of a sequence.
const LENGTH: usize = 9;

/// Deliberate differences: the key of the explanation in `tests/scenarios/README.md`, and parts of the last command and of
/// one of the differences.
const EXPLAINED: &[(&str, &str, &str)] = &[];

fn sides() -> [Side; 2] {
    let (layer, kernels) = stage::two_kernels(Suite::trixie());
    let mut shell = stage::shell_dkms_over(&layer);
    if let Ok(file) = std::env::var("DKMS_UPSTREAM") {
        let script = std::fs::read(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        shell = shell.prepared("upstream", &host::sha256(&script), |root| {
            root.write("/usr/sbin/dkms", &script);
        });
    }
    let side = |name, layer| Side { name, layer, kernels: kernels.clone(), programs: "" };
    [side("shell DKMS", shell), side("ours", stage::product_over(&layer))]
}

fn explained(divergence: &Divergence) -> bool {
    let command = divergence.commands.last().map_or("", String::as_str);
    EXPLAINED.iter().any(|(_, part, text)| {
        command.contains(part)
            && divergence.differences.iter().any(|(aspect, what)| format!("{aspect} {what}").contains(text))
    })
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn every_first_difference_is_deliberate() {
    let count = std::env::var("DKMS_WALKS").map_or(20, |count| count.parse().expect("a number"));
    let first = std::env::var("DKMS_TEST_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let [shell, ours] = sides();
    let mut told = Vec::new();
    let mut found = 0;
    for start in (first..first + count).step_by(AT_ONCE as usize) {
        let end = (start + AT_ONCE).min(first + count);
        let divergences = walk::play(&walk::scenario(start..end, LENGTH), &shell, &ours);
        let divergences = divergences.unwrap_or_else(|said| panic!("{start}: {said}"));
        found += divergences.len();
        told.extend(divergences.into_iter().filter(|one| !explained(one)));
    }
    eprintln!("{count} sequences, {found} with a difference");
    for Divergence { sequence, commands, differences } in &told {
        eprintln!("== sequence {sequence}\n    {}", commands.join("\n    "));
        differences.iter().take(8).for_each(|(aspect, text)| eprintln!("        {aspect} {text}"));
    }
    assert!(told.is_empty(), "{} sequences end with a difference that is not explained", told.len());
}

#[test]
fn every_explanation_of_a_walk_is_in_the_list() {
    let known = scenario::explained();
    for (key, ..) in EXPLAINED {
        assert!(known.contains(&(*key).to_owned()), "{key}");
    }
}
