//! The program `dkms` on throwaway trees: what it prints, how it ends, what it leaves. Nothing is compiled here and
//! nothing of the system is touched; only `/etc/dkms` of this machine is read.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // a test makes files and stops at the first surprise

mod support;

use dkms_core::layout::Layout;
use dkms_core::report::{Failing, Outcome, Report, history};
use dkms_core::types::{ModuleId, Target};
use support::{Root, Run};

const KERNEL: &str = "6.1.0-9-amd64";

fn id(text: &str) -> ModuleId {
    text.parse().unwrap()
}

fn target() -> Target {
    Target { kernel: KERNEL.parse().unwrap(), arch: "x86_64".parse().unwrap() }
}

/// One module in each state that there is.
fn every_state() -> Root {
    Root::new(
        r#"src/added-1/dkms.conf
        lib/added/1/source -> $ROOT/src/added-1
        src/built-1/dkms.conf
        lib/built/1/source -> $ROOT/src/built-1
        lib/built/1/6.1.0-9-amd64/x86_64/module/built.ko
        lib/broken/1/source -> $ROOT/src/broken-1
        lib/kept/1/6.1.0-9-amd64/x86_64/module/kept.ko
        lib/kept/kernel-6.1.0-9-amd64-x86_64 -> 1/6.1.0-9-amd64/x86_64
        src/good-1/dkms.conf
        lib/good/1/source -> $ROOT/src/good-1
        lib/good/1/6.1.0-9-amd64/x86_64/module/good.ko = same
        lib/good/kernel-6.1.0-9-amd64-x86_64 -> 1/6.1.0-9-amd64/x86_64
        lib/.dkms-rs/records/good/1/6.1.0-9-amd64/x86_64.json = {"fingerprint": "f", "installed": [{"path": "$ROOT/modules/6.1.0-9-amd64/updates/good.ko", "sha256": ""}]}
        modules/6.1.0-9-amd64/updates/good.ko = same
        src/differs-1/dkms.conf
        lib/differs/1/source -> $ROOT/src/differs-1
        lib/differs/1/6.1.0-9-amd64/x86_64/module/differs.ko = one
        lib/differs/kernel-6.1.0-9-amd64-x86_64 -> 1/6.1.0-9-amd64/x86_64
        lib/differs/original_module/6.1.0-9-amd64/x86_64/differs.ko
        lib/.dkms-rs/records/differs/1/6.1.0-9-amd64/x86_64.json = {"fingerprint": "f", "installed": [{"path": "$ROOT/modules/6.1.0-9-amd64/updates/differs.ko", "sha256": ""}]}
        modules/6.1.0-9-amd64/updates/differs.ko = two
        src/fails-1/dkms.conf
        lib/fails/1/source -> $ROOT/src/fails-1
        lib/.dkms-rs/failures/fails/1/6.1.0-9-amd64/x86_64.json = {"fingerprint": "f", "why": "make ended with status 2", "errors": ["a.c:1: error: x"], "log": "/log", "code": 10}"#,
    )
}

