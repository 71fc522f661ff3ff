//! Differences between two readers of one package.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use crate::facts::{Description, Facts, Node, Tree, with_parents};

/// One difference.
pub struct Difference {
    /// The property that differs, such as `version` or `file`.
    pub what: &'static str,
    /// The file inside the package; empty if it is about the package.
    pub path: PathBuf,
    pub ours: String,
    pub theirs: String,
}

impl Difference {
    pub fn new(what: &'static str, path: &Path, ours: impl Debug, theirs: impl Debug) -> Self {
        Self { what, path: path.to_owned(), ours: format!("{ours:?}"), theirs: format!("{theirs:?}") }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {}\n    ours:   {}\n    theirs: {}",
            self.what,
            self.path.display(),
            self.ours,
            self.theirs
        )
    }
}

/// Compares our readers with the crate. Two errors are no difference.
pub fn compare(ours: &Facts, theirs: &Facts) -> Vec<Difference> {
    let mut found = Vec::new();
    if let Some((ours, theirs)) = both("describes", &ours.description, &theirs.description, &mut found) {
        descriptions(ours, theirs, &mut found);
    }
    if let Some((ours, theirs)) = both("unpacks", &ours.tree, &theirs.tree, &mut found) {
        trees(ours.clone(), theirs.clone(), &mut found);
    }
    found
}

fn both<'a, T>(
    what: &'static str,
    ours: &'a Result<T, String>,
    theirs: &'a Result<T, String>,
    found: &mut Vec<Difference>,
) -> Option<(&'a T, &'a T)> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => return Some((ours, theirs)),
        (Err(_), Err(_)) => {}
        (Err(why), Ok(_)) => found.push(Difference::new(what, Path::new(""), why, "reads it")),
        (Ok(_), Err(why)) => found.push(Difference::new(what, Path::new(""), "reads it", why)),
    }
    None
}

fn descriptions(ours: &Description, theirs: &Description, found: &mut Vec<Difference>) {
    for (what, ours, theirs) in [
        ("name", &ours.name, &theirs.name),
        ("version", &ours.version, &theirs.version),
        ("machine", &ours.machine, &theirs.machine),
        ("size", &ours.size.to_string(), &theirs.size.to_string()),
    ] {
        if ours != theirs {
            found.push(Difference::new(what, Path::new(""), ours, theirs));
        }
    }
    for path in ours.paths.symmetric_difference(&theirs.paths) {
        let says = |paths: &BTreeSet<PathBuf>| if paths.contains(path) { "listed" } else { "not listed" };
        found.push(Difference::new("paths", path, says(&ours.paths), says(&theirs.paths)));
    }
}

fn trees(ours: Tree, theirs: Tree, found: &mut Vec<Difference>) {
    // Our readers do not unpack these. `ours::read` has checked that they are refused.
    let theirs = theirs.into_iter().filter(|(_, node)| *node != Node::Special).collect();
    different(&with_parents(ours), &with_parents(theirs), "file", found);
}

/// The entries of two maps that differ.
pub fn different<T: PartialEq + Debug>(
    ours: &BTreeMap<PathBuf, T>,
    theirs: &BTreeMap<PathBuf, T>,
    what: &'static str,
    found: &mut Vec<Difference>,
) {
    let paths: BTreeSet<&PathBuf> = ours.keys().chain(theirs.keys()).collect();
    for path in paths {
        let (ours, theirs) = (ours.get(path), theirs.get(path));
        if ours != theirs {
            found.push(Difference::new(what, path, ours, theirs));
        }
    }
}
