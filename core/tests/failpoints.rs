//! Deaths at every point of a transaction: the real program is killed where nothing can clean up, and the next
//! command must find whole files and put everything right.
//!
//! What is right needs no list: a second, undisturbed run of the same commands says it. After a death and the next
//! command, everything on disk must be as if the dead command had been completed, or as if it had never been given.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // a test makes files and stops at the first surprise

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dkms_core::layout::Layout;
use dkms_core::policy::distro::Row;
use dkms_core::sys::file::TEMP_PREFIX;
use dkms_core::sys::hash;
use support::Root;

const KERNEL: &str = "6.1.0-1-fp";
/// Every rename and every deletion of the program.
const ANY_EFFECT: &str = "file:before-effect";

/// The next command after a death.
const NEXT: [&[&str]; 5] = [
    &["install", "a/$VERSION", "-k", "6.1.0-1-fp/x86_64"],
    &["autoinstall", "-k", "6.1.0-1-fp/x86_64"],
    &["remove", "a/$VERSION", "--all"],
    &["kernel_prerm", "-k", "6.1.0-1-fp/x86_64"],
    &["uninstall", "a/1", "-k", "6.1.0-1-fp/x86_64"],
];

fn module(version: &str) -> Vec<u8> {
    support::module(KERNEL, version)
}

/// Everything on disk that counts: a file's path, and what it holds.
type State = BTreeMap<String, String>;

/// How a command ended.
struct Ended {
    code: i32,
    stderr: String,
}

struct World {
    root: Root,
    saved: tempfile::TempDir,
}

impl World {
    /// A kernel with headers that serve for these builds, and the sources of versions 1 and 2: `a.ko` and `b.ko`, then
    /// `a.ko` and `c.ko`.
    fn new() -> Self {
        let root = Root::new(&format!(
            "tree/lib/modules/{KERNEL}/modules.dep =
            tree/lib/modules/{KERNEL}/modules.order =
            tree/lib/modules/{KERNEL}/modules.builtin =
            tree/lib/modules/{KERNEL}/build/include/generated/utsrelease.h = #define UTS_RELEASE \"{KERNEL}\"
            tree/lib/modules/{KERNEL}/build/include/config/auto.conf = CONFIG_MODULES=y\\n"
        ));
        let world = Self { root, saved: tempfile::tempdir().unwrap() };
        world.source("1", ["a", "b"], "1.0");
        world.source("2", ["a", "c"], "2.0");
        world
    }

    /// A source whose build only copies.
    fn source(&self, version: &str, names: [&str; 2], content: &str) {
        let mut conf = format!(
            "PACKAGE_NAME=a\\nPACKAGE_VERSION={version}\\nAUTOINSTALL=yes\\nMAKE=\"cp pre/*.ko .\"\\nCLEAN=true\\n"
        );
        for (index, name) in names.iter().enumerate() {
            conf += &format!(
                "BUILT_MODULE_NAME[{index}]={name}\\nDEST_MODULE_LOCATION[{index}]=/updates/dkms\\nSTRIP[{index}]=no\\n"
            );
            self.put(&format!("src/a-{version}/pre/{name}.ko"), &format!("{content}-{name}"));
        }
        self.root.add(&format!("src/a-{version}/dkms.conf = {conf}"));
    }

