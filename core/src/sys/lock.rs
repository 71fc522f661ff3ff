//! One writer: an flock on one file, held as a value.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::sys::{environment, file, signal};

/// Tells a dkms that a module's own script starts that a process above it holds the lock.
const HOLDER: &str = "DKMS_LOCK_HOLDER";

/// Names the process namespace that a trusted build was given: the holder is above that, and not to be seen.
pub const SPACE: &str = "DKMS_LOCK_SPACE";

/// Our own process namespace.
pub fn space() -> Option<String> {
    Some(std::fs::read_link("/proc/self/ns/pid").ok()?.display().to_string())
}

/// Who holds the lock for this process: itself, or the one that it got the lock from.
static HELD_BY: OnceLock<String> = OnceLock::new();

/// The held lock. Children inherit neither the descriptor nor, after our death, the lock.
#[derive(Debug)]
pub struct Lock {
    /// `None` when a process above holds it for us.
    file: Option<File>,
    unclean: bool,
}

impl Drop for Lock {
    /// An empty file says that this run came to its end; a killed one leaves its number.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = file.set_len(0);
        }
    }
}

impl Lock {
    /// The run before us did not come to its end: it may have left something half done.
    pub fn unclean(&self) -> bool {
        self.unclean
    }

    /// A process above us holds it, and waits for us.
    pub fn inherited(&self) -> bool {
        self.file.is_none()
    }
}

/// The environment variable for everything that is started while the lock is held; none before.
pub fn pass_on() -> Option<(&'static str, &'static str)> {
    HELD_BY.get().map(|holder| (HOLDER, holder.as_str()))
}

/// Takes the lock; `waiting` is called once, with the holder's process id, when somebody else has it.
#[allow(clippy::disallowed_methods)] // this is the place
pub fn acquire(path: &Path, waiting: impl FnOnce(&str)) -> Result<Lock> {
    if let Some(dir) = path.parent() {
        file::make_dirs(dir)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("opening lock file {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        // The holder's id is a courtesy of the message; without it we wait all the same.
        let _ = file.read_to_string(&mut holder);
        let holder = holder.trim().to_owned();
        // A script of the transaction under way called us. Waiting for our own grandparent, which waits for us,
        // would never end; it is at a point between two steps, so its lock covers us.
        if environment::variable(HOLDER).is_some_and(|pid| pid == holder) && is_ancestor(&holder) {
            let _ = HELD_BY.set(holder);
            return Ok(Lock { file: None, unclean: false });
        }
        waiting(&holder);
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            signal::check()?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let mut before = String::new();
    file.rewind()?;
    let unclean = file.read_to_string(&mut before).is_err() || !before.is_empty();
    let mut note = || -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(std::process::id().to_string().as_bytes())
    };
    // On a full disk the id is missing from the message above, nothing else.
    let _ = note();
    let _ = HELD_BY.set(std::process::id().to_string());
    Ok(Lock { file: Some(file), unclean })
}

/// Where /proc does not tell, the variable alone must do: waiting for ever would be worse.
fn is_ancestor(pid: &str) -> bool {
    if environment::variable(SPACE).is_some_and(|given| Some(given) == space()) {
        return true;
    }
    let above = crate::sys::run::ancestors();
    above.is_empty() || above.iter().any(|ancestor| ancestor.pid.to_string() == pid)
}
