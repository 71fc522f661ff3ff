//! Patterns of `${x%pattern}` and `${x/pattern/…}`: `*`, `?`, `[…]` over ASCII text.

use super::parse::Reader;
use super::{Budget, NativeResult, unknown};

/// A pattern; its pieces match one after the other.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[a-c_]`, `[!a-c_]`
    Set {
        not: bool,
        ranges: Vec<(u8, u8)>,
    },
}

impl Pattern {
    /// Reads a pattern up to one of these bytes, which is not consumed.
    pub(super) fn read(reader: &mut Reader<'_>, ends: &[u8]) -> NativeResult<Self> {
        let mut pieces = Vec::new();
        loop {
            let byte = reader.need()?;
            if ends.contains(&byte) {
                return Ok(Self(pieces));
            }
            reader.skip(1);
            pieces.push(match byte {
                b'*' => Piece::Many,
                b'?' => Piece::One,
                b'[' => set(reader)?,
                b'\\' => match reader.next()? {
                    byte @ (b'.' | b'*' | b'?' | b'[' | b']' | b'-' | b'+' | b'/') => Piece::Byte(byte),
                    _ => return unknown("a backslash in a pattern"),
                },
                byte if byte.is_ascii_alphanumeric() || b"_-.,:=+@ /".contains(&byte) => Piece::Byte(byte),
                _ => return unknown("a pattern that is not plain"),
            });
        }
    }

    /// Whether it matches the whole text.
    pub(super) fn matches(&self, text: &[u8], budget: &mut Budget) -> NativeResult<bool> {
        let (mut piece, mut at) = (0, 0);
        // The position to retry if the pieces after the last `*` do not match: that one then takes one more byte.
        let mut retry = None;
        loop {
            budget.spend(1)?;
            match self.0.get(piece) {
                Some(Piece::Many) => {
                    retry = Some((piece + 1, at + 1));
                    piece += 1;
                    continue;
                }
                Some(one) if text.get(at).is_some_and(|byte| one.takes(*byte)) => {
                    (piece, at) = (piece + 1, at + 1);
                    continue;
                }
                None if at == text.len() => return Ok(true),
                _ => {}
            }
            match retry {
                Some((then, from)) if from <= text.len() => {
                    (piece, at) = (then, from);
                    retry = Some((then, from + 1));
                }
                _ => return Ok(false),
            }
        }
    }
}

impl Piece {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::One => true,
            Self::Many => false,
            Self::Set { not, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *not
            }
        }
    }
}

/// The rest of a set after `[`, including `]`.
fn set(reader: &mut Reader<'_>) -> NativeResult<Piece> {
    let not = matches!(reader.need()?, b'!' | b'^');
    reader.skip(usize::from(not));
    let mut ranges = Vec::new();
    loop {
        let byte = reader.next()?;
        match byte {
            b']' if !ranges.is_empty() => return Ok(Piece::Set { not, ranges }),
            b'-' if ranges.is_empty() || reader.need()? == b']' => ranges.push((byte, byte)),
            _ if byte.is_ascii_alphanumeric() => {
                let mut end = byte;
                if starts_range(reader.rest()) {
                    reader.skip(1);
                    end = reader.next()?;
                    if !is_range(byte, end) {
                        return unknown("a range in a pattern");
                    }
                }
                ranges.push((byte, end));
            }
            b'_' | b'.' | b'+' | b',' | b':' if !starts_range(reader.rest()) => ranges.push((byte, byte)),
            _ => return unknown("a set in a pattern"),
        }
    }
}

/// Whether a range begins after a character of a set: a dash that is not the last character.
pub(super) fn starts_range(rest: &[u8]) -> bool {
    rest.starts_with(b"-") && !rest.starts_with(b"-]")
}

/// Ranges within digits, or within letters of one case, are the same in every locale that bash may have.
pub(super) fn is_range(from: u8, to: u8) -> bool {
    let kinds: [fn(&u8) -> bool; 3] = [u8::is_ascii_digit, u8::is_ascii_lowercase, u8::is_ascii_uppercase];
    from <= to && kinds.iter().any(|kind| kind(&from) && kind(&to))
}
