//! Runs an untrusted command: as an unprivileged user, without network, with a private process table, with a read-only
//! view of the system and only the given directories writable.
//!
//! The calling program starts itself twice under other names (`helper`): the *outer* process creates the namespaces,
//! the *inner* one is process 1 in them, builds the `view`, sets the `limits` and runs the command. When the inner one
//! ends, or a process above it dies, the kernel kills all processes that the command left behind.
//!
//! The request is passed to the helpers in an unnamed file, which also gets the result. The command has no descriptor
//! of it and runs as another user, so that it cannot write to it: whatever it prints, and with whatever status it ends,
//! it cannot fake "not run" or "killed".
#![allow(clippy::disallowed_methods)] // this is the place: between the namespaces and the command nothing else may run

mod account;
mod helper;
mod identity;
mod limits;
#[cfg(target_pointer_width = "64")] // the library knows no others
mod seccomp;
mod view;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

pub use account::Failed;
pub use helper::enter;
pub(super) use helper::{OUTER, SPEC, TRIAL};
pub use identity::{CANDIDATES as USERS, Lease};
pub(super) use view::{Device, detach as detach_mounts, dev as mount_dev, devices, fresh_proc as mount_proc};

use crate::sys::cgroup::{self, Delegated, Group};
use crate::sys::overlay::Layers;
use crate::sys::run::{Cmd, Done};
use crate::sys::{environment, lock};

/// The place for a part of our own program to write to. It is empty in every sandbox.
pub const PLACE: &str = "/tmp";
/// The exit code of a command that was not run.
pub const NOT_RUN: i32 = 125;
/// The descriptor of the first passed file; the others follow.
pub const FIRST_HANDED: u32 = 100;

/// The path by which a command opens one of the files that are [handed](Spec::handed) to it, the first with 0.
pub fn handed(index: u32) -> String {
    format!("/dev/fd/{}", FIRST_HANDED + index)
}

/// The command to run, and what it may access.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// Its environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Writable directories: the first path is mounted at the second.
    pub writable: Vec<(PathBuf, PathBuf)>,
    /// Paths that remain visible even if they are in a directory that is empty for the command.
    pub visible: Vec<PathBuf>,
    /// Files that are empty for the command.
    pub hidden: Vec<PathBuf>,
    /// Contents of its descriptors from [`FIRST_HANDED`] on: files that it could not open itself.
    pub handed: Vec<Vec<u8>>,
    /// The overlay for it.
    pub layers: Option<Layers>,
    /// Run this part of our own program instead of a command. It starts no program, so that no file of the overlay is
    /// executed.
    pub inside: Option<String>,
    /// The user and group id that it runs as; `None`: any.
    pub user: Option<u32>,
    /// The memory limit of each process in bytes, if it is lower than that of a build.
    pub memory: Option<u64>,
    /// The limit of each file that it writes, in bytes, if it is lower than that of a build; of its output, too.
    pub file: Option<u64>,
    /// Directories that are empty for the command.
    pub absent: Vec<PathBuf>,
    /// The command may use the network, and no local sockets: those of the system's daemons would be in reach.
    pub network: bool,
    /// The command keeps all privileges; it only gets its directories, and its processes are killed at the end.
    pub trusted: bool,
}

/// Parts of our own program that can run confined, by name.
pub type Inside = [(&'static str, fn() -> Result<()>)];

/// The request to the helpers.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    spec: Spec,
    /// The command gets no namespaces: only the user and the limits.
    plain_view: bool,
    /// The process that waits for the result.
    caller: i32,
    /// The user that it runs as.
    user: u32,
    /// The control group that it runs in.
    group: Option<PathBuf>,
}

/// The request of a caller that exchanges messages with a sandboxed part of our program, and the user of the sandbox if it
/// was selected here. The helpers read the request from their environment.
pub(super) fn question(spec: &Spec) -> Result<(String, Option<Lease>)> {
    let plain_view = match wall() {
        Wall::Whole => false,
        Wall::User(_) => true,
        Wall::None => bail!("there is no sandbox for a caller that is not root"),
        Wall::Bare(why) | Wall::Alone(why) | Wall::Failed(why) => bail!("cannot set up the sandbox: {why}"),
    };
    let caller = rustix::process::getpid().as_raw_nonzero().get();
    let (user, lease) = spec.select_user()?;
    let question = Question { spec: spec.clone(), plain_view, caller, user, group: None };
    Ok((serde_json::to_string(&question)?, lease))
}

/// The confinement that this system supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wall {
    /// Complete.
    Whole,
    /// Namespaces are not available, for this reason: only another user, limits, and no new privileges.
    User(String),
    /// None: dkms does not run as root, and the command runs as the same user.
    None,
    /// Another user only, for this reason: without /proc, the helpers cannot be started.
    Bare(String),
    /// None, for this reason: there is no other user. Nothing is run but what is trusted.
    Alone(String),
    /// It should be available, and failed for this reason: nothing is run.
    Failed(String),
}