    fn put(&self, path: &str, version: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, module(version)).unwrap();
    }

    /// Modules that the kernel has itself: one elsewhere, one at the very place where ours go.
    fn originals(&self) {
        let place = Row::detect(&Layout::default()).destination.unwrap_or("/updates/dkms").trim_matches('/');
        self.put(&format!("tree/lib/modules/{KERNEL}/kernel/drivers/a.ko"), "0.1-a");
        self.put(&format!("tree/lib/modules/{KERNEL}/{place}/b.ko"), "0.1-b");
        let done = Command::new(dkms_core::sys::run::which("depmod").unwrap())
            .args(["-a", KERNEL, "-b"])
            .arg(self.root.join("tree"))
            .stderr(Stdio::null())
            .status();
        assert!(done.is_ok_and(|status| status.success()), "these tests need depmod");
    }

    /// What a package's upgrade leaves of version 1: its build.
    fn replace(&self) {
        self.root.add("lib/.dkms-rs/kept/a-1 =");
        for gone in ["lib/a/1/source", "lib/a/1/build", "src/a-1"] {
            dkms_core::sys::file::remove_all(&self.root.join(gone)).unwrap();
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dkms"));
        command.args(words);
        for (option, dir) in [("dkmstree", "lib"), ("sourcetree", "src"), ("installtree", "tree/lib/modules")]
        {
            command.arg(format!("--{option}")).arg(self.root.join(dir));
        }
        command.env("DKMS_UNCONFINED", "1").env_remove("DPKG_MAINTSCRIPT_NAME").env_remove("FAILPOINTS");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn dkms(&self, words: &[&str]) -> Ended {
        Ended::of(self.command(words).spawn().unwrap())
    }

    /// Keeps everything, to begin again from here.
    fn save(&self) {
        copy(self.root.path(), self.saved.path());
    }

    fn restore(&self) {
        copy(self.saved.path(), self.root.path());
    }

    /// What is on disk, but for what differs between two good runs: memories, the history, times.
    fn state(&self) -> State {
        let mut state = State::new();
        for dir in ["lib", "tree"] {
            self.walk(&self.root.join(dir), &mut state);
        }
        state.retain(|path, _| {
            // A build that runs at its own place leaves its directory to the next.
            let built = path.split('/').nth(3) == Some("build") && path.starts_with("lib/a/");
            !built || path.contains(TEMP_PREFIX)
        });
        state.retain(|path, _| {
            !["lock", "history", "hashes", "evaluated", "cache"]
                .iter()
                .any(|own| path.starts_with(&format!("lib/.dkms-rs/{own}")) && !path.contains(TEMP_PREFIX))
        });
        state
    }

    fn walk(&self, dir: &Path, state: &mut State) {
        for path in dkms_core::sys::file::sorted_entries(dir) {
            let name = path.strip_prefix(self.root.path()).unwrap().display().to_string();
            if let Ok(target) = fs::read_link(&path) {
                state.insert(name, format!("-> {}", target.display()));
            } else if path.is_dir() {
                if dkms_core::sys::file::sorted_entries(&path).is_empty() && !name.contains("/.dkms-rs") {
                    state.insert(format!("{name}/"), String::new());
                }
                self.walk(&path, state);
            } else if !path.is_file() {
                // A jobserver: reading it would wait for ever.
                state.insert(name, "no file".into());
            } else if name.ends_with("make.log") {
                state.insert(name, "a log".into());
            } else {
                let content = fs::read(&path).unwrap();
                let what = match serde_json::from_slice::<serde_json::Value>(&content) {
                    Ok(mut json) if name.contains("/records/") => {
                        json["seconds"] = 0.into();
                        json.to_string()
                    }
                    _ => hash::hex(&content),
                };
                state.insert(name, what);
            }
        }
    }

    /// What a rewritten file would change.
    fn stamps(&self) -> BTreeMap<String, (u64, i64)> {
        let stamp = |path: &String| {
            let meta = self.root.join(path).symlink_metadata().unwrap();
            (path.clone(), (meta.ino(), meta.mtime_nsec()))
        };
        // Some directories are made and taken away again.
        self.state().keys().filter(|path| !path.ends_with('/')).map(stamp).collect()
    }

    /// Starts a command and waits until it sleeps at its failpoint; `None` when it ended without getting there.
    fn stop_at(&self, words: &[&str], failpoints: &str) -> Option<Child> {
        let mut child = self.command(words).env("FAILPOINTS", failpoints).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = 0;
        while seen < 2 {
            assert!(Instant::now() < deadline, "{words:?} neither sleeps nor ends");
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            seen = if sleeps(child.id()) { seen + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(child)
    }
}

impl Ended {
    fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Whether one of a process's threads sleeps at its failpoint. Where the kernel does not say in what a thread waits: none
/// runs, and none waits for a child.
fn sleeps(pid: u32) -> bool {
    let threads = dkms_core::sys::file::sub_dirs(&Path::new("/proc").join(pid.to_string()).join("task"));
    let read = |thread: &String, name: &str| {
        fs::read_to_string(format!("/proc/{pid}/task/{thread}/{name}")).unwrap_or_default()
    };
    let waits: Vec<String> = threads.iter().map(|thread| read(thread, "wchan")).collect();
    if waits.iter().any(|waits| !matches!(waits.as_str(), "" | "0")) {
        return waits.iter().any(|waits| waits.contains("nanosleep"));
    }
    let idle = |thread: &String| {
        read(thread, "stat").rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
            && read(thread, "children").is_empty()
    };
    !threads.is_empty() && threads.iter().all(idle)
}

/// Makes `to` a copy of `from`.
fn copy(from: &Path, to: &Path) {
    for entry in dkms_core::sys::file::sorted_entries(to) {
        dkms_core::sys::file::remove_all(&entry).unwrap();
    }
    dkms_core::sys::file::copy_tree(from, to, None).unwrap();
}

fn words<'a>(words: &[&'a str], version: &'a str) -> Vec<String> {
    words.iter().map(|word| word.replace("$VERSION", version)).collect()
}

/// One command that dies.
struct Story {
    /// What was there before it.
    before: fn(&World),
    /// The command.
    command: &'static [&'static str],
    /// The version that it is about.
    version: &'static str,
    /// Commands that do a part of it: it may also end as after one of them.
    parts: &'static [&'static [&'static str]],
    /// What else is set.
    also: &'static str,
    /// Points that it must come by.
    points: &'static [&'static str],
}

/// How it ends without a death.
struct Good {
    code: i32,
    /// A kernel that leaves needs no index.
    indexed: bool,
    state: State,
}

struct Stage<'a> {
    world: World,
    story: &'a Story,
    command: Vec<&'a str>,
    before: State,
    after: State,
    /// For each next command: without the story's, after a part of it, and after all of it.
    good: Vec<Vec<Good>>,
    complaints: Vec<String>,
}

