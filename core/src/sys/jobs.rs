//! One job budget that all builds of a transaction share, with a GNU make jobserver for each, and the size of the
//! budget.
//!
//! Every running job holds a token: a build takes one when it starts, its `make` takes and returns more as needed. The
//! number of tokens is [`Machine::budget`].

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::sys::run::{Cmd, Output};

/// Memory that one compiler job may need, in bytes: about the peak for large C files of real modules.
const MEMORY_PER_JOB: u64 = 400 << 20;
/// Files that one job may have open; a generous estimate.
const FILES_PER_JOB: u64 = 24;
/// Files that this process has open.
const OWN_FILES: u64 = 64;

/// The limits of the number of jobs. Sizes in bytes; `None`: unknown, no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine {
    /// Processors in the affinity mask and the control group's quota.
    pub processors: usize,
    /// Available memory.
    pub memory: Option<u64>,
    /// Files that a process may have open.
    pub files: Option<u64>,
}

impl Machine {
    /// Reads the limits of this machine.
    pub fn read() -> Self {
        let free = crate::sys::file::text("/proc/meminfo").ok().and_then(|text| available(&text));
        let group = crate::sys::cgroup::memory_left();
        Self {
            // The standard library uses the affinity mask and the quota of the control group.
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: free.into_iter().chain(group).min(),
            files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        }
    }

    /// The number of parallel jobs if `requested` are requested: the smallest of all limits, at least one.
    pub fn budget(&self, requested: Option<usize>) -> usize {
        let memory = self.memory.map(|bytes| bytes / MEMORY_PER_JOB);
        let files = self.files.map(|files| files.saturating_sub(OWN_FILES) / FILES_PER_JOB);
        let bounds =
            memory.into_iter().chain(files).map(|bound| usize::try_from(bound).unwrap_or(usize::MAX));
        let wish = requested.filter(|jobs| *jobs > 0);
        bounds.chain(wish).chain([self.processors]).min().unwrap_or(1).max(1)
    }
}

/// `MemAvailable` of /proc/meminfo, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The budget. Each build has its own jobserver, a FIFO with one byte for every job that it may start. A broker moves
/// unused jobs to builds that have none. A build that takes jobs without returning them, or writes additional bytes,
/// harms only itself: the broker records how many each build was given.
///
/// make 4.4 opens the FIFO by name. Older makes inherit file descriptors, which a make that is started in `$(shell …)`
/// finds closed, so that it prints a warning into the output that is being read; such makes get their share as a
/// number.
#[derive(Debug, Clone)]
pub struct Jobs {
    pool: Arc<Pool>,
    _broker: Arc<Broker>,
}

#[derive(Debug)]
struct Pool {
    limit: usize,
    /// Whether make supports FIFOs by name. Determined when the first build starts, so that idle runs do not start
    /// make.
    shared: OnceLock<bool>,
    ledger: Mutex<Ledger>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Ledger {
    /// Jobs that no build has.
    free: usize,
    accounts: Vec<Account>,
    opened: u64,
    over: bool,
}

/// The account of one build.
#[derive(Debug)]
struct Account {
    number: u64,
    /// Our end of the FIFO, which is non-blocking.
    fifo: File,
    given: usize,
}

impl Account {
    /// Jobs in the FIFO, at most as many as the build was given: others were added by it.
    fn there(&self) -> usize {
        let there =
            rustix::io::ioctl_fionread(&self.fifo).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(0));
        if there > self.given {
            let _ = (&self.fifo).read(&mut vec![0; there - self.given]);
        }
        there.min(self.given)
    }

    /// Takes back at most this many jobs from the FIFO.
    fn collect(&mut self, count: usize) -> usize {
        let taken = (&self.fifo).read(&mut vec![0; count]).unwrap_or(0).min(self.given);
        self.given -= taken;
        taken
    }

    fn give(&mut self, count: usize) -> usize {
        let given = (&self.fifo).write(&vec![TOKEN; count]).unwrap_or(0);
        self.given += given;
        given
    }
}

impl Ledger {
    /// Distributes free and unused jobs over all builds; the remainder goes to builds that have none left.
    fn balance(&mut self) {
        let there: Vec<usize> = self.accounts.iter().map(Account::there).collect();
        let total = self.free + there.iter().sum::<usize>();
        let mut order: Vec<usize> = (0..there.len()).collect();
        order.sort_by_key(|index| there[*index]);
        let mut wanted = vec![0; there.len()];
        for (rank, index) in order.into_iter().enumerate() {
            wanted[index] = total / there.len() + usize::from(rank < total % there.len());
        }
        for ((account, there), wanted) in self.accounts.iter_mut().zip(&there).zip(&wanted) {
            if there > wanted {
                self.free += account.collect(there - wanted);
            }
        }
        for ((account, there), wanted) in self.accounts.iter_mut().zip(&there).zip(&wanted) {
            if there < wanted {
                self.free -= account.give((wanted - there).min(self.free));
            }
        }
    }

