//! Plain English: messages, documentation and comments do not contain phrases that were replaced.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::panic)] // a test stops at the first surprise

use std::path::{Path, PathBuf};

/// Rejected phrases, with their replacement. A phrase in lower case matches any case; others match exactly.
const PHRASES: &[(&str, &str)] = &[
    ("finished build", "cached build"),
    ("once it has proven to fit", "run `dkms install NAME/VERSION -k K` to install it"),
    ("which stays", "kept"),
    ("taken out of", "uninstalled from"),
    ("put off", "deferred"),
    ("not meant for", "excluded by dkms.conf"),
    ("in the kernel itself", "provided by the kernel"),
    ("this summary again", "details"),
    ("as before:", "not retried: inputs unchanged"),
    ("the whole log", "full log"),
    (" all the same", "to retry, anyway"),
    ("installed kernel has this module", "not installed for any kernel"),
    ("still has the module", "still installed for"),
    ("still have the module", "still installed for"),
    ("stays installed", "remains installed"),
    ("by itself", "automatically"),
    ("of its own accord", "automatically"),
    ("there is no source", "source directory X not found"),
    ("package that bring", "package that provides"),
    ("package that brought", "package that provides"),
    ("not tried before", "pre-build skipped"),
    ("could not be tried", "the pre-build could not run"),
    ("the transaction goes on", "continuing; failed modules do not block this transaction"),
    ("STOPPED before", "transaction aborted, nothing changed"),
    ("machine would lose", "X does not build for K"),
    ("stay with the kernels", "to keep the current kernel"),
    ("comes without its headers", "headers for K are not part of this transaction"),
    ("where they should be", "not found in /lib/modules/K/build"),
    ("every module is ready", "all modules build"),
    ("can tell", "unknown"),
    ("WOULD BE REFUSED", "would be rejected"),
    ("will refuse", "will reject"),
    ("that this asks for", "no matching module is installed"),
    ("is enrolled by", "to enroll this machine's key"),
    ("enrol it", "enroll it"),
    ("signed it", "signed by, unsigned"),
    ("had signed", "modified after signing by"),
    ("made a key", "generated a module signing key (MOK)"),
    ("interrupted by signal {", "interrupted"),
    ("what was begun", "the next run finishes or rolls back"),
    ("is at work", "waiting for the lock held by dkms (pid N)"),
    ("is no action", "unknown command X"),
    ("does not know --", "X is not supported by the command"),
    ("not yours to", "is not writable"),
    ("nothing was made", "nothing to do"),
    ("in circles", "circular dependency"),
    ("remaking", "updating the initramfs, running depmod"),
    ("remade", "regenerated"),
    ("put back the kernel", "restored the kernel's original"),
    ("allows no namespaces", "namespaces are not available: builds are not sandboxed"),
    ("trying dkms modules", "Pre-building DKMS modules..."),
    ("or against advice", "Force, overriding checks"),
    ("another dkms.conf", "Use this dkms.conf"),
    ("the registry", "the DKMS tree"),
    ("answer in json", "Output as JSON"),
    ("say only what", "Print errors only"),
    ("module index", "modules.dep, depmod"),
    ("may stand in any order", "may appear in any order"),
    ("says whether", "checks whether"),
    ("takes away", "also removes"),
    ("smallest file", "minimal example"),
    ("with any value", "if set"),
    ("stands in for", "drop-in replacement for"),
    ("inside the run of", "as part of the transaction of"),
    ("proof before commit", "pre-build"),
    ("would not come along", "does not build for the new kernel"),
    ("compiler's own words", "the compiler error"),
    ("never between", "atomic"),
    ("nothing twice", "incremental"),
    ("module of before", "the previous module"),
    ("build of before", "the cached build"),
    ("what a failure may do", "failure policy"),
    ("tells nobody", "dpkg has no pre-transaction hook"),
    ("nobody", "no one is meant: say what does not happen"),
    ("somebody", "say who"),
    ("comes to", "say what it is"),
    ("says so", "say what is printed"),
    ("went wrong", "no errors, failed"),
    ("is no valid", "is not a valid"),
    ("holds no", "contains no"),
];

/// Rejected phrases of messages and documentation, in addition to [`PHRASES`].
const MESSAGE_PHRASES: &[(&str, &str)] = &[
    ("is registered", "is in the DKMS tree"),
    ("not registered", "not in the DKMS tree"),
    ("only root may", "must be run as root"),
];

