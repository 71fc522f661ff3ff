//! Random sequences of commands, played with shell DKMS and with ours; prints the first difference of each sequence, with the
//! deliberate difference that explains it, and fails if one is not explained.
//! `DKMS_UPSTREAM=FILE` names the script of another version of shell DKMS, `DKMS_WALKS=300` the number of sequences,
//! `DKMS_TEST_SEED` the first one.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::panic, clippy::print_stdout)] // a tool stops at the first surprise

use std::collections::BTreeMap;
use std::process::ExitCode;

use dkms_tests::verdict::walk::{self, Divergence};
use dkms_tests::verdict::{Side, explained};
use dkms_tests::{Suite, host, stage};

/// Sequences in one root.
const AT_ONCE: u64 = 10;
/// Commands of a sequence.
const LENGTH: usize = 9;
/// In place of a key.
const UNEXPLAINED: &str = "not explained";

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

fn main() -> ExitCode {
    let count = std::env::var("DKMS_WALKS").map_or(20, |count| count.parse().expect("a number"));
    let first = std::env::var("DKMS_TEST_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let [shell, ours] = sides();
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for start in (first..first + count).step_by(AT_ONCE as usize) {
        let end = (start + AT_ONCE).min(first + count);
        let divergences = walk::play(&walk::scenario(start..end, LENGTH), &shell, &ours);
        for divergence in divergences.unwrap_or_else(|said| panic!("{start}: {said}")) {
            let key = explained::key(&divergence).unwrap_or(UNEXPLAINED);
            *found.entry(key).or_default() += 1;
            show(&divergence, key);
        }
    }
    let total: u64 = found.values().sum();
    let unexplained = found.remove(UNEXPLAINED).unwrap_or_default();
    found.iter().for_each(|(key, times)| println!("{times:>4} {key}"));
    println!(
        "{count} sequences, {total} with a difference: {} explained, {unexplained} not",
        total - unexplained
    );
    if unexplained == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a difference; only the command if it is explained.
fn show(Divergence { sequence, commands, differences }: &Divergence, key: &str) {
    if key != UNEXPLAINED {
        println!("== sequence {sequence}, {key}: {}", commands.last().map_or("", String::as_str));
        return;
    }
    println!("== sequence {sequence}, {key}\n    {}", commands.join("\n    "));
    differences.iter().take(8).for_each(|(aspect, text)| println!("        {aspect} {text}"));
}
