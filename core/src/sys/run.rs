//! Processes: starting, waiting, stopping. Their output goes to a file, never to a pipe, which could block.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::sys::confine::Failed;
use crate::sys::{environment, file, inside, number, signal};

/// The search path of child processes: not that of the caller, which may be a user's under sudo.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that child processes inherit from us if they are set; no others are.
pub const INHERITED: [&str; 6] = ["HOME", "TERM", "TMPDIR", "DPKG_ROOT", "KBUILD_SIGN_PIN", "DKMS_ROOT"];

/// Kills the children of this process or of one of its children, which has one thread.
#[allow(clippy::disallowed_methods)] // the place for such calls
pub(super) fn kill_children(pid: u32) {
    for child in number::children(pid).into_iter().filter_map(|child| Pid::from_raw(child as i32)) {
        let _ = rustix::process::kill_process(child, Signal::KILL);
    }
}

/// The destination of a process's output.
#[derive(Debug, Clone)]
pub enum Output {
    /// Both streams in memory, returned in [`Done::output`]; for small outputs.
    Memory,
    /// Each stream in memory, returned in [`Done::output`] and [`Done::errors`].
    Split,
    /// Both streams appended to a file.
    Log(PathBuf),
    /// Both streams to our standard error, because stdout belongs to the package manager.
    Stderr,
}

/// A process to run.
#[derive(Debug, Clone)]
pub struct Cmd {
    program: PathBuf,
    name: Option<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    cwd: Option<PathBuf>,
    output: Output,
    limit: Option<Duration>,
    log_limit: Option<u64>,
    reserve: Option<(PathBuf, u64)>,
    stop: Option<Arc<AtomicBool>>,
    input: Option<Arc<File>>,
    user: Option<u32>,
}

/// The result of a process.
#[derive(Debug)]
pub struct Done {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its output, for [`Output::Memory`] and [`Output::Split`].
    pub output: Vec<u8>,
    /// Its standard error, for [`Output::Split`].
    pub errors: Vec<u8>,
    /// It was killed because it exceeded a limit.
    pub exceeded: Option<Exceeded>,
    /// The command was not run because its sandbox could not be set up, for this reason.
    pub not_run: Option<String>,
    /// What failed on the way, where it ran confined and the kernel records that.
    pub failed: Option<Vec<Failed>>,
    /// Whether the kernel killed one of its processes for lack of memory, if it had a control group of its own.
    pub starved: Option<bool>,
}

/// A limit that a process was killed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Its time.
    Time,
    /// The size of its log.
    Log,
    /// The space that must remain free.
    Space,
}

