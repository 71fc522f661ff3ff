//! The program itself: `--dry-run` on relocated trees prints the plan and changes nothing, without root.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // starts the program under test, and stops at the first surprise

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn everything_in(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            let mut found = if path.is_dir() { everything_in(&path) } else { BTreeSet::new() };
            found.insert(path);
            found
        })
        .collect()
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for sub in ["dkms", "modules/6.1", "src/a-1"] {
        fs::create_dir_all(at(sub)).unwrap();
    }
    fs::write(at("modules/6.1/modules.dep"), "").unwrap();
    let conf = "PACKAGE_NAME=a\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME[0]=a\nDEST_MODULE_LOCATION[0]=/extra\nAUTOINSTALL=yes\n";
    fs::write(at("src/a-1/dkms.conf"), conf).unwrap();
    let before = everything_in(dir.path());
    let done = Command::new(env!("CARGO_BIN_EXE_dkms-apt-hook"))
        .arg("--dry-run")
        .args(["--dkmstree".as_ref(), at("dkms").as_os_str()])
        .args(["--sourcetree".as_ref(), at("src").as_os_str()])
        .args(["--installtree".as_ref(), at("modules").as_os_str()])
        .args(["module-postinst", "a", "1"])
        .output()
        .unwrap();
    let plan = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{done:?}");
    let source = format!("\"source\": \"{}\"", at("src/a-1").display());
    assert!(plan.contains("\"register\"") && plan.contains(&source) && plan.contains("\"6.1\""), "{plan}");
    assert_eq!(everything_in(dir.path()), before);
}
