//! One command that is killed, and the expected state after the next one.

use std::collections::BTreeSet;

use dkms_core::sys::file::TEMP_PREFIX;
use dkms_core::sys::hash;

use super::world::{Ended, State, World, module};
use super::{ANY_EFFECT, AUTOINSTALL, KERNEL};

/// The next command after a kill.
const NEXT: [&[&str]; 5] = [
    &["install", "a/$VERSION", "-k", "6.1.0-1-fp/x86_64"],
    &["autoinstall", "-k", "6.1.0-1-fp/x86_64"],
    &["remove", "a/$VERSION", "--all"],
    &["kernel_prerm", "-k", "6.1.0-1-fp/x86_64"],
    &["uninstall", "a/1", "-k", "6.1.0-1-fp/x86_64"],
];

fn words<'a>(words: &[&'a str], version: &'a str) -> Vec<String> {
    words.iter().map(|word| word.replace("$VERSION", version)).collect()
}

/// One command that is killed.
pub(super) struct Story {
    /// The setup.
    pub(super) before: fn(&World),
    /// The command.
    pub(super) command: &'static [&'static str],
    /// The version that it applies to.
    pub(super) version: &'static str,
    /// Commands with a part of its effect: their result is accepted, too.
    pub(super) parts: &'static [&'static [&'static str]],
    /// An additional variable.
    pub(super) also: &'static str,
    /// Failpoints that it must reach.
    pub(super) points: &'static [&'static str],
}

/// The result without a kill.
struct Good {
    code: i32,
    /// A kernel that is being removed needs no modules.dep.
    indexed: bool,
    state: State,
}

struct Stage<'a> {
    world: World,
    story: &'a Story,
    command: Vec<&'a str>,
    before: State,
    after: State,
    /// For each next command: without the story's command, after a part of it, and after all of it.
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

    /// The checks on a machine after a kill.
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
        // Each of the kernel's own modules exists somewhere, complete.
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

    /// The checks after the next command.
    fn check_next(&self, index: usize, status_first: bool) -> Vec<String> {
        let next = words(NEXT[index], self.story.version);
        let next: Vec<&str> = next.iter().map(String::as_str).collect();
        if status_first {
            self.world.dkms(&["status"]);
        }
        let interrupted = self.world.interrupted();
        let ended = self.world.dkms(&next);
        let now = self.world.state();
        let mut wrong = Vec::new();
        if interrupted && next == self.command && ended.code != 0 {
            wrong.push(format!("the same command again: exit code {}: {}", ended.code, ended.stderr));
        }
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

    /// Kills the command at this point, and checks. False if it did not reach it.
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

    /// Interrupts the command at this point.
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
                let said = ended.stderr.lines().filter(|line| line.contains("dkms: interrupted")).count();
                if said != 1 {
                    wrong.push(format!("it says {:?}", ended.stderr));
                }
            }
            // It was past the last point at which it can be interrupted.
            0 if self.world.state() == self.after => {}
            code => wrong.push(format!("exit code {code}: {}", ended.stderr)),
        }
        wrong.extend(self.check_dead());
        wrong.extend(self.check_next(index, false));
        self.note(&format!("SIGTERM at {point}"), index, wrong);
    }
}

/// Whether two results are equivalent.
fn alike(good: &Good, now: &State) -> bool {
    let unknown = |state: &State| {
        let record = state.iter().find(|(path, _)| path.contains("/records/a/1/"));
        record.is_some_and(|(_, text)| text.contains("\"fingerprint\":\"\""))
    };
    let unknown = unknown(&good.state) || unknown(now);
    let counts = |path: &&String| {
        let index = !good.indexed && path.contains("/modules.");
        // A build with unknown inputs is rebuilt before it is used.
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

/// Every failpoint with every next command; every effect with one of them in turn, or with every one
/// (`DKMS_EVERY_DEATH=1`, some minutes).
pub(super) fn play(story: &Story) {
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

/// The command is killed at a point, and the next one at every effect of its repair; the one after that must complete
/// it.
pub(super) fn play_again(story: &Story) {
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