impl Done {
    /// Whether it was killed because it exceeded its time limit.
    pub fn timed_out(&self) -> bool {
        self.exceeded == Some(Exceeded::Time)
    }
    /// The exit code; 128 + signal if it was killed.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

impl Cmd {
    /// A program by name or path, with a clean environment.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let mut env = vec![("PATH".to_owned(), PATH.to_owned()), ("LC_ALL".to_owned(), "C.UTF-8".to_owned())];
        // Child processes hold the lock, and LVM's tools print warnings about unknown open files.
        env.push(("LVM_SUPPRESS_FD_WARNINGS".to_owned(), "1".to_owned()));
        env.extend(crate::sys::lock::pass_on().map(|(name, value)| (name.to_owned(), value.to_owned())));
        for kept in INHERITED {
            if let Some(value) = environment::variable(kept) {
                env.push((kept.to_owned(), value));
            }
        }
        Self {
            program: program.into(),
            name: None,
            args: Vec::new(),
            env,
            cwd: None,
            output: Output::Memory,
            limit: None,
            log_limit: None,
            reserve: None,
            stop: None,
            input: None,
            user: None,
        }
    }
    /// Sets its standard input.
    pub fn input(mut self, file: File) -> Self {
        self.input = Some(Arc::new(file));
        self
    }
    /// Sets `argv[0]`.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }
    /// Runs it as this user and group, without supplementary groups.
    pub fn user(mut self, id: u32) -> Self {
        self.user = Some(id);
        self
    }
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.args.push(arg.as_ref().to_string_lossy().into_owned());
        self
    }
    /// Adds arguments.
    pub fn args<S: AsRef<std::ffi::OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }
    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }
    /// Sets the working directory.
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }
    /// Sets where output goes.
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }
    /// Kills the process and its children after this time.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
    /// Kills the process and its children when its log exceeds this size.
    pub fn log_limit(mut self, bytes: u64) -> Self {
        self.log_limit = Some(bytes);
        self
    }
    /// Kills the process and its children when less than this many bytes are free in the file system of a directory.
    pub fn reserve(mut self, dir: &Path, bytes: u64) -> Self {
        self.reserve = Some((dir.to_owned(), bytes));
        self
    }
    /// Kills the process and its children when this becomes true: it then counts as interrupted.
    pub fn until(mut self, stop: &Arc<AtomicBool>) -> Self {
        self.stop = Some(Arc::clone(stop));
        self
    }
    /// The command in shell syntax.
    pub fn display(&self) -> String {
        let mut text = self.program.display().to_string();
        for arg in &self.args {
            text.push(' ');
            text.push_str(arg);
        }
        text
    }

    /// Runs it and waits for its end. `Err` means that it could not be started, or that dkms was interrupted.
    #[allow(clippy::disallowed_methods)] // this is the place
    pub fn run(&self) -> Result<Done> {
        signal::check()?;
        if inside::here() {
            bail!("{} is not started in the sandbox", self.display());
        }
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        match &self.input {
            Some(file) => command.stdin(file.try_clone()?),
            None => command.stdin(Stdio::null()),
        };
        command.process_group(0);
        if let Some(name) = &self.name {
            command.arg0(name);
        }
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        let memory = || rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC).map(File::from);
        let (mut output, mut errors) = (None, None);
        match &self.output {
            Output::Memory => {
                let file = memory()?;
                command.stdout(file.try_clone()?).stderr(file.try_clone()?);
                output = Some(file);
            }
            Output::Split => {
                let (out, err) = (memory()?, memory()?);
                command.stdout(out.try_clone()?).stderr(err.try_clone()?);
                (output, errors) = (Some(out), Some(err));
            }
            Output::Log(path) => {
                let file = File::options().append(true).create(true).open(path);
                let file = file.with_context(|| format!("opening {}", path.display()))?;
                command.stdout(file.try_clone()?).stderr(file);
            }
            Output::Stderr => {
                command.stdout(std::io::stderr()).stderr(Stdio::inherit());
            }
        }
        let mut child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let (status, exceeded) = self.wait(&mut child)?;
        let read = |file: Option<File>| -> Result<Vec<u8>> {
            let mut content = Vec::new();
            if let Some(mut file) = file {
                file.rewind()?;
                file.read_to_end(&mut content)?;
            }
            Ok(content)
        };
        Ok(Done {
            status,
            output: read(output)?,
            errors: read(errors)?,
            exceeded,
            not_run: None,
            failed: None,
            starved: None,
        })
    }

    /// Runs it; a non-zero exit status is an error with the end of its output.
    pub fn check(&self) -> Result<Vec<u8>> {
        let done = self.run()?;
        if done.status.success() {
            return Ok(done.output);
        }
        let text = String::from_utf8_lossy(&done.output);
        let tail: Vec<_> = text.lines().rev().take(4).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        bail!("{} failed (exit code {}): {}", self.display(), done.code(), tail.join(" / "))
    }

    #[allow(clippy::disallowed_methods)] // who starts a group may end it
    fn wait(&self, child: &mut Child) -> Result<(ExitStatus, Option<Exceeded>)> {
        let deadline = self.limit.map(|limit| Instant::now() + limit);
        let pid = Pid::from_raw(child.id() as i32);
        let handle = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let stop = |child: &mut Child| {
            // The whole process group: killing only the shell would leave its compilers running.
            if let Some(pid) = pid {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.kill();
        };
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok((status, None));
            }
            let stopped = self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
            let interrupted = if stopped { Err(signal::Interrupted(0)) } else { signal::check() };
            if let Err(interrupted) = interrupted {
                stop(child);
                child.wait()?;
                return Err(interrupted.into());
            }
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let exceeded = if late { Some(Exceeded::Time) } else { self.exceeded() };
            if exceeded.is_some() {
                stop(child);
                return Ok((child.wait()?, exceeded));
            }
            match &handle {
                // Wakes up immediately when the process ends or a signal arrives, else checks the deadline.
                Some(handle) => {
                    let slice = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                    let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&slice));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Cmd {
    fn exceeded(&self) -> Option<Exceeded> {
        if let (Output::Log(path), Some(limit)) = (&self.output, self.log_limit) {
            if path.metadata().is_ok_and(|meta| meta.len() > limit) {
                return Some(Exceeded::Log);
            }
        }
        let (dir, reserve) = self.reserve.as_ref()?;
        file::room(dir).is_some_and(|free| free < *reserve).then_some(Exceeded::Space)
    }
}

/// A text as one word of a shell command.
pub fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/+:=@%,-".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The full path of a program in [`PATH`].
pub fn which(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).is_file().then(|| program.into());
    }
    PATH.split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
}

/// A parent process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestor {
    /// Its number in /proc.
    pub pid: u32,
    /// Its arguments, the program first.
    pub argv: Vec<String>,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// A number of a process's `stat`, after its name.
fn field(pid: u32, number: usize) -> Option<u64> {
    let stat = file::text(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain any character: fields are counted after the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(number)?.parse().ok()
}

/// When a process was started: two processes with the same pid differ in it.
pub fn started(pid: u32) -> Option<u64> {
    field(pid, 19)
}

/// The parent processes, nearest first, as far as /proc shows them.
pub fn ancestors() -> Vec<Ancestor> {
    let parent_of = |pid: u32| field(pid, 1).and_then(|parent| u32::try_from(parent).ok());
    let mut list = Vec::new();
    let mut pid = number::own();
    while let Some(parent) = parent_of(pid).filter(|parent| *parent != 0 && list.len() < 64) {
        let argv = file::content(format!("/proc/{parent}/cmdline")).unwrap_or_default();
        let argv =
            argv.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        list.push(Ancestor { pid: parent, argv, started: started(parent).unwrap_or(0) });
        pid = parent;
    }
    list
}

/// The working directory and open directories of a process: one that changes its directory keeps the previous one open
/// to return.
pub fn directories(pid: u32) -> Vec<PathBuf> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let open = file::sorted_entries(&proc.join("fd"));
    let links = std::iter::once(proc.join("cwd")).chain(open);
    links.filter(|link| link.is_dir()).filter_map(|link| std::fs::read_link(link).ok()).collect()
}

/// Writes text to a stream and ignores errors: a closed terminal must not end a transaction.
pub fn say(stream: impl Write, text: &str) {
    let _ = write(stream, text);
}

/// Writes text to a stream.
pub fn write(mut stream: impl Write, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}
