//! The package manager, behind the adapter's program `upcoming`: it lists what would be installed, names the owners of
//! files, downloads packages, and keeps some back. Its answers are data: names and versions go back to it only as they came.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::sys::hash;
use crate::sys::memfd::MemoryFile;
use crate::sys::run::{Cmd, Output};

/// Time for a download.
const FETCH_LIMIT: Duration = Duration::from_secs(3600);
/// Time for all other answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);
/// The verbs that need space.
const FETCH: &str = "fetch";
const FETCH_HEADERS: &str = "fetch-headers";
/// Time for a download while a transaction waits.
const HEADERS_LIMIT: Duration = Duration::from_secs(300);
/// Space that a download leaves free.
const RESERVE: u64 = 512 << 20;
/// The same for headers, which are small: no more than a build leaves.
const HEADERS_RESERVE: u64 = 256 << 20;

/// A package that the package manager would install.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How the package manager is asked for it.
    #[serde(skip)]
    spec: String,
    /// No version of it is installed.
    #[serde(skip)]
    pub new: bool,
}

/// The adapter's program.
#[derive(Debug)]
pub struct Manager<'a> {
    program: PathBuf,
    /// A private directory, in which the program may keep what it needs between two calls.
    dir: &'a Path,
}

impl<'a> Manager<'a> {
    /// `None`: the adapter of this system has none.
    pub fn of(layout: &Layout, dir: &'a Path) -> Option<Self> {
        let program = layout.upcoming_program();
        program.exists().then_some(Self { program, dir })
    }

    /// A hash of everything that the answers depend on. It costs much less than an answer.
    pub fn state(&self) -> Result<String> {
        Ok(hash::hex(self.ask("state", &[], &[], ANSWER_LIMIT)?.as_bytes()))
    }

    /// Everything that an upgrade of the whole system would install, as if nothing was kept back.
    pub fn list(&self) -> Result<Vec<Offer>> {
        offers(&self.program, &self.ask("list", &[], &[], ANSWER_LIMIT)?)
    }

    /// Leaves these packages, and those whose upgrade needs them, out of all upgrades. The lines of `reason` explain this
    /// to the administrator. Returns what is kept back; without packages, nothing is.
    pub fn keep_back(&self, packages: &[Offer], reason: &str) -> Result<Vec<Offer>> {
        let specs: Vec<&str> = packages.iter().map(|offer| offer.spec.as_str()).collect();
        offers(&self.program, &self.ask("keep-back", &specs, reason.as_bytes(), ANSWER_LIMIT)?)
    }

    /// A hash of what keeps packages back now; empty if nothing does. An administrator may have changed or deleted it.
    pub fn in_force(&self) -> Result<String> {
        let settings = self.ask("in-force", &[], &[], ANSWER_LIMIT)?;
        Ok(if settings.is_empty() { String::new() } else { hash::hex(settings.as_bytes()) })
    }

    /// The installed packages that own one of these files.
    pub fn owners(&self, files: &[PathBuf]) -> Result<BTreeSet<String>> {
        let mut input = Vec::new();
        for file in files {
            input.extend(file.as_os_str().as_bytes());
            input.push(b'\n');
        }
        Ok(self.ask("owners", &[], &input, ANSWER_LIMIT)?.lines().map(str::to_owned).collect())
    }

    /// The packages that these depend on, directly or indirectly.
    pub fn depends(&self, offers: &[Offer]) -> Result<BTreeSet<String>> {
        let specs: Vec<&str> = offers.iter().map(|offer| offer.spec.as_str()).collect();
        Ok(self.ask("depends", &specs, &[], ANSWER_LIMIT)?.lines().map(str::to_owned).collect())
    }

    /// Downloads packages. Returns their files.
    pub fn fetch(&self, offers: &[Offer]) -> Result<Vec<PathBuf>> {
        let specs: Vec<&str> = offers.iter().map(|offer| offer.spec.as_str()).collect();
        let text = self.ask(FETCH, &specs, &[], FETCH_LIMIT)?;
        Ok(text.lines().map(PathBuf::from).collect())
    }

    /// Downloads these packages with a kernel's headers, and what they depend on and is not installed. Returns their files.
    pub fn fetch_headers(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let text = self.ask(FETCH_HEADERS, packages, &[], HEADERS_LIMIT)?;
        Ok(text.lines().map(PathBuf::from).collect())
    }

