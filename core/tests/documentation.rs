//! Documentation cannot drift: the manual pages and the shipped settings list exactly what the code has. The JSON
//! documents of `status`, `check` and `preflight` are compared next to their code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // a test stops at the first surprise

#[path = "support/page.rs"]
mod page;

mod documentation {
    mod environment;
    mod json;
    mod readme;
    mod settings;
}

use std::collections::BTreeSet;
use std::process::Command;

use dkms_core::conf::{Context, evaluate};
use dkms_core::layout::Layout;
use dkms_core::types::Target;
use page::{page, section, tags, words};

fn set<T: Into<String>>(names: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    names.into_iter().map(Into::into).collect()
}

/// The output of the program.
fn dkms(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dkms")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_action_is_described_offered_and_shown_by_help() {
    let offered = dkms(&["complete", "--", ""]);
    let offered = set(offered.lines().map(|line| line.split('\t').next().unwrap()));
    assert!(offered.len() > 15, "{offered:?}");
    let described = tags(&section(&page("dkms.8"), ".SH ACTIONS"));
    let described = described.iter().flat_map(|tag| tag.split(", "));
    assert_eq!(set(described.map(|tag| tag.split(' ').next().unwrap())), offered, "dkms(8), ACTIONS");
    let help = dkms(&["--help"]);
    let help = set(help.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    assert_eq!(offered.difference(&help).count(), 0, "--help lacks {:?}", offered.difference(&help));
}

#[test]
fn every_exit_code_is_described() {
    let described = words(&section(&page("dkms.8"), ".SH EXIT STATUS"));
    let codes = dkms_core::exit::Exit::TABLE.iter().map(|(exit, _)| exit.number().to_string());
    assert_eq!(described, codes.chain(["128+n".to_owned()]).collect());
}

#[test]
fn every_directive_of_dkms_conf_is_described() {
    let page = page("dkms.conf.5");
    let is_directive = |word: &String| word.starts_with(|c: char| c.is_ascii_uppercase());
    let described = words(&page).into_iter().filter(is_directive);
    let described: BTreeSet<String> = described.map(|word| word.trim_end_matches("[n]").to_owned()).collect();
    assert_eq!(described, set(evaluate::VARIABLES.split_whitespace()));
}

#[test]
fn every_variable_that_a_dkms_conf_can_use_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("dkms.conf");
    std::fs::write(&conf, "").unwrap();
    let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
    let context = Context {
        layout: &Layout::default(),
        module: &"a/1".parse().unwrap(),
        target: &target,
        headers: dir.path(),
        identity: "",
        destination: None,
        overrides: &[],
        directives: &[],
        environment: &[],
    };
    let inputs = evaluate::Inputs::of_recipe(&conf, &context).unwrap();
    let variables = inputs.variables.iter().map(|(name, _)| format!("${name}"));
    assert_eq!(words(&section(&page("dkms.conf.5"), ".SH VARIABLES")), set(variables));
}
