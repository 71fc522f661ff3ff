//! Runs a command that is not trusted: as an unprivileged user, without network, with a private process table,
//! seeing the whole system read-only and only the given directories writable.
//!
//! The program that calls this runs itself twice more under other names: the *outer* process makes the
//! namespaces, the *inner* one is process 1 in them, mounts, drops its privileges and runs the command. When
//! the inner one ends, or anything above it dies, the kernel ends all that the command left behind.
#![allow(clippy::disallowed_methods)] // this is the place: between the namespaces and the command nothing else may run

use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::sys::environment;
use crate::sys::lock;
use crate::sys::overlay::{self, Layers};
use crate::sys::run::{Cmd, PATH};

pub(super) const OUTER: &str = "dkms-confine-outer";
const INNER: &str = "dkms-confine-inner";
pub(super) const SPEC: &str = "DKMS_CONFINE";
/// The exit code by which the two helpers say that the command was not run.
pub const NOT_RUN: i32 = 125;
/// The user that confined commands run as. Not `nobody`: daemons run as that, and could change what is being built.
/// No distribution gives this number to anybody (systemd's UIDS-GIDS lists it as unused, Debian's policy as reserved).
pub const USER: u32 = 65533;

/// Memory of its own that a single confined process may have. The largest compilers and linkers of real modules stay
/// below a quarter of it.
const DATA_LIMIT: u64 = 8 << 30;

/// What to run, and what it may touch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Spec {
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// Its variables; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Writable directories: the first is seen at the place of the second.
    pub writable: Vec<(PathBuf, PathBuf)>,
    /// Paths that must stay visible even when they lie in a temporary directory.
    pub visible: Vec<PathBuf>,
    /// The command may do all that we may; it only gets its directories, and leaves no process behind.
    #[serde(default)]
    pub trusted: bool,
    /// What lies over the system for it.
    #[serde(default)]
    pub layers: Option<Layers>,
    /// Not a command but this part of our own program runs, which starts no other: nothing of what lies over the system is
    /// executed then.
    #[serde(default)]
    pub inside: Option<String>,
}

/// Parts of our own program that can run confined, by their names.
pub type Inside = [(&'static str, fn() -> Result<()>)];

impl Spec {
    /// The command, ready to run in confinement, or plainly where that is [not possible](available).
    pub fn command(&self) -> Result<Cmd> {
        if available() {
            let spec = serde_json::to_string(self)?;
            return Ok(itself().named(OUTER).env(SPEC, spec));
        }
        self.plain()
    }

    /// The command without confinement.
    pub fn plain(&self) -> Result<Cmd> {
        let (program, args) = self.argv.split_first().context("empty command")?;
        let plain = Cmd::new(program).args(args).cwd(&self.cwd);
        Ok(self.env.iter().fold(plain, |cmd, (name, value)| cmd.env(name, value.clone())))
    }
}

fn itself() -> Cmd {
    Cmd::new("/proc/self/exe")
}

/// Whether this process may make namespaces and change users. Tried once, for real.
pub fn available() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        // A unit test's own program knows nothing of the helpers' names: it would run all tests again.
        if cfg!(test) || !rustix::process::geteuid().is_root() || environment::is_set("DKMS_UNCONFINED") {
            return false;
        }
        let spec = Spec { argv: vec!["true".into()], cwd: "/".into(), ..Spec::default() };
        let Ok(json) = serde_json::to_string(&spec) else { return false };
        itself().named(OUTER).env(SPEC, json).run().is_ok_and(|done| done.status.success())
    })
}

/// To be called first in `main` of every program that uses this module: does not return `None` when the
/// process is one of the two helpers.
pub fn enter(parts: &Inside) -> Option<ExitCode> {
    let name = std::env::args().next()?;
    let result = match name.as_str() {
        OUTER => outer(),
        INNER => inner(parts),
        _ => return None,
    };
    Some(match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            crate::sys::run::say(std::io::stderr(), &format!("dkms: cannot set up the sandbox: {error:#}\n"));
            ExitCode::from(NOT_RUN as u8)
        }
    })
}

#[allow(deprecated)] // the deprecation is about CLONE_FILES, which is not among our flags
fn outer() -> Result<u8> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut spaces = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    if !spec()?.trusted {
        spaces |= UnshareFlags::NEWNET | UnshareFlags::NEWIPC;
    }
    rustix::thread::unshare(spaces).context("creating namespaces")?;
    let status = Command::new("/proc/self/exe").arg0(INNER).status().context("starting the inner process")?;
    Ok(code(status))
}

