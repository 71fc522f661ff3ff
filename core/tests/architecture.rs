//! Rules that the compiler does not check: which room may use what. They are checked on the text of the sources.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::panic)] // a test stops at the first surprise

use std::collections::BTreeSet;
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

/// The adapters of package managers.
const ADAPTERS: [&str; 3] = ["apt-hook", "dnf-plugin", "alpm-hook"];

/// The sources of the adapters that exist.
fn adapters() -> impl Iterator<Item = Source> {
    let dirs = ADAPTERS.iter().map(|adapter| format!("{adapter}/src"));
    dirs.filter(|dir| workspace().join(dir).is_dir()).flat_map(|dir| sources(&dir))
}

/// The lines of code that contain one of the words, for the message of a failed test.
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

/// Directories of a system. Only `layout` may name paths inside of them.
const SYSTEM: [&str; 11] =
    ["/boot", "/dev", "/etc", "/lib", "/opt", "/proc", "/root", "/run", "/sys", "/usr", "/var"];

/// Interfaces of the kernel, the sandbox's mounts, and what it hides: used by `sys` only.
const OF_SYS: [&str; 13] = [
    "/proc",
    "/run",
    "/sys/fs/cgroup",
    "/dev",
    "/var/tmp",
    "/root",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/pki/akmods/private",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/passwd",
    "/etc/group",
];

#[test]
fn only_the_layout_and_the_distributions_rows_name_directories_of_the_system() {
    let mut wrong = Vec::new();
    for source in sources("core/src").into_iter().chain(adapters()) {
        let may = ["core/src/layout", "core/src/distro/"].iter().any(|room| source.path.starts_with(room));
        for (number, line) in source.code.iter().filter(|_| !may) {
            // After splitting a line at quotation marks, every second part is a literal.
            for literal in line.split('"').skip(1).step_by(2) {
                let system = SYSTEM.iter().any(|dir| {
                    literal.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                });
                let sys = source.path.starts_with("core/src/sys/")
                    && (OF_SYS.iter().any(|dir| literal.starts_with(dir)) || literal.contains(":/"));
                if system && !sys {
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
            .collect();
    assert_eq!(outside, [""; 0]);
}

/// A build is complete when it is signed and verified: the only files in which steps use each other. Add nothing.
const MEETINGS: [&str; 3] =
    ["use super::sign::Signing;", "use crate::step::sign::Signing;", "use crate::step::verify;"];

#[test]
fn each_step_stands_alone() {
    let mut wrong = Vec::new();
    for source in sources("core/src/step") {
        if source.path == "core/src/step/mod.rs" {
            continue;
        }
        // A step in a directory may use its own files.
        let parts = ["use super::{", "use super::Job;", "crate::step::build::"];
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

/// A row of the table in ARCHITECTURE.md: a top-level module of `core/src`, and the others that it may use.
#[derive(Debug, PartialEq)]
struct Room {
    name: String,
    may_use: Vec<String>,
}

/// The table's rows, in order. A name in backticks in the last column is a room.
fn table(architecture: &str) -> Vec<Room> {
    let rows = architecture.lines().skip_while(|line| *line != "| room | owns | may use |").skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, may_use] = cells[..] else { panic!("not three columns: {line}") };
        let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Room { name: name.trim_matches('`').to_owned(), may_use: quoted(may_use) }
    });
    rows.collect()
}

fn rooms() -> Vec<Room> {
    let rooms = table(&std::fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap());
    assert!(!rooms.is_empty(), "ARCHITECTURE.md has no table `| room | owns | may use |`");
    rooms
}

/// The top-level module that a file below `core/src` belongs to; `None` for the roots of the library and the program.
fn room_of(path: &str) -> Option<&str> {
    let (room, rest) = path.strip_prefix("core/src/")?.split_once(['/', '.'])?;
    (rest != "rs" || !["lib", "main"].contains(&room)).then_some(room)
}

/// The top-level modules that a source names, with the line: `crate::x`, `crate::{x, y::z}`, and enough `super::` to get there.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let depth = source.path.matches('/').count() - 1 - usize::from(source.path.ends_with("/mod.rs"));
    let text: String = source.code.iter().map(|(_, line)| format!("{line}\n")).collect();
    let mut found = Vec::new();
    for root in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in text.match_indices(&root) {
            let (before, after) = (&text[..at], &text[at + root.len()..]);
            // `super::super::` is not `super::`.
            if before.ends_with("super::") || after.starts_with("super::") {
                continue;
            }
            let line = source.code[before.matches('\n').count()].0;
            found.extend(heads(after).into_iter().map(|head| (line, head)));
        }
    }
    found
}

/// The first names of a path, or of the paths in braces.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut open, mut heads, mut next) = (1, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            ',' if open == 1 => next = true,
            c if next && c.is_alphabetic() => {
                heads.push(name(&group[at..]));
                next = false;
            }
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    heads
}

