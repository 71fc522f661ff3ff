//! `=~`: the part of POSIX extended regular expressions whose meaning does not depend on the implementation. The only
//! result is whether there is a match.

use super::glob::{is_range, starts_range};
use super::{Budget, NativeResult, unknown};

/// Longer expressions and texts are left to bash.
const LENGTH: usize = 512;
/// The maximum nesting of parentheses.
const DEPTH: usize = 16;

/// Whether the pattern matches somewhere in the text.
pub(super) fn matches(pattern: &str, text: &str, budget: &mut Budget) -> NativeResult<bool> {
    let printable = |byte: u8| (b' '..=b'~').contains(&byte);
    if pattern.len() > LENGTH || text.len() > LENGTH || !text.bytes().all(printable) {
        return unknown("a regular expression on unusual text");
    }
    budget.spend(pattern.len() * (text.len() + 1))?;
    match regex_lite::Regex::new(&translated(pattern.as_bytes())?) {
        Ok(regex) => Ok(regex.is_match(text)),
        Err(_) => unknown("a regular expression"),
    }
}

/// The previous token, which determines what may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// The beginning of a branch.
    Start,
    /// A token that may be repeated.
    Atom,
    /// A token that may not be repeated.
    Done,
}

fn translated(mut bytes: &[u8]) -> NativeResult<String> {
    let mut out = String::new();
    let mut last = Last::Start;
    let mut depth = 0;
    while !bytes.is_empty() {
        last = match next(&mut bytes)? {
            byte @ (b'^' | b'$') => {
                out.push(byte.into());
                Last::Done
            }
            b'.' => {
                out.push('.');
                Last::Atom
            }
            byte @ (b'*' | b'+' | b'?') if last == Last::Atom => {
                out.push(byte.into());
                Last::Done
            }
            b'(' if depth < DEPTH => {
                out.push_str("(?:");
                depth += 1;
                Last::Start
            }
            b')' if depth > 0 && last != Last::Start => {
                out.push(')');
                depth -= 1;
                Last::Atom
            }
            b'|' if last != Last::Start => {
                out.push('|');
                Last::Start
            }
            b'[' => {
                set(&mut bytes, &mut out)?;
                Last::Atom
            }
            b'\\' => match next(&mut bytes)? {
                byte if b".[]()*+?{}|^$\\".contains(&byte) => {
                    literal(byte, &mut out);
                    Last::Atom
                }
                _ => return unknown("an escape in a regular expression"),
            },
            byte if byte.is_ascii_alphanumeric() || b"_-/:,=@%~ !#".contains(&byte) => {
                literal(byte, &mut out);
                Last::Atom
            }
            _ => return unknown("a regular expression"),
        };
    }
    if depth > 0 || last == Last::Start { unknown("a regular expression") } else { Ok(out) }
}

fn literal(byte: u8, out: &mut String) {
    out.push_str(&regex_lite::escape(char::from(byte).encode_utf8(&mut [0; 4])));
}

/// The rest of a set after `[`, including `]`. A backslash in a set is literal.
fn set(bytes: &mut &[u8], out: &mut String) -> NativeResult<()> {
    out.push('[');
    if bytes.starts_with(b"^") {
        next(bytes)?;
        out.push('^');
    }
    let mut first = true;
    loop {
        let byte = next(bytes)?;
        match byte {
            b']' if !first => {
                out.push(']');
                return Ok(());
            }
            b'-' if first || bytes.starts_with(b"]") => out.push_str("\\-"),
            _ if byte.is_ascii_alphanumeric() && starts_range(bytes) => {
                next(bytes)?;
                let end = next(bytes)?;
                if !is_range(byte, end) {
                    return unknown("a range in a regular expression");
                }
                out.extend([byte.into(), '-', char::from(end)]);
            }
            _ if starts_range(bytes) => return unknown("a range in a regular expression"),
            b'\\' => out.push_str("\\\\"),
            _ if byte.is_ascii_alphanumeric() || b"_.+*?,:/ ()|$".contains(&byte) => out.push(byte.into()),
            _ => return unknown("a set in a regular expression"),
        }
        first = false;
    }
}

fn next(bytes: &mut &[u8]) -> NativeResult<u8> {
    let Some((first, rest)) = bytes.split_first() else {
        return unknown("a regular expression with an open end");
    };
    *bytes = rest;
    Ok(*first)
}