/// Rejected phrases of comments, in addition to [`PHRASES`].
const COMMENT_PHRASES: &[(&str, &str)] = &[
    ("as before", "unchanged"),
    (" of before", "the previous X"),
    ("came to", "became, resulted in"),
    ("goes round", "say what happens"),
    ("who asks", "who requests, the caller"),
    ("asks of", "requires"),
    ("is told", "is passed, receives"),
    ("what it is told", "its input"),
    ("tells of", "shows, reports"),
    ("knows of", "contains, has"),
    ("whoever", "name the caller, the user or the program"),
    (" lest ", "so that X does not"),
    ("by themselves", "automatically"),
    ("by ourselves", "without another program"),
    ("by himself", "automatically, manually"),
    ("none of our business", "not handled by dkms"),
    ("none of its business", "not affected"),
    ("hands of", "owned by, written by"),
    ("our hands", "while dkms runs"),
    ("the wall", "the sandbox"),
    ("lies over", "overlays"),
    ("lie over", "overlay"),
    ("of now", "current"),
    ("kernel takes", "the kernel loads"),
    ("take it away", "remove it"),
    ("taken away", "removed"),
    ("puts back", "restores"),
    ("put back", "restored"),
    ("remake", "regenerate"),
    ("made anew", "regenerated"),
    ("his turn", "say what runs before"),
    ("has done its duty", "is no longer needed"),
    ("no good", "invalid"),
    ("in words", "as text"),
];

/// Texts of files that are checked whole, comments included.
const TEXTS: &[&str] = &[
    "packaging/man",
    "packaging/files",
    "packaging/deb",
    "packaging/arch",
    "packaging/rpm",
    "apt-hook/files",
    "alpm-hook/files",
    "dnf-plugin/files",
    "README.md",
    "docs",
];

/// Messages of shell DKMS, which scripts may read.
const DKMS_OWN: &[&str] = &["is not executable and was not run", "Original modules exist"];

/// Directories of Rust files whose comments are checked.
const COMMENTED: &[&str] = &["core", "apt-hook", "alpm-hook", "dnf-plugin", "packaging", "tests"];

/// Contains the rejected phrases.
const THIS_FILE: &str = "core/tests/wording.rs";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below a path of the workspace for which `wanted` returns true for every component of the path.
fn files(path: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut open = vec![workspace().join(path)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if !wanted(&path.file_name().unwrap().to_string_lossy()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "nothing below {path}");
    found.sort();
    found
}

fn is_product(name: &str) -> bool {
    name != "tests" && !name.ends_with("tests.rs")
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "rs")
}

/// A part of a Rust file.
enum Token {
    Literal(String),
    Comment(String),
    Other,
}

/// The literals and comments of a Rust file, each with its line.
fn tokens(text: &str) -> Vec<(usize, Token)> {
    let (mut at, mut line, mut found) = (0, 1, Vec::new());
    while let Some(first) = text[at..].chars().next() {
        let (length, token) = token(&text[at..]);
        if !matches!(token, Token::Other) {
            found.push((line, token));
        }
        let next = at + length.max(first.len_utf8());
        line += text[at..next].matches('\n').count();
        at = next;
    }
    found
}

/// The string literals of a Rust file up to its tests, each with its line.
fn literals(text: &str) -> Vec<(usize, String)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let literal = |(line, token)| if let Token::Literal(text) = token { Some((line, text)) } else { None };
    tokens(&text[..end]).into_iter().filter_map(literal).collect()
}

/// The comments of a Rust file, each with its first line. Adjacent lines are joined, because a phrase may be wrapped.
fn comments(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, usize, String)> = Vec::new();
    for (line, token) in tokens(text) {
        let Token::Comment(text) = token else { continue };
        match found.last_mut() {
            Some((_, last, joined)) if *last + 1 == line => {
                *joined = format!("{joined} {text}");
                *last = line;
            }
            _ => found.push((line, line, text)),
        }
    }
    found.into_iter().map(|(line, _, text)| (line, text)).collect()
}

/// A comment without the code in it, such as the user `nobody`.
fn without_code(comment: &str) -> String {
    comment.split('`').step_by(2).collect()
}

