//! Compiles the suites and lists their tests.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use dkms_tests::{Output, host};

/// One test of one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Its suite: the name of its file.
    pub suite: String,
    /// Its name in there.
    pub name: String,
    /// Marked with `#[ignore]`: it takes long.
    pub long: bool,
    /// The suite's program.
    pub program: PathBuf,
}

/// A message of cargo about something that it has compiled.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Compiles all suites and returns their tests. Panics if cargo fails; cargo has printed the reason.
pub fn list() -> Vec<Test> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--locked", "-p", "dkms-tests", "--test", "*", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics").current_dir(host::workspace());
    let output = command.stderr(Stdio::inherit()).output().expect("cargo");
    assert!(output.status.success(), "the suites do not compile");
    let mut suites = programs(&String::from_utf8_lossy(&output.stdout));
    suites.sort();
    suites.into_iter().flat_map(|(suite, program)| tests_of(&suite, program)).collect()
}

/// Suites and their programs, from cargo's messages.
fn programs(messages: &str) -> Vec<(String, PathBuf)> {
    let artifact = |line: &str| serde_json::from_str::<Artifact>(line).ok();
    // cargo also compiles the binaries of the package, which a suite could start.
    let suite = |a: &Artifact| a.target.kind.iter().any(|kind| kind == "test");
    let artifacts = messages.lines().filter_map(artifact).filter(suite);
    artifacts.filter_map(|a| Some((a.target.name, a.executable?))).collect()
}

fn tests_of(suite: &str, program: PathBuf) -> Vec<Test> {
    let named = |more: &[&str]| {
        let mut command = Command::new(&program);
        let output = command.args(["--list", "--format", "terse"]).args(more).output();
        let output = Output::new(suite, &output.expect("a suite starts")).ok();
        names(&output.stdout)
    };
    let long = named(&["--ignored"]);
    let test = |name: String| Test {
        suite: suite.to_owned(),
        long: long.contains(&name),
        name,
        program: program.clone(),
    };
    named(&[]).into_iter().map(test).collect()
}

/// `NAME: test` lines.
fn names(listed: &str) -> Vec<String> {
    listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{names, programs};

    #[test]
    fn programs_are_those_of_suites() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"boot","kind":["test"]},"executable":"/t/boot-1"}
{"reason":"compiler-artifact","target":{"name":"demo","kind":["bin"]},"executable":"/t/demo"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(programs(messages), [("boot".to_owned(), "/t/boot-1".into())]);
    }

    #[test]
    fn names_without_benchmarks_and_counts() {
        assert_eq!(names("a::b: test\nc: bench\n\n2 tests, 0 benchmarks\n"), ["a::b"]);
    }
}