fn spec() -> Result<Spec> {
    Ok(serde_json::from_str(&environment::variable(SPEC).context("called without a command")?)?)
}

fn code(status: std::process::ExitStatus) -> u8 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) as u8
}

fn inner(parts: &Inside) -> Result<u8> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let spec = spec()?;
    // Without a controlling terminal nothing can type into the shell that started us.
    rustix::process::setsid()?;
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .context("making mounts private")?;
    if let Some(layers) = &spec.layers {
        overlay::lay(layers).context("laying what comes over the system")?;
    }
    for (from, to) in &spec.writable {
        rustix::mount::mount_bind_recursive(from, to)
            .with_context(|| format!("mounting {} on {}", from.display(), to.display()))?;
    }
    if !spec.trusted {
        shut(&spec)?;
    }
    // The old /proc shows the processes of the outer namespace; without a new one the command still runs.
    let _ = rustix::mount::mount(
        "proc",
        "/proc",
        "proc",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    );
    bound();
    if let Some(name) = &spec.inside {
        let part = parts.iter().find(|(known, _)| known == name).context("an unknown part of dkms")?.1;
        become_builder()?;
        return part().map(|()| 0);
    }
    let (program, args) = spec.argv.split_first().context("empty command")?;
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", PATH).envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(&spec.cwd).stdin(Stdio::null());
    if spec.trusted {
        // Process numbers mean something else in here: a dkms that it calls must know that.
        command.env(lock::SPACE, lock::space().unwrap_or_default());
    } else {
        rustix::thread::set_no_new_privs(true)?;
        command.uid(USER).gid(USER);
    }
    let status = command.status().with_context(|| format!("starting {program}"))?;
    Ok(code(status))
}

/// Gives up everything that root may do, for good. To be called while this process has one thread only: others would keep it.
fn become_builder() -> Result<()> {
    let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::set_thread_groups(&[]).context("leaving all groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).context("changing the group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).context("changing the user")?;
    // Whoever becomes another user loses this.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// When memory runs out the command goes before anybody else, and before that it is refused more than any compiler
/// needs. Where this cannot be set the command runs all the same: the machine is not worse off than with make.
fn bound() {
    // No library needed: this is the file's whole interface.
    let _ = fs::File::options()
        .write(true)
        .open("/proc/self/oom_score_adj")
        .and_then(|mut file| file.write_all(b"800"));
    let data = rustix::process::getrlimit(Resource::Data);
    let most = data.maximum.map_or(DATA_LIMIT, |known| known.min(DATA_LIMIT));
    let _ = rustix::process::setrlimit(Resource::Data, Rlimit { current: Some(most), maximum: Some(most) });
}

/// Gives the command empty temporary directories, and the rest of the system read-only. /run goes, too: through
/// its sockets daemons would do what the command may not.
fn shut(spec: &Spec) -> Result<()> {
    let mut private = Vec::new();
    for dir in ["/tmp", "/var/tmp", "/dev/shm", "/run"] {
        let dir = Path::new(dir);
        let needed = |path: &PathBuf| path.starts_with(dir);
        let hides = spec.visible.iter().any(needed)
            || needed(&spec.cwd)
            || spec.writable.iter().any(|(from, to)| needed(from) || needed(to));
        if dir.is_dir() && !hides {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount("tmpfs", dir, "tmpfs", flags, Some(c"mode=1777"))
                .with_context(|| format!("mounting a private {}", dir.display()))?;
            private.push(dir.to_owned());
        }
    }
    let keep = |point: &Path| {
        private.iter().any(|dir| dir == point) || spec.writable.iter().any(|(_, to)| point.starts_with(to))
    };
    read_only(keep);
    Ok(())
}

/// Makes every mount read-only but those that `keep` names. A mount that cannot be changed stays as it is: the
/// unprivileged user is the wall, this is the second one.
fn read_only(keep: impl Fn(&Path) -> bool) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(point), Some(options)) = (fields.next(), fields.next()) else { continue };
        let point = point.replace("\\040", " ");
        if keep(Path::new(&point)) {
            continue;
        }
        let mut flags = MountFlags::BIND | MountFlags::RDONLY;
        for option in options.split(',') {
            flags |= match option {
                "nosuid" => MountFlags::NOSUID,
                "nodev" => MountFlags::NODEV,
                "noexec" => MountFlags::NOEXEC,
                "noatime" => MountFlags::NOATIME,
                "relatime" => MountFlags::RELATIME,
                _ => MountFlags::empty(),
            };
        }
        let _ = rustix::mount::mount_remount(point.as_str(), flags, c"");
    }
}
