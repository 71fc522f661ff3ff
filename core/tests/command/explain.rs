//! `dkms log` and `dkms why`, and the advice after a typing error.

use super::*;
use support::schemas::valid;

fn expect_refused(root: &Root, line: &str, code: i32, part: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let run = root.dkms(&words);
    assert!(run.code == code && run.stderr.contains(part), "{line}: {} {}", run.code, run.stderr);
}

#[test]
fn the_log_of_the_last_build() {
    let root = Root::new(
        r#"src/a-1/dkms.conf
        lib/a/1/source -> $ROOT/src/a-1
        lib/a/1/6.1/x86_64/log/make.log = built for 6.1
        lib/a/1/6.1/x86_64/module/a.ko
        lib/.dkms-rs/failures/a/1/6.2/x86_64.json = {"fingerprint": "f", "why": "x", "log": "$ROOT/failed.log", "code": 10}
        lib/.dkms-rs/failures/c/2/6.2/x86_64.json = {"fingerprint": "f", "why": "x", "log": "$ROOT/failed.log", "code": 10}
        failed.log = failed for 6.2
        lib/b/1/source -> $ROOT/src/b-1"#,
    );
    for (line, expected) in [
        ("log a -k 6.1", "built for 6.1"),
        ("log a/1 -k 6.2", "failed for 6.2"),
        ("log a -k 6.2/x86_64", "failed for 6.2"),
        // Its package was not installed, because it does not build.
        ("log c/2", "failed for 6.2"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(root.dkms(&words).ok(), expected, "{line}");
    }
    for (line, code, part) in [
        ("log a -k 6.3", 6, "a has no build log for this kernel; to build it: dkms install a/1 -k 6.3"),
        ("log b", 6, "b has no build log; to build it: dkms install b/1"),
        ("log", 1, "log requires MODULE"),
        ("log d", 3, "d is not in the DKMS tree; to list all modules: dkms status"),
        ("log a/2", 3, "a/2 is not in the DKMS tree"),
    ] {
        expect_refused(&root, line, code, part);
    }
}

#[test]
fn a_similar_name_is_suggested() {
    let root = Root::new(
        "src/v4l2loopback-1/dkms.conf
        lib/v4l2loopback/1/source -> $ROOT/src/v4l2loopback-1",
    );
    for (line, code, part) in [
        ("why v4l2loopbak", 3, "v4l2loopbak is not in the DKMS tree; did you mean v4l2loopback?"),
        ("log v4l2-loopback/1", 3, "did you mean v4l2loopback?"),
        ("why zfs", 3, "zfs is not in the DKMS tree; to list all modules: dkms status"),
        ("statsu v4l2loopback/1", 2, "unknown command \"statsu\"; did you mean status?"),
        ("frobnicate", 2, "unknown command \"frobnicate\"; see dkms --help"),
    ] {
        expect_refused(&root, line, code, part);
    }
}

#[test]
fn why_names_the_state_and_what_changes_it() {
    let conf =
        |name: &str, more: &str| CONF.replace("PACKAGE_NAME=a", &format!("PACKAGE_NAME={name}")) + more;
    let (excluded, manual) =
        (conf("excluded", "BUILD_EXCLUSIVE_KERNEL=^5\\n"), conf("manual", "AUTOINSTALL=\\n"));
    let root = Root::new(&format!(
        "src/a-1/dkms.conf = {CONF}
        lib/a/1/source -> $ROOT/src/a-1
        src/excluded-1/dkms.conf = {excluded}
        lib/excluded/1/source -> $ROOT/src/excluded-1
        src/manual-1/dkms.conf = {manual}
        lib/manual/1/source -> $ROOT/src/manual-1
        modules/6.1.0-9-amd64/modules.dep"
    ));
    let json = valid("why", root.dkms(&["why", "a", "-k", KERNEL, "--json"]).ok());
    let one = &json["modules"][0];
    assert_eq!(
        (&json["format"], &one["next"], &one["outcome"]),
        (&1.into(), &"nothing".into(), &"deferred".into())
    );
    assert_eq!((&one["module"]["name"], &one["kernel"]), (&"a".into(), &KERNEL.into()));
    for (name, expected) in [
        (
            "a",
            "dkms: deferred for 6.1.0-9-amd64: a/1\n      kernel headers for 6.1.0-9-amd64 are not installed\n",
        ),
        (
            "excluded",
            "dkms: excluded/1 not built for 6.1.0-9-amd64: excluded by dkms.conf: supports only kernels that match \
             ^5\n",
        ),
        (
            "manual",
            "dkms: manual/1 for 6.1.0-9-amd64: not built automatically: its dkms.conf does not set \
             AUTOINSTALL=yes\n",
        ),
    ] {
        let said = root.dkms(&["why", name, "-k", KERNEL]).ok().to_owned();
        assert!(said.starts_with(expected), "{name}: {said}");
    }
}