/// The result from the helpers.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    /// The wait status of the process, and the processes that failed, if the kernel records them.
    Ended(i32, Option<Vec<Failed>>),
    /// It was not run.
    NotRun(String),
    /// It was not run: the system lacks a required feature.
    Unsupported(String),
}

impl Spec {
    /// Runs the command: confined as far as the system supports it, unconfined if dkms is not root. `prepare` sets its
    /// output and limits.
    pub fn run(&self, prepare: impl Fn(Cmd) -> Cmd) -> Result<Done> {
        match wall() {
            Wall::Whole => self.helped(false, &prepare),
            Wall::User(_) if self.trusted => prepare(self.plain()?).run(),
            Wall::User(_) => self.helped(true, &prepare),
            Wall::None => prepare(self.plain()?).run(),
            Wall::Bare(_) | Wall::Alone(_) if self.trusted => prepare(self.plain()?).run(),
            Wall::Bare(_) => {
                let (user, _lease) = self.select_user()?;
                self.bare(user, &prepare)
            }
            Wall::Alone(why) | Wall::Failed(why) => bail!("cannot set up the sandbox: {why}"),
        }
    }

    /// Runs the command as another user, without the helpers.
    fn bare(&self, user: u32, prepare: &impl Fn(Cmd) -> Cmd) -> Result<Done> {
        // The command must inherit neither the files of the package manager nor the lock.
        close_fds::set_fds_cloexec(3, &[]);
        let done = prepare(self.plain()?.user(user)).run();
        // What it has left behind: no other process has this user id.
        let _ = Cmd::new("sh").args(["-c", "kill -KILL -1"]).user(user).run();
        done
    }

    fn helped(&self, plain_view: bool, prepare: &impl Fn(Cmd) -> Cmd) -> Result<Done> {
        let (done, verdict) = self.helped_with(plain_view, prepare)?;
        Ok(match verdict {
            Some(Verdict::Ended(status, failed)) => {
                Done { status: ExitStatus::from_raw(status), failed, ..done }
            }
            Some(Verdict::NotRun(why) | Verdict::Unsupported(why)) => {
                Done { status: ExitStatus::from_raw(NOT_RUN << 8), not_run: Some(why), ..done }
            }
            // The helpers were killed: only their status is known.
            None => done,
        })
    }

    fn helped_with(
        &self,
        plain_view: bool,
        prepare: &impl Fn(Cmd) -> Cmd,
    ) -> Result<(Done, Option<Verdict>)> {
        let caller = rustix::process::getpid().as_raw_nonzero().get();
        let group = cgroup::delegated().and_then(Delegated::group);
        let (user, _lease) = self.select_user()?;
        let question = Question {
            spec: self.clone(),
            plain_view,
            caller,
            user,
            group: group.as_ref().map(|group| group.dir().to_owned()),
        };
        let memory =
            rustix::fs::memfd_create("confine", MemfdFlags::CLOEXEC).context("making a file in memory")?;
        let mut exchange = File::from(memory);
        exchange.write_all(&serde_json::to_vec(&question)?)?;
        exchange.rewind()?;
        let helper = Cmd::new("/proc/self/exe").named(OUTER).input(exchange.try_clone()?);
        let done = prepare(helper).run()?;
        let done = Done { starved: group.as_ref().map(Group::starved), ..done };
        let mut answer = Vec::new();
        exchange.rewind()?;
        exchange.read_to_end(&mut answer)?;
        // Without a result, the file still contains the request.
        Ok((done, serde_json::from_slice(&answer).ok()))
    }

