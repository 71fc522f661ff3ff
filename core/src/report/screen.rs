//! Where messages are printed. Under a package manager this is standard error: standard output may belong to debconf.

use std::io;

use crate::sys::plain::{plain, whole};
use crate::sys::run::say;

/// The destination of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    stdout: bool,
    quiet: bool,
}

impl Screen {
    /// A user's terminal.
    pub fn person() -> Self {
        Self { stdout: true, quiet: false }
    }
    /// A package manager.
    pub fn package_manager() -> Self {
        Self { stdout: false, quiet: false }
    }
    /// Prints only errors.
    pub fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }
    /// Prints a progress message.
    pub fn progress(&self, line: &str) {
        if self.quiet {
            return;
        }
        let line = format!("{}\n", plain(line));
        if self.stdout { say(io::stdout(), &line) } else { say(io::stderr(), &line) }
    }
    /// Prints a message that is never suppressed.
    pub fn alert(&self, text: &str) {
        say(io::stderr(), &format!("{}\n", plain(text)));
    }
    /// Prints the result of a query: always on standard output.
    pub fn answer(&self, text: &str) {
        say(io::stdout(), &whole(text));
    }
}
