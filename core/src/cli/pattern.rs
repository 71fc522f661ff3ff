//! Shell patterns in the words of `dkms status`, which shell DKMS compares with the names of directories. As in shell DKMS,
//! they may be extended patterns of bash: `@(a|b)`, `?(a)`, `*(a|b)`, `+(a)`, `!(a|b)`.

use std::collections::BTreeSet;

/// A word, which may be a pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    word: String,
    /// `None` if the word is a name.
    pieces: Option<Vec<Piece>>,
}

#[derive(Debug)]
enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[a-c_]`, `[!a-c_]`
    Set {
        not: bool,
        ranges: Vec<(char, char)>,
    },
    /// `@(a|b)` and its siblings.
    Group {
        times: Times,
        alternatives: Vec<Vec<Piece>>,
    },
}

/// How often a group occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    Once,
    AtMostOnce,
    AnyNumber,
    AtLeastOnce,
    /// Any text that no alternative matches.
    Not,
}

impl Times {
    fn of(sign: char) -> Option<Self> {
        Some(match sign {
            '@' => Self::Once,
            '?' => Self::AtMostOnce,
            '*' => Self::AnyNumber,
            '+' => Self::AtLeastOnce,
            '!' => Self::Not,
            _ => return None,
        })
    }
}

impl Pattern {
    pub(super) fn new(word: &str) -> Self {
        let pieces = parse(&word.chars().collect::<Vec<_>>(), DEPTH);
        let plain = pieces.iter().all(|piece| matches!(piece, Piece::Char(_)));
        Self { word: word.to_owned(), pieces: (!plain).then_some(pieces) }
    }

    /// The name, if it is no pattern.
    pub(super) fn name(&self) -> Option<&str> {
        self.pieces.is_none().then_some(self.word.as_str())
    }

    /// Whether it matches the whole name.
    pub(super) fn matches(&self, name: &str) -> bool {
        let Some(pieces) = &self.pieces else { return self.word == name };
        let text: Vec<char> = name.chars().collect();
        ends(pieces, &text, BTreeSet::from([0])).contains(&text.len())
    }
}

/// Groups in groups that are read. Deeper ones are plain text: reading and matching are recursive, and each `!(…)` in another
/// one multiplies the time.
const DEPTH: usize = 4;

/// Positions in a text. All possible ones are followed together, so that no pattern takes long.
type Positions = BTreeSet<usize>;

/// Where a match of the pieces may end that begins at one of these positions.
fn ends(pieces: &[Piece], text: &[char], starts: Positions) -> Positions {
    pieces.iter().fold(starts, |starts, piece| piece.ends(text, starts))
}

impl Piece {
    fn ends(&self, text: &[char], starts: Positions) -> Positions {
        match self {
            Self::Many => starts.first().map_or_else(Positions::new, |first| (*first..=text.len()).collect()),
            Self::Group { times, alternatives } => {
                let once = |starts: &Positions| -> Positions {
                    alternatives.iter().flat_map(|pieces| ends(pieces, text, starts.clone())).collect()
                };
                match times {
                    Times::Once => once(&starts),
                    Times::AtMostOnce => &once(&starts) | &starts,
                    Times::AnyNumber => repeated(starts, once),
                    Times::AtLeastOnce => repeated(once(&starts), once),
                    Times::Not => starts
                        .into_iter()
                        .flat_map(|start| {
                            let matched = once(&Positions::from([start]));
                            (start..=text.len()).filter(move |end| !matched.contains(end))
                        })
                        .collect(),
                }
            }
            _ => starts
                .into_iter()
                .filter(|at| text.get(*at).is_some_and(|c| self.takes(*c)))
                .map(|at| at + 1)
                .collect(),
        }
    }

    /// Whether a piece that is one character takes this one.
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::Set { not, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *not,
            _ => true,
        }
    }
}

/// These positions, and all that are reached from them by repeated steps.
fn repeated(starts: Positions, step: impl Fn(&Positions) -> Positions) -> Positions {
    let mut reached = starts;
    loop {
        let more = &step(&reached) | &reached;
        if more.len() == reached.len() {
            return reached;
        }
        reached = more;
    }
}

fn parse(mut rest: &[char], depth: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some((c, after)) = rest.split_first() {
        rest = after;
        if let Some((piece, after)) = group(*c, after, depth) {
            rest = after;
            pieces.push(piece);
            continue;
        }
        pieces.push(match c {
            '*' => Piece::Many,
            '?' => Piece::One,
            '[' => match set(after) {
                Some((set, after)) => {
                    rest = after;
                    set
                }
                None => Piece::Char('['),
            },
            c => Piece::Char(*c),
        });
    }
    pieces
}

/// The group that begins with this sign, and what follows it; `None` if it is none or has no end.
fn group(sign: char, after: &[char], depth: usize) -> Option<(Piece, &[char])> {
    let times = Times::of(sign)?;
    let inner = depth.checked_sub(1)?;
    let (_, inside) = after.split_first().filter(|(open, _)| **open == '(')?;
    let mut alternatives = Vec::new();
    let (mut open, mut begin) = (0, 0);
    for (at, c) in inside.iter().enumerate() {
        match c {
            '(' => open += 1,
            ')' if open > 0 => open -= 1,
            '|' | ')' if open == 0 => {
                alternatives.push(parse(&inside[begin..at], inner));
                begin = at + 1;
                if *c == ')' {
                    return Some((Piece::Group { times, alternatives }, &inside[begin..]));
                }
            }
            _ => {}
        }
    }
    None
}

/// The set after `[`, and what follows it; `None` if it has no end.
fn set(text: &[char]) -> Option<(Piece, &[char])> {
    let (not, text) = match text.split_first() {
        Some(('!' | '^', rest)) => (true, rest),
        _ => (false, text),
    };
    // A bracket at the beginning is a member.
    let end = text.iter().skip(1).position(|c| *c == ']')? + 1;
    let mut ranges = Vec::new();
    let mut members = &text[..end];
    while let Some(from) = members.first() {
        let to = members.get(2).filter(|_| members[1] == '-').copied();
        ranges.push((*from, to.unwrap_or(*from)));
        members = &members[if to.is_some() { 3 } else { 1 }..];
    }
    Some((Piece::Set { not, ranges }, &text[end + 1..]))
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
            ("1.[0-]", &["1.0", "1.-"], &["1.1"]),
            ("a[]]b", &["a]b"], &["ab"]),
            ("a[b", &["a[b"], &["ab"]),
            ("a+b*", &["a+b", "a+bc"], &["aab"]),
            ("(a|b)*", &["(a|b)"], &["a"]),
            ("*-*-*-a", &["1-2-3-a", "-----a"], &["1-2-a", "1-2-3-b"]),
        ] {
            check(word, yes, no);
        }
        assert_eq!(Pattern::new("hello").name(), Some("hello"));
        assert_eq!(Pattern::new("1.0+deb13~a@(b").name(), Some("1.0+deb13~a@(b"), "a group without an end");
        assert_eq!(Pattern::new("h*").name(), None);
        assert_eq!(Pattern::new("@(hello)").name(), None);
    }

    #[test]
    fn extended_patterns_match_as_in_bash() {
        for (word, yes, no) in [
            ("@(hello|world)*", &["hello", "world-2"][..], &["moon", "oworld"][..]),
            ("v?(4l2)loopback", &["v4l2loopback", "vloopback"], &["v4l2v4l2loopback"]),
            ("*(ab|c)", &["", "ab", "abcab"], &["a", "abx"]),
            ("+([0-9]).*", &["6.12", "10.1-x"], &["a.1", ".1"]),
            ("!(hello|world)", &["moon", "hello2", ""], &["hello", "world"]),
            ("!(h*)", &["moon"], &["hello", "h"]),
            ("a!(b)c", &["ac", "axc", "abbc"], &["abc"]),
            ("@(a|@(b|c)d)e", &["ae", "bde", "cde"], &["be", "abde"]),
            ("1.0+(-rc)", &["1.0-rc", "1.0-rc-rc"], &["1.0+(-rc)", "1.0"]),
        ] {
            check(word, yes, no);
        }
    }

    #[test]
    fn groups_in_groups_have_a_limit() {
        let nested = |depth: usize| "@(".repeat(depth) + "a" + &")".repeat(depth);
        assert!(Pattern::new(&nested(4)).matches("a"));
        assert!(!Pattern::new(&nested(5)).matches("a"));
        // Neither the stack nor the time is exceeded.
        assert!(!Pattern::new(&nested(50_000)).matches("a"));
        assert!(Pattern::new(&"!(*".repeat(9)).matches(&"!(*".repeat(9)), "without an end it is plain text");
    }

    fn check(word: &str, yes: &[&str], no: &[&str]) {
        let pattern = Pattern::new(word);
        for name in yes {
            assert!(pattern.matches(name), "{word} should match {name:?}");
        }
        for name in no {
            assert!(!pattern.matches(name), "{word} should not match {name:?}");
        }
    }
}
