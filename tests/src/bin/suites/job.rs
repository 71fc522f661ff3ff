//! One test in a process of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use dkms_tests::host::{self, cpu_in};
use dkms_tests::preparing::prepared;

use crate::list::Test;

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The test.
    pub test: Test,
    /// Whether it ran, and passed.
    pub passed: bool,
    /// From its start to its end.
    pub wall: Duration,
    /// What it and everything that it started used of the processors, less what preparing layers took.
    pub cpu: Duration,
    /// Layers that it prepared, with their processor times.
    pub prepared: Vec<(String, Duration)>,
    /// What it wrote.
    pub log: PathBuf,
}

/// Runs a test. If the runner ends before, the kernel kills the test, and with it its throwaway roots.
pub fn run(test: &Test, logs: &Path) -> Ended {
    let log = logs.join(format!("{}.{}.log", test.suite, test.name.replace("::", ".")));
    let file = File::create(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
    // The signal is sent when this thread ends, which therefore has to wait for the test.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(&test.program).args([
        "--exact",
        &test.name,
        "--nocapture",
    ]);
    command.args(test.long.then_some("--ignored")).current_dir(host::workspace().join("tests"));
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let start = Instant::now();
    let mut child = command.spawn().expect("setpriv");
    let pid = Pid::from_child(&child);
    // A process that has ended keeps its times until its exit code is read.
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let (wall, cpu) = (start.elapsed(), cpu_of(child.id()));
    let status = child.wait().unwrap();
    // libtest exits with 0 if no test has this name.
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    let passed = status.success() && text.contains("ok. 1 passed; 0 failed");
    let prepared = prepared(&text);
    let cpu = cpu.saturating_sub(prepared.iter().map(|(_, cpu)| *cpu).sum());
    Ended { test: test.clone(), passed, wall, cpu, prepared, log }
}

/// Time of a process that has ended and of all its children.
fn cpu_of(pid: u32) -> Duration {
    let [own, children] = cpu_in(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default());
    own + children
}
