//! Unnamed files in memory, for programs that can only read files. They disappear with the last process that has them
//! open.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::fs::MemfdFlags;

/// A file that exists as long as this value. Child processes that are started meanwhile inherit it.
#[derive(Debug)]
pub struct MemoryFile(File);

impl MemoryFile {
    /// A file with this content.
    #[allow(clippy::disallowed_methods)] // this is the place
    pub fn new(content: &[u8]) -> Result<Self> {
        let file = rustix::fs::memfd_create("input", MemfdFlags::empty()).context("creating a memfd")?;
        let mut file = File::from(file);
        file.write_all(content).context("writing a memfd")?;
        Ok(Self(file))
    }

    /// A file with this content, from its start, for the standard input of one child process.
    #[allow(clippy::disallowed_methods)] // this is the place
    pub fn input(content: &[u8]) -> Result<File> {
        let mut file =
            File::from(rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC).context("creating a memfd")?);
        file.write_all(content).and_then(|()| file.rewind()).context("writing a memfd")?;
        Ok(file)
    }

    /// Its path for child processes.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}
