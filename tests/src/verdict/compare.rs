//! The differences between two verdicts, and which of them are declared.

use std::fmt;

use super::run::{Step, Verdict};
use super::scenario::Declared;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `exit`, `status`, `tree`, `modules` or `src`.
    pub aspect: String,
    /// The number of the command, and the difference after it.
    pub text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.aspect, self.text)
    }
}

/// All differences, in the order of the commands; a lasting one is reported once, at its beginning.
pub fn differences(debian: &Verdict, ours: &Verdict) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut before = Vec::new();
    for (n, (theirs, ours)) in debian.steps.iter().zip(&ours.steps).enumerate() {
        let now = after(theirs, ours);
        let new = now.iter().filter(|difference| !before.contains(*difference));
        found.extend(
            new.map(|(aspect, text)| Difference {
                aspect: aspect.clone(),
                text: format!("{}: {text}", n + 1),
            }),
        );
        // Each command has its own exit code and output.
        before =
            now.into_iter().filter(|(aspect, _)| !["exit", "status"].contains(&aspect.as_str())).collect();
    }
    found
}

/// The differences after one command: aspect and text.
pub fn after(debian: &Step, ours: &Step) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if debian.exit != ours.exit {
        found.push(("exit".to_owned(), format!("Debian {}, ours {}", debian.exit, ours.exit)));
    }
    let only = |who: &str, (aspect, fact): &(String, String)| (aspect.clone(), format!("only {who}: {fact}"));
    found.extend(debian.facts.difference(&ours.facts).map(|fact| only("Debian", fact)));
    found.extend(ours.facts.difference(&debian.facts).map(|fact| only("ours", fact)));
    found
}

/// The faults as text: differences without a declaration, and declarations without a difference.
pub fn faults(differences: &[Difference], declared: &[Declared]) -> Vec<String> {
    let covers = |d: &Declared, found: &Difference| d.aspect == found.aspect && found.text.contains(&d.text);
    let unknown = differences.iter().filter(|found| !declared.iter().any(|d| covers(d, found)));
    let stale = declared.iter().filter(|d| !differences.iter().any(|found| covers(d, found)));
    let unknown = unknown.map(ToString::to_string);
    unknown.chain(stale.map(|d| format!("no difference is like: {} {}", d.aspect, d.text))).collect()
}

#[cfg(test)]
mod tests {
    use super::{differences, faults};
    use crate::verdict::run::{Step, Verdict};
    use crate::verdict::scenario::Declared;

    fn verdict(exit: i32, tree: &[&str]) -> Verdict {
        let facts = tree.iter().map(|t| ("tree".to_owned(), (*t).to_owned())).collect();
        let step = Step { command: "x".to_owned(), exit, facts };
        Verdict { steps: vec![step.clone(), step], said: String::new() }
    }

    fn declared(aspect: &str, text: &str) -> Declared {
        Declared { key: "k".to_owned(), aspect: aspect.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn only_what_is_declared_may_differ() {
        let found = differences(&verdict(10, &["a", "b"]), &verdict(0, &["a", "c"]));
        let (exit, b, c) =
            (declared("exit", ": Debian 10, ours 0"), declared("tree", "b"), declared("tree", "c"));
        assert_eq!(faults(&found, &[exit.clone(), b.clone(), c.clone()]), [""; 0]);
        assert_eq!(faults(&found, &[exit.clone(), b.clone()]), ["tree 1: only ours: c"]);
        assert_eq!(faults(&found, &[exit, b, c, declared("src", "x")]), ["no difference is like: src x"]);
    }
}
