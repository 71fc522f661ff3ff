//! For every file that is understood, bash has the same result. `PROPTEST_CASES=100000` tests more files,
//! `BASH_UNDER_TEST` another bash.

use std::process::Command;

use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::super::variables::is_own;
use super::both::{disagreement, inputs, native};
use super::generated::{file, odd_file};

/// Files that one bash process evaluates.
const BATCH: usize = 100;

/// Generates files until the result for one differs from bash's, and reduces that one.
fn agree(files: &BoxedStrategy<String>) {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500);
    let mut runner = TestRunner::default();
    for _ in 0..wanted / BATCH {
        let mut trees: Vec<_> = (0..BATCH).map(|_| files.new_tree(&mut runner).unwrap()).collect();
        let texts: Vec<String> = trees.iter().map(ValueTree::current).collect();
        let Some(mut difference) = disagreement(&texts) else { continue };
        let differs = |text: String| disagreement(&[text]);
        let tree = trees.iter_mut().find(|tree| differs(tree.current()).is_some()).unwrap();
        let mut smaller = tree.simplify();
        while smaller {
            smaller = match differs(tree.current()) {
                Some(still) => {
                    difference = still;
                    tree.simplify()
                }
                None => tree.complicate(),
            };
        }
        panic!("{difference}");
    }
}

#[test]
fn bash_agrees_about_files_as_people_write_them() {
    agree(&file());
}

#[test]
fn bash_agrees_about_odd_files() {
    agree(&odd_file());
}

/// Enough of the generated files are understood for the properties to be significant.
#[test]
fn the_generated_files_are_no_foreign_language() {
    let mut runner = TestRunner::deterministic();
    let mut understood = |strategy: &BoxedStrategy<String>| {
        (0..1000).filter(|_| native(&strategy.new_tree(&mut runner).unwrap().current()).is_ok()).count()
    };
    let (plain, odd) = (understood(&file()), understood(&odd_file()));
    assert!(plain > 300 && odd > 80, "{plain} and {odd} of 1000 are understood");
}

/// A variable that bash sets before it reads a file has an unknown value.
#[test]
#[allow(clippy::disallowed_methods)] // nothing to confine
fn every_variable_of_the_shell_is_known_as_such() {
    let shell = Command::new(std::env::var("BASH_UNDER_TEST").unwrap_or("bash".into()))
        .args(["--noprofile", "--norc", "-c", "compgen -v", "dkms.conf"])
        .env_clear()
        .env("PATH", crate::sys::run::PATH)
        .output()
        .unwrap();
    let names = String::from_utf8(shell.stdout).unwrap();
    assert!(names.contains("BASH_VERSION"), "{names}");
    let strangers: Vec<&str> = names.lines().filter(|name| !is_own(name)).collect();
    assert_eq!(strangers, [""; 0]);
    assert!(inputs("").variables.iter().all(|(name, _)| !is_own(name)));
}
