//! Words → text.

use super::glob::Pattern;
use super::syntax::{Anchor, Change, Expansion, Part, Which};
use super::variables::Variables;
use super::{Budget, NativeResult, unknown};

impl Variables {
    /// The text of a word in a context without word splitting.
    pub(super) fn joined(&mut self, word: &[Part]) -> NativeResult<String> {
        let mut text = String::new();
        for part in word {
            let piece = match part {
                Part::Bare(piece) | Part::Quoted(piece) => piece.clone(),
                Part::Expansion { expansion, .. } => self.expanded(expansion)?,
            };
            self.budget.spend(piece.len() + 1)?;
            text.push_str(&piece);
        }
        Ok(text)
    }

    /// The fields of a word in a list: unquoted expansions are split at white space.
    pub(super) fn fields(&mut self, word: &[Part]) -> NativeResult<Vec<String>> {
        match word {
            [Part::Expansion { expansion: all, quoted: true }]
                if all.which == Which::Each && matches!(all.change, Change::None) =>
            {
                let all: Vec<String> = self.elements(&all.name)?.into_iter().map(str::to_owned).collect();
                self.budget.spend(all.iter().map(|field| field.len() + 1).sum())?;
                return Ok(all);
            }
            _ => {}
        }
        let splits = word.iter().any(|part| matches!(part, Part::Expansion { quoted: false, .. }));
        let mut fields = Vec::new();
        let mut field: Option<String> = None;
        for part in word {
            match part {
                Part::Bare(text) if splits && text.contains('=') => {
                    return unknown("an expansion without quotes in what looks like an assignment");
                }
                Part::Bare(text) | Part::Quoted(text) => field.get_or_insert_default().push_str(text),
                Part::Expansion { expansion, quoted } => {
                    match expansion.which {
                        Which::Each if !matches!(expansion.change, Change::Length) => {
                            return unknown("all elements inside of a word");
                        }
                        Which::Joined if !quoted => return unknown("all elements without quotes"),
                        _ => {}
                    }
                    let text = self.expanded(expansion)?;
                    self.budget.spend(text.len() + 1)?;
                    if *quoted {
                        field.get_or_insert_default().push_str(&text);
                        continue;
                    }
                    if text.contains(['*', '?', '[', '\\']) {
                        return unknown("a file name pattern");
                    }
                    for character in text.chars() {
                        match character {
                            ' ' | '\t' | '\n' => fields.extend(field.take()),
                            _ => field.get_or_insert_default().push(character),
                        }
                    }
                }
            }
        }
        fields.extend(field);
        Ok(fields)
    }

    fn expanded(&mut self, expansion: &Expansion) -> NativeResult<String> {
        let Expansion { name, which, change } = expansion;
        let value = match which {
            Which::One(index) => self.element(name, *index)?.map(str::to_owned),
            Which::Each | Which::Joined => {
                let all = self.elements(name)?;
                let (count, joined) = (all.len(), all.join(" "));
                self.budget.spend(joined.len() + 1)?;
                return Ok(if matches!(change, Change::Length) { count.to_string() } else { joined });
            }
        };
        self.budget.spend(value.as_ref().map_or(0, String::len) + 1)?;
        let set = |or_empty: bool| value.as_ref().is_some_and(|value| !or_empty || !value.is_empty());
        match change {
            Change::Default { or_empty, word } if !set(*or_empty) => return self.joined(word),
            Change::Alternative { or_empty, word } => {
                return if set(*or_empty) { self.joined(word) } else { Ok(String::new()) };
            }
            _ => {}
        }
        let value = value.unwrap_or_default();
        if matches!(change, Change::None | Change::Default { .. }) {
            return Ok(value);
        }
        // These operations count characters, or distinguish upper and lower case.
        if !value.is_ascii() {
            return unknown("a change of text that is not ASCII");
        }
        match change {
            Change::Length => Ok(value.len().to_string()),
            Change::Slice { from_end, offset, length } => Ok(slice(&value, *from_end, *offset, *length)),
            Change::CutStart { longest, pattern } => {
                let ends = ordered(0, value.len(), *longest);
                let cut = first(ends, |end| pattern.matches(&value.as_bytes()[..end], &mut self.budget))?;
                Ok(value[cut.unwrap_or(0)..].to_owned())
            }
            Change::CutEnd { longest, pattern } => {
                let starts = ordered(0, value.len(), !*longest);
                let cut =
                    first(starts, |start| pattern.matches(&value.as_bytes()[start..], &mut self.budget))?;
                Ok(value[..cut.unwrap_or(value.len())].to_owned())
            }
            Change::Replace { place, pattern, word } => {
                let with = self.joined(word)?;
                // `&` is the matched text since bash 5.2.
                if with.contains(['&', '\\']) {
                    return unknown("a special character in a replacement");
                }
                replaced(&value, *place, pattern, &with, &mut self.budget)
            }
            Change::Case { upper, all } => {
                let changed = if *upper { value.to_ascii_uppercase() } else { value.to_ascii_lowercase() };
                let rest = usize::from(!value.is_empty());
                Ok(if *all { changed } else { format!("{}{}", &changed[..rest], &value[rest..]) })
            }
            Change::None | Change::Default { .. } | Change::Alternative { .. } => Ok(value),
        }
    }
}

fn slice(value: &str, from_end: bool, offset: usize, length: Option<usize>) -> String {
    let start = if from_end { value.len().checked_sub(offset) } else { Some(offset) };
    let Some(rest) = start.and_then(|start| value.get(start..)) else { return String::new() };
    rest[..length.unwrap_or(rest.len()).min(rest.len())].to_owned()
}

/// The numbers between two bounds, inclusive, ascending or descending.
fn ordered(from: usize, to: usize, down: bool) -> impl Iterator<Item = usize> {
    (from..=to).map(move |step| if down { to - (step - from) } else { step })
}

/// The first number for which the predicate is true.
fn first(
    mut numbers: impl Iterator<Item = usize>,
    mut holds: impl FnMut(usize) -> NativeResult<bool>,
) -> NativeResult<Option<usize>> {
    numbers
        .find_map(|number| match holds(number) {
            Ok(false) => None,
            Ok(true) => Some(Ok(number)),
            Err(error) => Some(Err(error)),
        })
        .transpose()
}

fn replaced(
    value: &str,
    place: Anchor,
    pattern: &Pattern,
    with: &str,
    budget: &mut Budget,
) -> NativeResult<String> {
    if pattern.matches(b"", budget)? {
        return unknown("a replacement of nothing");
    }
    let bytes = value.as_bytes();
    let mut text = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let possible = match place {
            Anchor::Start => at == 0,
            _ => true,
        };
        let shortest = if place == Anchor::End { bytes.len() } else { at + 1 };
        // The longest match at the leftmost position.
        let end = if possible {
            first(ordered(shortest, bytes.len(), true), |end| pattern.matches(&bytes[at..end], budget))?
        } else {
            None
        };
        match end {
            Some(end) => {
                budget.spend(with.len() + 1)?;
                text.push_str(with);
                at = end;
                if place != Anchor::All {
                    break;
                }
            }
            None => {
                text.push(char::from(bytes[at]));
                at += 1;
            }
        }
    }
    text.push_str(&value[at..]);
    Ok(text)
}
