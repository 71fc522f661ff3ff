//! Where words go. Under a package manager that is standard error: standard output may be debconf's.

use std::io;

use crate::sys::plain::{plain, whole};
use crate::sys::run::say;

/// Somebody who reads along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    stdout: bool,
    quiet: bool,
}

impl Screen {
    /// A person's terminal.
    pub fn person() -> Self {
        Self { stdout: true, quiet: false }
    }
    /// A package manager.
    pub fn package_manager() -> Self {
        Self { stdout: false, quiet: false }
    }
    /// Says only what went wrong.
    pub fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }
    /// A line of progress.
    pub fn progress(&self, line: &str) {
        if self.quiet {
            return;
        }
        let line = format!("{}\n", plain(line));
        if self.stdout { say(io::stdout(), &line) } else { say(io::stderr(), &line) }
    }
    /// Something that must be read.
    pub fn alert(&self, text: &str) {
        say(io::stderr(), &format!("{}\n", plain(text)));
    }
    /// The answer to a question: always on standard output.
    pub fn answer(&self, text: &str) {
        say(io::stdout(), &whole(text));
    }
}
