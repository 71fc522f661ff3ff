//! Environment variables: those that any program reads, and those in dkms(8).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dkms_core::distro::managers::MANAGERS;

use crate::page::{page, section, words};

/// These read variables that rows of `distro` or the adapters name.
const NAMED_ELSEWHERE: [&str; 2] = ["core/src/caller.rs", "core/src/hook.rs"];

/// All Rust files below a directory, tests left out.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The quoted texts that may be names of variables.
fn quoted(text: &str) -> impl Iterator<Item = String> + '_ {
    let is_name = |word: &&str| {
        word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    text.split('"').skip(1).step_by(2).filter(is_name).map(str::to_owned)
}

/// The values of the constants whose declaration begins with this text.
fn constants<'a>(code: &'a str, declared: &'a str) -> impl Iterator<Item = &'a str> {
    let is_meant = move |rest: &&str| rest.lines().next().is_some_and(|line| line.contains(declared));
    let declarations = code.split("const ").skip(1).filter(is_meant);
    declarations.filter_map(|rest| rest.split_once('=')?.1.split(';').next())
}

/// Calls that read a variable.
const READS: [&str; 7] = [
    "env::var(",
    "env::var_os(",
    "env::vars(",
    "env::vars_os(",
    "environment::variable(",
    "environment::is_set(",
    "(input.variable)(",
];

/// The variables that a file reads. If the name is a constant, its value; if it is another expression, any value in the
/// file's constant lists.
fn read(path: &Path, all: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    let mut names = BTreeSet::new();
    if NAMED_ELSEWHERE.iter().any(|file| path.ends_with(file)) {
        return names;
    }
    for call in READS {
        for (at, _) in code.match_indices(call) {
            let argument = code[at + call.len()..].split(')').next().unwrap();
            let one = format!("{argument}: &str");
            let values: Vec<&str> = match argument.chars().next() {
                Some('"') => vec![argument],
                Some(first) if first.is_ascii_uppercase() => {
                    let here: Vec<&str> = constants(code, &one).collect();
                    if here.is_empty() { constants(all, &one).collect() } else { here }
                }
                _ => constants(code, ": [&str;").collect(),
            };
            let found: Vec<String> = values.into_iter().flat_map(quoted).collect();
            assert!(!found.is_empty(), "{}: which variable is {call}{argument})?", path.display());
            names.extend(found);
        }
    }
    names
}

#[test]
fn every_environment_variable_is_described() {
    let mut files = Vec::new();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for dir in ["core", "apt-hook", "dnf-plugin", "alpm-hook"] {
        sources(&workspace.join(dir).join("src"), &mut files);
    }
    // The function that all others call reads the names that they pass.
    files.retain(|path| !path.ends_with("sys/environment.rs"));
    let all: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let mut read: BTreeSet<String> = files.iter().flat_map(|path| read(path, &all)).collect();
    for manager in MANAGERS {
        let tells = manager.replacing.and_then(|script| script.variable).map(|(name, _)| name);
        read.extend(manager.variables.iter().copied().chain(tells).map(str::to_owned));
    }
    assert!(read.contains("DPKG_MAINTSCRIPT_NAME") && read.contains("DEB_MAINT_PARAMS"), "{read:?}");
    assert!(read.contains("DKMS_ALLOW") && read.contains("TMPDIR") && read.len() > 8, "{read:?}");
    assert_eq!(words(&section(&page("dkms.8"), ".SH ENVIRONMENT")), read);
}
