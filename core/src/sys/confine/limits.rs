//! The resource limits of a confined command, and the privileges that it gives up.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::Spec;
#[cfg(target_pointer_width = "64")]
use super::helper::Unsupported;

/// The data segment limit of one process. The largest compilers and linkers of real modules need less than a quarter of
/// it.
const DATA: u64 = 8 << 30;
/// The maximum file size. Debug information of the largest modules needs less than a quarter of it.
const FILE: u64 = 4 << 30;
/// Processes and threads of the build user, per processor and minimum: a build with a hundred jobs has a few hundred.
const PROCESSES: (u64, u64) = (64, 4096);

/// Sets the limits. If memory runs out, the command is killed first.
pub(super) fn bound(spec: &Spec) -> Result<()> {
    // The only interface is this file. If it cannot be written, the risk is the same as with plain make.
    let _ = fs::File::options()
        .write(true)
        .open("/proc/self/oom_score_adj")
        .and_then(|mut file| file.write_all(b"800"));
    limit(Resource::Data, spec.memory.unwrap_or(DATA).min(DATA))?;
    if spec.trusted {
        return Ok(());
    }
    limit(Resource::Fsize, spec.file.unwrap_or(FILE).min(FILE))?;
    limit(Resource::Core, 0)?;
    limit(Resource::Msgqueue, 0)?;
    limit(Resource::Rtprio, 0)?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    limit(Resource::Nproc, (processors * PROCESSES.0).max(PROCESSES.1))
}

/// Lowers a limit; a lower one is kept.
fn limit(resource: Resource, most: u64) -> Result<()> {
    let now = rustix::process::getrlimit(resource);
    let maximum = now.maximum.map_or(most, |known| known.min(most));
    let current = now.current.map_or(maximum, |known| known.min(maximum));
    rustix::process::setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
        .context("setting a limit")
}

/// Permanently drops what the command must never have: keys, capabilities, dangerous system calls. This process keeps
/// what it needs to change to the build user. `plain_view`: without namespaces; only then, an emulator's lack of a filter of
/// system calls is accepted, because that is reported.
pub(super) fn give_up(spec: &Spec, plain_view: bool) -> Result<()> {
    match keyutils::Keyring::join_anonymous_session() {
        Ok(_) => {}
        // A kernel without key management, or a container that forbids it: there are no keys to protect.
        Err(error) if matches!(error.0, libc::ENOSYS | libc::EPERM) => {}
        Err(error) => return Err(error).context("making a session keyring"),
    }
    rustix::thread::set_no_new_privs(true).context("giving up new privileges")?;
    rustix::thread::clear_ambient_capability_set().context("giving up ambient capabilities")?;
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL;
    for one in CapabilitySet::all().iter() {
        // Older kernels support fewer of them.
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
    if !super::seccomp::refuse(spec.network)? && !plain_view {
        return Err(Unsupported("there is no filter of system calls".into()).into());
    }
    Ok(())
}