    /// The user that it runs as, which is leased unless the caller has selected it.
    fn select_user(&self) -> Result<(u32, Option<Lease>)> {
        match self.user {
            Some(user) => Ok((user, None)),
            None => identity::lease().map(|lease| (lease.id(), Some(lease))),
        }
    }

    /// The command without confinement.
    fn plain(&self) -> Result<Cmd> {
        let (program, args) = self.argv.split_first().context("empty command")?;
        let plain = Cmd::new(program).args(args).cwd(&self.cwd);
        Ok(self.env.iter().fold(plain, |cmd, (name, value)| cmd.env(name, value.clone())))
    }
}

/// The confinement that this system supports. Determined once, by a real attempt.
pub fn wall() -> &'static Wall {
    static ANSWER: OnceLock<Wall> = OnceLock::new();
    ANSWER.get_or_init(|| {
        // The test program does not handle the helpers' names: it would run all tests again. The variable exists only
        // in debug builds: no variable weakens a released program.
        let unconfined = cfg!(debug_assertions) && environment::is_set("DKMS_UNCONFINED");
        if cfg!(test) || unconfined || !rustix::process::geteuid().is_root() {
            return Wall::None;
        }
        if !Path::new("/proc/self").exists() {
            return match as_another_user() {
                Ok(()) => Wall::Bare("/proc is not mounted".into()),
                Err(error) => Wall::Alone(format!("{error:#}")),
            };
        }
        match attempt(false) {
            Wall::User(why) => match attempt(true) {
                Wall::Whole => Wall::User(why),
                // A build is not run as root instead.
                Wall::User(why) => Wall::Alone(why),
                other => other,
            },
            other => other,
        }
    })
}

/// Runs a command that does nothing as another user.
fn as_another_user() -> Result<()> {
    let user = identity::lease()?;
    let run = Cmd::new("true").user(user.id()).run();
    run.map(drop).map_err(|_| anyhow::Error::msg(identity::missing(user.id())))
}

/// Runs a command that does nothing; `User` means that this is not available.
fn attempt(plain_view: bool) -> Wall {
    let spec = Spec { argv: vec!["true".into()], cwd: "/".into(), ..Spec::default() };
    match spec.helped_with(plain_view, &|cmd| cmd) {
        Ok((_, Some(Verdict::Ended(0, _)))) => Wall::Whole,
        Ok((_, Some(Verdict::Unsupported(why)))) => Wall::User(why),
        Ok((_, Some(Verdict::NotRun(why)))) => Wall::Failed(why),
        Ok((done, _)) => Wall::Failed(format!("its trial ended with code {}", done.code())),
        Err(error) => Wall::Failed(format!("{error:#}")),
    }
}

/// Whether commands get namespaces and private directories. Also true if this should be available and failed: then
/// running one is an error.
pub fn available() -> bool {
    matches!(wall(), Wall::Whole | Wall::Failed(_))
}

/// Why nothing is run confined on this system, if this is so.
pub fn hindrance() -> Option<String> {
    match wall() {
        Wall::Alone(why) | Wall::Failed(why) => Some(format!("cannot set up the sandbox: {why}")),
        Wall::Whole | Wall::User(_) | Wall::None | Wall::Bare(_) => None,
    }
}

/// Whether a confined command sees this path only if it is listed as visible.
pub fn hides(path: &Path) -> bool {
    view::hides(path)
}

/// Whether this process is in a sandbox of another dkms, which has a process namespace of its own.
pub fn is_within() -> bool {
    helper::is_part() || lock::is_below()
}

/// Whether confined commands run as another user than dkms.
pub fn drops_privileges() -> bool {
    *wall() != Wall::None
}

/// A user for a sandbox whose files must belong to it. `None` if confined commands run as the user of dkms.
pub fn lease() -> Result<Option<Lease>> {
    if let Wall::Alone(why) = wall() {
        bail!("cannot set up the sandbox: {why}");
    }
    drops_privileges().then(identity::lease).transpose()
}
