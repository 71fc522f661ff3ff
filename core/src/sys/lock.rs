//! The write lock: flock on one file, held as a value.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags};

use crate::sys::{environment, file, number, signal};

/// Set for a dkms that a module's script starts: the id of the process above it that holds the lock.
pub const HOLDER: &str = "DKMS_LOCK_HOLDER";

/// Set for an unsandboxed build with its own process namespace: the holder is outside of it, and not visible.
pub const SPACE: &str = "DKMS_LOCK_SPACE";

/// Our process namespace.
pub fn space() -> Option<String> {
    Some(std::fs::read_link("/proc/self/ns/pid").ok()?.display().to_string())
}

/// Whether an unsandboxed build of another dkms has started this process, in the namespace that it has for its processes.
pub fn is_below() -> bool {
    environment::variable(SPACE).is_some_and(|given| Some(given) == space())
}

/// The holder of the lock: this process, or the one that passed it on.
static HELD_BY: OnceLock<String> = OnceLock::new();

/// The held lock. Child processes hold it, too, until they end.
#[derive(Debug)]
pub struct Lock {
    /// `None` if a process above holds it.
    file: Option<File>,
    unclean: bool,
}

impl Drop for Lock {
    /// An empty file means that this run ended normally; a killed one leaves its pid.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = file.set_len(0);
        }
    }
}

impl Lock {
    /// The previous run did not end normally: it may have left incomplete changes.
    pub fn unclean(&self) -> bool {
        self.unclean
    }

    /// Whether a process above holds it, and waits for this one.
    pub fn inherited(&self) -> bool {
        self.file.is_none()
    }
}

/// The environment variable for every process that is started while the lock is held; `None` without the lock.
pub fn pass_on() -> Option<(&'static str, &'static str)> {
    HELD_BY.get().map(|holder| (HOLDER, holder.as_str()))
}

/// How long to wait for a lock that another process holds. The longest transactions are shorter, so a longer wait means
/// that a process hangs.
const WAIT_LIMIT: Duration = Duration::from_secs(2 * 3600);
const EXCLUSIVE: FlockOperation = FlockOperation::NonBlockingLockExclusive;
const INTERVAL: Duration = Duration::from_millis(50);

/// Opens the lock file, for root only: a user who can open it could lock it, and so block every transaction.
#[allow(clippy::disallowed_methods)] // this is the place
fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let meta = opened.metadata()?;
    if !meta.is_file() {
        return Err(file::irregular(&meta));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        // Older versions created it readable for all.
        opened.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(opened)
}

