//! One job budget: a GNU make jobserver that all builds of a transaction share, and how large it may be.
//!
//! Whoever computes holds a token: a build takes one for itself when it starts, its `make` takes and returns more as
//! it finds work. As many tokens as the [budget] says are all there are.

use std::io;
use std::process::Command;

use anyhow::{Context, Result};
use jobserver::{Acquired, Client, HelperThread};

/// Memory that one compiler job may need, in bytes. Large C files of real modules peak at about this.
const MEMORY_PER_JOB: u64 = 400 << 20;
/// Files that one job may have open, generously.
const FILES_PER_JOB: u64 = 24;
/// Files that we have open ourselves.
const OWN_FILES: u64 = 64;

/// What bounds the number of jobs. Sizes in bytes; `None`: not known, no bound.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine {
    /// Processors that the affinity mask and the control group leave us.
    pub processors: usize,
    /// Memory that is free, or could be.
    pub memory: Option<u64>,
    /// Files that a process may have open.
    pub files: Option<u64>,
}

impl Machine {
    /// Looks at the machine that we run on.
    pub fn look() -> Self {
        let free = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
        let group = crate::sys::cgroup::memory_left();
        Self {
            // The standard library asks the affinity mask and the quota of the control group.
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: free.into_iter().chain(group).min(),
            files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        }
    }

    /// How many jobs may run at once when `asked` is the wish: the smallest of all bounds, never less than one.
    pub fn budget(&self, asked: Option<usize>) -> usize {
        let memory = self.memory.map(|bytes| bytes / MEMORY_PER_JOB);
        let files = self.files.map(|files| files.saturating_sub(OWN_FILES) / FILES_PER_JOB);
        let bounds =
            memory.into_iter().chain(files).map(|bound| usize::try_from(bound).unwrap_or(usize::MAX));
        let wish = asked.filter(|jobs| *jobs > 0);
        bounds.chain(wish).chain([self.processors]).min().unwrap_or(1).max(1)
    }
}

/// `MemAvailable` of /proc/meminfo, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The jobserver.
#[derive(Debug, Clone)]
pub struct Jobs {
    client: Client,
    limit: usize,
}

/// The right to keep one processor busy, given back when it is dropped.
pub type Token = Acquired;

impl Jobs {
    /// A budget of so many jobs.
    pub fn new(limit: usize) -> Result<Self> {
        let client = Client::new(limit).context("making the jobserver")?;
        Ok(Self { client, limit })
    }

    /// How many jobs there may be.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Lets a process inherit the jobserver. Its variables must say so, too: [`Jobs::makeflags`].
    pub(super) fn hand_to(&self, command: &mut Command) {
        // Also sets a variable that nobody but cargo reads.
        self.client.configure(command);
    }

    /// The value of `MAKEFLAGS` by which make finds the jobserver.
    #[allow(clippy::disallowed_methods)] // never started: the library writes the value into a command only
    pub fn makeflags(&self) -> String {
        let mut probe = Command::new("make");
        self.client.configure_make(&mut probe);
        let value = probe.get_envs().find(|(name, _)| *name == "MAKEFLAGS").and_then(|(_, value)| value);
        value.unwrap_or_default().to_string_lossy().trim().to_owned()
    }

    /// The numbers of the open files that make needs for that.
    pub fn files(&self) -> String {
        let flags = self.makeflags();
        let numbers = flags.rsplit("--jobserver-auth=").next().unwrap_or_default();
        numbers.replace(',', " ")
    }

    /// A thread that waits for tokens, so that the caller need not: each [request](HelperThread::request_token) is
    /// answered by one call of `take`.
    pub fn waiter(&self, take: impl FnMut(io::Result<Token>) + Send + 'static) -> Result<HelperThread> {
        self.client.clone().into_helper_thread(take).context("starting to wait for jobs")
    }

    /// Puts the budget right while no build runs and `held` tokens are in our own hands: a make that was killed took
    /// its tokens with it, and nothing keeps a hostile one from inventing some. Nobody may be waiting for a token.
    pub fn restore(&self, held: usize) -> Result<()> {
        let wanted = self.limit.saturating_sub(held);
        let mut there = self.client.available()?;
        while there > wanted {
            self.client.acquire_raw()?;
            there -= 1;
        }
        while there < wanted {
            self.client.release_raw()?;
            there += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_bound_counts() {
        const GIB: u64 = 1 << 30;
        let machine = |processors, memory, files| Machine { processors, memory, files };
        for (name, machine, asked, expected) in [
            ("processors", machine(4, Some(64 * GIB), Some(1024)), None, 4),
            ("the wish, when it is smaller", machine(4, None, None), Some(2), 2),
            ("not the wish, when it is larger", machine(4, None, None), Some(64), 4),
            ("a wish of nought is none", machine(4, None, None), Some(0), 4),
            ("memory", machine(64, Some(2 * GIB), None), None, 5),
            ("hardly any memory", machine(64, Some(1 << 20), None), None, 1),
            ("open files", machine(64, None, Some(256)), None, 8),
            ("hardly any files", machine(64, None, Some(32)), None, 1),
        ] {
            assert_eq!(machine.budget(asked), expected, "{name}");
        }
    }

    #[test]
    fn free_memory_is_read_in_bytes() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn make_is_told_where_the_tokens_are() {
        let jobs = Jobs::new(3).unwrap();
        let files = jobs.files();
        let (read, write) = files.split_once(' ').unwrap();
        assert!(read.parse::<u32>().is_ok() && write.parse::<u32>().is_ok(), "{files}");
        assert!(jobs.makeflags().contains(&format!("--jobserver-auth={read},{write}")));
    }

    #[test]
    fn tokens_that_were_lost_or_invented_are_put_right() {
        let jobs = Jobs::new(3).unwrap();
        jobs.client.acquire_raw().unwrap();
        jobs.client.acquire_raw().unwrap();
        jobs.restore(1).unwrap();
        assert_eq!(jobs.client.available().unwrap(), 2);
        (0..5).for_each(|_| jobs.client.release_raw().unwrap());
        jobs.restore(0).unwrap();
        assert_eq!(jobs.client.available().unwrap(), 3);
    }
}