#[test]
fn status_of_every_state() {
    let root = every_state();
    let run = root.dkms(&["status"]);
    insta::assert_snapshot!(run.ok(), @r"
    added/1: added
    broken/1: broken
    built/1, 6.1.0-9-amd64, x86_64: built
    differs/1, 6.1.0-9-amd64, x86_64: installed (Original modules exist) (Differences between built and installed modules)
    fails/1: added
    good/1, 6.1.0-9-amd64, x86_64: installed
    kept/1, 6.1.0-9-amd64, x86_64: installed (Differences between built and installed modules)
    ");
    insta::assert_snapshot!(run.stderr, @r"
    dkms: kept/1 stays installed without its source until a successor is built
    dkms: broken/1: its source, or the link to it, is gone: reinstall its package
    dkms: fails/1 FAILED for 6.1.0-9-amd64: make ended with status 2: a.c:1: error: x (log: /log)
    ");
}

#[test]
fn the_format_of_status_in_json() {
    let root = every_state();
    let run = root.dkms(&["status", "--json"]);
    insta::assert_snapshot!(run.ok(), @r#"
    {
      "format": 1,
      "modules": [
        {
          "name": "added",
          "version": "1",
          "state": "added"
        },
        {
          "name": "broken",
          "version": "1",
          "state": "broken"
        },
        {
          "name": "built",
          "version": "1",
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "state": "built"
        },
        {
          "name": "differs",
          "version": "1",
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "state": "installed",
          "notes": [
            "Original modules exist",
            "Differences between built and installed modules"
          ]
        },
        {
          "name": "fails",
          "version": "1",
          "state": "added"
        },
        {
          "name": "good",
          "version": "1",
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "state": "installed"
        },
        {
          "name": "kept",
          "version": "1",
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "state": "installed",
          "notes": [
            "Differences between built and installed modules"
          ]
        }
      ],
      "failures": [
        {
          "module": {
            "name": "fails",
            "version": "1"
          },
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "why": "make ended with status 2",
          "errors": [
            "a.c:1: error: x"
          ],
          "log": "/log"
        }
      ]
    }
    "#);
    assert_eq!(run.stderr, "");
}

#[test]
fn status_of_some() {
    let root = every_state();
    let of = |args: &[&str]| root.dkms(&[&["status"], args].concat()).ok().to_owned();
    let good = "good/1, 6.1.0-9-amd64, x86_64: installed\n";
    assert_eq!(of(&["good"]), good);
    assert_eq!(of(&["good/1"]), good);
    assert_eq!(of(&["-m", "good", "-v", "1"]), good);
    assert_eq!(of(&["-m", "good", "-k", KERNEL]), good);
    assert_eq!(of(&["-m", "good", "-k", "6.1.0-9-amd64/x86_64"]), good);
    assert_eq!(of(&["good/2"]), "");
    assert_eq!(of(&["nobody"]), "");
    assert_eq!(Root::new("").dkms(&["status"]).ok(), "");
}

#[test]
fn status_writes_nothing() {
    let root = every_state();
    let before = (root.list(""), root.list("lib/.dkms-rs"));
    root.dkms(&["status"]).ok();
    assert_eq!((root.list(""), root.list("lib/.dkms-rs")), before);
}

/// Three transactions: one that went well, one with a failure, one that was put off.
fn three_transactions(layout: &Layout) {
    let mut good = Report { cause: "module-postinst a 1".into(), seconds: 12.3, ..Report::default() };
    good.add(&id("a/1"), None, Outcome::Registered);
    good.add(
        &id("a/1"),
        Some(&target()),
        Outcome::Installed { built: true, seconds: 11.0, notes: Vec::new() },
    );
    let mut bad = Report { cause: format!("kernel-postinst {KERNEL}"), ..Report::default() };
    let failing = Failing {
        why: "make ended with status 2".into(),
        errors: vec!["a.c:1: error: x".into()],
        log: Some("/log".into()),
        remembered: false,
        remaining: "no installed kernel has this module".into(),
        code: 10,
    };
    bad.add(&id("a/1"), Some(&target()), Outcome::Failed(failing));
    let mut later = Report { cause: format!("kernel-postinst {KERNEL}"), ..Report::default() };
    let deferred =
        Outcome::Deferred { why: "the headers are missing".into(), advice: "install them".into(), code: 21 };
    later.add(&id("a/1"), Some(&target()), deferred);
    for report in [good, bad, later] {
        history::keep(layout, &report).unwrap();
    }
}

/// Replaces what the clock says.
fn timeless(text: &str) -> String {
    let fixed = |line: &str| match (line.find("20"), line.find(" UTC")) {
        (Some(from), Some(to)) if from < to => format!("{}<date>{}", &line[..from], &line[to..]),
        _ if line.trim_start().starts_with("\"time\"") => "<time>".into(),
        _ => line.to_owned(),
    };
    text.lines().map(fixed).collect::<Vec<_>>().join("\n")
}

#[test]
fn history_as_text() {
    let root = Root::new("");
    three_transactions(&root.layout());
    insta::assert_snapshot!(timeless(root.dkms(&["history"]).ok()), @r"
    1  <date> UTC  module-postinst a 1: 2 modules
    2  <date> UTC  kernel-postinst 6.1.0-9-amd64: 1 module, 1 FAILED
    3  <date> UTC  kernel-postinst 6.1.0-9-amd64: 1 module
    ");
    insta::assert_snapshot!(timeless(root.dkms(&["history", "show", "2"]).ok()), @r"
    kernel-postinst 6.1.0-9-amd64, <date> UTC (0 s)
    dkms: 6.1.0-9-amd64: 1 module FAILED
    dkms: FAILED: a/1 for 6.1.0-9-amd64: make ended with status 2
          a.c:1: error: x
          the whole log: /log
          no installed kernel has this module
    ");
    insta::assert_snapshot!(timeless(root.dkms(&["history", "show", "3"]).ok()), @r"
    kernel-postinst 6.1.0-9-amd64, <date> UTC (0 s)
    dkms: 6.1.0-9-amd64: 1 module put off
    dkms: put off for 6.1.0-9-amd64: a/1
          the headers are missing
          install them
    ");
}

#[test]
fn history_in_json() {
    let root = Root::new("");
    three_transactions(&root.layout());
    insta::assert_snapshot!(timeless(root.dkms(&["history", "show", "3", "--json"]).ok()), @r#"
    {
      "format": 1,
      "id": 3,
    <time>
      "cause": "kernel-postinst 6.1.0-9-amd64",
      "lines": [
        {
          "module": {
            "name": "a",
            "version": "1"
          },
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "outcome": "deferred",
          "why": "the headers are missing",
          "advice": "install them",
          "code": 21
        }
      ],
      "depmod": [],
      "initramfs": [],
      "remarks": [],
      "problems": [],
      "repaired": [],
      "seconds": 0.0,
      "timeline": []
    }
    "#);
    let all: serde_json::Value = serde_json::from_str(root.dkms(&["history", "--json"]).ok()).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(all[1]["lines"][0]["outcome"], "failed");
}

#[test]
fn history_that_is_not_there() {
    let root = Root::new("");
    assert_eq!(root.dkms(&["history"]).ok(), "");
    for words in [&["history", "show", "1"][..], &["history", "show", "x"], &["history", "show", "-1"]] {
        assert_ne!(root.dkms(words).code, 0, "{words:?}");
    }
    insta::assert_snapshot!(root.dkms(&["history", "show", "1"]).stderr, @"dkms: there is no transaction 1 in the history: dkms history lists them");
}

/// A module that any kernel may have.
const CONF: &str = "PACKAGE_NAME=a\\nPACKAGE_VERSION=1\\nDEST_MODULE_LOCATION=/updates\\nAUTOINSTALL=yes\\n";

#[test]
fn add_and_remove() {
    let root = Root::new(&format!("src/a-1/dkms.conf = {CONF}"));
    insta::assert_snapshot!(root.dkms(&["add", "a/1"]).ok(), @"dkms: a/1 is registered");
    insta::assert_snapshot!(root.list("lib"), @r"
    lib/a/1/build/
    lib/a/1/source -> $ROOT/src/a-1
    ");
    let again = root.dkms(&["add", "a/1"]);
    assert_eq!(again.code, 3);
    insta::assert_snapshot!(again.stderr, @r"
    dkms: a/1: it is registered already
          dkms remove it first, or give another version
    ");
    assert_eq!(root.dkms(&["status"]).ok(), "a/1: added\n");
    root.dkms(&["remove", "a/1", "--all"]).ok();
    assert_eq!(root.list("lib"), "");
    let gone = root.dkms(&["remove", "a/1", "--all"]);
    assert_eq!(gone.code, 3);
    insta::assert_snapshot!(gone.stderr, @r"
    dkms: a/1: it is not registered
          dkms status lists what is
    ");
    // What was installed is the source's, not ours.
    assert!(root.join("src/a-1/dkms.conf").exists());
}

#[test]
fn who_is_stopped_while_waiting_says_so() {
    let root = Root::new(&format!("src/a-1/dkms.conf = {CONF}\n lib/.dkms-rs/lock ="));
    let lock = std::fs::File::open(root.join("lib/.dkms-rs/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut command = root.command(&["add", "a/1"]);
    let mut child =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // It says that it waits before it does.
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("waiting"), "{line}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    let rest = std::io::read_to_string(said).unwrap();
    insta::assert_snapshot!(rest, @"dkms: interrupted by signal 15: nothing was changed");
    assert_eq!(root.list("lib"), "");
}

/// Every form of saying the same.
#[test]
fn arguments_in_every_form_and_order() {
    let one = "a/1, 6.1, x86_64: built\n";
    let both = "a/1, 6.1, x86_64: built\na/1, 6.2, x86_64: built\n";
    let root = Root::new(&format!(
        "src/a-1/dkms.conf = {CONF}
        lib/a/1/source -> $ROOT/src/a-1
        lib/a/1/6.1/x86_64/module/a.ko
        lib/a/1/6.2/x86_64/module/a.ko
        lib/b/1/source -> $ROOT/src/b-1"
    ));
    for (line, expected) in [
        ("status a/1 -k 6.1", one),
        ("status -m a/1 -k 6.1", one),
        ("status -m a -v 1 -k 6.1", one),
        ("status --module a --kernelver 6.1", one),
        ("status --module=a/1 --kernelver=6.1/x86_64", one),
        ("-k 6.1 status a", one),
        ("a/1 -k 6.1 status", one),
        ("status -k 6.1 -a x86_64 a/1", one),
        ("status --arch=x86_64 --kernelver=6.1 a/1", one),
        ("status -k 6.1/x86_64 -k 6.2/x86_64 a/1", both),
        ("status -k 6.1 -k 6.2 -a x86_64 a/1", both),
        ("status a/1 -a x86_64", both),
        ("status a/1 -k 6.2 -k 6.1", "a/1, 6.2, x86_64: built\na/1, 6.1, x86_64: built\n"),
        // Each kernel is a question of its own.
        ("status a/1 -k 6.1 -k 6.3", "a/1, 6.1, x86_64: built\na/1: added\n"),
        ("status a/1 -k 6.1/i386", "a/1: added\n"),
        ("status a/1 -k 6.1 -k 6.2/i386", "a/1: added\na/1: added\n"),
        // The last word counts; an empty one is none.
        ("status -m b -m a -k 6.1", one),
        ("status -v 2 a/1 -k 6.1", one),
        ("status a/1 -v 2 -k 6.1", ""),
        ("status -k 6.1 a -v", one),
        ("status -k 6.1 -m a -v -a", one),
        ("status -k -m a", both),
        ("status a/1/6.1", ""),
        ("status ../a", ""),
        ("status --all a", both),
        ("status --verbose --debug --no-initrd --no-clean-kernel --no-prepare-kernel a", both),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(root.dkms(&words).ok(), expected, "{line}");
    }
    assert_eq!(root.dkms(&["status", "-m", "", "-v", "", "a"]).ok(), both);
}

#[test]
fn what_is_refused_has_the_exit_code_of_shell_dkms() {
    let root = Root::new(&format!(
        "src/a-1/dkms.conf = {CONF}
        src/new-1/dkms.conf = {CONF}
        lib/a/1/source -> $ROOT/src/a-1
        lib/a/1/6.1/x86_64/module/a.ko
        lib/gone/1/source -> $ROOT/src/gone-1
        modules/6.1/modules.dep"
    ));
    let before = root.list("");
    for (line, code) in [
        ("add", 1),
        ("add a", 1),
        ("add -v 1", 1),
        ("add -m new -v", 1),
        ("add a/1", 3),
        ("add nobody/1", 2),
        ("add gone/1", 2),
        ("add a/1/2", 2),
        ("add new/1 --all", 5),
        ("build new/1 --all", 5),
        ("install new/1 --all", 5),
        ("build nobody/1", 2),
        ("build gone/1", 4),
        ("install gone/1", 4),
        ("build a/1 -k", 16),
        ("build a/1 -k 6.1 -a", 16),
        ("build a/1 -k 6.1/", 16),
        ("build a/1 -a x -a y", 1),
        ("build a/1 -k 6.1/x -k 6.2 -k 6.3 -a x", 1),
        ("install a/1 -k 6.9", 21),
        ("uninstall a", 1),
        ("uninstall nobody/1", 3),
        ("unbuild nobody/1 --all", 3),
        ("remove a", 1),
        ("remove nobody/1", 3),
        ("remove a/1/6.1/x86_64", 3),
        ("remove a/1 --all -k 6.1", 2),
        ("remove a/1 --all -k 6.1/x86_64", 2),
        ("remove a/1 --all -a x86_64", 3),
        ("status --all -k 6.1", 2),
        ("status -a x -a y", 1),
        ("autoinstall -k 6.1 -k 6.2", 4),
        ("match -k 6.1", 1),
        ("match --templatekernel -k 6.1", 1),
        ("match --templatekernel 6.1 -k 6.1", 2),
        ("match --templatekernel 6.1 -k 6.2 nobody", 3),
        ("match --templatekernel 6.1 --all", 5),
        ("match --templatekernel 6.1 -k 6.2 -k 6.3", 4),
        ("kernel_preinst", 4),
        ("kernel_postinst", 4),
        ("kernel_prerm --all", 5),
        ("kernel_prerm -k 6.1 -k 6.2", 4),
        ("add remove a/1", 4),
        ("add add a/1", 4),
        ("add --nonsense a/1", 2),
        ("-x", 2),
        ("add --force=1 a/1", 2),
        ("build a/1 -k 6.1 --directive nonsense", 1),
        ("build a/1 -k 6.1 --config $ROOT/nowhere", 1),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let run = root.dkms(&words);
        assert_eq!(run.code, code, "{line}: {}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout, "", "{line}");
        assert!(!run.stderr.contains("panicked"), "{line}: {}", run.stderr);
    }
    assert_eq!(root.list(""), before, "what is refused changes nothing");
}

#[test]
fn a_registry_that_is_not_there_is_not_made_by_a_slip_of_the_pen() {
    let root = Root::new(&format!("src/a-1/dkms.conf = {CONF}"));
    std::fs::remove_dir(root.join("lib")).unwrap();
    for words in [&["add", "a/1"][..], &["build", "a/1"]] {
        let run = root.dkms(words);
        assert_eq!(run.code, 1, "{words:?}");
        assert!(run.stderr.contains("does not exist"), "{}", run.stderr);
    }
    assert_eq!(root.dkms(&["remove", "a/1"]).code, 3);
    assert_eq!(root.dkms(&["status"]).ok(), "");
    assert!(!root.join("lib").exists());
}

#[test]
fn what_helps_and_what_is_old() {
    let root = Root::new("");
    for words in [&["-V"][..], &["--version"], &["status", "-V"]] {
        assert!(root.dkms(words).ok().starts_with("dkms-3."), "{words:?}");
    }
    for words in [&["-h"][..], &["--help"]] {
        let help = root.dkms(words);
        for word in ["match", "--templatekernel", "--directive", "--symlink-modules", "--rpm_safe_upgrade"] {
            assert!(help.ok().contains(word), "{word}");
        }
    }
    let old = root.dkms(&["status", "--no-initrd", "--no-prepare-kernel"]);
    insta::assert_snapshot!(old.stderr, @r"
    dkms: --no-initrd is deprecated: it does nothing
    dkms: --no-prepare-kernel is deprecated: it does nothing
    ");
    let stray = root.dkms(&["status", "a/1", "b/1"]);
    insta::assert_snapshot!(stray.stderr, @r#"dkms: "b/1" is neither an action nor a second module: it is ignored"#);
}

#[test]
fn nothing_to_match_is_no_error() {
    let root = every_state();
    let run = root.dkms(&["match", "--templatekernel", "6.9", "-k", "6.8"]);
    insta::assert_snapshot!(run.ok(), @"dkms: nothing to match: no such module is installed for 6.9");
}

#[test]
fn a_directory_whose_module_was_removed_is_added_again() {
    let root = Root::new(&format!(
        "etc/new/dkms.conf = {CONF}\n etc/new/changed = new\n src/a-1/changed = old\n src/a-1/other"
    ));
    let dir = root.join("etc/new");
    root.dkms(&["add", dir.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(root.join("src/a-1/changed")).unwrap(), "new");
    assert!(root.join("src/a-1/other").exists(), "what only the old tree has stays");
    // What is registered is not changed under anybody's hands.
    root.add("etc/new/changed = newer");
    let again = root.dkms(&["build", dir.to_str().unwrap()]);
    assert_eq!(again.code, 3, "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(root.join("src/a-1/changed")).unwrap(), "new");
}

#[test]
fn an_rpm_upgrade_to_the_same_version_keeps_what_the_new_package_added() {
    let script = |root: &Root, words: &[&str]| {
        // rpm runs a scriptlet in a shell.
        let dkms = root.command(words);
        let mut words: Vec<String> = vec![dkms.get_program().to_str().unwrap().to_owned()];
        words.extend(dkms.get_args().map(|word| word.to_str().unwrap().to_owned()));
        let output = std::process::Command::new("/bin/sh")
            .args(["-c", &format!("{}; exit $?", words.join(" "))])
            .env("DKMS_UNCONFINED", "1")
            .output();
        Run::new(root, &output.unwrap())
    };
    let root = Root::new(&format!("src/a-1/dkms.conf = {CONF}"));
    root.dkms(&["add", "a/1"]).ok();
    assert_eq!(script(&root, &["add", "a/1", "--rpm_safe_upgrade"]).code, 3);
    script(&root, &["remove", "a/1", "--all", "--rpm_safe_upgrade"]).ok();
    assert_eq!(root.dkms(&["status"]).ok(), "a/1: added\n", "the new package's");
    script(&root, &["remove", "a/1", "--all", "--rpm_safe_upgrade"]).ok();
    assert_eq!(root.dkms(&["status"]).ok(), "", "and at last it goes");
}

#[test]
fn add_a_directory() {
    let root = Root::new(&format!("etc/elsewhere/dkms.conf = {CONF}"));
    root.dkms(&["add", root.join("etc/elsewhere").to_str().unwrap()]).ok();
    assert_eq!(root.dkms(&["status"]).ok(), "a/1: added\n");
    assert!(root.join("src/a-1/dkms.conf").exists());
}

#[test]
fn what_cannot_be_registered_leaves_nothing() {
    for (conf, code, said) in [
        ("", 8, "PACKAGE_NAME is not set"),
        ("exit 3", 8, "ends the shell"),
        ("PACKAGE_NAME=a\\nPACKAGE_VERSION=1\\nDEST_MODULE_LOCATION=/etc\\n", 8, "must begin with /kernel"),
        ("if true; then", 8, "syntax error"),
    ] {
        let root = Root::new(&format!("src/a-1/dkms.conf = {conf}"));
        let run = root.dkms(&["add", "a/1"]);
        assert_eq!(run.code, code, "{conf}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{conf}: {}", run.stderr);
        assert_eq!(root.list("lib"), "", "{conf}");
    }
}

#[test]
fn bad_names_are_refused_before_anything_happens() {
    let root = Root::new(&format!("src/a-1/dkms.conf = {CONF}\n etc/precious"));
    let before = root.list("");
    for words in [
        &["add", "-m", "../etc", "-v", "1"][..],
        &["add", "-m", "a", "-v", "../1"],
        &["add", "-m", "a\nb", "-v", "1"],
        &["add", "-m", ".dkms-rs", "-v", "work"],
        &["remove", "-m", "..", "-v", "etc", "--all"],
        &["remove", "a", "--all"],
        &["install", "a/1", "-k", "../../etc"],
        &["unbuild", "a/1", "-k", "6.1/../x"],
        &["kernel_prerm", "-k", ".."],
        &["kernel_postinst"],
        &["autoinstall", "-k", "6.1", "-k", "6.2"],
        &["nonsense"],
        &["add", "install", "a/1"],
        &[],
    ] {
        let run = root.dkms(words);
        assert_ne!(run.code, 0, "{words:?}");
        assert_eq!(run.stdout, "", "{words:?}");
        assert!(!run.stderr.is_empty(), "{words:?}");
        assert!(!run.stderr.contains("panicked"), "{words:?}: {}", run.stderr);
    }
    assert_eq!(root.list(""), before);
}

#[test]
fn kernel_preinst_removes_nothing() {
    let root = every_state();
    let before = root.list("");
    root.dkms(&["kernel_preinst", "-k", KERNEL]).ok();
    assert_eq!(root.list(""), before);
}

#[test]
fn a_kernel_that_leaves_takes_everything_of_its_own() {
    let root = every_state();
    let run = root.dkms(&["kernel_prerm", "-k", "6.1.0-9-amd64/x86_64"]);
    run.ok();
    assert_eq!(root.list("modules"), "", "no file and no empty directory of ours");
    insta::assert_snapshot!(root.list("lib"), @r"
    lib/added/1/source -> $ROOT/src/added-1
    lib/broken/1/source -> $ROOT/src/broken-1
    lib/built/1/source -> $ROOT/src/built-1
    lib/differs/1/source -> $ROOT/src/differs-1
    lib/differs/original_module/6.1.0-9-amd64/x86_64/differs.ko
    lib/fails/1/source -> $ROOT/src/fails-1
    lib/good/1/source -> $ROOT/src/good-1
    ");
    insta::assert_snapshot!(root.dkms(&["status"]).ok(), @r"
    added/1: added
    broken/1: broken
    built/1: added
    differs/1: added
    fails/1: added
    good/1: added
    ");
}

/// A kernel with headers that are good for looking, not for building; `a` needs `b`, which shell DKMS installed.
fn with_a_kernel() -> Root {
    let b = CONF.replace("PACKAGE_NAME=a", "PACKAGE_NAME=b");
    Root::new(&format!(
        "modules/6.1/modules.dep = updates/dkms/b.ko:\\n
        modules/6.1/build/include/generated/utsrelease.h
        modules/6.1/build/include/config/auto.conf = CONFIG_MODULES=y\\n
        modules/6.1/updates/dkms/b.ko = built
        src/a-1/dkms.conf = {CONF}BUILD_DEPENDS=b\\n
        lib/a/1/source -> $ROOT/src/a-1
        src/b-1/dkms.conf = {b}
        lib/b/1/source -> $ROOT/src/b-1
        lib/b/1/6.1/x86_64/module/b.ko = built
        lib/b/kernel-6.1-x86_64 -> 1/6.1/x86_64"
    ))
}

/// The plan for a command.
fn plan(root: &Root, words: &[&str]) -> serde_json::Value {
    let run = root.dkms(&[words, &["-k", "6.1/x86_64", "--dry-run"]].concat());
    serde_json::from_str(run.ok()).unwrap()
}

/// The fingerprint of what a plan makes of a module.
fn fingerprint(plan: &serde_json::Value, name: &str) -> String {
    let makes = plan["make"].as_array().unwrap();
    let make = makes.iter().find(|make| make["module"]["name"] == name).unwrap_or_else(|| panic!("{plan:#}"));
    make["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn the_plan_in_json() {
    let root = with_a_kernel();
    let before = root.list("");
    let mut plan = plan(&root, &["autoinstall"]);
    for make in plan["make"].as_array_mut().unwrap() {
        make["fingerprint"] = "…".into();
    }
    plan["adopt"][0][2] = "…".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan).unwrap(), @r#"
    {
      "adopt": [
        [
          {
            "name": "b",
            "version": "1"
          },
          {
            "arch": "x86_64",
            "kernel": "6.1"
          },
          "…"
        ]
      ],
      "clear": [],
      "depmod": [],
      "forget": [],
      "gone": [],
      "initramfs": [],
      "make": [
        {
          "after": [
            {
              "name": "b",
              "version": "1"
            }
          ],
          "build": true,
          "cached": false,
          "fingerprint": "…",
          "force": false,
          "install": true,
          "module": {
            "name": "a",
            "version": "1"
          },
          "replaces": null,
          "target": {
            "arch": "x86_64",
            "kernel": "6.1"
          }
        }
      ],
      "register": [],
      "settled": [
        {
          "module": {
            "name": "b",
            "version": "1"
          },
          "outcome": {
            "outcome": "up-to-date"
          },
          "target": {
            "arch": "x86_64",
            "kernel": "6.1"
          }
        }
      ],
      "unregister": []
    }
    "#);
    assert_eq!(root.list(""), before, "a dry run changes nothing");
}

#[test]
fn a_fingerprint_is_the_same_every_time_and_changes_with_its_inputs() {
    let root = with_a_kernel();
    let first = fingerprint(&plan(&root, &["autoinstall"]), "a");
    assert_eq!(fingerprint(&plan(&root, &["autoinstall"]), "a"), first);
    assert_eq!(fingerprint(&plan(&root, &["kernel_postinst"]), "a"), first);
    for change in [
        "src/a-1/new.c",
        "src/b-1/new.c",
        "modules/6.1/build/include/config/auto.conf = CONFIG_MODULES=y\\nCONFIG_X=y\\n",
        "modules/6.1/build/Module.symvers = 0x1 x vmlinux EXPORT_SYMBOL\\n",
    ] {
        let root = with_a_kernel();
        assert_eq!(root.text(&fingerprint(&plan(&root, &["autoinstall"]), "a")).len(), 64);
        let before = fingerprint(&plan(&root, &["autoinstall"]), "a");
        root.add(change);
        assert_ne!(fingerprint(&plan(&root, &["autoinstall"]), "a"), before, "{change}");
    }
}

#[test]
fn a_fingerprint_does_not_depend_on_who_asks() {
    let root = with_a_kernel();
    let by_kernel = fingerprint(&plan(&root, &["autoinstall"]), "a");
    let by_hand = fingerprint(&plan(&root, &["install", "a/1"]), "a");
    assert_eq!(by_hand, by_kernel, "installed by hand, it is built again by the next hook");
}

/// Notes that `b` was built and installed by us, from the inputs of today; an empty hash says that what is installed
/// is older than the build.
fn noted(root: &Root, sha256: &str) {
    let plan = plan(root, &["autoinstall"]);
    let fingerprint = plan["adopt"][0][2].as_str().unwrap().to_owned();
    root.add(&format!(
        r#"lib/.dkms-rs/records/b/1/6.1/x86_64.json = {{"fingerprint": "{fingerprint}", "installed": [{{"path": "$ROOT/modules/6.1/updates/dkms/b.ko", "sha256": "{sha256}"}}]}}"#
    ));
}

/// Whether a plan publishes `b` again.
fn publishes(plan: &serde_json::Value) -> bool {
    plan["make"]
        .as_array()
        .unwrap()
        .iter()
        .any(|make| make["module"]["name"] == "b" && make["install"] == true)
}

#[test]
fn a_published_file_that_is_gone_is_published_again() {
    let root = with_a_kernel();
    noted(&root, &dkms_core::sys::hash::hex(b"built"));
    assert!(!publishes(&plan(&root, &["autoinstall"])));
    std::fs::remove_file(root.join("modules/6.1/updates/dkms/b.ko")).unwrap();
    assert!(publishes(&plan(&root, &["autoinstall"])));
}

#[test]
fn a_published_file_of_another_build_is_published_again() {
    // `dkms build` has replaced the build of an installed module: module files are often of equal size.
    let root = with_a_kernel();
    noted(&root, "");
    root.add("modules/6.1/updates/dkms/b.ko = older");
    assert!(publishes(&plan(&root, &["autoinstall"])));
}

#[test]
fn a_file_of_shell_dkms_that_is_gone_is_published_again() {
    let root = with_a_kernel();
    std::fs::remove_file(root.join("modules/6.1/updates/dkms/b.ko")).unwrap();
    assert!(publishes(&plan(&root, &["autoinstall"])));
}

#[test]
fn directives_and_another_configuration_reach_the_build() {
    let root = with_a_kernel();
    root.add("etc/config = CONFIG_MODULES=y\\nCONFIG_FOO=m\\n");
    let config = root.join("etc/config").display().to_string();
    let build = |words: &[&str]| {
        let common = ["build", "b/1", "-k", "6.1/x86_64", "--force", "--directive=BUILT_MODULE_NAME=b"];
        root.dkms(&[&common, words].concat())
    };
    let failing = build(&["--directive", "MAKE=exit 7; $kernelver", "--verbose"]);
    assert_eq!(failing.code, 10, "{}", failing.stderr);
    assert!(failing.stderr.contains("exit code 7"), "{}", failing.stderr);
    assert!(failing.stdout.contains("exit 7; $kernelver"), "{}", failing.stdout);
    let exclusive = ["--directive", "MAKE=exit 7", "--directive", "BUILD_EXCLUSIVE_CONFIG=CONFIG_FOO"];
    assert_eq!(build(&exclusive).code, 77);
    assert_eq!(build(&[&exclusive, &["--config", &config][..]].concat()).code, 10);
}

#[test]
fn links_to_modules_in_place_of_copies() {
    let root = with_a_kernel();
    // What was not built here is looked at before it is installed.
    root.add("modules/6.1/build/include/generated/utsrelease.h = #define UTS_RELEASE \"6.1\"\\n");
    std::fs::write(root.join("lib/b/1/6.1/x86_64/module/b.ko"), support::module("6.1", "1")).unwrap();
    let kernel = ["-k", "6.1/x86_64"];
    root.dkms(&[&["install", "b/1", "--force", "--symlink-modules"], &kernel[..]].concat()).ok();
    let published = root
        .list("modules")
        .lines()
        .find(|line| line.contains("/b.ko") && !line.contains("modules.dep"))
        .unwrap()
        .to_owned();
    assert!(published.ends_with("b.ko -> $ROOT/lib/b/1/6.1/x86_64/module/b.ko"), "{published}");
    assert_eq!(root.dkms(&["status", "b/1"]).ok(), "b/1, 6.1, x86_64: installed\n");
    // The next installation without it makes a copy again.
    root.dkms(&[&["install", "b/1", "--force"], &kernel[..]].concat()).ok();
    assert!(!root.list("modules").contains(" -> $ROOT/lib"));
    root.dkms(&[&["install", "b/1", "--force", "--symlink-modules"], &kernel[..]].concat()).ok();
    root.dkms(&[&["uninstall", "b/1"], &kernel[..]].concat()).ok();
    assert!(!root.list("modules").contains("b.ko ->"), "{}", root.list("modules"));
    assert!(root.join("lib/b/1/6.1/x86_64/module/b.ko").exists(), "the link goes, not what it leads to");
}