/// Whether the lock was acquired. Only a lock held by another process gives `false`; everything else is an error.
#[allow(clippy::disallowed_methods)] // this is the place
fn try_lock(file: &File, how: FlockOperation) -> io::Result<bool> {
    loop {
        match flock(file, how) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Acquires the lock; `waiting` is called once, with the holder's pid, if another process has it. Its error ends the wait.
pub fn acquire(path: &Path, waiting: impl FnOnce(&str) -> Result<()>) -> Result<Lock> {
    acquire_within(path, WAIT_LIMIT, waiting)
}

/// The file that is locked, shared, by everyone who waits for a lock.
fn waiting_room(path: &Path) -> PathBuf {
    path.with_extension("waiting")
}

/// Whether a process waits for the lock. A waiting process that dies does not count: the kernel unlocks its file.
pub fn is_awaited(path: &Path) -> bool {
    open(&waiting_room(path)).and_then(|room| try_lock(&room, EXCLUSIVE)).is_ok_and(|free| !free)
}

/// How often the holder of a lock that gives way checks whether another process waits.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// From now on, this process is interrupted as soon as another one waits for the lock that it holds. It may acquire the lock
/// more than once: two watchers would take each other for one that waits.
pub fn give_way(path: &Path) {
    static WATCHED: Once = Once::new();
    let path = path.to_owned();
    WATCHED.call_once(|| {
        std::thread::spawn(move || {
            while !is_awaited(&path) {
                std::thread::sleep(WATCH_INTERVAL);
            }
            signal::give_way();
        });
    });
}

fn acquire_within(path: &Path, patience: Duration, waiting: impl FnOnce(&str) -> Result<()>) -> Result<Lock> {
    if let Some(dir) = path.parent() {
        file::make_dirs(dir)?;
    }
    let mut file = open(path).with_context(|| format!("opening lock file {}", path.display()))?;
    let taken =
        |file: &File| try_lock(file, EXCLUSIVE).with_context(|| format!("locking {}", path.display()));
    if !taken(&file)? {
        let mut holder = String::new();
        // The holder's pid is only used in the message; waiting works without it.
        let _ = file.read_to_string(&mut holder);
        let holder = holder.trim().to_owned();
        // A script of the current transaction called us. Waiting for the process that waits for us would never end.
        // That process is between two steps, so its lock covers this one.
        if environment::variable(HOLDER).is_some_and(|pid| pid == holder) && is_ancestor(&holder) {
            let _ = HELD_BY.set(holder);
            return Ok(Lock { file: None, unclean: false });
        }
        waiting(&holder)?;
        let began = Instant::now();
        let room = open(&waiting_room(path))?;
        let mut seated = false;
        while !taken(&file)? {
            signal::check()?;
            // The holder may be looking at this moment.
            seated = seated || try_lock(&room, FlockOperation::NonBlockingLockShared)?;
            if began.elapsed() >= patience {
                bail!(
                    "{} has been locked for more than {} minutes (process {holder}): end that process, then run dkms \
                     again",
                    path.display(),
                    patience.as_secs() / 60
                );
            }
            std::thread::sleep(INTERVAL);
        }
    }
    let mut before = String::new();
    file.rewind()?;
    let unclean = file.read_to_string(&mut before).is_err() || !before.is_empty();
    let mut note = || -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(std::process::id().to_string().as_bytes())
    };
    // On a full disk only the pid in the message above is missing.
    let _ = note();
    // Child processes inherit the lock: if this process is killed while depmod is running, the next run waits for that
    // depmod. Sandboxed commands do not inherit it, nor do scripts of modules, which may start daemons.
    rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
    let _ = HELD_BY.set(std::process::id().to_string());
    Ok(Lock { file: Some(file), unclean })
}

/// The pid of the process that holds the lock, if one does. Reads only: it does not wait.
pub fn holder(path: &Path) -> Option<String> {
    let pid = String::from_utf8(file::read_optional(path).ok().flatten()?).ok()?.trim().to_owned();
    number::exists(&pid).then_some(pid)
}

/// Without /proc, only the variable is checked, because waiting would never end.
fn is_ancestor(pid: &str) -> bool {
    if is_below() {
        return true;
    }
    let above = crate::sys::run::ancestors();
    above.is_empty()
        || above
            .iter()
            .filter_map(|ancestor| number::here(ancestor.pid))
            .any(|above| above.to_string() == pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_roots_alone_and_waiting_for_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        File::create(&path).unwrap().set_permissions(Permissions::from_mode(0o644)).unwrap();
        let other = File::open(&path).unwrap();
        flock(&other, FlockOperation::LockExclusive).unwrap();
        let mut waited = false;
        let error = acquire_within(&path, Duration::from_millis(120), |_| {
            waited = true;
            Ok(())
        })
        .unwrap_err();
        assert!(waited && error.to_string().contains("has been locked for more than"), "{error:#}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(other);
        assert!(!acquire_within(&path, Duration::ZERO, |_| Ok(())).unwrap().inherited());
    }

    #[test]
    fn the_holder_sees_who_waits_for_as_long_as_they_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = acquire_within(&path, Duration::ZERO, |_| Ok(())).unwrap();
        assert!(!is_awaited(&path));
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || acquire_within(&path, Duration::from_secs(60), |_| Ok(())).unwrap()
        });
        while !is_awaited(&path) {
            std::thread::sleep(INTERVAL);
        }
        drop(held);
        drop(waiter.join().unwrap());
        assert!(!is_awaited(&path));
        // Who does not want to wait is not waited for.
        let held = acquire_within(&path, Duration::ZERO, |_| Ok(())).unwrap();
        assert!(acquire_within(&path, Duration::ZERO, |_| bail!("not now")).is_err() && !is_awaited(&path));
        drop(held);
    }

    #[test]
    fn what_is_no_lock_file_is_an_error_and_not_a_lock_that_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(acquire_within(&link, Duration::ZERO, |_| Ok(())).is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }
}
