//! The two processes between dkms and a confined command.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::MemfdFlags;
use rustix::io::{Errno, FdFlags};
use rustix::process::{Gid, Pid, Signal, Uid, WaitOptions};
use rustix::thread::UnshareFlags;

use super::account::Account;
use super::{FIRST_HANDED, Inside, NOT_RUN, Question, Spec, Verdict, identity, limits, view};
use crate::sys::run::{PATH, kill_children, say};
use crate::sys::{cgroup, environment, guest, lock, number, overlay, signal};

pub(in crate::sys) const OUTER: &str = "dkms-confine-outer";
/// Set if the caller communicates with the confined part over standard input and output.
pub(in crate::sys) const SPEC: &str = "DKMS_CONFINE";
const INNER: &str = "dkms-confine-inner";
/// A program of this name does nothing: whether it can run at all is known by that.
pub(in crate::sys) const TRIAL: &str = "dkms-trial";
/// The polling interval for the end of the command, if a signal must be noticed, too.
const INTERVAL: Duration = Duration::from_millis(10);

/// What is done so that no helper outlives its caller.
const LINKED: &str = "asking to end together with the caller";

/// The system lacks a required feature: distinguished from an available one that failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unsupported(pub(super) String);

/// Whether this process is a sandboxed part of our own program.
pub(super) fn is_part() -> bool {
    std::env::args().next().is_some_and(|name| name == INNER)
}

/// Must be called first in `main` of every program that uses confinement: returns `Some` if the process is one of the
/// two helpers, or a trial.
pub fn enter(parts: &Inside) -> Option<ExitCode> {
    let name = std::env::args().next()?;
    let result = match name.as_str() {
        OUTER => outer(),
        INNER => inner(parts),
        TRIAL => return Some(ExitCode::SUCCESS),
        _ => return None,
    };
    let verdict = match result {
        Ok(verdict) => verdict,
        Err(error) => {
            say(std::io::stderr(), &format!("dkms: cannot set up the sandbox: {error:#}\n"));
            match error.downcast::<Unsupported>() {
                Ok(Unsupported(why)) => Some(Verdict::Unsupported(why)),
                Err(error) => Some(Verdict::NotRun(format!("{error:#}"))),
            }
        }
    };
    let Some(verdict) = verdict else { return Some(ExitCode::SUCCESS) };
    if environment::is_set(SPEC) {
        return Some(ExitCode::from(NOT_RUN as u8));
    }
    match answer(&verdict) {
        Ok(()) if matches!(verdict, Verdict::Ended(..)) => Some(ExitCode::SUCCESS),
        _ => Some(ExitCode::from(NOT_RUN as u8)),
    }
}

/// The file that was passed as standard input: it contains the request, and gets the result.
fn exchange() -> Result<File> {
    let input = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3).context("opening the question")?;
    Ok(File::from(input))
}

fn question() -> Result<Question> {
    if let Some(question) = environment::variable(SPEC) {
        return serde_json::from_str(&question).context("reading the question");
    }
    let mut file = exchange()?;
    let mut text = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut text)).context("reading the question")?;
    serde_json::from_slice(&text).context("reading the question")
}

fn parent() -> i32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}

fn answer(verdict: &Verdict) -> Result<()> {
    let mut file = exchange()?;
    file.set_len(0)?;
    file.rewind()?;
    Ok(file.write_all(&serde_json::to_vec(verdict)?)?)
}

#[allow(clippy::disallowed_methods)] // between the namespaces and the command nothing else may run
#[allow(deprecated)] // the deprecation is about CLONE_FILES, which is not among our flags
fn outer() -> Result<Option<Verdict>> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context(LINKED)?;
    // The command must not inherit files that the package manager left open.
    close_fds::set_fds_cloexec(3, &[]);
    let Question { spec, plain_view, caller, group, .. } = question()?;
    if parent() != caller {
        bail!("the process above is gone");
    }
    if let Some(group) = group {
        cgroup::enter(&group).context("entering the control group")?;
    }
    if !plain_view {
        let mut spaces = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
        if !spec.trusted {
            spaces |= UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
            spaces.set(UnshareFlags::NEWNET, !spec.network);
        }
        rustix::thread::unshare(spaces).map_err(|errno| not_here(errno, "there are no namespaces"))?;
    }
    // The inner process has another number for this one, and sees the same /proc.
    let me = number::own().to_string();
    let mut inner = Command::new("/proc/self/exe");
    inner.arg0(INNER).arg(me);
    if !environment::is_set(SPEC) {
        inner.stdin(Stdio::from(exchange()?));
    }
    let status = inner.status().context("starting the inner process")?;
    // The inner process has written a result, unless it was killed.
    if status.success() || status.code() == Some(NOT_RUN) {
        Ok(None)
    } else {
        bail!("it was killed: {status}")
    }
}

