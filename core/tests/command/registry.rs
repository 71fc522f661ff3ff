//! Adding to and removing from the DKMS tree.

use super::support::Run;
use super::*;

#[test]
fn add_and_remove() {
    let root = Root::new(&format!("src/a-1/dkms.conf = {CONF}"));
    insta::assert_snapshot!(root.dkms(&["add", "a/1"]).ok(), @"dkms: a/1 added to the DKMS tree");
    insta::assert_snapshot!(root.list("lib"), @r"
    lib/a/1/build/
    lib/a/1/source -> $ROOT/src/a-1
    ");
    let again = root.dkms(&["add", "a/1"]);
    assert_eq!(again.code, 3);
    insta::assert_snapshot!(again.stderr, @r"
    dkms: a/1: already in the DKMS tree
          use another version, or run `dkms remove a/1 --all` first
    ");
    assert_eq!(root.dkms(&["status"]).ok(), "a/1: added\n");
    root.dkms(&["remove", "a/1", "--all"]).ok();
    assert_eq!(root.list("lib"), "");
    let gone = root.dkms(&["remove", "a/1", "--all"]);
    assert_eq!(gone.code, 3);
    insta::assert_snapshot!(gone.stderr, @r"
    dkms: a/1: not in the DKMS tree
          to list all modules: dkms status
    ");
    // The installed files are from the source, and not ours.
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
    // It prints a message before it waits.
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("waiting"), "{line}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    let rest = std::io::read_to_string(said).unwrap();
    insta::assert_snapshot!(rest, @"dkms: interrupted: nothing was changed");
    assert_eq!(root.list("lib"), "");
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
fn a_directory_whose_module_was_removed_is_added_again() {
    let root = Root::new(&format!(
        "etc/new/dkms.conf = {CONF}\n etc/new/changed = new\n src/a-1/changed = old\n src/a-1/other"
    ));
    let dir = root.join("etc/new");
    root.dkms(&["add", dir.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(root.join("src/a-1/changed")).unwrap(), "new");
    assert!(root.join("src/a-1/other").exists(), "what only the old tree has stays");
    // The source of a registered module is not replaced.
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
        ("exit 3", 8, "exits the shell"),
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
