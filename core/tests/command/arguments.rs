//! Accepted arguments, and the exit codes of rejected ones.

use super::*;

/// Every notation of the same arguments.
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
        // Each kernel is a separate query.
        ("status a/1 -k 6.1 -k 6.3", "a/1, 6.1, x86_64: built\na/1: added\n"),
        ("status a/1 -k 6.1/i386", "a/1: added\n"),
        ("status a/1 -k 6.1 -k 6.2/i386", "a/1: added\na/1: added\n"),
        // The last value applies; an empty one counts as not given.
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
        ("uninstall absent", 1),
        ("uninstall nobody/1", 3),
        ("unbuild nobody/1 --all", 3),
        ("remove absent", 1),
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
    dkms: --no-initrd is deprecated and has no effect
    dkms: --no-prepare-kernel is deprecated and has no effect
    ");
    for (words, expected) in [
        (&["status", "a/1", "b/1"][..], "dkms: status takes one module: \"b/1\" has no meaning here\n"),
        (
            &["autoinstall", "a/1", "-k", "6.1"],
            "dkms: autoinstall takes no module: \"a/1\" has no meaning here\n",
        ),
    ] {
        let stray = root.dkms(words);
        assert_eq!((stray.code, stray.stderr.as_str()), (2, expected));
    }
}

#[test]
fn nothing_to_match_is_no_error() {
    let root = every_state();
    let run = root.dkms(&["match", "--templatekernel", "6.9", "-k", "6.8"]);
    insta::assert_snapshot!(run.ok(), @"dkms: nothing to match: no matching module is installed for 6.9");
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
