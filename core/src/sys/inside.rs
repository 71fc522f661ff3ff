//! A sandboxed part of our own program: it runs [confined](super::confine) under the overlay, reads files and starts no
//! program. It sends its result, and requests what needs a program: that is executed in a separate sandbox, so that
//! files of a package cannot speak for this process.
//!
//! Messages are JSON, each after its length: four bytes, little-endian.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::confine::{self, Lease, Spec};
use super::{file, run, signal};

/// Larger than any message. A survey of a hundred modules for ten kernels is a tenth of it.
pub const LIMIT: usize = 64 << 20;
/// The time limit of a call. Reading the headers of several kernels takes seconds.
const TIME: Duration = Duration::from_secs(300);
/// The kind of request whose answer is an open file.
const OPEN: &str = "open";
/// The time in which a part must end after the end of its input.
const END: Duration = Duration::from_secs(5);

/// A message of the sandboxed part.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// A request of this kind, which it needs to continue.
    Ask(String, Value),
    /// Its result.
    Found(Value),
    /// It failed, for this reason.
    Failed(String),
}

impl Message {
    /// Parses a message without its length.
    pub fn read(content: &[u8]) -> Result<Self> {
        serde_json::from_slice(content).context("a message from the sandbox is malformed")
    }
}

/// The answer to a request of the sandboxed part.
#[derive(Debug)]
pub enum Answer {
    /// A value.
    Value(Value),
    /// A file, open for reading. The part cannot open it: it may not have the permissions.
    File(File),
}

/// The sandboxed part has ended or has sent a malformed message. It answers no further call.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Gone(String);

/// Runs a part of our program in the sandbox and returns its result. `answer` gets the kind and the content of its
/// requests.
pub fn ask<F: DeserializeOwned>(
    part: &str,
    spec: &Spec,
    request: &impl Serialize,
    mut answer: impl FnMut(&str, Value) -> Result<Value>,
) -> Result<F> {
    Link::start(part, spec)?.call(request, |kind, content| Ok(Answer::Value(answer(kind, content)?)))
}

/// Answers a request to open one of these files; other requests are errors.
pub fn lend<'p>(paths: impl IntoIterator<Item = &'p Path>, kind: &str, content: &Value) -> Result<Answer> {
    let asked = (kind == OPEN).then(|| content.as_str().map(Path::new)).flatten();
    let Some(path) = paths.into_iter().find(|path| asked == Some(*path)) else {
        bail!("the sandboxed dkms asks for {kind} {content}, which is not available");
    };
    Ok(match file::open_regular(path) {
        Ok((file, _)) => Answer::File(file),
        Err(error) => Answer::Value(error.to_string().into()),
    })
}

/// A sandboxed part of our program. It is ended when this is dropped.
#[derive(Debug)]
pub struct Link {
    child: Child,
    input: Option<UnixStream>,
    output: ChildStdout,
    _lease: Option<Lease>,
}

