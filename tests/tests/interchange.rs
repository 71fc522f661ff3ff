//! One DKMS tree, two programs: Debian's dkms and ours continue each other's work in any order. The state after every
//! command is compared with a root in which Debian's dkms ran all commands.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use dkms_tests::random::Random;
use dkms_tests::verdict::{self, Scenario, Side, scenario};
use dkms_tests::{Suite, stage};

/// Debian's dkms under both names, and both programs next to each other.
fn sides() -> [Side; 2] {
    let (layer, kernels) = stage::two_kernels(Suite::trixie());
    let side = |name, layer, programs| Side { name, layer, kernels: kernels.clone(), programs };
    let alone = "theirs() { dkms \"$@\"; }; ours() { dkms \"$@\"; }; export -f theirs ours; export K";
    let both = "theirs() { /opt/shell-dkms/usr/sbin/dkms \"$@\"; }; ours() { dkms \"$@\"; }; export -f theirs ours; export K";
    [
        side("Debian's dkms alone", stage::shell_dkms_over(&layer), alone),
        side("both", stage::both_over(&layer), both),
    ]
}

#[test]
fn either_goes_on_where_the_other_stopped() {
    let [alone, both] = sides();
    let scenarios = scenario::load("interchange");
    alone.forget_others("interchange", &scenarios);
    verdict::play("interchange", &scenarios, &alone, &both);
}

/// Random walks over all states: `DKMS_TEST_SEED` repeats one of them.
#[test]
#[ignore = "long: run by `make test-long`"]
fn in_any_order() {
    let [alone, both] = sides();
    let seeds = match std::env::var("DKMS_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => vec![1, 2],
    };
    let walks: Vec<Scenario> = seeds.into_iter().map(walk).collect();
    verdict::play("walks", &walks, &alone, &both);
}

/// Twenty commands on three modules and two kernels, each by either program.
fn walk(seed: u64) -> Scenario {
    let mut random = Random::new(seed);
    let mut lines: Vec<String> =
        ["ready hello 1.0", "ready hello 2.0", "ready world 1.0", "native hello 0.5"]
            .map(str::to_owned)
            .to_vec();
    for _ in 0..20 {
        let mut pick = |of: &[&str]| of[random.below(of.len() as u64) as usize].to_owned();
        let (who, kernel) = (pick(&["theirs", "ours"]), pick(&["$K", "$K2"]));
        let module = pick(&["hello/1.0", "hello/2.0", "world/1.0"]);
        let command =
            match pick(&["build", "install", "install", "uninstall", "unbuild", "remove", "all", "auto"])
                .as_str()
            {
                "all" => format!("remove {module} --all"),
                "auto" => format!("autoinstall -k {kernel}"),
                action => format!("{action} {module} -k {kernel}"),
            };
        lines.push(format!("$ {who} {command}"));
        let other = if who == "ours" { "theirs" } else { "ours" };
        lines.push(format!("$ {other} status"));
    }
    Scenario { title: format!("walk {seed}"), declared: Vec::new(), lines }
}
