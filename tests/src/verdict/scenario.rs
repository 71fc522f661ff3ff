//! Scenario files, the format for writing scenarios.

use std::path::PathBuf;

use crate::host;

/// One scripted story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Its sentence, after `==`.
    pub title: String,
    /// Intended differences of ours.
    pub declared: Vec<Declared>,
    /// Shell lines; those that begin with `$ ` are the commands whose effects are compared.
    pub lines: Vec<String>,
}

/// `differs: KEY: ASPECT TEXT`: an intended difference, explained under KEY in the directory's README.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The key of the explanation.
    pub key: String,
    /// `exit`, `status`, `tree`, `modules` or `src`.
    pub aspect: String,
    /// A text that the difference must contain.
    pub text: String,
}

/// The folder with the scenarios.
pub fn folder() -> PathBuf {
    host::workspace().join("tests/scenarios")
}

/// The scenarios of one file, `AREA.txt`.
pub fn load(area: &str) -> Vec<Scenario> {
    let path = folder().join(format!("{area}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The areas that have a file, sorted.
pub fn areas() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("tests/scenarios").flatten();
    let name = |e: std::fs::DirEntry| Some(e.file_name().to_str()?.strip_suffix(".txt")?.to_owned());
    let mut areas: Vec<String> = entries.filter_map(name).collect();
    areas.sort();
    areas
}

/// Parses a file: `== TITLE`, then `differs:` lines, then shell; `#` at the beginning of a line begins a comment.
pub fn parse(text: &str) -> Result<Vec<Scenario>, String> {
    let mut found: Vec<Scenario> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("== ") {
            if found.iter().any(|s| s.title == title) {
                return Err(format!("two scenarios are called {title:?}"));
            }
            found.push(Scenario { title: title.to_owned(), declared: Vec::new(), lines: Vec::new() });
        } else if line.starts_with('#') || line.trim().is_empty() {
        } else if let Some(scenario) = found.last_mut() {
            match line.strip_prefix("differs: ") {
                Some(rest) => scenario.declared.push(declared(rest).ok_or_else(|| format!("{line:?}"))?),
                None => scenario.lines.push(line.to_owned()),
            }
        } else {
            return Err(format!("{line:?} stands before the first scenario"));
        }
    }
    match found.iter().find(|s| !s.lines.iter().any(|l| l.starts_with("$ "))) {
        Some(empty) => Err(format!("{:?} has no command", empty.title)),
        None => Ok(found),
    }
}

fn declared(rest: &str) -> Option<Declared> {
    let (key, what) = rest.split_once(": ")?;
    let (aspect, text) = what.split_once(' ')?;
    let known = ["exit", "status", "tree", "modules", "src"].contains(&aspect);
    known.then(|| Declared { key: key.to_owned(), aspect: aspect.to_owned(), text: text.to_owned() })
}

/// The keys that the directory's README explains: its list items `- **KEY**: …`.
pub fn explained() -> Vec<String> {
    let text = std::fs::read_to_string(folder().join("README.md")).expect("tests/scenarios/README.md");
    let key = |line: &str| Some(line.strip_prefix("- **")?.split_once("**: ")?.0.to_owned());
    text.lines().filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::{Declared, parse};

    #[test]
    fn titles_declarations_comments_and_commands() {
        let found =
            parse("# about\n== one\ndiffers: why: exit 1: Debian 3\n\nsource a 1\n$ dkms add a/1\n").unwrap();
        let declared =
            Declared { key: "why".to_owned(), aspect: "exit".to_owned(), text: "1: Debian 3".to_owned() };
        assert_eq!(found[0].title, "one");
        assert_eq!(found[0].declared, [declared]);
        assert_eq!(found[0].lines, ["source a 1", "$ dkms add a/1"]);
    }

    #[test]
    fn mistakes_are_refused() {
        for bad in
            ["stray\n", "== a\nsource a 1\n", "== a\n$ x\n== a\n$ y\n", "== a\ndiffers: k: mood x\n$ x\n"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
