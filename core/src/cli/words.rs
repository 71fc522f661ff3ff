//! Words of the command line: action, module, source directory.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::args::Args;
use super::refuse;
use crate::exit::Exit;
use crate::types::ModuleId;

/// All actions.
pub(super) const ACTIONS: &[&str] = &[
    "add",
    "build",
    "install",
    "uninstall",
    "unbuild",
    "remove",
    "status",
    "autoinstall",
    "check",
    "preflight",
    "kernel_preinst",
    "kernel_postinst",
    "kernel_prerm",
    "generate_mok",
    "history",
    "match",
    "mktarball",
    "ldtarball",
];

/// Something on the command line that may name a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// `-m`
    Module(String),
    /// `-v`
    Version(String),
    /// A word that is no option.
    Word(String),
}

/// The words that are no options, and what they and `-m` and `-v` say together.
#[derive(Debug, Default)]
pub struct Words {
    /// The action.
    pub action: String,
    /// The others.
    pub rest: Vec<String>,
    /// The module's name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Words that mean nothing.
    pub strange: Vec<String>,
    source: Option<PathBuf>,
    /// `-m` names the module.
    by_option: bool,
}

impl Words {
    /// Tells the action from the other words: it may stand anywhere.
    pub fn new(all: &[Told]) -> Result<Self> {
        let mut words = Self::default();
        for told in all {
            match told {
                Told::Word(word) if ACTIONS.contains(&word.as_str()) => match words.action.as_str() {
                    "" => words.action = word.clone(),
                    one => {
                        return refuse(
                            Exit::MANY_ACTIONS,
                            format!("only one action at a time: {one} or {word}"),
                        );
                    }
                },
                told => words.tell(told),
            }
        }
        for text in [&mut words.name, &mut words.version] {
            text.take_if(|text| text.is_empty());
        }
        match (words.action.as_str(), words.rest.first()) {
            ("", None) => refuse(Exit::NO_ACTION, "no action given: dkms --help lists them"),
            ("", Some(word)) => {
                refuse(Exit::NO_ACTION, format!("{word:?} is no action: dkms --help lists them"))
            }
            _ => Ok(words),
        }
    }

    /// Makes one statement after the other, as they stand there: the last one counts.
    fn tell(&mut self, told: &Told) {
        match told {
            Told::Module(word) => {
                self.by_option = true;
                self.module(word);
            }
            Told::Version(word) => self.version = Some(word.clone()),
            Told::Word(word) => {
                self.rest.push(word.clone());
                match source_dir(Path::new(word)) {
                    Some(dir) => self.source = Some(dir),
                    None if self.name.as_ref().is_none_or(String::is_empty) => self.module(word),
                    None => self.strange.push(word.clone()),
                }
            }
        }
    }

    fn module(&mut self, word: &str) {
        match word.split_once('/') {
            Some((name, version)) => (self.name, self.version) = (Some(name.into()), Some(version.into())),
            None => self.name = Some(word.into()),
        }
    }

    /// The exit code for a module that cannot exist.
    fn unknown_module(&self) -> Exit {
        if matches!(self.action.as_str(), "add" | "build" | "install") {
            Exit::NO_SOURCE
        } else {
            Exit::NOT_ADDED
        }
    }

    /// The source directory that was given in place of a module.
    pub fn source(&self) -> Option<&Path> {
        self.source.as_deref().filter(|_| self.name.is_none() && self.version.is_none())
    }

    /// Whether the module is to come out of a tarball.
    pub fn brings_tarball(&self, args: &Args) -> bool {
        let may = matches!(self.action.as_str(), "add" | "build" | "install") && !self.by_option;
        self.action == "ldtarball" || may && self.tarball(args).is_some()
    }

    /// A tarball: the one that `--archive` names, or any file among the words that is no dkms.conf.
    pub fn tarball(&self, args: &Args) -> Option<PathBuf> {
        let word = || {
            self.rest.iter().map(PathBuf::from).find(|path| path.is_file() && !path.ends_with("dkms.conf"))
        };
        args.archive.clone().or_else(word)
    }

    /// The one module that an action is about.
    pub fn module_id(&self) -> Result<ModuleId> {
        match (&self.name, &self.version) {
            (Some(name), Some(version)) => match (name.parse(), version.parse()) {
                (Ok(name), Ok(version)) => Ok(ModuleId { name, version }),
                (Err(error), _) | (_, Err(error)) => refuse(self.unknown_module(), format!("{error}")),
            },
            _ => refuse(
                Exit::ERROR,
                format!("dkms {} needs a module and its version: module/version", self.action),
            ),
        }
    }
}

/// A directory with a dkms.conf, or that of a dkms.conf.
fn source_dir(path: &Path) -> Option<PathBuf> {
    if path.is_file() && path.ends_with("dkms.conf") {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        return Some(dir.unwrap_or(Path::new(".")).to_owned());
    }
    (path.is_dir() && path.join("dkms.conf").is_file()).then(|| path.to_owned())
}
