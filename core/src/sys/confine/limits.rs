//! What a confined command may use, and what it may never become.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::Spec;

/// Memory of its own that a single process may have. The largest compilers and linkers of real modules stay below a
/// quarter of it.
const DATA: u64 = 8 << 30;
/// The largest file. Debug information of the largest modules stays below a quarter of it.
const FILE: u64 = 4 << 30;
/// Processes and threads of the build user, per processor and at least: a build of a hundred jobs has a few hundred.
const PROCESSES: (u64, u64) = (64, 4096);

/// When memory runs out the command goes before anything else does; what it may use is bounded.
pub(super) fn bound(spec: &Spec) -> Result<()> {
    // The file's whole interface. Where it cannot be written the machine is no worse off than with plain make.
    let _ = fs::File::options()
        .write(true)
        .open("/proc/self/oom_score_adj")
        .and_then(|mut file| file.write_all(b"800"));
    limit(Resource::Data, DATA)?;
    if spec.trusted {
        return Ok(());
    }
    limit(Resource::Fsize, FILE)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Msgqueue, 0)?;
    limit(Resource::Rtprio, 0)?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    limit(Resource::Nproc, (processors * PROCESSES.0).max(PROCESSES.1))
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, most: u64) -> Result<()> {
    let now = rustix::process::getrlimit(resource);
    let maximum = now.maximum.map_or(most, |known| known.min(most));
    let current = now.current.map_or(maximum, |known| known.min(maximum));
    rustix::process::setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
        .context("setting a limit")
}

/// Gives up for ever what the command must never have: keys, capabilities, dangerous system calls. Our own process keeps
/// what it needs to change to the build's user.
pub(super) fn give_up() -> Result<()> {
    match keyutils::Keyring::join_anonymous_session() {
        Ok(_) => {}
        // A kernel without keys, and a container that forbids them: there is nothing that could be reached.
        Err(error) if matches!(error.0, libc::ENOSYS | libc::EPERM) => {}
        Err(error) => return Err(error).context("making a session keyring"),
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set().context("giving up ambient capabilities")?;
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL;
    for one in CapabilitySet::all().iter() {
        // Kernels know fewer than we do; what they do not know they do not give.
        if rustix::thread::capability_is_in_bounding_set(one).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(one).context("giving up capabilities")?;
        }
    }
    let own = rustix::thread::capabilities(None).context("reading capabilities")?;
    let kept = CapabilitySets {
        effective: own.effective & needed,
        permitted: own.permitted & needed,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, kept).context("giving up capabilities")?;
    #[cfg(target_pointer_width = "64")]
    super::seccomp::refuse()?;
    Ok(())
}