/// An errno that means that the system lacks or forbids a feature is not an unexpected failure.
fn not_here(errno: Errno, what: &str) -> anyhow::Error {
    let limited = || {
        ["mnt", "pid", "net", "ipc", "uts"].iter().any(|kind| {
            let limit = crate::sys::file::text(format!("/proc/sys/user/max_{kind}_namespaces"));
            limit.is_ok_and(|limit| limit.trim() == "0")
        })
    };
    match errno {
        Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::INVAL => {
            unsupported(errno, format!("{what}: {errno}"))
        }
        Errno::NOSPC if limited() => Unsupported(format!("{what}: they are limited to none")).into(),
        errno => anyhow::Error::new(errno).context(what.to_owned()),
    }
}

/// The same for the first steps of the view.
fn view_not_here(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Errno>().copied() {
        Some(errno @ (Errno::PERM | Errno::ACCESS | Errno::NOSYS)) => {
            unsupported(errno, format!("{error:#}"))
        }
        _ => error,
    }
}

/// An emulator lacks system calls that the kernel has.
fn unsupported(errno: Errno, why: String) -> anyhow::Error {
    let emulated = guest::emulated().filter(|_| matches!(errno, Errno::NOSYS | Errno::INVAL));
    Unsupported(match emulated {
        Some(kernel) => format!(
            "programs are emulated on {kernel} (qemu-user), without the necessary system calls; there is no filter of system \
             calls either ({why})"
        ),
        None => why,
    })
    .into()
}

fn inner(parts: &Inside) -> Result<Option<Verdict>> {
    let Question { spec, plain_view, user, .. } = question()?;
    identity::is(user);
    // From now on this process ends together with its parent, even if that is killed. Without a PID namespace, the
    // remaining processes are killed first.
    let signal = if plain_view { Signal::TERM } else { Signal::KILL };
    rustix::process::set_parent_process_death_signal(Some(signal)).context(LINKED)?;
    let parent = std::env::args().nth(1).unwrap_or_default();
    if !Path::new("/proc").join(parent).exists() {
        bail!("the process above is gone");
    }
    // Without a controlling terminal, no process can insert input for the calling shell.
    rustix::process::setsid().context("beginning a session")?;
    if !spec.trusted && (!mapped("uid_map", user) || !mapped("gid_map", user)) {
        return Err(Unsupported(identity::missing(user)).into());
    }
    if plain_view && spec.inside.is_none() {
        return without_namespaces(&spec).map(Some);
    }
    if !plain_view {
        see(&spec)?;
    }
    if let Some(name) = &spec.inside {
        let part = parts.iter().find(|(known, _)| known == name).context("an unknown part of dkms")?.1;
        limits::bound(&spec)?;
        limits::give_up(&spec, plain_view)?;
        become_builder()?;
        return part().map(|()| None);
    }
    let account = Account::begin();
    let child = start(&spec, false)?;
    loop {
        if let Some(status) = ended(&child, WaitOptions::empty())? {
            let failed = account.and_then(|account| account.failed(child.id()));
            return Ok(Some(Verdict::Ended(status, failed)));
        }
    }
}

/// Builds the command's view of the file system.
fn see(spec: &Spec) -> Result<()> {
    view::detach().map_err(|error| match error.downcast_ref::<Errno>() {
        // A chroot into an ordinary directory. It cannot be made one from inside without changing the mounts of others.
        Some(&Errno::INVAL) => Unsupported(
            "the root directory is not a mount point; to make it one, before chroot: mount --bind DIRECTORY DIRECTORY".into(),
        )
        .into(),
        _ => view_not_here(error),
    })?;
    if let Some(layers) = &spec.layers {
        overlay::lay(layers).context("laying what comes over the system")?;
    }
    if spec.trusted {
        view::places(spec)?;
        view::fresh_proc()?;
    } else {
        view::build(spec).map_err(view_not_here)?;
    }
    Ok(())
}

