//! One job budget: a GNU make jobserver that all builds of a transaction share, and how large it may be.
//!
//! Whoever computes holds a token: a build takes one for itself when it starts, its `make` takes and returns more as
//! it finds work. There are as many tokens as [`Machine::budget`] allows.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::sys::file;
use crate::sys::run::{Cmd, Output};

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

/// The jobserver: a FIFO with a byte for every job that nobody has. make 4.4 opens it by name. The makes before that
/// inherit open files, which a make that is started in `$(shell …)` finds closed and complains about, in the middle of
/// what somebody reads; so they get their share as a number.
#[derive(Debug, Clone)]
pub struct Jobs(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    /// Ours: reading from it never waits.
    fifo: File,
    limit: usize,
    /// Whether make knows FIFOs by name. Asked when the first one is started, not for runs that build nothing.
    shared: OnceLock<bool>,
}

impl Drop for Pool {
    #[allow(clippy::disallowed_methods)] // the FIFO is made here, too
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The right to keep one processor busy, given back when it is dropped.
#[derive(Debug)]
pub struct Token(Arc<Pool>);

impl Drop for Token {
    fn drop(&mut self) {
        // The FIFO has room for all there are.
        let _ = (&self.0.fifo).write_all(TOKEN);
    }
}

const TOKEN: &[u8] = b"+";

impl Jobs {
    /// A budget of so many jobs, with its FIFO at `path`, for the user `owner` where that is not us.
    #[allow(clippy::disallowed_methods)] // the only FIFO there is
    pub fn new(limit: usize, path: PathBuf, owner: Option<u32>) -> Result<Self> {
        let context = || format!("creating the jobserver {}", path.display());
        if let Some(dir) = path.parent() {
            file::make_dirs(dir)?;
        }
        file::remove_all(&path)?;
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).with_context(context)?;
        file::give(&path, owner).with_context(context)?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = File::from(rustix::fs::open(&path, flags, Mode::empty()).with_context(context)?);
        let jobs = Self(Arc::new(Pool { path, fifo, limit, shared: OnceLock::new() }));
        jobs.restore(0)?;
        Ok(jobs)
    }

    /// How many jobs there may be.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// The FIFO.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What make needs to know when so many builds run at the same time: an option, and the value of `MAKEFLAGS`.
    pub fn for_make(&self, builds: usize) -> (String, Option<String>) {
        if *self.0.shared.get_or_init(understands_names) {
            return (String::new(), Some(format!("-j --jobserver-auth=fifo:{}", self.0.path.display())));
        }
        (format!(" -j{}", (self.0.limit / builds.max(1)).max(1)), None)
    }

    /// A job, when there is one.
    pub fn take(&self) -> Result<Option<Token>> {
        match (&self.0.fifo).read(&mut [0]) {
            Ok(1) => Ok(Some(Token(Arc::clone(&self.0)))),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error).context("waiting for a job token"),
        }
    }

    /// Puts the budget right while no build runs and `held` jobs are in our own hands: a make that was killed took its
    /// jobs with it, and nothing keeps a hostile one from inventing some.
    pub fn restore(&self, held: usize) -> Result<()> {
        let wanted = self.0.limit.saturating_sub(held) as u64;
        let there = rustix::io::ioctl_fionread(&self.0.fifo)?;
        for _ in wanted..there {
            let _ = (&self.0.fifo).read(&mut [0])?;
        }
        for _ in there..wanted {
            (&self.0.fifo).write_all(TOKEN)?;
        }
        Ok(())
    }
}

/// Whether make is 4.4 or newer.
fn understands_names() -> bool {
    let done = Cmd::new("make").arg("--version").output(Output::Split).run();
    // Without make nothing is built: that is said elsewhere.
    done.is_ok_and(|done| is_new(&String::from_utf8_lossy(&done.output)))
}

fn is_new(said: &str) -> bool {
    let mut numbers =
        said.lines().next().unwrap_or_default().rsplit(' ').next().unwrap_or_default().split('.');
    let mut number = || numbers.next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
    (number(), number()) >= (4, 4)
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
    fn makes_before_4_4_do_not_know_names() {
        for (said, new) in [
            ("GNU Make 4.4.1\nBuilt for x86_64-pc-linux-gnu\n", true),
            ("GNU Make 4.3\n", false),
            ("GNU Make 5.0\n", true),
            ("GNU Make 4.10\n", true),
            ("bmake\n", false),
            ("", false),
        ] {
            assert_eq!(is_new(said), new, "{said}");
        }
    }

    fn jobs(dir: &tempfile::TempDir, limit: usize) -> Jobs {
        Jobs::new(limit, dir.path().join("own/jobs"), None).unwrap()
    }

    #[test]
    fn there_are_as_many_as_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = jobs(&dir, 2);
        let first = jobs.take().unwrap().unwrap();
        let _second = jobs.take().unwrap().unwrap();
        assert!(jobs.take().unwrap().is_none());
        drop(first);
        assert!(jobs.take().unwrap().is_some());
        let path = jobs.path().to_owned();
        assert!(path.exists());
        drop((jobs, _second));
        assert!(!path.exists());
    }

    #[test]
    fn tokens_that_were_lost_or_invented_are_put_right() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = jobs(&dir, 3);
        let count = || rustix::io::ioctl_fionread(&jobs.0.fifo).unwrap();
        let (a, b) = (jobs.take().unwrap().unwrap(), jobs.take().unwrap().unwrap());
        jobs.restore(1).unwrap();
        assert_eq!(count(), 2);
        drop((a, b));
        (0..5).for_each(|_| (&jobs.0.fifo).write_all(TOKEN).unwrap());
        jobs.restore(0).unwrap();
        assert_eq!(count(), 3);
    }

    #[test]
    fn old_makes_get_their_share() {
        let dir = tempfile::tempdir().unwrap();
        let Jobs(pool) = jobs(&dir, 4);
        let pool = Arc::into_inner(pool).unwrap();
        let shared = |shared| {
            let (path, fifo) = (pool.path.clone(), pool.fifo.try_clone().unwrap());
            Jobs(Arc::new(Pool { path, fifo, limit: 4, shared: OnceLock::from(shared) }))
        };
        assert_eq!(shared(false).for_make(1), (" -j4".into(), None));
        assert_eq!(shared(false).for_make(3), (" -j1".into(), None));
        assert_eq!(shared(false).for_make(9), (" -j1".into(), None));
        let (option, flags) = shared(true).for_make(3);
        assert_eq!(option, "");
        assert_eq!(flags.unwrap(), format!("-j --jobserver-auth=fifo:{}", pool.path.display()));
    }
}
