//! Random sequences of commands, played with shell DKMS and with ours; prints the first difference of each sequence.
//! `DKMS_UPSTREAM=FILE` names the script of another version of shell DKMS, `DKMS_WALKS=300` the number of sequences,
//! `DKMS_TEST_SEED` the first one.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::panic, clippy::print_stdout)] // a tool stops at the first surprise

use dkms_tests::verdict::Side;
use dkms_tests::verdict::walk::{self, Divergence};
use dkms_tests::{Suite, host, stage};

/// Sequences in one root.
const AT_ONCE: u64 = 10;
/// Commands of a sequence.
const LENGTH: usize = 9;

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

fn main() {
    let count = std::env::var("DKMS_WALKS").map_or(20, |count| count.parse().expect("a number"));
    let first = std::env::var("DKMS_TEST_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let [shell, ours] = sides();
    let mut found = 0;
    for start in (first..first + count).step_by(AT_ONCE as usize) {
        let end = (start + AT_ONCE).min(first + count);
        let divergences = walk::play(&walk::scenario(start..end, LENGTH), &shell, &ours);
        let divergences = divergences.unwrap_or_else(|said| panic!("{start}: {said}"));
        found += divergences.len();
        for Divergence { sequence, commands, differences } in &divergences {
            println!("== sequence {sequence}\n    {}", commands.join("\n    "));
            differences.iter().take(8).for_each(|(aspect, text)| println!("        {aspect} {text}"));
        }
    }
    println!("{count} sequences, {found} with a difference");
}
