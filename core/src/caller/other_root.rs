//! The root directory of another system, in which a command or a hook continues.

use std::path::Path;

use crate::caller::{in_transaction, root_of_manager, root_variable};
use crate::exit::Exit;
use crate::report::Screen;
use crate::sys::root::{self, Unusable};

/// The option that names it.
const OPTION: &str = "--root";

/// Continues in another root directory, if one is meant: the given one, or that of the package manager above. Returns only if
/// none is meant, or if that was not possible; then with the exit code.
pub fn enter(given: Option<&Path>, program: &Path, words: &[String], screen: Screen) -> Option<Exit> {
    let asked = given.is_some();
    let root = given.map(Path::to_owned).or_else(root_of_manager).filter(|root| !root::is_own(root))?;
    let error = root::enter(&root, program, &without_option(words), root_variable());
    // A package's script goes on: modules are built when the system starts for the first time.
    let exit = if asked && !in_transaction() { Exit::ERROR } else { Exit::SUCCESS };
    screen.alert(&sentence(&root, &error, exit));
    Some(exit)
}

/// What a user reads.
fn sentence(root: &Path, error: &anyhow::Error, exit: Exit) -> String {
    let what = if exit.is_success() { "dkms: skipped: " } else { "dkms: " };
    let remedy = error.downcast_ref::<Unusable>().map_or("run dkms on the system itself", |why| why.remedy);
    format!("{what}{} was not entered: {error:#}; {remedy}", root.display())
}

/// The words of a command line without the option, for the program in the directory.
fn without_option(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            kept.push(word.clone());
            kept.extend(words.by_ref().cloned());
        } else if word == OPTION {
            words.next();
        } else if !word.strip_prefix(OPTION).is_some_and(|rest| rest.starts_with('=')) {
            kept.push(word.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_in_the_directory_gets_the_other_words() {
        for (line, expected) in [
            ("--root /a status", "status"),
            ("install a/1 --root=/a -k 1", "install a/1 -k 1"),
            ("--root /a --root=/b --rootless x", "--rootless x"),
            ("status -- --root /a", "status -- --root /a"),
            ("status --root", "status"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(without_option(&words).join(" "), expected, "{line}");
        }
    }
}
