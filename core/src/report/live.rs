//! Progress while modules are built: on a terminal a line that is redrawn, elsewhere a line from time to time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Screen;
use crate::sys::plain::plain;

/// The longest time without a line where there is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The time between two redraws.
const REDRAW: Duration = Duration::from_millis(500);
/// The share of a running build that counts as done at most: its estimate may be wrong.
const ALMOST: f64 = 0.9;
/// The share of the work that must be done before guessed durations are converted to this machine's seconds.
const KNOWN: f64 = 0.1;
/// A build that takes so many times as long as expected: the remaining time is unknown.
const WRONG: f64 = 2.0;

/// The line on the terminal, which other output must not be mixed with.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn drawn() -> MutexGuard<'static, Option<ProgressBar>> {
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints something above the progress line.
pub(super) fn above(print: impl FnOnce()) {
    match drawn().as_ref() {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// The progress of the builds of one plan. Its line disappears when it is dropped.
#[derive(Debug)]
pub struct Live {
    screen: Screen,
    terminal: bool,
    state: State,
    last: Instant,
}

/// What is running and what remains.
#[derive(Debug)]
struct State {
    began: Instant,
    builds: usize,
    done: usize,
    /// Expected seconds of all builds, and of those that are done.
    expected: f64,
    over: f64,
    /// The seconds that those which are done really took.
    spent: f64,
    /// All expected durations are those of earlier builds; else they are guessed from the size of the source.
    remembered: bool,
    running: BTreeMap<usize, Running>,
    /// The newest step for a whole kernel.
    step: Option<String>,
}

#[derive(Debug)]
struct Running {
    name: String,
    began: Instant,
    expected: f64,
}

impl Live {
    /// For this number of builds with this sum of expected seconds.
    pub fn new(screen: Screen, builds: usize, (expected, remembered): (f64, bool)) -> Self {
        let now = Instant::now();
        let state = State {
            began: now,
            builds,
            done: 0,
            expected,
            over: 0.0,
            spent: 0.0,
            remembered,
            running: BTreeMap::new(),
            step: None,
        };
        let mut terminal = false;
        if builds > 0 && screen.talks() {
            let target = ProgressDrawTarget::stderr();
            // Without a terminal, and on one that cannot redraw a line.
            terminal = !target.is_hidden();
            if terminal {
                let style = ProgressStyle::with_template("dkms: {bar:20} {wide_msg}");
                let bar = ProgressBar::with_draw_target(Some(builds as u64), target);
                *drawn() = Some(match style {
                    Ok(style) => bar.with_style(style.progress_chars("=> ")),
                    Err(_) => bar,
                });
            }
        }
        Self { screen, terminal, state, last: now }
    }

    /// A build has started.
    pub fn started(&mut self, key: usize, name: String, expected: f64) {
        self.state.running.insert(key, Running { name, began: Instant::now(), expected });
        self.draw(Instant::now());
    }

    /// A build has ended.
    pub fn ended(&mut self, key: usize) {
        if let Some(ended) = self.state.running.remove(&key) {
            self.state.done += 1;
            self.state.over += ended.expected;
            self.state.spent += ended.began.elapsed().as_secs_f64();
        }
        self.draw(Instant::now());
    }

    /// A step for a whole kernel has started.
    pub fn step(&mut self, what: String) {
        self.state.step = Some(what);
        self.draw(Instant::now());
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        let now = Instant::now();
        let since = now.saturating_duration_since(self.last);
        if self.terminal && since >= REDRAW {
            self.draw(now);
        } else if !self.terminal
            && self.screen.talks()
            && since >= HEARTBEAT
            && !self.state.running.is_empty()
        {
            self.last = now;
            self.screen.progress(&format!("dkms: {}", self.state.line(now)));
        }
    }

    fn draw(&mut self, now: Instant) {
        if !self.terminal {
            return;
        }
        self.last = now;
        if let Some(bar) = drawn().as_ref() {
            bar.set_position(self.state.done as u64);
            bar.set_message(plain(&self.state.line(now)));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.terminal {
            if let Some(bar) = drawn().take() {
                bar.finish_and_clear();
            }
        }
    }
}

impl State {
    /// `3/21 built, 34 s, about 70 s left: zfs/2.3.2, nvidia/550.163.01`
    fn line(&self, now: Instant) -> String {
        let elapsed = now.saturating_duration_since(self.began);
        let left = self.left(now).map_or(String::new(), |left| format!(", about {} left", time(left)));
        let mut names: Vec<&str> = self.running.values().map(|running| running.name.as_str()).collect();
        // What is waited for when all is built.
        names.extend(self.step.as_deref().filter(|_| self.running.is_empty()));
        let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        format!("{}/{} built, {}{left}{names}", self.done, self.builds, time(elapsed))
    }

    /// The remaining time, or `None` if it is not known.
    fn left(&self, now: Instant) -> Option<Duration> {
        let since = |time: Instant| now.saturating_duration_since(time).as_secs_f64();
        // Seconds of this machine for each expected one.
        let pace = match self.over >= self.expected * KNOWN && self.over > 0.0 {
            true => self.spent / self.over,
            false => self.remembered.then_some(1.0)?,
        };
        let mut done = self.over;
        let mut busy = self.spent;
        for running in self.running.values() {
            let (time, expected) = (since(running.began), running.expected);
            if time > expected * pace * WRONG {
                return None;
            }
            done += (time / pace).min(expected * ALMOST);
            busy += time;
        }
        let beside_each_other = (busy / since(self.began)).max(1.0);
        let left = (self.expected - done) * pace / beside_each_other;
        (left >= 1.0).then(|| Duration::try_from_secs_f64(left).ok()).flatten()
    }
}

/// `34 s`, `2 min 5 s`.
fn time(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_and_estimates() {
        let now = Instant::now();
        let ago = |seconds: u64| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        for (why, remembered, began, done, running, expected) in [
            ("nothing is running", true, 0, None, &[][..], "0/3 built, 0 s, about 1 min 40 s left"),
            ("guessed", false, 10, None, &[("zfs/2", 10, 80.0)], "0/3 built, 10 s: zfs/2"),
            (
                "known from earlier builds",
                true,
                10,
                None,
                &[("zfs/2", 10, 80.0)],
                "0/3 built, 10 s, about 1 min 30 s left: zfs/2",
            ),
            (
                "this machine is twice as slow as guessed, and two builds run beside each other",
                false,
                40,
                Some((20.0, 40.0)),
                &[("zfs/2", 40, 60.0), ("wl/6", 0, 10.0)],
                "1/3 built, 40 s, about 1 min left: zfs/2, wl/6",
            ),
            (
                "a guess was wrong",
                false,
                200,
                Some((20.0, 20.0)),
                &[("zfs/2", 161, 80.0)],
                "1/3 built, 3 min 20 s: zfs/2",
            ),
            ("all is built", true, 40, Some((100.0, 40.0)), &[], "1/3 built, 40 s: depmod for 6.1"),
        ] {
            let running = running.iter().enumerate().map(|(key, (name, since, expected))| {
                (key, Running { name: (*name).into(), began: ago(*since), expected: *expected })
            });
            let (over, spent) = done.unwrap_or_default();
            let state = State {
                began: ago(began),
                builds: 3,
                done: usize::from(done.is_some()),
                expected: 100.0,
                over,
                spent,
                remembered,
                running: running.collect(),
                step: (why == "all is built").then(|| "depmod for 6.1".into()),
            };
            assert_eq!(state.line(now), expected, "{why}");
        }
    }

    #[test]
    fn without_a_terminal_nothing_is_drawn() {
        let mut live = Live::new(Screen::package_manager().quiet(true), 3, (1.0, true));
        live.started(0, "a/1".into(), 1.0);
        live.tick();
        live.ended(0);
        assert!(!live.terminal && drawn().is_none());
        assert_eq!((live.state.done, live.state.over), (1, 1.0));
    }
}
