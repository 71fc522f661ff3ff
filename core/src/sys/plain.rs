//! The filter between untrusted text and a terminal or our records: a compiler's log, a dkms.conf and a package's name
//! may contain any bytes, including escape sequences.

/// The maximum length of a line: longer ones are generated.
const LINE: usize = 4096;

/// A text without characters that affect a terminal: escape sequences, control characters except line end and tab, and
/// bidirectional formatting characters. Lines that are too long are cut.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut length = 0;
    for character in harmless(text) {
        length = if character == '\n' { 0 } else { length + 1 };
        match length.cmp(&LINE) {
            std::cmp::Ordering::Less => plain.push(character),
            std::cmp::Ordering::Equal => plain.push_str("[...]"),
            std::cmp::Ordering::Greater => {}
        }
    }
    plain
}

/// The same without a limit, for output that programs read.
pub fn whole(text: &str) -> String {
    harmless(text).collect()
}

/// A JSON document whose strings are all plain.
pub fn document(value: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut value = serde_json::to_value(value)?;
    json(&mut value);
    serde_json::to_vec_pretty(&value)
}

/// All strings of a JSON value.
pub fn json(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = plain(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(json),
        serde_json::Value::Object(map) => map.values_mut().for_each(json),
        _ => {}
    }
}

fn harmless(text: &str) -> impl Iterator<Item = char> + '_ {
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || {
        loop {
            let character = rest.next()?;
            match character {
                '\n' | '\t' => return Some(character),
                '\u{1b}' => match rest.peek() {
                    Some('[') => {
                        rest.next();
                        sequence(&mut rest);
                    }
                    Some(']' | 'P' | 'X' | '^' | '_') => {
                        rest.next();
                        string(&mut rest);
                    }
                    Some(' '..='~') => {
                        rest.next();
                    }
                    _ => {}
                },
                '\u{9b}' => sequence(&mut rest),
                '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => string(&mut rest),
                // Bidirectional formatting characters: the displayed text would differ from the actual one.
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
                _ if character.is_control() => {}
                _ => return Some(character),
            }
        }
    })
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// The rest of a control sequence: parameters, and one final character.
fn sequence(rest: &mut Rest<'_>) {
    while rest.next_if(|character| (' '..='?').contains(character)).is_some() {}
    rest.next_if(|character| ('@'..='~').contains(character));
}

/// The rest of a command string. If it does not end on its line, the following lines are kept.
fn string(rest: &mut Rest<'_>) {
    while let Some(character) = rest.next_if(|character| *character != '\n') {
        match character {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                rest.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (text, expected) in [
            ("a\tb\nc", "a\tb\nc"),
            ("\u{1b}[31merror:\u{1b}[0m x", "error: x"),
            ("\u{1b}[1;31m\u{1b}[Kerror", "error"),
            ("\u{1b}]0;owned\u{7}title", "title"),
            ("\u{1b}]52;c;eA==\u{1b}\\clip", "clip"),
            ("\u{9d}0;owned\u{9c}x\u{9b}2Jy", "xy"),
            ("\u{1b}Pdevice\u{1b}\\z\u{1b}c\u{1b}7!", "z!"),
            ("line\roverwritten\u{8}\u{7f}", "lineoverwritten"),
            ("\u{1b}]never ends\nnext", "\nnext"),
            ("a\u{202e}cod\u{2066}x", "acodx"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
            ("größe 中", "größe 中"),
        ] {
            assert_eq!(plain(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_not() {
        let text = plain(&format!("{}\nnext", "x".repeat(1 << 20)));
        assert!(text.len() < 5000 && text.ends_with("[...]\nnext"), "{}", text.len());
    }

    #[test]
    fn every_string_of_a_record_is_plain() {
        let mut value = serde_json::json!({"a": ["\u{1b}[2Jx", {"b": "y\u{7}"}], "n": 1});
        json(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["x", {"b": "y"}], "n": 1}));
    }
}