    /// One job for a new build: a free one, else an unused one.
    fn take(&mut self) -> bool {
        if self.free == 0 {
            let most = self.accounts.iter_mut().max_by_key(|account| account.there());
            self.free += most.filter(|account| account.there() > 0).map_or(0, |account| account.collect(1));
        }
        let there = self.free > 0;
        self.free -= usize::from(there);
        there
    }
}

impl Pool {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.ledger();
        change(&mut ledger);
        ledger.balance();
        self.changed.notify_all();
    }
}

/// The thread that distributes jobs while there is more than one build.
#[derive(Debug)]
struct Broker(Arc<Pool>, Option<JoinHandle<()>>);

/// The longest time that a job may be unused in one build while another one waits for it.
const INTERVAL: Duration = Duration::from_millis(3);

impl Broker {
    fn new(pool: &Arc<Pool>) -> Result<Self> {
        let own = Arc::clone(pool);
        let work = move || {
            let mut ledger = own.ledger();
            while !ledger.over {
                ledger = if ledger.accounts.len() > 1 {
                    ledger.balance();
                    own.changed.wait_timeout(ledger, INTERVAL).unwrap_or_else(PoisonError::into_inner).0
                } else {
                    own.changed.wait(ledger).unwrap_or_else(PoisonError::into_inner)
                };
            }
        };
        let thread = std::thread::Builder::new().spawn(work).context("starting a thread for the jobs")?;
        Ok(Self(Arc::clone(pool), Some(thread)))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.0.ledger().over = true;
        self.0.changed.notify_all();
        let _ = self.1.take().map(JoinHandle::join);
    }
}

/// The right to use one processor, returned when it is dropped.
#[derive(Debug)]
pub struct Token(Arc<Pool>);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.change(|ledger| ledger.free += 1);
    }
}

/// The jobserver of one build. When it is dropped, all of its jobs return to the budget.
#[derive(Debug)]
pub struct Lane {
    pool: Arc<Pool>,
    number: u64,
    path: PathBuf,
}