impl<'a> Stage<'a> {
    fn new(story: &'a Story) -> Self {
        let world = World::new();
        (story.before)(&world);
        world.save();
        let command = story.command.to_vec();
        let before = world.state();
        let ended = world.dkms(&command);
        assert_eq!(ended.code, 0, "{command:?}: {}", ended.stderr);
        let after = world.state();
        assert_ne!(before, after);
        let mut stage =
            Self { world, story, command, before, after, good: Vec::new(), complaints: Vec::new() };
        for next in NEXT {
            let next = words(next, story.version);
            let next: Vec<&str> = next.iter().map(String::as_str).collect();
            let mut good = Vec::new();
            let firsts = story.parts.iter().map(|part| Some(*part)).chain([None, Some(story.command)]);
            for first in firsts {
                stage.world.restore();
                if let Some(first) = first {
                    stage.world.dkms(first);
                }
                let code = stage.world.dkms(&next).code;
                let indexed =
                    next[0] != "kernel_prerm" && first.is_none_or(|first| first[0] != "kernel_prerm");
                good.push(Good { code, indexed, state: stage.world.state() });
            }
            stage.good.push(good);
        }
        stage
    }

    fn failpoints(&self, what: &str) -> String {
        if self.story.also.is_empty() { what.to_owned() } else { format!("{};{what}", self.story.also) }
    }

