//! The DKMS tree: reading trees of shell DKMS, and the effect of each operation.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // a test makes files and stops at the first surprise

mod support;

use dkms_core::exit::Exit;
use dkms_core::sys::file::TEMP_PREFIX;
use dkms_core::tree::{Failure, Installed, Intent, LockedTree, Record, Snapshot, Source};
use dkms_core::types::{Fingerprint, ModuleId, Placement, Target};
use support::Root;

fn id(text: &str) -> ModuleId {
    text.parse().unwrap()
}

fn target(kernel: &str) -> Target {
    Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() }
}

/// The result, one line per version, build, failure and set of archived originals.
fn found(root: &Root) -> String {
    let snapshot = Snapshot::load(&root.layout()).unwrap();
    let mut lines = Vec::new();
    for (id, entry) in &snapshot.modules {
        let source = match &entry.source {
            Source::Linked(dir) => format!("linked to {}", dir.display()),
            Source::Dangling(dir) => format!("linked to {}, which is not there", dir.display()),
            Source::Unlinked => "not linked to its source".into(),
            Source::Gone => "without a source".into(),
            other => root.text(&format!("{other:?}")),
        };
        lines.push(format!("{id}: {source}"));
        for (target, build) in &entry.builds {
            let state = if build.active { "installed" } else { "built" };
            let record = build
                .record
                .as_ref()
                .map_or(String::new(), |record| format!(", from {}", record.fingerprint.0));
            lines.push(format!("  {target}: {state}: {}{record}", build.files.join(" ")));
        }
    }
    for Placement { module: id, target } in snapshot.failures.keys() {
        lines.push(format!("{id} failed for {target}"));
    }
    for (name, target) in &snapshot.originals {
        lines.push(format!("{name}: originals of {target}"));
    }
    root.text(&lines.join("\n"))
}

const ADDED: &str = "src/a-1/dkms.conf
    lib/a/1/source -> $ROOT/src/a-1
    lib/a/1/build/";

const BUILT: &str = "src/a-1/dkms.conf
    lib/a/1/source -> $ROOT/src/a-1
    lib/a/1/6.1.0-9-amd64/x86_64/log/make.log
    lib/a/1/6.1.0-9-amd64/x86_64/module/a.ko.xz = new";

const INSTALLED: &str = "src/a-1/dkms.conf
    lib/a/1/source -> $ROOT/src/a-1
    lib/a/1/6.1.0-9-amd64/x86_64/log/make.log
    lib/a/1/6.1.0-9-amd64/x86_64/module/a.ko.xz = new
    lib/a/kernel-6.1.0-9-amd64-x86_64 -> 1/6.1.0-9-amd64/x86_64";