impl Drop for Lane {
    #[allow(clippy::disallowed_methods)] // the FIFO is made here, too
    fn drop(&mut self) {
        self.pool.change(|ledger| {
            if let Some(index) = ledger.accounts.iter().position(|account| account.number == self.number) {
                ledger.free += ledger.accounts.remove(index).given;
            }
        });
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Lane {
    /// The settings for make with this many parallel builds: an option, and the value of `MAKEFLAGS`. `seen` is the
    /// path of the FIFO in the sandbox.
    pub fn for_make(&self, builds: usize, seen: &Path) -> (String, Option<String>) {
        if *self.pool.shared.get_or_init(understands_names) {
            return (String::new(), Some(format!("-j --jobserver-auth=fifo:{}", seen.display())));
        }
        (format!(" -j{}", (self.pool.limit / builds.max(1)).max(1)), None)
    }
}

const TOKEN: u8 = b'+';

impl Jobs {
    /// A budget with this many jobs.
    pub fn new(limit: usize) -> Result<Self> {
        let ledger = Mutex::new(Ledger { free: limit, ..Ledger::default() });
        let pool = Arc::new(Pool { limit, shared: OnceLock::new(), ledger, changed: Condvar::new() });
        let broker = Arc::new(Broker::new(&pool)?);
        Ok(Self { pool, _broker: broker })
    }

    /// The number of jobs.
    pub fn limit(&self) -> usize {
        self.pool.limit
    }

    /// A job, if one is free.
    pub fn take(&self) -> Option<Token> {
        self.pool.ledger().take().then(|| Token(Arc::clone(&self.pool)))
    }

    /// Creates a jobserver at `path`, for the user `owner` (`None` for root). No other process may use its directory.
    #[allow(clippy::disallowed_methods)] // this is the place
    pub fn lane(&self, path: PathBuf, owner: Option<u32>) -> Result<Lane> {
        let context = || format!("creating the jobserver {}", path.display());
        super::file::remove_all(&path)?;
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).with_context(context)?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = File::from(rustix::fs::open(&path, flags, Mode::empty()).with_context(context)?);
        std::os::unix::fs::fchown(&fifo, owner, owner).with_context(context)?;
        let mut number = 0;
        self.pool.change(|ledger| {
            ledger.opened += 1;
            number = ledger.opened;
            ledger.accounts.push(Account { number, fifo, given: 0 });
        });
        Ok(Lane { pool: Arc::clone(&self.pool), number, path })
    }
}

/// Whether make is 4.4 or newer.
fn understands_names() -> bool {
    let done = Cmd::new("make").arg("--version").output(Output::Split).run();
    // Without make nothing is built: this is reported elsewhere.
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
        for (name, machine, requested, expected) in [
            ("processors", machine(4, Some(64 * GIB), Some(1024)), None, 4),
            ("the wish, when it is smaller", machine(4, None, None), Some(2), 2),
            ("not the wish, when it is larger", machine(4, None, None), Some(64), 4),
            ("a wish of nought is none", machine(4, None, None), Some(0), 4),
            ("memory", machine(64, Some(2 * GIB), None), None, 5),
            ("hardly any memory", machine(64, Some(1 << 20), None), None, 1),
            ("open files", machine(64, None, Some(256)), None, 8),
            ("hardly any files", machine(64, None, Some(32)), None, 1),
        ] {
            assert_eq!(machine.budget(requested), expected, "{name}");
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

    fn lane(dir: &tempfile::TempDir, jobs: &Jobs, name: &str) -> (Lane, File) {
        let path = dir.path().join(name);
        let lane = jobs.lane(path.clone(), None).unwrap();
        let flags = OFlags::RDWR | OFlags::NONBLOCK;
        (lane, File::from(rustix::fs::open(&path, flags, Mode::empty()).unwrap()))
    }

    /// A make that takes all available jobs.
    fn drain(mut fifo: &File) -> usize {
        fifo.read(&mut [0; 4096]).unwrap_or(0)
    }

    /// Waits until the broker has run.
    fn eventually(what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..2000 {
            if is_so() {
                return;
            }
            std::thread::sleep(INTERVAL);
        }
        panic!("{what}");
    }

    fn lies(fifo: &File) -> u64 {
        rustix::io::ioctl_fionread(fifo).unwrap()
    }

    #[test]
    fn there_are_as_many_as_there_are() {
        let jobs = Jobs::new(2).unwrap();
        let first = jobs.take().unwrap();
        let _second = jobs.take().unwrap();
        assert!(jobs.take().is_none());
        drop(first);
        assert!(jobs.take().is_some());
    }

    #[test]
    fn the_only_build_has_all_and_a_new_one_takes_its_job_from_what_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(4).unwrap();
        let own = jobs.take().unwrap();
        let (lane, fifo) = lane(&dir, &jobs, "a");
        assert_eq!(lies(&fifo), 3);
        let next = jobs.take().unwrap();
        assert_eq!(lies(&fifo), 2);
        drop((next, own));
        assert_eq!(lies(&fifo), 4, "what others give back is for it");
        drop(lane);
        assert!(!dir.path().join("a").exists());
        assert_eq!((0..5).filter_map(|_| jobs.take()).collect::<Vec<_>>().len(), 4);
    }

    #[test]
    fn jobs_go_from_who_leaves_them_to_who_needs_them() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(4).unwrap();
        let ((_a, idle), (_b, busy)) = (lane(&dir, &jobs, "a"), lane(&dir, &jobs, "b"));
        assert_eq!((lies(&idle), lies(&busy)), (2, 2));
        let mut taken = 0;
        for _ in 0..2000 {
            taken += drain(&busy);
            if taken == 4 {
                return;
            }
            std::thread::sleep(INTERVAL);
        }
        panic!("it got {taken} of 4");
    }

    #[test]
    fn who_steals_or_invents_jobs_does_it_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(4).unwrap();
        let (honest, own) = lane(&dir, &jobs, "honest");
        let (thief, stolen) = lane(&dir, &jobs, "thief");
        // It writes additional bytes: no other build gets a job from these.
        (&stolen).write_all(&[TOKEN; 4096]).unwrap();
        eventually("the flood is drained", || lies(&stolen) + lies(&own) == 4);
        // It takes all jobs and returns none, while the other one uses two.
        assert!(drain(&own) >= 1);
        eventually("it has taken what it could", || {
            drain(&stolen);
            lies(&stolen) == 0 && lies(&own) == 0
        });
        // When it ends, all of them return, and the other one gets the rest.
        drop((thief, stolen));
        let mut had = 1;
        eventually("the other one has them", || lies(&own) >= 1);
        had += drain(&own);
        assert!(had >= 2, "{had}");
        drop(honest);
        assert_eq!((0..5).filter_map(|_| jobs.take()).collect::<Vec<_>>().len(), 4);
    }

    #[test]
    fn old_makes_get_their_share() {
        let dir = tempfile::tempdir().unwrap();
        let pool = |shared| {
            let jobs = Jobs::new(4).unwrap();
            jobs.pool.shared.set(shared).unwrap();
            let path = dir.path().join(format!("{shared}"));
            (jobs.lane(path, None).unwrap(), jobs)
        };
        let (lane, _jobs) = pool(false);
        let seen = Path::new("/seen");
        for (builds, option) in [(1, " -j4"), (3, " -j1"), (9, " -j1")] {
            assert_eq!(lane.for_make(builds, seen), (option.into(), None));
        }
        let (lane, _jobs) = pool(true);
        let (option, flags) = lane.for_make(3, seen);
        assert_eq!((option.as_str(), flags.as_deref()), ("", Some("-j --jobserver-auth=fifo:/seen")));
    }
}
