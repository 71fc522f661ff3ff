//! Text → assignments. Anything that is not on the list of accepted syntax ends parsing.

use super::syntax::{Assignment, Element, Expansion, Part, Value, Word};
use super::{NativeResult, parameter, unknown};

/// Larger files are evaluated by bash.
const SIZE: usize = 64 * 1024;

/// All assignments of a file, in their order.
pub(super) fn file(content: &[u8]) -> NativeResult<Vec<Assignment>> {
    if content.len() > SIZE {
        return unknown("a large file");
    }
    if std::str::from_utf8(content).is_err() {
        return unknown("not UTF-8");
    }
    // This includes NUL, CR, and the two characters that bash uses as internal marks.
    if content.iter().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t')) {
        return unknown("a control character");
    }
    let mut reader = Reader { text: content, at: 0, depth: 0 };
    let mut assignments = Vec::new();
    loop {
        reader.gap(true)?;
        if reader.rest().is_empty() {
            return Ok(assignments);
        }
        // A line of assignments, not followed by a command that they would be the environment of.
        loop {
            assignments.push(reader.assignment()?);
            reader.gap(false)?;
            match reader.peek() {
                None => break,
                Some(b'\n' | b';') => {
                    reader.skip(1);
                    break;
                }
                Some(_) => {}
            }
        }
    }
}

/// A position in a file.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// The current nesting of `${`.
    pub(super) depth: usize,
}

