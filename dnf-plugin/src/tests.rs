//! The whole translation: arguments and standard input → answer, and the requests to dnf5.

use std::path::Path;

use dkms_core::inventory::this_machine;
use dkms_core::layout::Layout;
use dkms_core::policy::{Framework, Policy};
use dkms_core::report::Screen;
use dkms_core::session::Options;
use dkms_core::sys::file::write_atomic;
use dkms_core::types::{ModuleId, Target};

use super::*;

/// A system below a directory: two kernels, one with headers, and a source.
fn session(dir: &Path) -> Session {
    let (etc, install_tree, source_tree) = (dir.join("etc"), dir.join("modules"), dir.join("src"));
    let put = |path: &str| write_atomic(&dir.join(path), b"", 0o644).unwrap();
    put("modules/6.1-1.fc43.x86_64/modules.dep");
    put("modules/6.2-1.fc43.x86_64/modules.dep");
    put("modules/6.2-1.fc43.x86_64/build/include/config/auto.conf");
    let conf = b"PACKAGE_NAME=a-b\nPACKAGE_VERSION=1-2\n";
    write_atomic(&source_tree.join("a-b-1-2/dkms.conf"), conf, 0o644).unwrap();
    let layout = Layout { dkms_tree: dir.join("dkms"), install_tree, source_tree, etc, ..Layout::default() };
    let policy = Policy::load(&layout, Framework::default(), "");
    Session::new(layout, policy, Options::default(), Screen::package_manager())
}

/// The answer, and what was written to standard output.
fn answer(words: &str, stdin: &str) -> (Result<Answer>, String) {
    let dir = tempfile::tempdir().unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    let mut written = Vec::new();
    let answer = translate(
        &session(dir.path()),
        &mut Input {
            words: &words,
            reader: &mut stdin.as_bytes(),
            writer: &mut written,
            variable: &|_| String::new(),
            ancestors: &Vec::new,
        },
    );
    (answer, String::from_utf8(written).unwrap())
}

fn at(kernel: &str) -> Target {
    Target { kernel: format!("{kernel}-1.fc43.x86_64").parse().unwrap(), arch: this_machine().unwrap() }
}

fn module(name: &str, version: &str) -> ModuleId {
    ModuleId { name: name.parse().unwrap(), version: version.parse().unwrap() }
}

#[test]
fn words_and_lines_become_events() {
    let conf = "/usr/src/a-b-1-2/dkms.conf\n";
    let image = "/lib/modules/6.1-1.fc43.x86_64/vmlinuz\n";
    let ab = || module("a-b", "1-2");
    for (words, stdin, expected) in [
        ("kernel-install add 6.1-1.fc43.x86_64 /boot x", "", vec![Event::KernelAdded(at("6.1"))]),
        ("kernel-install remove 6.1-1.fc43.x86_64", "", vec![Event::KernelRemoved(at("6.1"))]),
        ("sources-added", conf, vec![Event::SourceAdded { module: ab(), targets: vec![] }]),
        ("sources-added", "/usr/src/nothing/dkms.conf\n/usr/bin/x\n", vec![]),
        ("files-leave 0", image, vec![Event::KernelRemoved(at("6.1"))]),
        // A module that is not registered is not a removed one.
        ("files-leave 0", conf, vec![]),
        (
            "transaction-end",
            conf,
            vec![Event::SourceAdded { module: ab(), targets: vec![at("6.1"), at("6.2")] }],
        ),
        ("transaction-end", image, vec![Event::HeadersAdded(at("6.1"))]),
        ("transaction-end", "/lib/modules/5.0-1.fc43.x86_64/vmlinuz\n", vec![]),
        ("transaction-end first", "", vec![Event::Autoinstall(at("6.1")), Event::Autoinstall(at("6.2"))]),
        (
            "module-postinst a-b 1-2 /x riscv64",
            "",
            vec![Event::SourceAdded { module: ab(), targets: vec![at("6.1"), at("6.2")] }],
        ),
        (
            "dnf4",
            "kernel-devel 6.2 1.fc43 x86_64\nkernel-core 6.1 1.fc43 x86_64\n",
            vec![Event::HeadersAdded(at("6.2"))],
        ),
        ("dnf4", "kernel-core 6\nzlib 6.2 1.fc43 x86_64\n", vec![]),
    ] {
        let channel = if words == "dnf4" { Channel::AtTheEnd } else { Channel::StandardError };
        let expected = Answer::Events(FailureEffect::Stops, expected, channel);
        assert_eq!(answer(words, stdin).0.unwrap(), expected, "{words}: {stdin}");
    }
}