    /// What must be true of a machine whose dkms is dead.
    fn check_dead(&self) -> Vec<String> {
        let now = self.world.state();
        let mut wrong = Vec::new();
        let paths: BTreeSet<&String> =
            self.before.keys().chain(self.after.keys()).chain(now.keys()).collect();
        for path in paths.into_iter().filter(|path| path.ends_with(".ko") && path.starts_with("tree/")) {
            if path.contains(TEMP_PREFIX) {
                continue;
            }
            let (was, will, is) = (self.before.get(path), self.after.get(path), now.get(path));
            if is != was && is != will {
                wrong.push(format!("{path} is neither the old nor the new one"));
            }
        }
        // The kernel's own modules are somewhere, whole.
        for version in ["0.1-a", "0.1-b"] {
            let content = hash::hex(&module(version));
            let lost = |state: &State| !state.values().any(|what| *what == content);
            if !lost(&self.before) && lost(&now) {
                wrong.push(format!("the kernel's own module {version} is lost"));
            }
        }
        let status = self.world.dkms(&["status"]);
        if status.code != 0 {
            wrong.push(format!("status: {}", status.stderr));
        }
        wrong
    }

    /// What must be true after the next command.
    fn check_next(&self, index: usize, status_first: bool) -> Vec<String> {
        let next = words(NEXT[index], self.story.version);
        let next: Vec<&str> = next.iter().map(String::as_str).collect();
        if status_first {
            self.world.dkms(&["status"]);
        }
        let ended = self.world.dkms(&next);
        let now = self.world.state();
        let mut wrong = Vec::new();
        let good = &self.good[index];
        let same = |good: &&Good| alike(good, &now);
        match good.iter().find(same) {
            Some(_) if good.iter().filter(same).any(|good| good.code == ended.code) => {}
            Some(good) => {
                wrong.push(format!("exit code {}, not {}: {}", ended.code, good.code, ended.stderr))
            }
            None => {
                wrong.push(format!("exit code {}: {}", ended.code, ended.stderr));
                wrong.extend(good.iter().map(|good| format!("  but for {}", difference(&now, &good.state))));
            }
        }
        wrong
            .extend(now.keys().filter(|path| path.contains(TEMP_PREFIX)).map(|path| format!("left: {path}")));
        let stamps = self.world.stamps();
        let again = self.world.dkms(&next);
        if self.world.state() != now || self.world.stamps() != stamps {
            let changed = difference(&self.world.state(), &now);
            wrong.push(format!("a second run changes something: {changed}: {}", again.stderr));
        }
        wrong
    }

    fn end(&self, deaths: usize) {
        let bad = &self.complaints;
        assert!(
            bad.is_empty(),
            "{} of {deaths} deaths of {:?}:\n{}",
            bad.len(),
            self.command,
            bad.join("\n")
        );
    }

    fn note(&mut self, place: &str, index: usize, wrong: Vec<String>) {
        if !wrong.is_empty() {
            let next = NEXT[index][0];
            self.complaints.push(format!("{place}, then {next}:\n      {}", wrong.join("\n      ")));
        }
    }

    /// Kills the command there, and looks. False when it never got there.
    fn kill(&mut self, failpoint: &str, place: &str, index: usize) -> bool {
        self.world.restore();
        let Some(mut child) = self.world.stop_at(&self.command, &self.failpoints(failpoint)) else {
            return false;
        };
        child.kill().unwrap();
        child.wait().unwrap();
        let mut wrong = self.check_dead();
        wrong.extend(self.check_next(index, index % 2 == 1));
        self.note(place, index, wrong);
        true
    }

    /// Tells the command there to stop.
    fn terminate(&mut self, point: &str, index: usize) {
        self.world.restore();
        let sleeping = self.failpoints(&format!("{point}=1*sleep(400)->off"));
        let Some(child) = self.world.stop_at(&self.command, &sleeping) else { return };
        let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = Ended::of(child);
        let mut wrong = Vec::new();
        match ended.code {
            143 => {
                let said =
                    ended.stderr.lines().filter(|line| line.contains("interrupted by signal 15")).count();
                if said != 1 {
                    wrong.push(format!("it says {:?}", ended.stderr));
                }
            }
            // It was past the last moment at which it could stop.
            0 if self.world.state() == self.after => {}
            code => wrong.push(format!("exit code {code}: {}", ended.stderr)),
        }
        wrong.extend(self.check_dead());
        wrong.extend(self.check_next(index, false));
        self.note(&format!("SIGTERM at {point}"), index, wrong);
    }
}