impl Link {
    /// Starts a part.
    #[allow(clippy::disallowed_methods)] // like `sys::run`, with a pipe in place of a file
    pub fn start(part: &str, spec: &Spec) -> Result<Self> {
        let spec = Spec { inside: Some(part.to_owned()), cwd: "/".into(), ..spec.clone() };
        let (question, lease) = confine::question(&spec)?;
        let (input, theirs) = UnixStream::pair().context("making a socket pair")?;
        let mut child = Command::new("/proc/self/exe")
            .arg0(confine::OUTER)
            .env_clear()
            .env(confine::SPEC, question)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the sandboxed dkms")?;
        let output = child.stdout.take().context("a process without output")?;
        rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK)?;
        Ok(Self { child, input: Some(input), output, _lease: lease })
    }

    /// Sends a request and returns the result. After [`Gone`], the part answers no further call.
    pub fn call<F: DeserializeOwned>(
        &mut self,
        request: &impl Serialize,
        mut answer: impl FnMut(&str, Value) -> Result<Answer>,
    ) -> Result<F> {
        let deadline = Instant::now() + TIME;
        self.send(request)?;
        loop {
            let content = self.receive(deadline)?;
            let message = Message::read(&content).map_err(|error| Gone(format!("{error:#}")))?;
            match message {
                Message::Ask(kind, content) => match answer(&kind, content)? {
                    Answer::Value(value) => self.send(&value)?,
                    Answer::File(file) => {
                        self.send(&Value::Null)?;
                        self.send_file(&file)?;
                    }
                },
                Message::Found(found) => {
                    return serde_json::from_value(found).context("the result from the sandbox is malformed");
                }
                Message::Failed(why) => bail!("{why}"),
            }
        }
    }

    fn input(&mut self) -> Result<&mut UnixStream> {
        self.input.as_mut().context("a process without input")
    }

    fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let sent = send(self.input()?, message);
        sent.map_err(|error| Gone(format!("speaking to the sandboxed dkms: {error:#}")).into())
    }

    fn send_file(&mut self, file: &File) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&files));
        rustix::net::sendmsg(self.input()?, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)
            .map_err(|error| Gone(format!("handing a file to the sandboxed dkms: {error}")))?;
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.fill(&mut length, deadline)?;
        let length = checked(length).map_err(|error| Gone(format!("{error:#}")))?;
        let mut content = vec![0; length];
        self.fill(&mut content, deadline)?;
        Ok(content)
    }

    fn fill(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<()> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            signal::check()?;
            match self.output.read(rest) {
                Ok(0) => bail!(Gone("the sandboxed dkms ended early".into())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() >= deadline {
                        bail!(Gone(format!("the sandboxed dkms took longer than {} s", TIME.as_secs())));
                    }
                    let slice = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                    let _ = poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&slice));
                }
                Err(error) => return Err(error).context("listening to the sandboxed dkms"),
            }
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The part ends at the end of its input. The process above it, our child, ends when the kernel has ended all processes
        // of the sandbox. If the part does not end, it is killed first: when this returns, none of its processes is alive.
        drop(self.input.take());
        let deadline = Instant::now() + END;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline || signal::check().is_err() {
                run::kill_children(self.child.id());
                if Instant::now() >= deadline + END {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn send(mut to: impl Write, message: &impl Serialize) -> Result<()> {
    let content = serde_json::to_vec(message)?;
    let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= LIMIT);
    to.write_all(&length.context("a message is too long")?.to_le_bytes())?;
    to.write_all(&content)?;
    Ok(to.flush()?)
}

fn checked(length: [u8; 4]) -> Result<usize> {
    let length = u32::from_le_bytes(length) as usize;
    if length > LIMIT {
        bail!("a message from the sandbox is longer than {} MiB", LIMIT >> 20);
    }
    Ok(length)
}

/// The connection to the caller, in the sandboxed process.
struct Way(Mutex<()>);

static WAY: OnceLock<Way> = OnceLock::new();

/// Whether this process is the sandboxed one: it starts no program.
pub fn here() -> bool {
    WAY.get().is_some()
}

/// Runs the sandboxed part: `work` gets each request, and returns its result.
pub fn serve<R: DeserializeOwned, F: Serialize>(mut work: impl FnMut(R) -> Result<F>) -> Result<()> {
    WAY.get_or_init(|| Way(Mutex::new(())));
    while let Some(request) = hear::<R>()? {
        let message = match work(request).and_then(|found| Ok(serde_json::to_value(found)?)) {
            Ok(found) => Message::Found(found),
            Err(error) => Message::Failed(format!("{error:#}")),
        };
        if let Err(error) = send(io::stdout().lock(), &message) {
            send(io::stdout().lock(), &Message::Failed(format!("{error:#}")))?;
        }
    }
    Ok(())
}

/// Sends a request for something that needs a program. `None` if this process is not sandboxed.
pub fn outside<A: DeserializeOwned>(kind: &str, content: &impl Serialize) -> Option<Result<A>> {
    let way = WAY.get()?;
    let asked = || -> Result<A> {
        // Several threads survey modules.
        let _one = way.0.lock().map_err(|_| anyhow::anyhow!("another thread has failed"))?;
        put(kind, content)?;
        hear()?.context("there was no answer")
    };
    Some(asked())
}

/// Opens a regular file, and returns its size. In the sandbox, the caller opens it, with its own permissions.
pub fn opened(path: &Path) -> Result<(File, u64)> {
    let Some(way) = WAY.get() else { return Ok(file::open_regular(path)?) };
    let _one = way.0.lock().map_err(|_| anyhow::anyhow!("another thread has failed"))?;
    put(OPEN, &path)?;
    let file = match hear()?.context("there was no answer")? {
        Value::Null => hear_file()?,
        why => bail!("{}", why.as_str().unwrap_or("it is not available")),
    };
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn put(kind: &str, content: &impl Serialize) -> Result<()> {
    send(io::stdout().lock(), &Message::Ask(kind.to_owned(), serde_json::to_value(content)?))
}

/// Reads a message; `None` at the end of the input. Unbuffered, because a file may follow, which is attached to a byte.
fn hear<T: DeserializeOwned>() -> Result<Option<T>> {
    let mut length = [0; 4];
    if !fill_from_input(&mut length)? {
        return Ok(None);
    }
    let mut content = vec![0; checked(length)?];
    if !fill_from_input(&mut content)? {
        bail!("a message is incomplete");
    }
    Ok(Some(serde_json::from_slice(&content)?))
}

/// Fills the buffer; false at the end of the input.
fn fill_from_input(buffer: &mut [u8]) -> Result<bool> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut *rest))? {
            0 => return Ok(false),
            count => filled += count,
        }
    }
    Ok(true)
}

fn hear_file() -> Result<File> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(
        io::stdin(),
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut files) = message {
            return files.next().map(File::from).context("no file came");
        }
    }
    bail!("no file came")
}