    fn ask(&self, verb: &str, words: &[&str], input: &[u8], limit: Duration) -> Result<String> {
        let mut command = Cmd::new(&self.program)
            .arg(verb)
            .arg(self.dir)
            .args(words)
            .input(MemoryFile::input(input)?)
            .cwd(self.dir)
            .output(Output::Split)
            .limit(limit);
        if [FETCH, FETCH_HEADERS].contains(&verb) {
            command = command.reserve(self.dir, reserve(verb));
        }
        let done = command.run()?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.output).into_owned());
        }
        let said = String::from_utf8_lossy(&done.errors);
        let why = match done.exceeded {
            Some(crate::sys::run::Exceeded::Time) => {
                format!("no answer after {} minutes", limit.as_secs() / 60)
            }
            Some(_) => {
                let (megabytes, dir) = (reserve(verb) >> 20, self.dir.display());
                format!("less than {megabytes} MiB are free in {dir}: make space there")
            }
            None => match said.lines().rfind(|line| !line.trim().is_empty()) {
                Some(line) => line.trim().to_owned(),
                None => format!("exit code {}", done.code()),
            },
        };
        bail!("{}: {why}", what(verb))
    }
}

fn reserve(verb: &str) -> u64 {
    if verb == FETCH_HEADERS { HEADERS_RESERVE } else { RESERVE }
}

fn what(verb: &str) -> &'static str {
    match verb {
        FETCH | FETCH_HEADERS => "downloading packages failed",
        "keep-back" => "keeping packages back failed",
        _ => "asking the package manager for upgrades failed",
    }
}

fn offers(program: &Path, text: &str) -> Result<Vec<Offer>> {
    let offers: Option<Vec<Offer>> = text.lines().map(offer).collect();
    // Names and versions are a repository's: what may be a pattern or a quote somewhere is left out.
    let plain = |word: &str| {
        word.chars().all(|character| character.is_ascii_alphanumeric() || ".+~:-_^@".contains(character))
    };
    let known = offers.map(|offers| {
        offers.into_iter().filter(|offer| plain(&offer.name) && plain(&offer.version)).collect()
    });
    let Some(offers) = known else {
        let line = text.lines().find(|line| offer(line).is_none()).unwrap_or_default();
        bail!("{} printed {line:?} instead of a package", program.display());
    };
    Ok(offers)
}

/// `NAME VERSION SPEC [new]`
fn offer(line: &str) -> Option<Offer> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, version, spec, new) = match words[..] {
        [name, version, spec] => (name, version, spec, false),
        [name, version, spec, "new"] => (name, version, spec, true),
        _ => return None,
    };
    // What begins with a dash would be an option.
    let offer = || Offer { name: name.to_owned(), version: version.to_owned(), spec: spec.to_owned(), new };
    (!spec.starts_with('-')).then(offer)
}

/// The files whose packages are needed for building: programs, the C library, sources of modules.
pub fn files(layout: &Layout, sources: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut files = layout.build_tools();
    // A command is often a link to another package's program.
    let real: Vec<PathBuf> = files.iter().filter_map(|file| file.canonicalize().ok()).collect();
    files.extend(real);
    files.extend(sources.into_iter().map(|source| source.join("dkms.conf")));
    files.retain(|file| !file.as_os_str().as_bytes().contains(&b'\n'));
    files.sort();
    files.dedup();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_has_three_words() {
        for (line, new) in [("a 1 a=1", false), ("a 1 a=1 new", true)] {
            let expected = Offer { name: "a".into(), version: "1".into(), spec: "a=1".into(), new };
            assert_eq!(offer(line), Some(expected));
        }
        for line in ["", "a", "a 1", "a 1 a=1 more", "a 1 --option"] {
            assert_eq!(offer(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_repositorys_patterns_and_quotes_are_left_out() {
        let text = "a 1:2.0+b~c-1 a=1\nb * b=*\n* 1 *=1\nc '1' c='1'\ne 1^git_2-3.fc41 e@x new\n";
        let names = offers(Path::new("/p"), text).unwrap().into_iter().map(|offer| offer.name);
        assert_eq!(names.collect::<Vec<_>>(), ["a", "e"]);
        assert!(offers(Path::new("/p"), "Warning: unclear\na 1 a=1\n").is_err());
    }
}
