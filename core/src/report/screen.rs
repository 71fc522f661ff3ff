//! Where messages are printed. Under a package manager this is standard error: standard output may belong to debconf.

use std::io;
use std::sync::{Mutex, PoisonError};

use console::Term;

use super::progress::Progress;
use super::{Painted, live};
use crate::sys::plain::{json, plain, whole};
use crate::sys::run::{say, write};

/// Why a result could not be written.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// The destination of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    person: bool,
    /// Progress is printed on standard error: a program reads standard output.
    aside: bool,
    quiet: bool,
    /// A program reads progress as JSON on standard output.
    events: bool,
}

impl Screen {
    /// A user's terminal.
    pub fn person() -> Self {
        Self { person: true, aside: false, quiet: false, events: false }
    }
    /// A package manager.
    pub fn package_manager() -> Self {
        Self { person: false, aside: true, quiet: false, events: false }
    }
    /// Whether progress is printed for people.
    pub fn talks(&self) -> bool {
        !self.quiet && !self.events
    }
    /// Whether only errors are printed.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
    /// Whether the reader is a user, who started this program.
    pub fn is_person(&self) -> bool {
        self.person
    }
    /// With progress on standard error: a program reads standard output.
    #[must_use]
    pub fn aside(self) -> Self {
        Self { aside: true, ..self }
    }
    /// Prints progress as JSON.
    #[must_use]
    pub fn events(self, events: bool) -> Self {
        Self { events, ..self }
    }
    /// Prints an event, if a program reads them.
    pub fn event(&self, event: &Progress<'_>) {
        if !self.events {
            return;
        }
        match serde_json::to_value(event) {
            Ok(mut value) => {
                json(&mut value);
                self.write(&format!("{value}\n"));
            }
            Err(error) => self.alert(&format!("dkms: {error}")),
        }
    }
    /// Prints only errors.
    pub fn quiet(self, quiet: bool) -> Self {
        Self { quiet, ..self }
    }
    /// Prints a progress message.
    pub fn progress(&self, line: &str) {
        if self.events {
            return self.event(&Progress::Message { text: line });
        }
        if self.quiet {
            return;
        }
        let line = format!("{}\n", plain(line));
        live::above(|| if self.aside { say(io::stderr(), &line) } else { say(io::stdout(), &line) });
    }
    /// Prints a message that is never suppressed.
    pub fn alert(&self, text: &str) {
        live::above(|| say(io::stderr(), &format!("{}\n", plain(text))));
    }
    /// The width of the terminal that results of queries are printed on, if it is one.
    pub fn terminal(&self) -> Option<usize> {
        let terminal = Term::stdout();
        terminal.is_term().then(|| usize::from(terminal.size().1))
    }
    /// Prints the result of a query, with colours if the terminal has them and NO_COLOR is not set.
    pub fn painted(&self, text: &Painted) {
        self.write(&text.text(console::colors_enabled()));
    }
    /// Why a result of a query could not be written.
    pub fn lost(&self) -> Option<io::Error> {
        LOST.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
    /// Prints the result of a query: always on standard output.
    pub fn answer(&self, text: &str) {
        self.write(&whole(text));
    }
    fn write(&self, text: &str) {
        let mut written = Ok(());
        live::above(|| written = write(io::stdout(), text));
        // A reader that has seen enough, such as head, is not an error.
        if let Some(error) = written.err().filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
            LOST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}