/// Whether two ends are the same, as far as they must be.
fn alike(good: &Good, now: &State) -> bool {
    let unknown = |state: &State| {
        let record = state.iter().find(|(path, _)| path.contains("/records/a/1/"));
        record.is_some_and(|(_, text)| text.contains("\"fingerprint\":\"\""))
    };
    let unknown = unknown(&good.state) || unknown(now);
    let counts = |path: &&String| {
        let index = !good.indexed && path.contains("/modules.");
        // A build whose inputs are not known is made again before it is used.
        let build =
            unknown && (path.contains("/records/a/1/") || path.starts_with(&format!("lib/a/1/{KERNEL}/")));
        !index && !build
    };
    let of = |state: &State| -> Vec<(String, String)> {
        let counting = state.iter().filter(|(path, _)| counts(path));
        counting.map(|(path, what)| (path.clone(), what.clone())).collect()
    };
    of(&good.state) == of(now)
}

fn difference(now: &State, good: &State) -> String {
    let mut parts = Vec::new();
    for (path, what) in now {
        match good.get(path) {
            None => parts.push(format!("+{path}")),
            Some(other) if other != what => parts.push(format!("!{path} ({what} | {other})")),
            _ => {}
        }
    }
    parts.extend(good.keys().filter(|path| !now.contains_key(*path)).map(|path| format!("-{path}")));
    parts.join(" ")
}

fn effect(number: usize) -> String {
    match number {
        0 => format!("{ANY_EFFECT}=sleep(60000)"),
        _ => format!("{ANY_EFFECT}={number}*off->sleep(60000)"),
    }
}

/// Every named point with every next command; every effect with one of them in turn, or with every one
/// (`DKMS_EVERY_DEATH=1`, some minutes).
fn play(story: &Story) {
    let mut stage = Stage::new(story);
    let mut deaths = 0;
    for (number, point) in story.points.iter().enumerate() {
        for index in 0..NEXT.len() {
            let reached = stage.kill(&format!("{point}=sleep(60000)"), point, index);
            assert!(reached, "{point} was not reached");
            deaths += 1;
        }
        stage.terminate(point, number % NEXT.len());
    }
    let every = std::env::var_os("DKMS_EVERY_DEATH").is_some();
    'effects: for number in 0.. {
        let place = format!("effect {number}");
        for index in 0..NEXT.len() {
            if index != number % NEXT.len() && !every {
                continue;
            }
            if !stage.kill(&effect(number), &place, index) {
                break 'effects;
            }
            deaths += 1;
        }
    }
    stage.end(deaths);
}

/// The command dies at a point, and the next one at every effect of its repair; the one after that finishes.
fn play_again(story: &Story) {
    let mut stage = Stage::new(story);
    for number in 0.. {
        stage.world.restore();
        let point = story.points[0];
        let first = stage.world.stop_at(&stage.command, &format!("{point}=sleep(60000)"));
        let mut first = first.unwrap_or_else(|| panic!("{point} was not reached"));
        first.kill().unwrap();
        first.wait().unwrap();
        let Some(mut second) = stage.world.stop_at(AUTOINSTALL, &effect(number)) else {
            assert!(number > 0, "nothing was repaired");
            return stage.end(number);
        };
        second.kill().unwrap();
        second.wait().unwrap();
        let index = number % NEXT.len();
        let mut wrong = stage.check_dead();
        wrong.extend(stage.check_next(index, false));
        stage.note(&format!("{point}, then autoinstall to effect {number}"), index, wrong);
    }
}

const TARGET: &str = "6.1.0-1-fp/x86_64";

fn run(world: &World, commands: &[&[&str]]) {
    for words in commands {
        let ended = world.dkms(words);
        assert_eq!(ended.code, 0, "{words:?}: {}", ended.stderr);
    }
}