/// Drops all privileges permanently. Must be called while this process has one thread, because other threads would keep
/// them.
fn become_builder() -> Result<()> {
    let user = identity::user()?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    rustix::thread::set_thread_groups(&[]).context("leaving all groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).context("changing the group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).context("changing the user")?;
    // Changing the user resets this setting.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context(LINKED)?;
    Ok(())
}

/// Without namespaces: the remaining processes of the command must be killed here.
fn without_namespaces(spec: &Spec) -> Result<Verdict> {
    signal::install();
    match rustix::process::set_child_subreaper(Some(Pid::INIT)) {
        // An emulator of another architecture's programs (qemu-user) does not have it: processes that the command leaves behind become
        // children of process 1, and are not ended.
        Ok(()) | Err(Errno::INVAL | Errno::NOSYS) => {}
        Err(error) => return Err(error).context("adopting the command's processes"),
    }
    let child = start(spec, true)?;
    let verdict = loop {
        match ended(&child, WaitOptions::NOHANG)? {
            Some(status) => break Verdict::Ended(status, None),
            None if signal::check().is_err() => break Verdict::NotRun("interrupted".into()),
            None => std::thread::sleep(INTERVAL),
        }
    };
    end_all();
    Ok(verdict)
}

/// Whether the build user's id is mapped in this user namespace.
fn mapped(map: &str, user: u32) -> bool {
    let text = crate::sys::file::text(format!("/proc/self/{map}")).unwrap_or_default();
    text.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        let (Some(first), _, Some(count)) = (numbers.next(), numbers.next(), numbers.next()) else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&u64::from(user))
    })
}

/// Kills the remaining processes of the command, which become children of this one.
fn end_all() {
    let me = std::process::id();
    // Each round kills the current children; their children are found in the next.
    for _ in 0..10_000 {
        kill_children(me);
        if rustix::process::wait(WaitOptions::empty()).is_err() {
            return;
        }
    }
}

#[allow(clippy::disallowed_methods)] // between the namespaces and the command nothing else may run
fn start(spec: &Spec, plain_view: bool) -> Result<Child> {
    limits::bound(spec)?;
    let (program, args) = spec.argv.split_first().context("empty command")?;
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", PATH).envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(&spec.cwd).stdin(Stdio::null());
    let _handed = handed(spec)?;
    if spec.trusted {
        // Process ids have another meaning in this namespace, which a nested dkms must know.
        command.env(lock::SPACE, lock::space().unwrap_or_default());
    } else {
        limits::give_up(spec, plain_view)?;
        let user = identity::user()?;
        command.uid(user).gid(user);
    }
    command.spawn().with_context(|| format!("starting {program}"))
}

/// Waits for any child; returns how the command ended if it was that. The others are orphaned processes.
fn ended(child: &Child, options: WaitOptions) -> Result<Option<i32>> {
    match rustix::process::wait(options) {
        Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == child.id() as i32 => {
            Ok(Some(status.as_raw()))
        }
        Ok(_) | Err(Errno::INTR) => Ok(None),
        Err(error) => Err(error).context("waiting for the command"),
    }
}

/// Files in memory with content that the command could not open itself, passed as known descriptors.
fn handed(spec: &Spec) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for (content, number) in spec.handed.iter().zip(FIRST_HANDED..) {
        let memory =
            rustix::fs::memfd_create("handed", MemfdFlags::CLOEXEC).context("making a file in memory")?;
        let mut memory = File::from(memory);
        memory.write_all(content).and_then(|()| memory.rewind()).context("writing a file in memory")?;
        let file = rustix::io::fcntl_dupfd_cloexec(&memory, number as i32).context("handing a file over")?;
        if file.as_raw_fd() != number as i32 {
            bail!("descriptor {number} is taken");
        }
        rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
        files.push(File::from(file));
    }
    Ok(files)
}
