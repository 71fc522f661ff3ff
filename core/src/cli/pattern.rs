//! Shell patterns in the words of `dkms status`, which shell DKMS compares with the names of directories.

use regex_lite::Regex;

/// A word with `*`, `?` and `[…]`.
#[derive(Debug)]
pub(super) struct Pattern {
    word: String,
    /// `None` if the word is a name.
    regex: Option<Regex>,
}

impl Pattern {
    pub(super) fn new(word: &str) -> Self {
        let regex = word.contains(['*', '?', '[']).then(|| Regex::new(&translated(word)).ok()).flatten();
        Self { word: word.to_owned(), regex }
    }

    /// The name, if it is no pattern.
    pub(super) fn name(&self) -> Option<&str> {
        self.regex.is_none().then_some(self.word.as_str())
    }

    /// Whether it matches the whole name.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.regex.as_ref().map_or_else(|| self.word == name, |regex| regex.is_match(name))
    }
}

/// The pattern as a regular expression.
fn translated(word: &str) -> String {
    let mut regex = String::from("^");
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => match set(rest) {
                Some((set, after)) => {
                    regex.push_str(&set);
                    rest = after;
                }
                None => regex.push_str("\\["),
            },
            c => regex.push_str(&regex_lite::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    regex + "$"
}

/// The set after `[` as that of a regular expression, and what follows it; `None` if it has no end.
fn set(text: &str) -> Option<(String, &str)> {
    let (not, text) = match text.strip_prefix(['!', '^']) {
        Some(rest) => ("^", rest),
        None => ("", text),
    };
    // A bracket at the beginning is a member.
    let end = text.char_indices().skip(1).find(|(_, c)| *c == ']').map(|(at, _)| at)?;
    let members: String = text[..end]
        .chars()
        .map(|c| if c == '-' { c.to_string() } else { regex_lite::escape(&c.to_string()) })
        .collect();
    Some((format!("[{not}{members}]"), &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (word, yes, no) in [
            ("hello", &["hello"][..], &["hello2", "ello"][..]),
            ("h*", &["h", "hello"], &["oh"]),
            ("*", &["", "a.b"], &[]),
            ("6.12*", &["6.12.1-amd64"], &["6x12.1"]),
            ("w?rld", &["world", "w-rld"], &["wrld"]),
            ("[hw]*", &["hello", "world"], &["moon"]),
            ("[!hw]*", &["moon"], &["hello", "world"]),
            ("1.[0-9]", &["1.0"], &["1.a", "1.-"]),
            ("a[]]b", &["a]b"], &["ab"]),
            ("a[b", &["a[b"], &["ab"]),
            ("a+b*", &["a+b", "a+bc"], &["aab"]),
            ("(a|b)*", &["(a|b)"], &["a"]),
        ] {
            let pattern = Pattern::new(word);
            assert!(yes.iter().all(|name| pattern.matches(name)), "{word}");
            assert!(!no.iter().any(|name| pattern.matches(name)), "{word}");
        }
        assert_eq!(Pattern::new("hello").name(), Some("hello"));
        assert_eq!(Pattern::new("h*").name(), None);
    }
}