#[test]
fn files_before_a_transaction_become_a_question() {
    let question = Question::of(["/c/a.rpm".into(), "/c/b.rpm".into()]);
    let expected = Answer::Incoming(question, Channel::StandardError);
    assert_eq!(answer("dnf4-before", "/c/a.rpm\n/c/b.rpm\n").0.unwrap(), expected);
}

const ROOT: &str =
    r#"{"op":"reply","status":"OK","return":{"keys_val":[{"key":"installroot","value":"/"}]}}"#;

#[test]
fn dnf5_is_asked_line_by_line() {
    let packages = r#"{"status":"OK","return":{"trans_packages":[
        {"direction":"IN","name":"kernel-devel","version":"6.2","release":"1.fc43","arch":"x86_64"},
        {"direction":"OUT","name":"kernel-devel","version":"6.1","release":"1.fc43","arch":"x86_64"}]}}"#
        .replace('\n', "");
    let (after, asked) = answer("dnf5", &format!("{packages}\n{ROOT}\n"));
    let events = vec![Event::HeadersAdded(at("6.2"))];
    assert_eq!(after.unwrap(), Answer::Events(FailureEffect::Stops, events, Channel::Protocol));
    let lines: Vec<&str> = asked.lines().collect();
    assert_eq!(lines.len(), 2, "{asked}");
    assert!(
        lines[0].contains(r#""domain":"trans_packages""#) && lines[1].contains(r#""key":"installroot""#),
        "{asked}"
    );

    let packages = r#"{"status":"OK","return":{"trans_packages":[{"direction":"IN","repo_id":"updates","location":"p/a.rpm"}]}}"#;
    let cache = r#"{"status":"OK","return":{"keys_val":[{"key":"cachedir","value":"/nonexistent"}]}}"#;
    let (before, asked) = answer("dnf5-before", &format!("{packages}\n{ROOT}\n{cache}\n"));
    let question = Question::of(["/nonexistent/updates/a.rpm".into()]);
    assert_eq!(before.unwrap(), Answer::Incoming(question, Channel::Protocol));
    assert_eq!(asked.lines().count(), 3, "{asked}");
}

#[test]
fn another_root_and_a_silent_dnf5_bring_nothing() {
    let none = r#"{"status":"OK","return":{"trans_packages":[]}}"#;
    let elsewhere = ROOT.replace(r#""/""#, r#""/mnt""#);
    for verb in ["dnf5", "dnf5-before"] {
        assert_eq!(answer(verb, &format!("{none}\n{elsewhere}\n")).0.unwrap(), Answer::Nothing, "{verb}");
        for stdin in ["", "no JSON\n", "{\"status\":\"ERROR\",\"message\":\"x\"}\n"] {
            assert!(answer(verb, stdin).0.is_err(), "{verb}: {stdin}");
        }
    }
}

#[test]
fn dnf5_fails_with_what_stops_it_and_logs_the_rest() {
    assert_eq!(dnf5::reply("a\nb", true), "{\"args\":{\"message\":\"\\na\\nb\"},\"op\":\"error\"}\n");
    assert_eq!(
        dnf5::reply("a", false),
        "{\"args\":{\"level\":\"WARNING\",\"message\":\"a\"},\"op\":\"log\"}\n"
    );
}

#[test]
fn other_words_get_the_usage() {
    for words in ["", "kernel-install add", "files-leave", "dnf5 x", "transaction-end last"] {
        assert_eq!(answer(words, "").0.unwrap(), Answer::Usage(USAGE), "{words}");
    }
    assert!(answer("kernel-install add ../x", "").0.is_err());
}
