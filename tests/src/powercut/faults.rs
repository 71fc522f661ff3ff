//! System calls that fail: each one with which a story changes something, one in each run, with each error.

use std::collections::BTreeMap;

use super::judge::{self, Also, Judge, Known};
use super::place::Place;
use super::story::{self, Story};
use super::{disk, prepared};

/// System calls that change files, the errors that they are made to fail with, and what a call contains that changes
/// something.
const CALLS: &[(&str, &[&str], &str)] = &[
    ("openat", &["ENOSPC", "EIO", "EROFS", "EMFILE"], "O_CREAT"),
    ("write", &["ENOSPC", "EIO", "EDQUOT", "EINTR"], ""),
    ("fsync", &["ENOSPC", "EIO", "EINTR"], ""),
    ("rename", &["ENOSPC", "EIO", "EROFS"], ""),
    ("renameat2", &["ENOSPC", "EIO", "EROFS"], ""),
    ("unlink", &["EIO", "EROFS"], ""),
    ("unlinkat", &["EIO", "EROFS"], ""),
    ("mkdir", &["ENOSPC", "EIO", "EROFS"], ""),
    ("rmdir", &["EIO", "EROFS"], ""),
    ("symlink", &["ENOSPC", "EIO", "EROFS"], ""),
    ("fchmod", &["EIO", "EROFS"], ""),
    ("ftruncate", &["EIO", "EROFS"], ""),
    ("copy_file_range", &["ENOSPC", "EIO"], ""),
    ("pwrite64", &["ENOSPC", "EIO", "EDQUOT"], ""),
    ("sendfile", &["ENOSPC", "EIO"], ""),
    ("fallocate", &["ENOSPC", "EIO"], ""),
    ("fdatasync", &["ENOSPC", "EIO"], ""),
    ("syncfs", &["ENOSPC", "EIO"], ""),
    ("renameat", &["ENOSPC", "EIO", "EROFS"], ""),
    ("link", &["ENOSPC", "EIO", "EROFS"], ""),
    ("linkat", &["ENOSPC", "EIO", "EROFS"], ""),
    ("symlinkat", &["ENOSPC", "EIO", "EROFS"], ""),
    ("mkdirat", &["ENOSPC", "EIO", "EROFS"], ""),
    ("chmod", &["EIO", "EROFS"], ""),
    ("fchmodat", &["EIO", "EROFS"], ""),
    ("chown", &["EIO", "EROFS"], ""),
    ("fchown", &["EIO", "EROFS"], ""),
    ("fchownat", &["EIO", "EROFS"], ""),
    ("lchown", &["EIO", "EROFS"], ""),
    ("utimensat", &["EIO", "EROFS"], ""),
    // What others do for us: programs, and threads.
    ("pipe2", &["EMFILE", "ENFILE"], ""),
    ("clone", &["EAGAIN", "ENOMEM"], ""),
    ("clone3", &["EAGAIN", "ENOMEM"], ""),
    ("vfork", &["EAGAIN", "ENOMEM"], ""),
];

/// What was tried for one story.
#[derive(Debug, Default)]
pub struct Faults {
    /// Calls that were made to fail, by name.
    pub calls: BTreeMap<&'static str, usize>,
    /// Runs.
    pub runs: usize,
    /// Runs that ended with an error.
    pub failed: usize,
    /// What was wrong, with the call.
    pub bad: Vec<String>,
}

/// Runs a story on one file system, once for each call and error; of more than `limit` runs, as many are left out between any
/// two.
pub fn fail(story: &Story, limit: usize) -> Faults {
    let layout = &disk::LAYOUTS[0];
    let (layer, kernel) = prepared(story);
    let layer = layer.prepared("strace", "1", |root| {
        root.apt_install(&["strace"]).ok();
    });
    let images = disk::Images::make(layout, &layer);
    // Copies, so that the initial state stays.
    let pictures = images.pictures();
    let place = Place::start(layout, &layer, &pictures).restarted();
    let old = judge::now(&place, &kernel);
    // The last command of a story is the one that is traced.
    let traced = |options: &str| {
        let (before, command) = story.act.rsplit_once("; ").unwrap_or(("true", story.act));
        format!("K={}; {before}; strace -qq -o /run/calls {options} {command}", kernel.release)
    };
    place.run(&format!("{} && {}", disk::mount(layout, &place.devices), traced(""))).ok();
    let new = judge::now(&place, &kernel);
    let recorded = place.run("cat /run/calls").ok().stdout;
    place.run(disk::UNMOUNT).ok();

    let known = Known { files: [old.0, new.0], doctor: [old.1, new.1] };
    let judge = Judge { place: &place, kernel: &kernel, layout, story, known: &known };
    let mut faults = Faults::default();
    let mut runs: Vec<(&str, usize, &str)> = Vec::new();
    for (call, errors, changes) in CALLS {
        let begins = format!("{call}(");
        let calls = recorded.lines().filter(|line| line.starts_with(&begins)).enumerate();
        for (number, _) in calls.filter(|(_, line)| line.contains(changes)) {
            *faults.calls.entry(call).or_default() += 1;
            runs.extend(errors.iter().map(|error| (*call, number + 1, *error)));
        }
    }
    let many = limit.min(runs.len());
    for n in 0..many {
        let (call, number, error) = runs[(n + 1) * runs.len() / many - 1];
        images.pictures();
        let inject = format!("-e inject={call}:error={error}:when={number}");
        let act = format!("{{ {}; }} >/run/said 2>&1; echo $? >/run/code", traced(&inject));
        let verdict =
            judge.judge(&pictures, &act, Also { check: n % 50 == 0, doctor: n % 2 == 1, keep: false });
        let code = place.run("cat /run/code").stdout;
        let said = place.run("cat /run/said").stdout;
        faults.runs += 1;
        let at = format!("{call} {number} fails with {error} (exit {})", code.trim());
        let mut bad = verdict.bad;
        match code.trim() {
            "0" if !verdict.is[1] => bad.push(format!("success, but not the new state: {said}")),
            "0" => {}
            "101" | "134" | "139" => bad.push(format!("crashed: {said}")),
            _ => {
                faults.failed += 1;
                // The message itself may be what cannot be written.
                if said.trim().is_empty() && call != "write" {
                    bad.push("no message".to_owned());
                }
            }
        }
        faults.bad.extend(bad.into_iter().map(|bad| format!("{at}: {bad}\n    said: {said}")));
    }
    faults
}

/// The stories that a failing call is tried in.
pub fn stories() -> impl Iterator<Item = &'static Story> {
    // dpkg's own calls are not ours.
    story::STORIES.iter().filter(|story| !story.act.starts_with("dpkg "))
}