const INSTALL_1: &[&str] = &["install", "a/1", "-k", TARGET];
const INSTALL_2: &[&str] = &["install", "a/2", "-k", TARGET];
const BUILD_1: &[&str] = &["build", "a/1", "-k", TARGET];
const BUILD_2: &[&str] = &["build", "a/2", "-k", TARGET];

const PUBLISH: &[&str] = &[
    "make:before-publish",
    "publish:staged",
    "publish:intended",
    "publish:originals-kept",
    "publish:between-files",
    "publish:renamed",
    "publish:before-activate",
    "publish:activated",
    "publish:noted",
    "finish:before-depmod",
    "finish:before-fulfilled",
];
const WITHDRAW: &[&str] = &[
    "withdraw:intended",
    "withdraw:restored",
    "withdraw:between-files",
    "withdraw:before-deactivate",
    "withdraw:deactivated",
    "finish:before-depmod",
    "finish:before-fulfilled",
];

#[test]
fn a_first_installation() {
    play(&Story {
        before: |world| run(world, &[BUILD_1]),
        command: INSTALL_1,
        version: "1",
        parts: &[],
        also: "",
        points: PUBLISH,
    });
}

#[test]
fn an_installation_of_what_is_not_registered() {
    let points = &["make:before-adopt", "make:adopted"];
    play(&Story {
        before: |_| {},
        command: INSTALL_1,
        version: "1",
        parts: &[&["add", "a/1"], BUILD_1],
        also: "",
        points,
    });
}

#[test]
fn an_installation_over_the_kernels_own() {
    let before = |world: &World| {
        world.originals();
        run(world, &[BUILD_1]);
    };
    play(&Story { before, command: INSTALL_1, version: "1", parts: &[], also: "", points: PUBLISH });
}

#[test]
fn an_upgrade() {
    let before = |world: &World| run(world, &[INSTALL_1, BUILD_2]);
    play(&Story { before, command: INSTALL_2, version: "2", parts: &[], also: "", points: PUBLISH });
}

#[test]
fn an_upgrade_of_what_its_package_left() {
    let before = |world: &World| {
        run(world, &[INSTALL_1, BUILD_2]);
        world.replace();
    };
    play(&Story {
        before,
        command: INSTALL_2,
        version: "2",
        parts: &[],
        also: "",
        points: &["publish:activated", "publish:noted"],
    });
}

fn changed(world: &World) {
    run(world, &[INSTALL_1]);
    world.source("1", ["a", "b"], "1.1");
}

const AUTOINSTALL: &[&str] = &["autoinstall", "-k", TARGET];

#[test]
fn a_new_build_of_what_is_installed() {
    let points = &[
        "make:before-adopt",
        "make:adopted",
        "make:before-publish",
        "publish:between-files",
        "publish:noted",
    ];
    play(&Story { before: changed, command: AUTOINSTALL, version: "1", parts: &[], also: "", points });
}

#[test]
fn a_new_build_where_directories_cannot_be_exchanged() {
    let points = &["make:adopted", "publish:between-files"];
    play(&Story {
        before: changed,
        command: AUTOINSTALL,
        version: "1",
        parts: &[],
        also: "file:no-exchange=return",
        points,
    });
}

fn over_originals(world: &World) {
    world.originals();
    run(world, &[INSTALL_1]);
}

#[test]
fn an_uninstallation() {
    let command = &["uninstall", "a/1", "-k", TARGET];
    play(&Story { before: over_originals, command, version: "1", parts: &[], also: "", points: WITHDRAW });
}

#[test]
fn a_removal() {
    let points =
        &["withdraw:restored", "withdraw:between-files", "withdraw:deactivated", "withdraw:before-unbuild"];
    play(&Story {
        before: over_originals,
        command: &["remove", "a/1", "--all"],
        version: "1",
        parts: &[&["uninstall", "a/1", "-k", TARGET], &["unbuild", "a/1", "-k", TARGET]],
        also: "",
        points,
    });
}

