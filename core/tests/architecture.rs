//! The house rules that no compiler checks: who may touch what. They are read off the sources as text.
#![allow(clippy::unwrap_used, clippy::panic)] // a test stops at the first surprise

use std::path::{Path, PathBuf};

/// A source file: its path below the workspace, and its lines of code with their numbers. Comments are blanked, and
/// what follows the first `#[cfg(test)]` module is left out.
struct Source {
    path: String,
    code: Vec<(usize, String)>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Rust files below a directory of the workspace, tests left out.
fn sources(dir: &str) -> Vec<Source> {
    let mut open = vec![workspace().join(dir)];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_test = name == "tests" || name.ends_with("tests.rs");
            if is_test {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(workspace()).unwrap().to_str().unwrap().to_owned();
                found.push(Source { path, code: code(&text) });
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {dir}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn code(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut test_next = false;
    for (index, line) in text.lines().enumerate() {
        let line = if line.trim_start().starts_with("//") { "" } else { line };
        if test_next && line.starts_with("mod ") && line.ends_with('{') {
            break;
        }
        test_next = line == "#[cfg(test)]" || test_next && line.starts_with("#[");
        lines.push((index + 1, line.to_owned()));
    }
    lines
}

/// The translators of package managers.
const ADAPTERS: [&str; 3] = ["apt-hook", "dnf-plugin", "alpm-hook"];

/// Their sources, of those that there are.
fn adapters() -> impl Iterator<Item = Source> {
    let dirs = ADAPTERS.iter().map(|adapter| format!("{adapter}/src"));
    dirs.filter(|dir| workspace().join(dir).is_dir()).flat_map(|dir| sources(&dir))
}

/// Places where the code contains one of the words, for the message of a failed test.
fn places(sources: &[Source], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (number, line) in &source.code {
            for word in words.iter().filter(|word| line.contains(*word)) {
                found.push(format!("{}:{number}: {word}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

#[test]
fn the_plan_does_no_input_or_output() {
    let plan = sources("core/src/plan");
    let effects = [
        "std::fs",
        "std::io",
        "std::env",
        "std::net",
        "std::process",
        "std::time",
        "std::thread",
        "fs::",
        "File::",
        "Command::",
        "SystemTime",
        "Instant",
        ".exists()",
        ".is_dir()",
        ".is_file()",
        ".metadata()",
        ".canonicalize()",
        ".read_dir()",
        "rustix",
        "crate::sys",
        "crate::step",
        "crate::apply",
        "crate::session",
        "crate::survey",
        "crate::layout",
        "crate::cli",
        "Snapshot::load",
        "Kernel::load",
        "LockedTree",
        "Layout",
        "Session",
    ];
    assert_eq!(places(&plan, &effects), [""; 0]);
}

#[test]
fn the_plan_uses_only_values_of_these_modules() {
    // What it may know: a new name here is a decision, not an accident.
    let known = ["conf", "event", "exit", "kernel", "policy", "report", "tree", "types"];
    let strangers: Vec<String> = places(&sources("core/src/plan"), &["crate::"])
        .into_iter()
        .filter(|place| {
            let mut names = place.split("crate::").skip(2); // the word itself comes first
            names.any(|rest| !known.iter().any(|name| rest.starts_with(&format!("{name}::"))))
        })
        .collect();
    assert_eq!(strangers, [""; 0]);
}

/// Directories of a system. A place inside one of them is the layout's to know.
const SYSTEM: [&str; 11] =
    ["/boot", "/dev", "/etc", "/lib", "/opt", "/proc", "/root", "/run", "/sys", "/usr", "/var"];

/// Interfaces of the kernel, and the sandbox's own mounts: the business of `sys`.
const OF_SYS: [&str; 5] = ["/proc", "/run", "/sys/fs/cgroup", "/dev/shm", "/var/tmp"];

/// Literals that are known, and that ought to go. Take out what has gone; add nothing.
const KNOWN: [(&str, &str); 2] = [
    ("core/src/apply/recover.rs", "/proc"),      // belongs to sys
    ("core/src/step/sign.rs", "/var/lib/dkms/"), // belongs to layout
];

#[test]
fn only_the_layout_and_the_policys_rows_name_directories_of_the_system() {
    let mut wrong = Vec::new();
    for source in sources("core/src").into_iter().chain(adapters()) {
        let may = ["core/src/layout", "core/src/policy/"].iter().any(|room| source.path.starts_with(room));
        for (number, line) in source.code.iter().filter(|_| !may) {
            // Every second part of a line that is split at quotation marks is a literal.
            for literal in line.split('"').skip(1).step_by(2) {
                let system = SYSTEM.iter().any(|dir| {
                    literal.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                });
                let sys = source.path.starts_with("core/src/sys/")
                    && (OF_SYS.iter().any(|dir| literal.starts_with(dir)) || literal.contains(":/"));
                let known = KNOWN.iter().any(|(path, text)| source.path == *path && literal == *text);
                if system && !sys && !known {
                    wrong.push(format!("{}:{number}: {literal}", source.path));
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn processes_start_in_sys_only() {
    let outside: Vec<String> = places(
        &sources("core/src").into_iter().chain(adapters()).collect::<Vec<_>>(),
        &["Command::new", "process::Command", ".spawn(", "posix_spawn", ".exec()"],
    )
    .into_iter()
    .filter(|place| !place.starts_with("core/src/sys/"))
    .collect();
    assert_eq!(outside, [""; 0]);
}

#[test]
fn renames_and_locks_happen_in_sys_only() {
    let outside: Vec<String> =
        places(&sources("core/src"), &["rename(", "renameat", "flock(", "unshare(", "mount("])
            .into_iter()
            .filter(|place| !place.starts_with("core/src/sys/"))
            // A key pair is complete before both files get their names.
            .filter(|place| !place.starts_with("core/src/step/sign.rs"))
            .collect();
    assert_eq!(outside, [""; 0]);
}

/// A build is finished when it is signed and proven: the one place where steps meet. Add nothing.
const MEETINGS: [&str; 3] =
    ["use super::sign::Signing;", "use crate::step::sign::Signing;", "use crate::step::verify;"];

#[test]
fn each_step_stands_alone() {
    let mut wrong = Vec::new();
    for source in sources("core/src/step") {
        if source.path == "core/src/step/mod.rs" {
            continue;
        }
        // A step that is a folder knows itself.
        let parts = ["use super::{", "use super::Place", "crate::step::build::"];
        let of_itself = |place: &String| {
            source.path.starts_with("core/src/step/build/")
                && !source.path.ends_with("mod.rs")
                && parts.iter().any(|part| place.contains(part))
        };
        let places = places(
            std::slice::from_ref(&source),
            &["crate::step::", "super::", "crate::plan", "crate::apply", "crate::survey"],
        );
        let wrongs = places.into_iter().filter(|place| !of_itself(place));
        wrong.extend(wrongs.filter(|place| !MEETINGS.iter().any(|known| place.ends_with(known))));
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn lower_rooms_do_not_know_upper_ones() {
    for (room, forbidden) in [
        (
            "core/src/sys",
            vec![
                "crate::types",
                "crate::tree",
                "crate::plan",
                "crate::layout",
                "crate::policy",
                "crate::report",
            ],
        ),
        (
            "core/src/tree",
            vec![
                "crate::plan",
                "crate::policy",
                "crate::apply",
                "crate::step",
                "crate::report",
                "crate::cli",
            ],
        ),
        (
            "core/src/conf",
            vec!["crate::plan", "crate::apply", "crate::step", "crate::report", "crate::cli", "crate::tree"],
        ),
        (
            "core/src/kernel",
            vec!["crate::plan", "crate::apply", "crate::step", "crate::report", "crate::cli", "crate::tree"],
        ),
        (
            "core/src/report",
            vec!["crate::apply", "crate::step", "crate::plan", "crate::session", "crate::cli"],
        ),
        ("core/src/step", vec!["crate::cli", "crate::apply"]),
    ] {
        assert_eq!(places(&sources(room), &forbidden), [""; 0], "{room}");
    }
}

#[test]
fn nobody_asks_which_distribution_it_is_outside_of_the_policy() {
    let names = ["debian", "ubuntu", "fedora", "opensuse", "archlinux"];
    let mut wrong = Vec::new();
    for source in
        sources("core/src").into_iter().filter(|source| !source.path.starts_with("core/src/policy/"))
    {
        for (number, line) in &source.code {
            for literal in line.split('"').skip(1).step_by(2) {
                if names.contains(&literal.to_lowercase().as_str()) {
                    wrong.push(format!("{}:{number}: {literal}", source.path));
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn adapters_only_translate() {
    for adapter in ADAPTERS {
        if !workspace().join(adapter).join("src").is_dir() {
            continue;
        }
        let sources = sources(&format!("{adapter}/src"));
        // Of code: comments are blank here.
        let code = |source: &Source| source.code.iter().filter(|(_, line)| !line.trim().is_empty()).count();
        let lines: usize = sources.iter().map(code).sum();
        assert!(lines < 200, "{adapter} has {lines} lines of Rust");
        let effects = [
            "std::fs::",
            "fs::write",
            "Command::",
            "LockedTree",
            "dkms_core::step",
            "dkms_core::tree",
            "dkms_core::plan",
        ];
        assert_eq!(places(&sources, &effects), [""; 0]);
    }
}

#[test]
fn the_rules_above_read_what_they_mean_to() {
    let text = "//! std::fs\nuse a;\n#[cfg(test)]\nmod inner;\nlet x = \"/etc\"; // y\n#[cfg(test)]\nmod tests {\nstd::fs\n}\n";
    let code = code(text);
    assert_eq!(code.len(), 6);
    assert_eq!(code[0].1, "");
    assert_eq!(code[4].1, "let x = \"/etc\"; // y");
}
