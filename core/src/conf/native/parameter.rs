//! `${…}`

use super::glob::Pattern;
use super::parse::Reader;
use super::syntax::{Anchor, Change, Expansion, Part, Which, Word};
use super::{NativeResult, unknown};

/// The maximum nesting of `${`.
const DEPTH: usize = 8;

/// `$name`
pub(super) fn plain(name: String) -> Expansion {
    Expansion { name, which: Which::One(0), change: Change::None }
}

/// The rest after `${`, including the closing brace.
pub(super) fn braced(reader: &mut Reader<'_>) -> NativeResult<Expansion> {
    reader.depth += 1;
    if reader.depth > DEPTH {
        return unknown("deep nesting");
    }
    let length = reader.take("#");
    let name = reader.name();
    if name.is_empty() {
        return unknown("a special parameter");
    }
    let which = which(reader)?;
    let change = if length { Change::Length } else { change(reader)? };
    if !reader.take("}") {
        return unknown("an unknown expansion");
    }
    if !matches!((which, &change), (Which::One(_), _) | (_, Change::None | Change::Length)) {
        return unknown("a change of all elements");
    }
    reader.depth -= 1;
    Ok(Expansion { name, which, change })
}

fn which(reader: &mut Reader<'_>) -> NativeResult<Which> {
    if !reader.take("[") {
        return Ok(Which::One(0));
    }
    let which = if reader.take("@") {
        Which::Each
    } else if reader.take("*") {
        Which::Joined
    } else {
        Which::One(reader.number()?)
    };
    if reader.take("]") { Ok(which) } else { unknown("arithmetic") }
}

/// The operation after the name, up to the closing brace.
fn change(reader: &mut Reader<'_>) -> NativeResult<Change> {
    if reader.need()? == b'}' {
        return Ok(Change::None);
    }
    for (sign, or_empty) in [(":-", true), ("-", false)] {
        if reader.take(sign) {
            return Ok(Change::Default { or_empty, word: word(reader)? });
        }
    }
    for (sign, or_empty) in [(":+", true), ("+", false)] {
        if reader.take(sign) {
            return Ok(Change::Alternative { or_empty, word: word(reader)? });
        }
    }
    for (sign, longest) in [("##", true), ("#", false)] {
        if reader.take(sign) {
            return Ok(Change::CutStart { longest, pattern: Pattern::read(reader, b"}")? });
        }
    }
    for (sign, longest) in [("%%", true), ("%", false)] {
        if reader.take(sign) {
            return Ok(Change::CutEnd { longest, pattern: Pattern::read(reader, b"}")? });
        }
    }
    for (sign, upper, all) in
        [("^^", true, true), ("^", true, false), (",,", false, true), (",", false, false)]
    {
        if reader.take(sign) {
            return Ok(Change::Case { upper, all });
        }
    }
    for (sign, place) in
        [("//", Anchor::All), ("/#", Anchor::Start), ("/%", Anchor::End), ("/", Anchor::First)]
    {
        if reader.take(sign) {
            return replace(reader, place);
        }
    }
    if reader.take(":") {
        return slice(reader);
    }
    unknown("an unknown expansion")
}

fn replace(reader: &mut Reader<'_>, place: Anchor) -> NativeResult<Change> {
    // A slash at the beginning of a pattern is part of it in some cases.
    if matches!(reader.need()?, b'/' | b'}') {
        return unknown("an empty pattern");
    }
    let pattern = Pattern::read(reader, b"/}")?;
    let word = if reader.take("/") { word(reader)? } else { Word::new() };
    Ok(Change::Replace { place, pattern, word })
}

fn slice(reader: &mut Reader<'_>) -> NativeResult<Change> {
    let negative = reader.take(" -");
    let offset = reader.number()?;
    let from_end = negative && offset > 0;
    let length = if reader.take(":") { Some(reader.number()?) } else { None };
    Ok(Change::Slice { from_end, offset, length })
}

/// A word inside of braces, up to the closing one, which is not consumed. The meaning of quotes and backslashes depends
/// on the context here, so they are not accepted.
fn word(reader: &mut Reader<'_>) -> NativeResult<Word> {
    let mut word = Word::new();
    let mut plain = String::new();
    loop {
        match reader.need()? {
            b'}' => break,
            b'$' => {
                word.push(Part::Bare(std::mem::take(&mut plain)));
                let expansion = reader.expansion()?;
                if !matches!(expansion.which, Which::One(_)) {
                    return unknown("all elements inside of an expansion");
                }
                word.push(Part::Expansion { expansion, quoted: false });
                continue;
            }
            byte if byte.is_ascii_alphanumeric() || b" _-./:,=+%@^#".contains(&byte) => {
                plain.push(byte.into())
            }
            _ => return unknown("an unknown character inside of an expansion"),
        }
        reader.skip(1);
    }
    word.push(Part::Bare(plain));
    Ok(word)
}
