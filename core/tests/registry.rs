//! Large DKMS trees: the cost of a command must not depend on the number of other modules.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::print_stderr)] // a test makes files and stops at the first surprise

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use dkms_core::sys::hash;
use rustix::fs::inotify;
use support::Root;

const CONTENT: &[u8] = &[0x7f; 20_000];

/// Registers modules `m0`, `m1`, …, each installed for kernels `5.0`, `5.1`, … by dkms.
fn registry(modules: usize, kernels: usize) -> Root {
    let root = Root::new("");
    let sha256 = hash::hex(CONTENT);
    let write = |path: &Path, content: &[u8]| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    for number in 0..modules {
        let name = format!("m{number}");
        let conf = format!(
            "PACKAGE_NAME={name}\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME={name}\nDEST_MODULE_LOCATION=/updates/dkms\nAUTOINSTALL=yes\n"
        );
        write(&root.join(&format!("src/{name}-1/dkms.conf")), conf.as_bytes());
        let dir = root.join(&format!("lib/{name}"));
        fs::create_dir_all(dir.join("1/build")).unwrap();
        symlink(root.join(&format!("src/{name}-1")), dir.join("1/source")).unwrap();
        for kernel in 0..kernels {
            let kernel = format!("5.{kernel}");
            write(&dir.join(format!("1/{kernel}/x86_64/module/{name}.ko")), CONTENT);
            write(&dir.join(format!("1/{kernel}/x86_64/log/make.log")), b"log\n");
            symlink(format!("1/{kernel}/x86_64"), dir.join(format!("kernel-{kernel}-x86_64"))).unwrap();
            let published = root.join(&format!("modules/{kernel}/updates/dkms/{name}.ko"));
            write(&published, CONTENT);
            let record = serde_json::json!({
                "fingerprint": "f", "installed": [{"path": published, "sha256": sha256}]
            });
            let record = serde_json::to_vec(&record).unwrap();
            write(&root.join(&format!("lib/.dkms-rs/records/{name}/1/{kernel}/x86_64.json")), &record);
        }
    }
    root
}

/// The number of files and directories of the DKMS tree that are opened by a function.
fn opened(root: &Root, what: impl FnOnce()) -> usize {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    let mut dirs = vec![root.join("lib")];
    let mut at = 0;
    while let Some(dir) = dirs.get(at) {
        let subs = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let subs: Vec<_> =
            subs.filter(|sub| sub.file_type().unwrap().is_dir()).map(|sub| sub.path()).collect();
        dirs.extend(subs);
        at += 1;
    }
    for dir in &dirs {
        let flags = inotify::WatchFlags::OPEN | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&watch, dir, flags).unwrap();
    }
    what();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    let mut count = 0;
    while let Ok(event) = events.next() {
        assert!(!event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW));
        count += 1;
    }
    count
}

#[test]
fn a_command_about_one_module_reads_that_module_only() {
    let (small, large) = (registry(3, 2), registry(40, 2));
    // The first transaction of a boot looks for what an interrupted one left, everywhere.
    for root in [&small, &large] {
        root.dkms(&["uninstall", "m2/1", "-k", "5.0/x86_64"]).ok();
    }
    for words in [
        &["status", "m1/1"][..],
        &["uninstall", "m1/1", "-k", "5.0/x86_64"],
        &["unbuild", "m1/1", "-k", "5.0/x86_64"],
        &["remove", "m1/1", "--all"],
        &["add", "m1/1"],
        &["remove", "m0/1", "--all"],
    ] {
        let [few, many] = [&small, &large].map(|root| {
            opened(root, || {
                root.dkms(words).ok();
            })
        });
        assert!(few > 0, "{words:?}: nothing was seen");
        assert_eq!(few, many, "{words:?}: files opened among 3 modules and among 40");
    }
    assert_eq!(small.dkms(&["status"]).ok().lines().count(), 1 + 2);
    assert_eq!(large.dkms(&["status"]).ok().lines().count(), 1 + 38 * 2);
}

/// A power failure leaves no pid in the lock file, and its temporary files look like those of whatever has their pid now.
#[test]
fn the_first_transaction_of_a_boot_deletes_what_a_power_failure_left() {
    let root = registry(3, 1);
    let command = &["uninstall", "m1/1", "-k", "5.0/x86_64"];
    let own = root.join("lib/.dkms-rs");
    let left = own.join(".dkms-tmp-00000000-1-0-record.json");
    for swept in [None, Some("11111111-0000-4000-8000-000000000000")] {
        if let Some(boot) = swept {
            fs::write(own.join("swept"), boot).unwrap();
        }
        fs::create_dir_all(&own).unwrap();
        fs::write(&left, "").unwrap();
        root.dkms(command).ok();
        assert!(!left.exists(), "{swept:?}");
    }
    // Later ones only look where an intent leads.
    fs::write(&left, "").unwrap();
    root.dkms(command).ok();
    assert!(left.exists());
}

/// A source from elsewhere is copied before the lock is acquired, and an error releases the lock: it does not tell that something
/// is left.
#[test]
fn every_transaction_deletes_a_source_without_a_name_and_what_a_failed_run_left() {
    let root = registry(3, 1);
    let left = ["src/.dkms-tmp-00000000-1-0-new-1.0", "lib/.dkms-rs/work/trash"].map(|path| root.join(path));
    let other = root.join("src/new-1.0");
    for _ in ["the first of this boot", "a later one"] {
        for dir in left.iter().chain([&other]) {
            fs::create_dir_all(dir.join("sub")).unwrap();
        }
        root.dkms(&["uninstall", "m1/1", "-k", "5.0/x86_64"]).ok();
        assert!(left.iter().all(|path| !path.exists()) && other.exists());
    }
}

/// To print timings: `cargo test --locked --release -p dkms-core --test registry -- --ignored --nocapture`
#[test]
#[ignore = "prints how long it takes, which nothing may depend on"]
fn how_long_it_takes() {
    for modules in [77, 154, 308, 617] {
        let root = registry(modules, 2);
        let began = Instant::now();
        for number in 0..modules {
            root.dkms(&["remove", &format!("m{number}/1"), "--all"]).ok();
        }
        let seconds = began.elapsed().as_secs_f64();
        let each = seconds / modules as f64 * 1000.0;
        eprintln!("remove --all of {modules} modules for 2 kernels: {seconds:.2} s, {each:.1} ms each");
        assert_eq!(root.dkms(&["status"]).ok(), "");
        let root = registry(modules, 5);
        for _ in 0..3 {
            let began = Instant::now();
            let lines = root.dkms(&["status"]).ok().lines().count();
            let ms = began.elapsed().as_secs_f64() * 1000.0;
            eprintln!("status of {modules} modules for 5 kernels: {lines} lines, {ms:.0} ms");
        }
    }
}