#[test]
fn what_shell_dkms_leaves() {
    let root = Root::new("lib/dkms_dbversion = 2.0.0");
    insta::assert_snapshot!(found(&root), @"");
    insta::assert_snapshot!(found(&Root::new(ADDED)), @"a/1: linked to $ROOT/src/a-1");
    insta::assert_snapshot!(found(&Root::new(BUILT)), @r"
    a/1: linked to $ROOT/src/a-1
      6.1.0-9-amd64 (x86_64): built: a.ko.xz
    ");
    insta::assert_snapshot!(found(&Root::new(INSTALLED)), @r"
    a/1: linked to $ROOT/src/a-1
      6.1.0-9-amd64 (x86_64): installed: a.ko.xz
    ");
}

#[test]
fn no_registry_at_all() {
    let root = Root::new("");
    std::fs::remove_dir(root.join("lib")).unwrap();
    assert_eq!(found(&root), "");
}

#[test]
fn two_versions_of_which_one_is_installed() {
    let root = Root::new(INSTALLED);
    root.add(
        "src/a-2/dkms.conf
        lib/a/2/source -> $ROOT/src/a-2
        lib/a/2/6.1.0-9-amd64/x86_64/module/a.ko.xz
        lib/a/2/6.1.0-9-amd64/x86_64/module/a-more.ko.xz
        lib/a/2/6.12.1/x86_64/module/a.ko",
    );
    insta::assert_snapshot!(found(&root), @r"
    a/1: linked to $ROOT/src/a-1
      6.1.0-9-amd64 (x86_64): installed: a.ko.xz
    a/2: linked to $ROOT/src/a-2
      6.1.0-9-amd64 (x86_64): built: a-more.ko.xz a.ko.xz
      6.12.1 (x86_64): built: a.ko
    ");
    let snapshot = Snapshot::load(&root.layout()).unwrap();
    let kernel = target("6.1.0-9-amd64");
    assert_eq!(snapshot.active(&id("a/1").name, &kernel), Some(&id("a/1")));
    assert_eq!(snapshot.active(&id("a/1").name, &target("6.12.1")), None);
    assert_eq!(snapshot.targets().len(), 2);
    assert_eq!(snapshot.versions(&id("a/1").name).count(), 2);
}

#[test]
fn the_installed_version_is_named_relative_or_absolute() {
    let links = [
        ("1/6.1.0-9-amd64/x86_64", true),
        ("$ROOT/lib/a/1/6.1.0-9-amd64/x86_64", true),
        ("2/6.1.0-9-amd64/x86_64", false),
        ("1/6.1.0-8-amd64/x86_64", false),
        ("/elsewhere", false),
    ];
    for (link, active) in links {
        let root = Root::new(BUILT);
        root.add(&format!("lib/a/kernel-6.1.0-9-amd64-x86_64 -> {link}"));
        let snapshot = Snapshot::load(&root.layout()).unwrap();
        assert_eq!(snapshot.build(&id("a/1"), &target("6.1.0-9-amd64")).unwrap().active, active, "{link}");
    }
}

#[test]
fn several_architectures_are_told_apart() {
    let root = Root::new(INSTALLED);
    root.add("lib/a/1/6.1.0-9-amd64/i686/module/a.ko");
    insta::assert_snapshot!(found(&root), @r"
    a/1: linked to $ROOT/src/a-1
      6.1.0-9-amd64 (i686): built: a.ko
      6.1.0-9-amd64 (x86_64): installed: a.ko.xz
    ");
}

#[test]
fn broken_registrations() {
    // The source was deleted.
    insta::assert_snapshot!(found(&Root::new("lib/a/1/source -> $ROOT/src/a-1\n lib/a/1/build/")), @"a/1: linked to $ROOT/src/a-1, which is not there");
    // The link was deleted.
    insta::assert_snapshot!(found(&Root::new("src/a-1/dkms.conf\n lib/a/1/build/")), @"a/1: not linked to its source");
    // Only a build: its source was unregistered, and its successor does not exist yet.
    insta::assert_snapshot!(found(&Root::new("lib/a/1/6.1/x86_64/module/a.ko\n lib/a/kernel-6.1-x86_64 -> 1/6.1/x86_64")), @r"
    a/1: without a source
      6.1 (x86_64): installed: a.ko
    ");
    // The link points to a file.
    insta::assert_snapshot!(found(&Root::new("src/a-1 = x\n lib/a/1/source -> $ROOT/src/a-1")), @"a/1: linked to $ROOT/src/a-1, which is not there");
}

#[test]
fn left_overs_without_source_and_builds_are_nothing() {
    for left in
        ["lib/a/", "lib/a/1/", "lib/a/1/build/", "lib/a/1/6.1/x86_64/", "lib/a/1/6.1/x86_64/log/make.log"]
    {
        assert_eq!(found(&Root::new(left)), "", "{left}");
    }
}

#[test]
fn a_source_that_is_a_directory_comes_from_a_binary_tarball() {
    insta::assert_snapshot!(found(&Root::new("lib/a/1/source/dkms.conf\n lib/a/1/6.1/x86_64/module/a.ko")), @r"
    a/1: linked to $ROOT/lib/a/1/source
      6.1 (x86_64): built: a.ko
    ");
}

#[test]
fn originals_of_the_kernel() {
    let root = Root::new(INSTALLED);
    root.add(
        "lib/a/original_module/6.1.0-9-amd64/x86_64/a.ko.xz
        lib/a/original_module/6.1.0-9-amd64/x86_64/a.ko.xz.origin = /lib/modules/6.1.0-9-amd64/kernel/a.ko.xz
        lib/a/original_module/collisions/",
    );
    insta::assert_snapshot!(found(&root), @r"
    a/1: linked to $ROOT/src/a-1
      6.1.0-9-amd64 (x86_64): installed: a.ko.xz
    a: originals of 6.1.0-9-amd64 (x86_64)
    ");
}

#[test]
fn strange_names_are_ignored() {
    let root = Root::new(ADDED);
    root.add(&format!(
        "lib/dkms_dbversion = 2.0.0
        lib/mok.key
        lib/.hidden/1/source -> $ROOT/src/a-1
        lib/-rf/1/source -> $ROOT/src/a-1
        lib/with space/1/source -> $ROOT/src/a-1
        lib/a..b/1/source -> $ROOT/src/a-1
        lib/lost+found/
        lib/linked -> a
        lib/a/.tmp_1/source -> $ROOT/src/a-1
        lib/a/-1/source -> $ROOT/src/a-1
        lib/a/linked -> 1
        lib/a/1/.tmp_6.1/x86_64/module/a.ko
        lib/a/1/kernel-6.1/x86_64/module/a.ko
        lib/a/1/build/x86_64/module/a.ko
        lib/a/1/6.1/.tmp_x86_64/module/a.ko
        lib/a/1/6.1/{TEMP_PREFIX}1-0-x86_64/module/a.ko
        lib/a/1/6.1/file
        lib/a/1/6.2/x86_64/module = a file
        lib/.dkms-rs/work/1-a/module/a.ko
        lib/.dkms-rs/records/a/1/6.1/x86_64.json = {{}}"
    ));
    insta::assert_snapshot!(found(&root), @"a/1: linked to $ROOT/src/a-1");
}

#[test]
fn only_module_files_count() {
    let root = Root::new(
        "lib/a/1/6.1/x86_64/module/a.ko\n lib/a/1/6.1/x86_64/module/Module.symvers\n lib/a/1/6.1/x86_64/module/b.ko.zst",
    );
    insta::assert_snapshot!(found(&root), @r"
    a/1: without a source
      6.1 (x86_64): built: a.ko b.ko.zst
    ");
}

#[test]
fn a_note_of_ours_that_cannot_be_read_is_none() {
    for note in ["", "{", "[]", "{\"seconds\": 1}"] {
        let root = Root::new(INSTALLED);
        root.add(&format!("lib/.dkms-rs/records/a/1/6.1.0-9-amd64/x86_64.json = {note}"));
        root.add(&format!("lib/.dkms-rs/failures/a/1/6.1.0-9-amd64/x86_64.json = {note}"));
        let snapshot = Snapshot::load(&root.layout()).unwrap();
        assert_eq!(snapshot.build(&id("a/1"), &target("6.1.0-9-amd64")).unwrap().record, None, "{note}");
        assert!(snapshot.failures.is_empty());
    }
}

#[test]
fn notes_of_format_1_are_read_for_ever() {
    // Frozen: written by the first version. Never change these texts; add others.
    let root = Root::new(INSTALLED);
    root.add(
        r#"lib/.dkms-rs/records/a/1/6.1.0-9-amd64/x86_64.json = {"fingerprint": "f0", "installed": [{"path": "/x", "sha256": "00"}], "seconds": 1.5}
        lib/.dkms-rs/failures/a/1/6.2/x86_64.json = {"fingerprint": "f1", "why": "w", "errors": ["e"], "log": "/l", "code": 10}"#,
    );
    insta::assert_snapshot!(found(&root), @r"
    a/1: linked to $ROOT/src/a-1
      6.1.0-9-amd64 (x86_64): installed: a.ko.xz, from f0
    a/1 failed for 6.2 (x86_64)
    ");
    let snapshot = Snapshot::load(&root.layout()).unwrap();
    let failure = &snapshot.failures[&Placement::of(&id("a/1"), &target("6.2"))];
    let expected = Failure {
        fingerprint: Fingerprint("f1".into()),
        why: "w".into(),
        errors: vec!["e".into()],
        log: "/l".into(),
        code: Exit::BUILD_FAILED,
        environment: String::new(),
        view: None,
        boot: None,
    };
    assert_eq!(*failure, expected);
}

#[test]
fn one_module_alone() {
    let root = Root::new(INSTALLED);
    root.add("src/b-1/dkms.conf\n lib/b/1/source -> $ROOT/src/b-1");
    let snapshot = Snapshot::load_some(&root.layout(), [id("a/1").name]).unwrap();
    assert_eq!(snapshot.modules.keys().collect::<Vec<_>>(), [&id("a/1")]);
}

/// A record in its serialized form: later fields have defaults.
fn record(installed: &[Installed]) -> Record {
    let json = serde_json::json!({ "fingerprint": "f", "installed": installed, "seconds": 1.0 });
    serde_json::from_value(json).unwrap()
}

fn locked(root: &Root) -> LockedTree {
    LockedTree::lock(&root.layout(), |holder| panic!("locked by {holder}")).unwrap()
}

#[test]
fn register_and_unlink() {
    let root = Root::new("src/a-1/dkms.conf");
    let tree = locked(&root);
    tree.register(&id("a/1"), &root.join("src/a-1")).unwrap();
    insta::assert_snapshot!(root.list("lib"), @r"
    lib/a/1/build/
    lib/a/1/source -> $ROOT/src/a-1
    ");
    // Repeating it changes nothing; another source replaces the link.
    tree.register(&id("a/1"), &root.join("src/a-1")).unwrap();
    tree.register(&id("a/1"), &root.join("etc")).unwrap();
    insta::assert_snapshot!(root.list("lib"), @r"
    lib/a/1/build/
    lib/a/1/source -> $ROOT/etc
    ");
    tree.unlink_source(&id("a/1")).unwrap();
    insta::assert_snapshot!(root.list("lib"), @"lib/a/1/");
}

#[test]
fn unlinking_leaves_builds() {
    let root = Root::new(INSTALLED);
    locked(&root).unlink_source(&id("a/1")).unwrap();
    insta::assert_snapshot!(root.list("lib"), @r"
    lib/a/1/6.1.0-9-amd64/x86_64/log/make.log
    lib/a/1/6.1.0-9-amd64/x86_64/module/a.ko.xz = new
    lib/a/kernel-6.1.0-9-amd64-x86_64 -> 1/6.1.0-9-amd64/x86_64
    ");
}

#[test]
fn forgetting_a_version_leaves_the_others() {
    let root = Root::new(INSTALLED);
    root.add(
        "lib/a/2/source -> $ROOT/src/a-2
        lib/.dkms-rs/records/a/1/6.1.0-9-amd64/x86_64.json
        lib/.dkms-rs/failures/a/1/6.1.0-9-amd64/x86_64.log
        lib/.dkms-rs/records/a/2/6.1.0-9-amd64/x86_64.json",
    );
    let tree = locked(&root);
    tree.deactivate(&id("a/1").name, &target("6.1.0-9-amd64")).unwrap();
    tree.forget(&id("a/1")).unwrap();
    insta::assert_snapshot!(root.list("lib"), @"lib/a/2/source -> $ROOT/src/a-2");
    insta::assert_snapshot!(root.list("lib/.dkms-rs/records"), @"lib/.dkms-rs/records/a/2/6.1.0-9-amd64/x86_64.json");
    assert_eq!(root.list("lib/.dkms-rs/failures"), "");
    // With its last version, the module's directory is deleted, and never the DKMS tree itself.
    tree.forget(&id("a/2")).unwrap();
    assert!(root.list("lib").is_empty() && root.join("lib").is_dir());
    tree.forget(&id("a/2")).unwrap();
}

#[test]
fn forgetting_keeps_originals_of_the_kernel() {
    let root = Root::new("lib/a/1/build/\n lib/a/original_module/6.1/x86_64/a.ko = theirs");
    locked(&root).forget(&id("a/1")).unwrap();
    assert_eq!(root.list("lib"), "lib/a/original_module/6.1/x86_64/a.ko = theirs");
}

#[test]
fn a_build_is_adopted_whole() {
    let root = Root::new(BUILT);
    root.add("lib/.dkms-rs/work/1-a/x86_64/module/a.ko = newer");
    let tree = locked(&root);
    tree.adopt_build(
        &id("a/1"),
        &target("6.1.0-9-amd64"),
        &root.join("lib/.dkms-rs/work/1-a/x86_64"),
        Vec::new(),
    )
    .unwrap();
    insta::assert_snapshot!(root.list("lib"), @r"
    lib/a/1/6.1.0-9-amd64/x86_64/module/a.ko = newer
    lib/a/1/source -> $ROOT/src/a-1
    ");
    assert!(!root.join("lib/.dkms-rs/work/1-a/x86_64").exists());
}

#[test]
fn deleting_a_build_deletes_its_notes_and_no_other_kernels() {
    let root = Root::new(BUILT);
    root.add("lib/a/1/6.2/x86_64/module/a.ko");
    let tree = locked(&root);
    let (id, old, other) = (id("a/1"), target("6.1.0-9-amd64"), target("6.2"));
    let record = record(&[]);
    let failure = Failure {
        fingerprint: Fingerprint("f".into()),
        why: "w".into(),
        errors: Vec::new(),
        log: "/l".into(),
        code: Exit::BUILD_FAILED,
        environment: "programs".into(),
        view: None,
        boot: None,
    };
    for target in [&old, &other] {
        tree.record(&id, target, &record).unwrap();
        tree.record_failure(&id, target, &failure).unwrap();
        std::fs::write(root.layout().failure_log(&id, target), "log").unwrap();
    }
    tree.delete_build(&id, &old).unwrap();
    insta::assert_snapshot!(found(&root), @r"
    a/1: linked to $ROOT/src/a-1
      6.2 (x86_64): built: a.ko, from f
    a/1 failed for 6.2 (x86_64)
    ");
    for (kind, left) in [("records", "x86_64.json"), ("failures", "x86_64.json x86_64.make.log")] {
        let mut names: Vec<_> = std::fs::read_dir(root.join(&format!("lib/.dkms-rs/{kind}/a/1/6.2")))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.join(" "), left);
        let gone = root.list(&format!("lib/.dkms-rs/{kind}/a/1/6.1.0-9-amd64"));
        assert_eq!(gone, "");
    }
    // Deleting something that does not exist succeeds.
    tree.delete_build(&id, &old).unwrap();
}

#[test]
fn records_come_back() {
    let root = Root::new(INSTALLED);
    let tree = locked(&root);
    let (id, target) = (id("a/1"), target("6.1.0-9-amd64"));
    let installed = vec![Installed { path: "/lib/modules/x/a.ko".into(), sha256: "00".into() }];
    let record = record(&installed);
    tree.record(&id, &target, &record).unwrap();
    assert_eq!(tree.snapshot().unwrap().build(&id, &target).unwrap().record, Some(record));
    let failure = Failure {
        fingerprint: Fingerprint("f".into()),
        why: "w".into(),
        errors: vec!["e".into()],
        log: "/l".into(),
        code: Exit::BUILD_FAILED,
        environment: "programs".into(),
        view: None,
        boot: None,
    };
    tree.record_failure(&id, &target, &failure).unwrap();
    assert_eq!(tree.snapshot().unwrap().failures[&Placement::of(&id, &target)], failure);
    tree.forget_failure(&id, &target).unwrap();
    assert!(tree.snapshot().unwrap().failures.is_empty());
}

#[test]
fn one_version_is_active() {
    let root = Root::new(INSTALLED);
    root.add("lib/a/2/6.1.0-9-amd64/x86_64/module/a.ko.xz");
    let tree = locked(&root);
    tree.activate(&id("a/2"), &target("6.1.0-9-amd64")).unwrap();
    insta::assert_snapshot!(found(&root), @r"
    a/1: linked to $ROOT/src/a-1
      6.1.0-9-amd64 (x86_64): built: a.ko.xz
    a/2: without a source
      6.1.0-9-amd64 (x86_64): installed: a.ko.xz
    ");
    tree.deactivate(&id("a/2").name, &target("6.1.0-9-amd64")).unwrap();
    tree.deactivate(&id("a/2").name, &target("6.1.0-9-amd64")).unwrap();
    assert_eq!(tree.snapshot().unwrap().active(&id("a/2").name, &target("6.1.0-9-amd64")), None);
}

#[test]
fn only_unfulfilled_intents_are_found() {
    let root = Root::new("");
    let tree = locked(&root);
    let withdraw = vec![Placement::of(&id("a/1"), &target("6.1"))];
    let intent = Intent { withdraw, ..Intent::default() };
    tree.intend(&intent).unwrap();
    tree.fulfilled().unwrap();
    assert!(tree.unfulfilled().is_empty());
    root.add(
        r#"lib/.dkms-rs/intent/4194305.json = {"withdraw": [[{"name": "a", "version": "1"}, {"kernel": "6.1", "arch": "x86_64"}]]}
        lib/.dkms-rs/intent/4194306.json = {"pid": 41943"#,
    );
    let found = tree.unfulfilled();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.withdraw, intent.withdraw);
}

#[test]
fn a_name_that_is_a_link_out_of_the_registry_is_not_followed() {
    let root = Root::new("etc/a.conf = precious\n lib/a/1/build -> $ROOT/etc\n lib/a/1/source -> $ROOT/etc");
    let tree = locked(&root);
    tree.unlink_source(&id("a/1")).unwrap();
    tree.forget(&id("a/1")).unwrap();
    assert_eq!(root.list("etc"), "etc/a.conf = precious");
}
