//! Text with colours, for a terminal. Its parts are filtered like all output; only the colours are escape sequences.

use crate::sys::plain::whole;

/// What a part of a text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Neither good nor bad.
    Plain,
    /// As it should be.
    Good,
    /// Not as it could be.
    Doubtful,
    /// Wrong.
    Bad,
    /// Of less importance.
    Faint,
}

/// A text of parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Painted(Vec<(Tone, String)>);

impl Painted {
    /// Adds a part.
    pub fn push(&mut self, tone: Tone, text: impl Into<String>) {
        self.0.push((tone, text.into()));
    }

    /// The parts, filtered.
    pub(super) fn parts(&self) -> impl Iterator<Item = (Tone, String)> {
        self.0.iter().map(|(tone, text)| (*tone, whole(text)))
    }

    /// The text, with colours or without.
    pub fn text(&self, colours: bool) -> String {
        let parts = self.parts().map(|(tone, text)| match tone.code().filter(|_| colours) {
            Some(code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            None => text,
        });
        parts.collect()
    }
}

impl Tone {
    /// The parameter of SGR (ECMA-48, 8.3.117).
    fn code(self) -> Option<u8> {
        match self {
            Self::Plain => None,
            Self::Good => Some(32),
            Self::Doubtful => Some(33),
            Self::Bad => Some(31),
            Self::Faint => Some(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_colours_reach_the_terminal() {
        let mut text = Painted::default();
        text.push(Tone::Plain, "a ");
        text.push(Tone::Bad, "b\u{1b}[2J");
        assert_eq!(text.text(false), "a b");
        assert_eq!(text.text(true), "a \u{1b}[31mb\u{1b}[0m");
    }
}
