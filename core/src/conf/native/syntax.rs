//! The syntax tree of a file that is understood.

use super::glob::Pattern;

/// `NAME=value`, `NAME[index]+=value`, `NAME=(…)`.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) name: String,
    /// The text between the brackets; must expand to a plain number.
    pub(super) index: Option<Word>,
    /// `+=`
    pub(super) append: bool,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Plain(Word),
    List(Vec<Element>),
}

/// A word of a list: `[index]=word`, or one that is split into elements.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) index: Option<usize>,
    pub(super) word: Word,
}

/// Adjacent pieces.
pub(super) type Word = Vec<Part>;

#[derive(Debug)]
pub(super) enum Part {
    /// Text outside of quotes.
    Bare(String),
    /// Text inside of quotes of any kind, or after a backslash. May be empty: `""` is an empty word, while nothing is
    /// no word.
    Quoted(String),
    Expansion {
        expansion: Expansion,
        quoted: bool,
    },
}

/// `${name[which]change}`
#[derive(Debug)]
pub(super) struct Expansion {
    pub(super) name: String,
    pub(super) which: Which,
    pub(super) change: Change,
}

/// Selects the elements of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// A plain variable is its own element 0.
    One(usize),
    /// `[@]`
    Each,
    /// `[*]`
    Joined,
}

#[derive(Debug)]
pub(super) enum Change {
    None,
    /// `${#x}`: of text in characters, of an array in elements.
    Length,
    /// `${x:-word}`, and `${x-word}`, which applies only to an unset variable.
    Default {
        or_empty: bool,
        word: Word,
    },
    /// `${x:+word}` and `${x+word}`.
    Alternative {
        or_empty: bool,
        word: Word,
    },
    /// `${x:offset:length}`; a negative offset counts from the end.
    Slice {
        from_end: bool,
        offset: usize,
        length: Option<usize>,
    },
    /// `${x#pattern}`, `${x##pattern}`.
    CutStart {
        longest: bool,
        pattern: Pattern,
    },
    /// `${x%pattern}`, `${x%%pattern}`.
    CutEnd {
        longest: bool,
        pattern: Pattern,
    },
    /// `${x/pattern/word}` and its variants.
    Replace {
        place: Anchor,
        pattern: Pattern,
        word: Word,
    },
    /// `${x^}`, `${x^^}`, `${x,}`, `${x,,}`.
    Case {
        upper: bool,
        all: bool,
    },
}

/// The position at which `${x/…}` replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// `${x/…}`
    First,
    /// `${x//…}`
    All,
    /// `${x/#…}`
    Start,
    /// `${x/%…}`
    End,
}
