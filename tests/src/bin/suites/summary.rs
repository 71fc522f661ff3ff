//! The summary at the end of a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::job::Ended;

/// Times of all tests of a suite.
#[derive(Default)]
struct Sum {
    tests: usize,
    wall: Duration,
    cpu: Duration,
}

/// The table of suites, slowest first; warnings about exceeded budgets; failed tests; and a last line as libtest prints it.
/// `budget` is in seconds of processor time.
pub fn summary(ended: &[Ended], took: Duration, budget: impl Fn(&str) -> Option<u32>) -> String {
    let mut sums = BTreeMap::<&str, Sum>::new();
    for how in ended {
        let sum = sums.entry(&how.test.suite).or_default();
        sum.tests += 1;
        sum.wall += how.wall;
        sum.cpu += how.cpu;
    }
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.cpu));
    let mut text =
        format!("\n{:<20} {:>5} {:>8} {:>8} {:>8}\n", "suite", "tests", "CPU s", "budget", "wall s");
    let mut warnings = String::new();
    for (suite, Sum { tests, wall, cpu }) in rows {
        let (cpu, wall) = (cpu.as_secs(), wall.as_secs());
        let allowed = budget(suite);
        let shown = allowed.map_or_else(|| "none".to_owned(), |budget| budget.to_string());
        writeln!(text, "{suite:<20} {tests:>5} {cpu:>8} {shown:>8} {wall:>8}").unwrap();
        match allowed {
            Some(budget) if cpu <= u64::from(budget) => {}
            Some(budget) => {
                writeln!(warnings, "warning: {suite} took {cpu} s of CPU time; its budget is {budget} s")
                    .unwrap()
            }
            None => writeln!(warnings, "warning: {suite} has no budget").unwrap(),
        }
    }
    let cpu: Duration = ended.iter().map(|how| how.cpu).sum();
    let mut layers: Vec<_> = ended.iter().flat_map(|how| &how.prepared).collect();
    layers.sort_by_key(|(_, cpu)| std::cmp::Reverse(*cpu));
    for (name, cpu) in &layers {
        writeln!(text, "prepared {name}: {} s of CPU time", cpu.as_secs()).unwrap();
    }
    let cpu = cpu + layers.iter().map(|(_, cpu)| *cpu).sum::<Duration>();
    writeln!(text, "together: {} s of CPU time in {} s\n{warnings}", cpu.as_secs(), took.as_secs()).unwrap();
    let failed: Vec<&Ended> = ended.iter().filter(|how| !how.passed).collect();
    for how in &failed {
        writeln!(text, "FAILED: {}::{}: {}", how.test.suite, how.test.name, how.log.display()).unwrap();
    }
    let verdict = if failed.is_empty() && !ended.is_empty() { "ok" } else { "FAILED" };
    let passed = ended.len() - failed.len();
    writeln!(
        text,
        "\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        failed.len(),
        took.as_secs_f64()
    )
    .unwrap();
    text
}

#[cfg(test)]
mod tests {
    use super::{Ended, summary};
    use crate::list::Test;
    use std::time::Duration;

    fn ended(suite: &str, passed: bool, cpu: u64) -> Ended {
        let test = Test { suite: suite.to_owned(), name: "t".to_owned(), long: false, program: "/p".into() };
        let cpu = Duration::from_secs(cpu);
        Ended { test, passed, wall: cpu * 2, cpu, prepared: Vec::new(), log: "/log".into() }
    }

    fn lines(ended: &[Ended]) -> Vec<String> {
        let budget = |suite: &str| (suite != "odd").then_some(10);
        summary(ended, Duration::from_secs(9), budget).lines().map(str::to_owned).collect()
    }

    #[test]
    fn slowest_first_and_over_budget_is_a_warning() {
        let lines = lines(&[ended("quick", true, 2), ended("slow", true, 7), ended("slow", true, 8)]);
        let rows: Vec<_> = lines.iter().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(rows, ["suite", "slow", "quick", "together:", "warning:", "test"]);
        assert!(
            lines.contains(&"warning: slow took 15 s of CPU time; its budget is 10 s".to_owned()),
            "{lines:#?}"
        );
        let end =
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.00s";
        assert_eq!(lines.last().unwrap(), end);
    }

    #[test]
    fn a_suite_without_a_budget_is_named() {
        assert!(lines(&[ended("odd", true, 1)]).contains(&"warning: odd has no budget".to_owned()));
    }

    #[test]
    fn failures_are_named_and_nothing_run_is_no_success() {
        let lines_of = lines(&[ended("a", false, 1), ended("b", true, 1)]);
        assert!(lines_of.contains(&"FAILED: a::t: /log".to_owned()), "{lines_of:#?}");
        assert!(lines_of.last().unwrap().starts_with("test result: FAILED. 1 passed; 1 failed;"));
        assert!(lines(&[]).last().unwrap().starts_with("test result: FAILED. 0 passed; 0 failed;"));
    }
}