impl Reader<'_> {
    pub(super) fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
    /// The byte here, which must exist.
    pub(super) fn need(&self) -> NativeResult<u8> {
        self.peek().map_or_else(|| unknown("an open end"), Ok)
    }
    pub(super) fn next(&mut self) -> NativeResult<u8> {
        let byte = self.need()?;
        self.at += 1;
        Ok(byte)
    }
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }
    /// Consumes the text if it comes next.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let here = self.rest().starts_with(text.as_bytes());
        self.skip(if here { text.len() } else { 0 });
        here
    }
    /// The longest text here whose bytes satisfy the predicate.
    fn run(&mut self, wanted: impl Fn(&u8) -> bool) -> String {
        let run: Vec<u8> = self.rest().iter().copied().take_while(|byte| wanted(byte)).collect();
        self.skip(run.len());
        String::from_utf8_lossy(&run).into_owned()
    }
    /// A name; empty if there is none.
    pub(super) fn name(&mut self) -> String {
        if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return String::new();
        }
        self.run(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    }
    /// A number that is decimal in arithmetic, too: no leading zero, which would make it octal.
    pub(super) fn number(&mut self) -> NativeResult<usize> {
        number(&self.run(u8::is_ascii_digit))
    }

    /// Skips spaces, continued lines and a comment; line ends, too, if requested.
    fn gap(&mut self, lines: bool) -> NativeResult<()> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t') => self.skip(1),
                Some(b'\n') if lines => self.skip(1),
                Some(b'\\') if self.take("\\\n") => {}
                Some(b'#') => {
                    self.run(|byte| *byte != b'\n');
                }
                _ => return Ok(()),
            }
        }
    }

    fn assignment(&mut self) -> NativeResult<Assignment> {
        let name = self.name();
        if name.is_empty() {
            return unknown("a command");
        }
        let index = if self.take("[") { Some(self.index()?) } else { None };
        let append = self.take("+=");
        if !append && !self.take("=") {
            return unknown("a command");
        }
        let value = match self.peek() {
            Some(b'(') if index.is_some() => return unknown("a list for one element"),
            Some(b'(') => Value::List(self.list()?),
            _ => Value::Plain(self.word(false)?),
        };
        if !matches!(self.peek(), None | Some(b' ' | b'\t' | b'\n' | b';')) {
            return unknown("something right after a word");
        }
        Ok(Assignment { name, index, append, value })
    }

    /// The rest after `NAME[`, including the closing bracket: digits and expansions.
    fn index(&mut self) -> NativeResult<Word> {
        let mut word = Word::new();
        while !self.take("]") {
            match self.need()? {
                byte if byte.is_ascii_digit() => text(&mut word, true, &[byte]),
                b'$' => {
                    let expansion = self.expansion()?;
                    word.push(Part::Expansion { expansion, quoted: true });
                    continue;
                }
                _ => return unknown("arithmetic"),
            }
            self.skip(1);
        }
        Ok(word)
    }

    /// `(word [3]=word …)`
    fn list(&mut self) -> NativeResult<Vec<Element>> {
        self.skip(1);
        let mut items = Vec::new();
        loop {
            self.gap(true)?;
            if self.take(")") {
                return Ok(items);
            }
            let mut index = None;
            if self.take("[") {
                index = Some(self.number()?);
                if !self.take("]=") {
                    return unknown("a pattern in a list");
                }
            }
            let before = self.at;
            let word = self.word(true)?;
            if self.at == before && index.is_none() {
                return unknown("an open end");
            }
            items.push(Element { index, word });
        }
    }

    /// A word up to its end. In a list, more characters are special.
    fn word(&mut self, in_list: bool) -> NativeResult<Word> {
        let mut word = Word::new();
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' => break,
                b';' if !in_list => break,
                b')' if in_list => break,
                b'\'' => {
                    self.skip(1);
                    let inner = self.run(|byte| *byte != b'\'');
                    self.close(b'\'')?;
                    text(&mut word, true, inner.as_bytes());
                }
                b'"' => self.double_quoted(&mut word)?,
                b'$' => self.dollar(&mut word, false)?,
                b'\\' => {
                    self.skip(1);
                    match self.next()? {
                        b'\n' => {}
                        byte if byte.is_ascii() => text(&mut word, true, &[byte]),
                        _ => return unknown("a backslash before a character that is not ASCII"),
                    }
                }
                b'`' => return unknown("a command substitution"),
                b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' => return unknown("an operator"),
                b'~' => return unknown("a tilde"),
                b'{' | b'}' => return unknown("braces"),
                b'*' | b'?' | b'[' if in_list => return unknown("a file name pattern"),
                _ => {
                    let plain = self.run(|byte| !b" \t\n;)'\"$\\`|&<>(~{}*?[".contains(byte));
                    if plain.is_empty() {
                        self.skip(1);
                        text(&mut word, false, &[byte]);
                    } else {
                        text(&mut word, false, plain.as_bytes());
                    }
                }
            }
        }
        Ok(word)
    }

    fn close(&mut self, quote: u8) -> NativeResult<()> {
        if self.next()? == quote { Ok(()) } else { unknown("an open quote") }
    }

    fn double_quoted(&mut self, word: &mut Word) -> NativeResult<()> {
        self.skip(1);
        let before = word.len();
        loop {
            match self.need()? {
                b'"' => {
                    self.skip(1);
                    if word.len() == before {
                        text(word, true, b"");
                    }
                    return Ok(());
                }
                b'`' => return unknown("a command substitution"),
                b'$' => self.dollar(word, true)?,
                b'\\' => {
                    self.skip(1);
                    match self.need()? {
                        b'\n' => self.skip(1),
                        byte @ (b'$' | b'`' | b'"' | b'\\') => {
                            self.skip(1);
                            text(word, true, &[byte]);
                        }
                        _ => text(word, true, b"\\"),
                    }
                }
                _ => {
                    let plain = self.run(|byte| !b"\"`$\\".contains(byte));
                    text(word, true, plain.as_bytes());
                }
            }
        }
    }

    /// `$` and the expansion that it begins.
    fn dollar(&mut self, word: &mut Word, quoted: bool) -> NativeResult<()> {
        match self.rest().get(1).copied() {
            Some(byte) if byte == b'{' || byte == b'_' || byte.is_ascii_alphabetic() => {
                let expansion = self.expansion()?;
                word.push(Part::Expansion { expansion, quoted });
                return Ok(());
            }
            Some(b'\'') if !quoted => return self.ansi_c(word),
            Some(b'"') if !quoted => return unknown("a translated string"),
            // A literal dollar sign, as at the end of a regular expression.
            None => {}
            Some(byte) if b"\" \t\n/.,:;|)%+=^]".contains(&byte) => {}
            Some(_) => return unknown("a special parameter or substitution"),
        }
        self.skip(1);
        text(word, quoted, b"$");
        Ok(())
    }

    /// `$name` or `${…}`.
    pub(super) fn expansion(&mut self) -> NativeResult<Expansion> {
        self.skip(1);
        if self.take("{") {
            return parameter::braced(self);
        }
        let name = self.name();
        if name.is_empty() {
            return unknown("a special parameter or substitution");
        }
        if self.rest().starts_with(b"\\\n") {
            return unknown("a name that may go on in the next line");
        }
        Ok(parameter::plain(name))
    }

    /// `$'…'` with the escapes that every bash interprets in the same way.
    fn ansi_c(&mut self, word: &mut Word) -> NativeResult<()> {
        self.skip(2);
        text(word, true, b"");
        loop {
            let plain = self.run(|byte| !b"'\\".contains(byte));
            text(word, true, plain.as_bytes());
            if self.next()? == b'\'' {
                return Ok(());
            }
            let byte = match self.next()? {
                b'n' => b'\n',
                b't' => b'\t',
                byte @ (b'\\' | b'\'' | b'"' | b'?') => byte,
                _ => return unknown("an escape in $'…'"),
            };
            text(word, true, &[byte]);
        }
    }
}

/// Adds text to a word.
fn text(word: &mut Word, quoted: bool, bytes: &[u8]) {
    // The file is UTF-8, and is split only next to ASCII bytes.
    let more = String::from_utf8_lossy(bytes);
    match (word.last_mut(), quoted) {
        (Some(Part::Quoted(text)), true) | (Some(Part::Bare(text)), false) => text.push_str(&more),
        (_, true) => word.push(Part::Quoted(more.into_owned())),
        (_, false) => word.push(Part::Bare(more.into_owned())),
    }
}

/// See [`Reader::number`].
pub(super) fn number(digits: &str) -> NativeResult<usize> {
    let plain = !digits.is_empty() && digits.len() < 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(number) if plain && (digits == "0" || !digits.starts_with('0')) => Ok(number),
        _ => unknown("arithmetic"),
    }
}
