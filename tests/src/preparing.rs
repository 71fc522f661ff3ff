//! Measures the preparation of layers. The first test that needs a layer prepares it, and it does not count as time of that test.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::host::cpu_in;

/// Marks a line for the runner.
const WORD: &str = "prepared ";

/// Prepares something for several tests, and writes the times that it took to standard error for the runner.
pub fn preparing<T>(name: &str, work: impl FnOnce() -> T) -> T {
    thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });
    eprintln!("preparing {name}");
    // A nested preparation counts as part of the outer one.
    if INSIDE.replace(true) {
        return work();
    }
    let (start, before) = (Instant::now(), children());
    let done = work();
    INSIDE.set(false);
    eprintln!("{}", line(name, start.elapsed(), children() - before));
    done
}

/// Processor time of all children of this process that have ended.
fn children() -> Duration {
    cpu_in(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default())[1]
}

fn line(name: &str, wall: Duration, cpu: Duration) -> String {
    format!("{WORD}{name}: {} ms, {} ms of CPU time", wall.as_millis(), cpu.as_millis())
}

/// Names and processor times of the preparations in a test's output.
pub fn prepared(log: &str) -> Vec<(String, Duration)> {
    let parse = |line: &str| {
        let (name, times) = line.strip_prefix(WORD)?.rsplit_once(": ")?;
        let cpu = times.strip_suffix(" ms of CPU time")?.split(' ').next_back()?.parse().ok()?;
        Some((name.to_owned(), Duration::from_millis(cpu)))
    };
    log.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{line, prepared};

    #[test]
    fn what_is_written_is_read() {
        let (wall, cpu) = (Duration::from_millis(9000), Duration::from_millis(7500));
        let log = format!("x\n{}\nprepared nothing\n", line("trixie-a: b", wall, cpu));
        assert_eq!(prepared(&log), [("trixie-a: b".to_owned(), cpu)]);
    }
}