/// The token at the beginning of a text, with its length.
fn token(text: &str) -> (usize, Token) {
    let to = |end: Option<usize>| end.unwrap_or(text.len());
    if text.starts_with("//") {
        let end = to(text.find('\n'));
        let comment = text[..end].trim_start_matches(['/', '!']).trim();
        return (end, Token::Comment(comment.to_owned()));
    }
    for hashes in ["#", "##", "####", ""] {
        if let Some(raw) =
            text.strip_prefix("r").and_then(|text| text.strip_prefix(hashes)?.strip_prefix('"'))
        {
            let close = format!("\"{hashes}");
            let content = raw.find(&close).unwrap_or(raw.len());
            let length = text.len() - raw.len() + content + close.len();
            return (length.min(text.len()), Token::Literal(raw[..content].to_owned()));
        }
    }
    if let Some(inside) = text.strip_prefix('"') {
        let mut escaped = false;
        let end = inside.find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.unwrap_or(inside.len());
        return ((end + 2).min(text.len()), Token::Literal(unfolded(&inside[..end])));
    }
    // A quotation mark as a character does not begin a string, and the end of a word does not begin a raw string.
    for quote in ["'\"'", "'\\\"'", "'\\''"] {
        if text.starts_with(quote) {
            return (quote.len(), Token::Other);
        }
    }
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    (text.find(word).unwrap_or(text.len()), Token::Other)
}

/// A literal without its `\` at the ends of lines.
fn unfolded(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |all, line| all + line.trim_start())
}

/// The first rejected phrase in a text, with its replacement.
fn unwanted(
    text: &str,
    phrases: &'static [(&'static str, &'static str)],
) -> Option<&'static (&'static str, &'static str)> {
    if DKMS_OWN.iter().any(|own| text.contains(own)) {
        return None;
    }
    let lower = text.to_lowercase();
    phrases.iter().find(|(phrase, _)| text.contains(phrase) || lower.contains(phrase))
}

/// Rejected phrases that were found, for the message of a failed test.
#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn check(&mut self, path: &Path, line: usize, text: &str, more: &'static [(&'static str, &'static str)]) {
        if let Some((phrase, plain)) = unwanted(text, PHRASES).or_else(|| unwanted(text, more)) {
            let path = path.strip_prefix(workspace()).unwrap().display().to_string();
            self.0.push(format!("{path}:{line}: {phrase:?} (plain: {plain}): {text}"));
        }
    }

    fn expect_none(self) {
        assert!(self.0.is_empty(), "{} texts:\n{}", self.0.len(), self.0.join("\n"));
    }
}

#[test]
fn no_message_has_a_rejected_phrase() {
    let mut found = Found::default();
    for dir in ["core/src", "apt-hook/src", "alpm-hook/src", "dnf-plugin/src"] {
        for path in files(dir, is_product).into_iter().filter(|path| is_rust(path)) {
            let text = std::fs::read_to_string(&path).unwrap();
            literals(&text).iter().for_each(|(line, text)| found.check(&path, *line, text, MESSAGE_PHRASES));
        }
    }
    for path in
        TEXTS.iter().filter(|path| workspace().join(path).exists()).flat_map(|path| files(path, is_product))
    {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        text.lines()
            .enumerate()
            .for_each(|(index, line)| found.check(&path, index + 1, line, MESSAGE_PHRASES));
    }
    found.expect_none();
}

#[test]
fn no_comment_has_a_rejected_phrase() {
    let mut found = Found::default();
    for path in
        COMMENTED.iter().flat_map(|dir| files(dir, |name| name != "target")).filter(|path| is_rust(path))
    {
        if path == workspace().join(THIS_FILE) {
            continue;
        }
        for (line, comment) in comments(&std::fs::read_to_string(&path).unwrap()) {
            found.check(&path, line, &without_code(&comment), COMMENT_PHRASES);
        }
    }
    found.expect_none();
}

#[test]
fn the_reader_finds_every_kind_of_literal_and_comment() {
    let text = r####"
// "a comment"
let a = "one \" two"; let b = '"'; let c = r"three\"; let d = r#"fo"ur"#;
let e = "five \
         six"; // "no"
let var = other("seven"); let f = '\''; let g = b"eight";
/// Wrapped
/// text.
#[cfg(test)]
mod tests { "nine" } // ten
"####;
    fn borrowed(found: &[(usize, String)]) -> Vec<(usize, &str)> {
        found.iter().map(|(line, text)| (*line, text.as_str())).collect()
    }
    let expected =
        [(3, r#"one \" two"#), (3, "three\\"), (3, "fo\"ur"), (4, "five six"), (6, "seven"), (6, "eight")];
    assert_eq!(borrowed(&literals(text)), expected);
    let expected = [(2, "\"a comment\""), (5, "\"no\""), (7, "Wrapped text."), (10, "ten")];
    assert_eq!(borrowed(&comments(text)), expected);
    let unwanted = |text| unwanted(text, PHRASES);
    assert!(unwanted("dkms: a/1 put off").is_some() && unwanted("Nobody").is_some());
    assert!(unwanted("dkms: a/1 deferred").is_none() && unwanted("stopped before").is_none());
}
