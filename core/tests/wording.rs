//! One plain vocabulary: texts that a person reads do not fall back into the words that they once had.
#![allow(clippy::unwrap_used, clippy::panic)] // a test stops at the first surprise

use std::path::{Path, PathBuf};

/// What must not be said, and what is said in its place. A phrase matches anywhere in a text, whatever its case is, when it
/// is written in lower case; as it stands otherwise.
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
    ("only root may", "must be run as root"),
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
    ("is registered", "is in the DKMS tree"),
    ("not registered", "not in the DKMS tree"),
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
];

/// What imitates shell DKMS, word for word, because scripts read it.
const DKMS_OWN: &[&str] = &["is not executable and was not run", "Original modules exist"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below a path of the workspace that are not for tests only.
fn files(path: &str) -> Vec<PathBuf> {
    let mut open = vec![workspace().join(path)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "tests" || name.ends_with("tests.rs") || path.is_symlink() {
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

/// The string literals of a Rust file up to its tests, each with its line.
fn literals(text: &str) -> Vec<(usize, String)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let (mut at, mut line, mut found) = (0, 1, Vec::new());
    while let Some(first) = text[at..end].chars().next() {
        let (length, literal) = token(&text[at..end]);
        found.extend(literal.map(|literal| (line, literal)));
        let next = at + length.max(first.len_utf8());
        line += text[at..next].matches('\n').count();
        at = next;
    }
    found
}

/// The length of what a text begins with, and its content if that is a string.
fn token(text: &str) -> (usize, Option<String>) {
    let to = |end: Option<usize>| end.unwrap_or(text.len());
    if text.starts_with("//") {
        return (to(text.find('\n')), None);
    }
    for hashes in ["#", "##", ""] {
        if let Some(raw) =
            text.strip_prefix("r").and_then(|text| text.strip_prefix(hashes)?.strip_prefix('"'))
        {
            let close = format!("\"{hashes}");
            let content = raw.find(&close).unwrap_or(raw.len());
            let length = text.len() - raw.len() + content + close.len();
            return (length.min(text.len()), Some(raw[..content].to_owned()));
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
        return ((end + 2).min(text.len()), Some(unfolded(&inside[..end])));
    }
    // A quote as a character, lest a string begin there; and a word, lest its end be taken for the beginning of a raw string.
    for quote in ["'\"'", "'\\\"'", "'\\''"] {
        if text.starts_with(quote) {
            return (quote.len(), None);
        }
    }
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    (text.find(word).unwrap_or(text.len()), None)
}

/// A literal without its `\` at the ends of lines.
fn unfolded(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |all, line| all + line.trim_start())
}

/// The first phrase in a text that must not be there, with what is said in its place.
fn unwanted(text: &str) -> Option<&'static (&'static str, &'static str)> {
    if DKMS_OWN.iter().any(|own| text.contains(own)) {
        return None;
    }
    let lower = text.to_lowercase();
    PHRASES.iter().find(|(phrase, _)| text.contains(phrase) || lower.contains(phrase))
}

#[test]
fn no_text_falls_back_into_private_words() {
    let mut wrong = Vec::new();
    let mut look = |path: &Path, line: usize, text: &str| {
        if let Some((phrase, plain)) = unwanted(text) {
            let path = path.strip_prefix(workspace()).unwrap().display().to_string();
            wrong.push(format!("{path}:{line}: {phrase:?} (plain: {plain}): {text}"));
        }
    };
    for dir in ["core/src", "apt-hook/src", "alpm-hook/src", "dnf-plugin/src"] {
        for path in files(dir).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
            let text = std::fs::read_to_string(&path).unwrap();
            literals(&text).iter().for_each(|(line, literal)| look(&path, *line, literal));
        }
    }
    for path in TEXTS.iter().filter(|path| workspace().join(path).exists()).flat_map(|path| files(path)) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        text.lines().enumerate().for_each(|(index, line)| look(&path, index + 1, line));
    }
    assert!(wrong.is_empty(), "{} texts:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_reader_finds_every_kind_of_literal_and_nothing_else() {
    let text = r####"
// "a comment"
let a = "one \" two"; let b = '"'; let c = r"three\"; let d = r#"fo"ur"#;
let e = "five \
         six"; // "no"
let var = other("seven"); let f = '\''; let g = b"eight";
#[cfg(test)]
mod tests { "nine" }
"####;
    let found: Vec<(usize, String)> = literals(text);
    let found: Vec<(usize, &str)> = found.iter().map(|(line, text)| (*line, text.as_str())).collect();
    let expected =
        [(3, r#"one \" two"#), (3, "three\\"), (3, "fo\"ur"), (4, "five six"), (6, "seven"), (6, "eight")];
    assert_eq!(found, expected);
    assert!(unwanted("dkms: a/1 put off").is_some() && unwanted("Nobody").is_some());
    assert!(unwanted("dkms: a/1 deferred").is_none() && unwanted("stopped before").is_none());
}
