//! Which tests run, and which first.

use std::collections::BTreeMap;

use crate::list::Test;

/// Which of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those of `make test`.
    Everyday,
    /// Those of `make test-long`.
    Long,
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Which of the tests.
    pub which: Which,
    /// Only tests whose `SUITE::NAME` contains one of these; all, when there are none.
    pub words: Vec<String>,
}

impl Chosen {
    fn has(&self, test: &Test) -> bool {
        let name = format!("{}::{}", test.suite, test.name);
        let named = self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()));
        named && test.long == (self.which == Which::Long)
    }
}

/// The chosen tests, one of each suite first: suites need different layers, which are then prepared in parallel. Expensive
/// suites come first, so that no long test is left for the end.
pub fn in_order(tests: Vec<Test>, chosen: &Chosen, cost: impl Fn(&str) -> u32) -> Vec<Test> {
    let mut place = BTreeMap::<String, usize>::new();
    let mut placed: Vec<_> = tests
        .into_iter()
        .filter(|test| chosen.has(test))
        .map(|test| {
            let nth = place.entry(test.suite.clone()).or_default();
            *nth += 1;
            (*nth, u32::MAX - cost(&test.suite), test)
        })
        .collect();
    placed.sort_by_key(|(nth, cost, _)| (*nth, *cost));
    placed.into_iter().map(|(_, _, test)| test).collect()
}

#[cfg(test)]
mod tests {
    use super::{Chosen, Test, Which, in_order};

    fn test(suite: &str, name: &str, long: bool) -> Test {
        Test { suite: suite.to_owned(), name: name.to_owned(), long, program: "/p".into() }
    }

    fn names(which: Which, words: &[&str]) -> Vec<String> {
        let tests = vec![
            test("cheap", "a", false),
            test("cheap", "b", false),
            test("dear", "a", false),
            test("dear", "all", true),
            test("dear", "b", false),
        ];
        let chosen = Chosen { which, words: words.iter().map(|w| (*w).to_owned()).collect() };
        let cost = |suite: &str| if suite == "dear" { 9 } else { 1 };
        in_order(tests, &chosen, cost).iter().map(|t| format!("{} {}", t.suite, t.name)).collect()
    }

    #[test]
    fn one_of_each_suite_first() {
        assert_eq!(names(Which::Everyday, &[]), ["dear a", "cheap a", "dear b", "cheap b"]);
    }

    #[test]
    fn every_test_is_in_one_of_the_two() {
        assert_eq!(names(Which::Long, &[]), ["dear all"]);
        assert_eq!(names(Which::Everyday, &[]).len() + names(Which::Long, &[]).len(), 5);
    }

    #[test]
    fn words_choose_suites_and_tests() {
        assert_eq!(names(Which::Everyday, &["cheap"]), ["cheap a", "cheap b"]);
        assert_eq!(names(Which::Everyday, &["::b"]), ["dear b", "cheap b"]);
        assert_eq!(names(Which::Long, &["cheap"]), [""; 0]);
    }
}