#[test]
fn a_kernel_that_leaves() {
    let points =
        &["withdraw:restored", "withdraw:between-files", "withdraw:deactivated", "withdraw:before-unbuild"];
    play(&Story {
        before: over_originals,
        command: &["kernel_prerm", "-k", TARGET],
        version: "1",
        parts: &[],
        also: "",
        points,
    });
}

#[test]
fn a_repair_of_an_installation() {
    let before = |world: &World| {
        world.originals();
        run(world, &[BUILD_1]);
    };
    let points = &["publish:between-files"];
    play_again(&Story { before, command: INSTALL_1, version: "1", parts: &[], also: "", points });
}

#[test]
fn a_repair_of_an_upgrade() {
    let before = |world: &World| {
        run(world, &[INSTALL_1, BUILD_2]);
        world.replace();
    };
    let points = &["publish:activated"];
    play_again(&Story { before, command: INSTALL_2, version: "2", parts: &[], also: "", points });
}

#[test]
fn a_repair_of_an_uninstallation() {
    let command = &["uninstall", "a/1", "-k", TARGET];
    let points = &["withdraw:restored"];
    play_again(&Story { before: over_originals, command, version: "1", parts: &[], also: "", points });
}

/// Version 1 with scripts that leave a line.
fn with_scripts(world: &World) {
    world.root.add("src/a-1/note.sh = #!/bin/sh\\necho \"$1\" >> $ROOT/scripts\\n");
    let script = world.root.join("src/a-1/note.sh");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let conf = world.root.join("src/a-1/dkms.conf");
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{text}POST_INSTALL=\"note.sh installed\"\nPOST_REMOVE=\"note.sh removed\"\n"))
        .unwrap();
}

#[test]
fn scripts_that_a_death_kept_from_running_run_later() {
    let uninstall: &[&str] = &["uninstall", "a/1", "-k", TARGET];
    for (before, command, point, expected) in [
        (BUILD_1, INSTALL_1, "publish:intended", "installed"),
        (BUILD_1, INSTALL_1, "publish:activated", "installed"),
        (BUILD_1, INSTALL_1, "publish:noted", "installed"),
        (INSTALL_1, uninstall, "withdraw:intended", "removed"),
        (INSTALL_1, uninstall, "withdraw:deactivated", "removed"),
        (INSTALL_1, &["remove", "a/1", "--all"], "withdraw:deactivated", "removed"),
    ] {
        let world = World::new();
        with_scripts(&world);
        run(&world, &[before]);
        dkms_core::sys::file::remove_all(&world.root.join("scripts")).unwrap();
        let mut child = world.stop_at(command, &format!("{point}=sleep(100000)")).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!world.root.join("scripts").exists(), "{point}: it died before its script");
        // Whatever comes next puts it right, once.
        let next: &[&str] = &["autoinstall", "-k", "6.1.0-2-other/x86_64"];
        world.dkms(next);
        let said = || fs::read_to_string(world.root.join("scripts")).unwrap_or_default();
        assert_eq!(said().trim(), expected, "{command:?} {point}");
        world.dkms(next);
        assert_eq!(said().trim(), expected, "{command:?} {point}: not again and again");
    }
}

#[test]
fn a_tarball_that_is_loaded() {
    let dir: &'static tempfile::TempDir = Box::leak(Box::new(tempfile::tempdir().unwrap()));
    let file: &'static str = Box::leak(dir.path().join("a.tar.gz").display().to_string().into_boxed_str());
    let maker = World::new();
    run(&maker, &[BUILD_1, &["mktarball", "a/1", "-k", TARGET, "--archive", file]]);
    play(&Story {
        before: |_| {},
        command: Box::leak(Box::new(["ldtarball", file])),
        version: "1",
        parts: &[&["add", "a/1"]],
        also: "",
        points: &["load:before-adopt", "load:adopted"],
    });
    fs::remove_dir_all(dir.path()).unwrap();
}
