//! A sandboxed part of our own program: it runs [confined](super::confine) under the overlay, reads files and starts no
//! program. It sends its result, and requests what needs a program: that is executed in a separate sandbox, so that
//! files of a package cannot speak for this process.
//!
//! Messages are JSON, each after its length: four bytes, little-endian.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::confine::{self, Spec};
use super::signal;

/// Larger than any message. A survey of a hundred modules for ten kernels is a tenth of it.
pub const LIMIT: usize = 64 << 20;
/// The time limit of the whole part. Reading the headers of several kernels takes seconds.
const TIME: Duration = Duration::from_secs(300);

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
        serde_json::from_slice(content).context("a message from behind the wall is malformed")
    }
}

/// Runs a part of our program in the sandbox and returns its result. `answer` gets the kind and the content of its
/// requests.
pub fn ask<F: DeserializeOwned>(
    part: &str,
    spec: &Spec,
    request: &impl Serialize,
    mut answer: impl FnMut(&str, Value) -> Result<Value>,
) -> Result<F> {
    let spec = Spec { inside: Some(part.to_owned()), cwd: "/".into(), ..spec.clone() };
    let mut other = Other::start(&spec)?;
    other.send(request)?;
    loop {
        match Message::read(&other.receive()?)? {
            Message::Ask(kind, content) => {
                let content = answer(&kind, content)?;
                other.send(&content)?;
            }
            Message::Found(found) => {
                return serde_json::from_value(found).context("what was found behind the wall is malformed");
            }
            Message::Failed(why) => bail!("{why}"),
        }
    }
}

/// The sandboxed process. It is killed when this is dropped.
struct Other {
    child: Child,
    output: ChildStdout,
    deadline: Instant,
}

impl Other {
    #[allow(clippy::disallowed_methods)] // like `sys::run`, with a pipe in place of a file
    fn start(spec: &Spec) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0(confine::OUTER)
            .env_clear()
            .env(confine::SPEC, serde_json::to_string(spec)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the sandboxed dkms")?;
        let output = child.stdout.take().context("a process without output")?;
        rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK)?;
        Ok(Self { child, output, deadline: Instant::now() + TIME })
    }

    fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let input = self.child.stdin.as_mut().context("a process without input")?;
        send(input, message).context("speaking to the sandboxed dkms")
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let mut content = vec![0; checked(length)?];
        self.fill(&mut content)?;
        Ok(content)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            signal::check()?;
            match self.output.read(rest) {
                Ok(0) => bail!("the sandboxed dkms ended early"),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() >= self.deadline {
                        bail!("the sandboxed dkms took longer than {} s", TIME.as_secs());
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

impl Drop for Other {
    fn drop(&mut self) {
        // When the outer process ends, the kernel kills the inner one.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
        bail!("a message from behind the wall is longer than {} MiB", LIMIT >> 20);
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

/// Runs the sandboxed part: `work` gets the request, and returns the result.
pub fn serve<R: DeserializeOwned, F: Serialize>(work: impl FnOnce(R) -> Result<F>) -> Result<()> {
    let request: R = hear()?;
    WAY.get_or_init(|| Way(Mutex::new(())));
    let message = match work(request).and_then(|found| Ok(serde_json::to_value(found)?)) {
        Ok(found) => Message::Found(found),
        Err(error) => Message::Failed(format!("{error:#}")),
    };
    send(std::io::stdout().lock(), &message)
}

/// Sends a request for something that needs a program. `None` if this process is not sandboxed.
pub fn outside<A: DeserializeOwned>(kind: &str, content: &impl Serialize) -> Option<Result<A>> {
    let way = WAY.get()?;
    let asked = || -> Result<A> {
        // Several threads survey modules.
        let _one = way.0.lock().map_err(|_| anyhow::anyhow!("another thread has failed"))?;
        send(std::io::stdout().lock(), &Message::Ask(kind.to_owned(), serde_json::to_value(content)?))?;
        hear()
    };
    Some(asked())
}

fn hear<T: DeserializeOwned>() -> Result<T> {
    let mut input = std::io::stdin().lock();
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let mut content = vec![0; checked(length)?];
    input.read_exact(&mut content)?;
    Ok(serde_json::from_slice(&content)?)
}
