//! Runs a command that is not trusted: as an unprivileged user, without network, with a private process table,
//! seeing the whole system read-only and only the given directories writable.
//!
//! The program that calls this runs itself twice more under other names (`helper`): the *outer* process makes the
//! namespaces, the *inner* one is process 1 in them, builds the `view`, takes the `limits` and runs the command. When
//! the inner one ends, or anything above it dies, the kernel ends all that the command left behind.
//!
//! What is to be run goes to the helpers in a file without a name; how it ended comes back in the same one. The command
//! has no descriptor of it and runs as another user than the helpers do, so that it cannot write there: whatever it prints
//! and whichever status it ends with, "it was not run" and "it was killed" are not its words.
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
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

pub use account::Failed;
pub use helper::enter;
pub(super) use helper::{OUTER, SPEC};
pub use identity::PREFERRED as USER;

use crate::sys::environment;
use crate::sys::overlay::Layers;
use crate::sys::run::{Cmd, Done};

/// The exit code of a command that was not run.
pub const NOT_RUN: i32 = 125;
/// The descriptor of the first file that is handed over, as the command sees it; the others follow.
pub const FIRST_HANDED: u32 = 100;

/// What to run, and what it may touch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// Its variables; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Writable directories: the first is seen at the place of the second.
    pub writable: Vec<(PathBuf, PathBuf)>,
    /// Paths that must stay visible even when they lie in a directory that the command finds empty.
    pub visible: Vec<PathBuf>,
    /// Files that the command finds empty.
    pub hidden: Vec<PathBuf>,
    /// Contents that the command finds in its descriptors, from [`FIRST_HANDED`] on: what it could not open itself.
    pub handed: Vec<Vec<u8>>,
    /// What lies over the system for it.
    pub layers: Option<Layers>,
    /// Not a command but this part of our own program runs, which starts no other: nothing of what lies over the system is
    /// executed then.
    pub inside: Option<String>,
    /// The command may do all that we may; it only gets its directories, and leaves no process behind.
    pub trusted: bool,
}

/// Parts of our own program that can run confined, by their names.
pub type Inside = [(&'static str, fn() -> Result<()>)];

/// What the helpers are told.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    spec: Spec,
    /// The command gets no namespaces: the user and the limits are all there is.
    plain_view: bool,
    /// The process that waits for it.
    caller: i32,
    /// The user that it runs as.
    user: u32,
}

/// What this system allows us to put around a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wall {
    /// All of it.
    Whole,
    /// There are no namespaces here, for this reason: another user, limits, no more privileges.
    User(String),
    /// Nothing: we are not root, and the command runs as who we are.
    None,
    /// It should be there, and could not be made, for this reason: nothing is run.
    Failed(String),
}

/// How the helpers say that it ended.
#[derive(Debug, Serialize, Deserialize)]
enum Verdict {
    /// As the system says it of a process, and what failed on the way, where the kernel records that.
    Ended(i32, Option<Vec<Failed>>),
    /// It was not run.
    NotRun(String),
    /// It was not run: this system has not got what it takes.
    Unsupported(String),
}

impl Spec {
    /// Runs the command: confined as far as this system allows it, plainly when we are not root. `prepare` says where its
    /// output goes and what bounds it.
    pub fn run(&self, prepare: impl Fn(Cmd) -> Cmd) -> Result<Done> {
        match wall() {
            Wall::Whole => self.helped(false, &prepare),
            Wall::User(_) if self.trusted => prepare(self.plain()?).run(),
            Wall::User(_) => self.helped(true, &prepare),
            Wall::None => prepare(self.plain()?).run(),
            Wall::Failed(why) => bail!("cannot set up the sandbox: {why}"),
        }
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
            // The helpers were killed: their status is what there is.
            None => done,
        })
    }

    fn helped_with(
        &self,
        plain_view: bool,
        prepare: &impl Fn(Cmd) -> Cmd,
    ) -> Result<(Done, Option<Verdict>)> {
        let caller = rustix::process::getpid().as_raw_nonzero().get();
        let question = Question { spec: self.clone(), plain_view, caller, user: identity::user()? };
        let memory =
            rustix::fs::memfd_create("confine", MemfdFlags::CLOEXEC).context("making a file in memory")?;
        let mut exchange = File::from(memory);
        exchange.write_all(&serde_json::to_vec(&question)?)?;
        exchange.rewind()?;
        let helper = Cmd::new("/proc/self/exe").named(OUTER).input(exchange.try_clone()?);
        let done = prepare(helper).run()?;
        let mut answer = Vec::new();
        exchange.rewind()?;
        exchange.read_to_end(&mut answer)?;
        // Without an answer what is in there is the question.
        Ok((done, serde_json::from_slice(&answer).ok()))
    }

    /// The command without confinement.
    fn plain(&self) -> Result<Cmd> {
        let (program, args) = self.argv.split_first().context("empty command")?;
        let plain = Cmd::new(program).args(args).cwd(&self.cwd);
        Ok(self.env.iter().fold(plain, |cmd, (name, value)| cmd.env(name, value.clone())))
    }
}

/// What this system allows. Tried once, for real.
pub fn wall() -> &'static Wall {
    static ANSWER: OnceLock<Wall> = OnceLock::new();
    ANSWER.get_or_init(|| {
        // A unit test's own program knows nothing of the helpers' names: it would run all tests again. The variable is for
        // tests of a debug build: no variable weakens a program that is shipped.
        let unconfined = cfg!(debug_assertions) && environment::is_set("DKMS_UNCONFINED");
        if cfg!(test) || unconfined || !rustix::process::geteuid().is_root() {
            return Wall::None;
        }
        match attempt(false) {
            Wall::User(why) => match attempt(true) {
                Wall::Whole => Wall::User(why),
                other => other,
            },
            other => other,
        }
    })
}

/// Tries to run a command that does nothing; `User` stands for "not here".
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

/// Whether commands get namespaces and so directories of their own. Also where that should be and could not be made: then
/// running one is an error.
pub fn available() -> bool {
    matches!(wall(), Wall::Whole | Wall::Failed(_))
}

/// The user that confined commands run as; `None`: they run as who we are.
pub fn user() -> Option<u32> {
    (*wall() != Wall::None).then(|| identity::user().unwrap_or(USER))
}
