//! Measures one command from outside: its time, processor time, and the memory of our process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Root;

/// The interval of sampling.
const TICK: Duration = Duration::from_millis(100);
/// The names of our programs in `/proc/PID/comm`.
const OURS: &[&str] = &["dkms", "apt-hook"];

/// The result of one run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Elapsed seconds.
    pub wall: f64,
    /// Seconds of processor time, including child processes.
    pub cpu: f64,
    /// Its exit code.
    pub exit: i32,
    /// The peak memory of one of our processes, in bytes.
    pub peak: u64,
    /// The utilisation of all processors at each sample: seconds since the beginning, fraction.
    pub busy: Vec<(f64, f64)>,
    /// The same for the first processor alone.
    pub first_busy: Vec<(f64, f64)>,
}

impl Run {
    /// The average utilisation of the processors until that second.
    pub fn utilisation(&self, until: f64, processors: Processors) -> f64 {
        let busy = match processors {
            Processors::All => &self.busy,
            Processors::First => &self.first_busy,
        };
        let until_then: Vec<f64> = busy.iter().filter(|(at, _)| *at <= until).map(|(_, b)| *b).collect();
        until_then.iter().sum::<f64>() / until_then.len().max(1) as f64
    }
}

/// The processors that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processors {
    /// All of them.
    All,
    /// The first one, to which a command was bound.
    First,
}

/// Runs a command in a root; its output goes to `/var/tmp/said`.
pub fn measure(root: &Root, command: &str) -> Run {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&stop));
        let timed =
            format!("TIMEFORMAT='MEASURED %3R %3U %3S'; time {{ {command}\n}} >/var/tmp/said 2>&1; exit $?");
        // `time` is a keyword of the shell: it prints to the shell's standard error.
        let output = root.run_within(4 * 3600, &timed);
        stop.store(true, Ordering::Relaxed);
        let (peak, [busy, first_busy]) = watch.join().expect("the watcher");
        let line = output.all().lines().find_map(|l| l.strip_prefix("MEASURED ").map(str::to_owned));
        let numbers: Vec<f64> = line
            .unwrap_or_else(|| panic!("not measured\n{output}"))
            .split(' ')
            .map(|n| n.parse().expect("a number"))
            .collect();
        Run { wall: numbers[0], cpu: numbers[1] + numbers[2], exit: output.status, peak, busy, first_busy }
    })
}

/// The mean seconds of a short command over many runs.
pub fn mean(root: &Root, times: usize, command: &str) -> f64 {
    measure(root, &format!("for _ in $(seq {times}); do {command}; done")).wall / times as f64
}

/// What our program starts when this command starts it, with arguments.
pub fn children(root: &Root, command: &str) -> Vec<String> {
    let traced = format!("strace -f -qq -e trace=execve -e status=successful -o /var/tmp/traced {command}");
    root.run(&traced).ok();
    let all = root.read("/var/tmp/traced");
    let started = all.lines().filter_map(|line| Some(line.split_once("execve(")?.1.to_owned()));
    // Hook files are shell scripts that start the program, and remain to distinguish a crash from a verdict.
    let programs = ["\"/usr/sbin/dkms\"", "\"/usr/lib/dkms/apt-hook\""];
    let mut ours = started.skip_while(|line| !programs.iter().any(|program| line.starts_with(program)));
    ours.next().expect("the program");
    ours.collect()
}

fn watch(stop: &AtomicBool) -> (u64, [Vec<(f64, f64)>; 2]) {
    let began = Instant::now();
    let (mut busy, mut last) = ([Vec::new(), Vec::new()], jiffies());
    let mut peaks: BTreeMap<String, u64> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(TICK);
        let now = jiffies();
        for ((busy, now), last) in busy.iter_mut().zip(now).zip(last) {
            let (worked, all) = (now.0 - last.0, now.1 - last.1);
            busy.push((began.elapsed().as_secs_f64(), worked as f64 / all.max(1) as f64));
        }
        last = now;
        for pid in processes() {
            if let Some(peak) = peak_of(&pid) {
                peaks.insert(pid, peak);
            }
        }
    }
    (peaks.into_values().max().unwrap_or(0), busy)
}

/// Busy and total ticks: of all processors together, and of the first one.
fn jiffies() -> [(u64, u64); 2] {
    let stat = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
    let mut lines = stat.lines().map(|line| {
        let fields: Vec<u64> = line.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is part of user's.
        let all: u64 = fields.iter().take(8).sum();
        (all - fields[3] - fields[4], all)
    });
    [lines.next(), lines.next()].map(|line| line.expect("two lines of processors"))
}

fn processes() -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

/// `VmHWM` in bytes, if the process is ours.
fn peak_of(pid: &str) -> Option<u64> {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if !OURS.contains(&comm.trim()) {
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