#[test]
fn every_room_has_one_row_in_the_table_and_every_row_a_room() {
    let mut there: Vec<String> =
        sources("core/src").iter().filter_map(|source| room_of(&source.path).map(str::to_owned)).collect();
    there.sort();
    there.dedup();
    let mut named: Vec<String> = rooms().into_iter().map(|room| room.name).collect();
    named.sort();
    assert_eq!(there, named, "left: core/src; right: the table in ARCHITECTURE.md");
}

#[test]
fn the_table_allows_no_circle() {
    let rooms = rooms();
    let mut above: Vec<&str> = Vec::new();
    for room in &rooms {
        for used in &room.may_use {
            let stands = above.contains(&used.as_str());
            assert!(stands, "`{}` may use `{used}`, which is not above it in ARCHITECTURE.md", room.name);
        }
        above.push(&room.name);
    }
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for source in sources("core/src") {
        let Some(name) = room_of(&source.path) else { continue };
        let allowed = rooms.iter().find(|room| room.name == name).map(|room| room.may_use.as_slice());
        for (line, used) in imports(&source) {
            let is_room = rooms.iter().any(|room| room.name == used);
            if is_room && used != name && !allowed.unwrap_or_default().contains(&used) {
                wrong
                    .push(format!("{}:{line}: `{name}` may not use `{used}` (ARCHITECTURE.md)", source.path));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn only_the_distributions_rows_name_distributions() {
    let names = ["debian", "ubuntu", "fedora", "opensuse", "archlinux"];
    let mut wrong = Vec::new();
    for source in
        sources("core/src").into_iter().filter(|source| !source.path.starts_with("core/src/distro/"))
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

/// Programs that install packages. Their properties are in a row of `distro` or in their adapter.
const MANAGERS: [&str; 9] = ["dpkg", "apt", "apt-get", "rpm", "dnf", "dnf5", "yum", "zypper", "pacman"];

#[test]
fn only_the_distributions_rows_name_package_managers() {
    let mut wrong = Vec::new();
    for source in sources("core/src") {
        // .rpm is a file format, independent of the program that installs it.
        let of_format = ["core/src/package/", "core/src/mkpackage/rpm"];
        let may = |word: &str| {
            source.path.starts_with("core/src/distro/")
                || of_format.iter().any(|room| source.path.starts_with(room)) && word == "rpm"
        };
        for (number, line) in &source.code {
            for literal in line.split('"').skip(1).step_by(2) {
                let words = literal.split(|c: char| !c.is_alphanumeric() && !"_-".contains(c));
                let names = words.filter(|word| MANAGERS.contains(&word.to_lowercase().as_str()));
                wrong.extend(
                    names
                        .filter(|word| !may(word))
                        .map(|word| format!("{}:{number}: {word} is a package manager's name", source.path)),
                );
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// The selection of pacman's package files is more than translation, so it is in this separate file, with its own
/// limit.
const REPOSITORY: (&str, usize) = ("alpm-hook/src/repository.rs", 160);

#[test]
fn adapters_only_translate() {
    for adapter in ADAPTERS {
        if !workspace().join(adapter).join("src").is_dir() {
            continue;
        }
        let sources = sources(&format!("{adapter}/src"));
        // Only code counts; comments are blank here.
        let code = |source: &Source| source.code.iter().filter(|(_, line)| !line.trim().is_empty()).count();
        let (apart, translation): (Vec<_>, Vec<_>) =
            sources.iter().partition(|source| source.path == REPOSITORY.0);
        let lines: usize = translation.into_iter().map(code).sum();
        assert!(lines < 260, "{adapter} has {lines} lines of Rust");
        let lines: usize = apart.into_iter().map(code).sum();
        assert!(lines < REPOSITORY.1, "{} has {lines} lines of Rust", REPOSITORY.0);
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

    let source = |path: &str, text: &str| {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.to_owned()));
        Source { path: path.to_owned(), code: lines.collect() }
    };
    let names = |path: &str, text: &str| {
        imports(&source(path, text))
            .into_iter()
            .map(|(line, name)| format!("{line} {name}"))
            .collect::<Vec<_>>()
    };
    let text = "use crate::a::b;\nuse crate::{\n    c::{self, d},\n    e,\n};\nfn f() { crate::g::h(super::i::j()) }";
    assert_eq!(names("core/src/x.rs", text), ["1 a", "2 c", "2 e", "6 g", "6 i"]);
    assert_eq!(names("core/src/x/mod.rs", "super::a::b"), ["1 a"]);
    assert_eq!(names("core/src/x/y.rs", "super::a::b; super::super::c"), ["1 c"]);
    let table = table(
        "# A\n\n| room | owns | may use |\n|---|---|---|\n| `a` | `this` | |\n| `b` | that | `a`, `c` |\n\n| d | | |\n",
    );
    assert_eq!(
        table.iter().map(|room| (room.name.as_str(), room.may_use.len())).collect::<Vec<_>>(),
        [("a", 0), ("b", 2)]
    );
    assert_eq!(room_of("core/src/lib.rs").or(room_of("core/src/main.rs")), None);
    assert_eq!((room_of("core/src/a.rs"), room_of("core/src/b/c/d.rs")), (Some("a"), Some("b")));
}

/// The packages of a lock file, with their versions.
fn locked(lock: &str) -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(workspace().join(lock)).unwrap();
    let field = |entry: &str, name: &str| {
        let line = entry.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")));
        line.unwrap().trim_end_matches('"').to_owned()
    };
    text.split("[[package]]\n").skip(1).map(|entry| (field(entry, "name"), field(entry, "version"))).collect()
}

/// The fuzz targets are checked with every supported Rust, and cargo chooses versions for them on its own: one that needs a
/// newer Rust breaks `make check` only on machines with an older one.
#[test]
fn fuzz_targets_use_the_versions_of_the_workspace() {
    let (own, theirs) = (locked("Cargo.lock"), locked("tests/fuzz/Cargo.lock"));
    let shared = |name: &str| own.iter().any(|(other, _)| other == name);
    let others: Vec<_> = theirs.difference(&own).filter(|(name, _)| shared(name)).collect();
    assert!(own.len() > 100 && others.is_empty(), "cargo update NAME --precise VERSION for {others:?}");
}

/// The separate workspaces have their own lock files, and `--locked` fails if one is out of date: that is found here, not when
/// the target is run for the first time in months.
#[test]
fn every_lock_file_has_the_dependencies_of_the_core() {
    let dependencies = |lock: &str| -> Vec<String> {
        let text = std::fs::read_to_string(workspace().join(lock)).unwrap();
        let core = text.split("[[package]]\n").find(|entry| entry.starts_with("name = \"dkms-core\"\n"));
        let lines = core.unwrap_or_default().lines().map(str::trim).filter(|line| line.starts_with('"'));
        // A version follows the name if there are several.
        lines.map(|line| line.trim_matches(['"', ',']).split(' ').next().unwrap().to_owned()).collect()
    };
    // Test programs have none of these.
    let only_for_tests = ["insta", "jsonschema", "proptest", "schemars", "tempfile"];
    let needed = |lock: &str| -> Vec<String> {
        dependencies(lock).into_iter().filter(|name| !only_for_tests.contains(&name.as_str())).collect()
    };
    let own = needed("Cargo.lock");
    assert!(own.len() > 10, "{own:?}");
    for lock in ["tests/fuzz/Cargo.lock", "tests/oracle/Cargo.lock"] {
        assert_eq!(needed(lock), own, "{lock}: run cargo metadata with this manifest, and commit the file");
    }
}
