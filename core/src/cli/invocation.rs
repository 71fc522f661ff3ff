//! The command line without its options: the action and its operands.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::action::{Action, Operand};
use super::args::Args;
use super::refuse;
use crate::exit::Exit;
use crate::types::ModuleId;

/// An argument that may name a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CliWord {
    /// `-m`
    Module(String),
    /// `-v`
    Version(String),
    /// An argument that is not an option.
    Word(String),
}

/// The action and its operands, combined with `-m` and `-v`.
#[derive(Debug)]
pub struct Invocation {
    /// The action.
    pub action: Action,
    /// All operands.
    pub rest: Vec<String>,
    /// The name of the module.
    pub name: Option<String>,
    /// The version of the module.
    pub version: Option<String>,
    /// A version was given, and is empty, like that of `-v "$VERSION"` if the variable is not set.
    pub empty_version: bool,
    /// Operands that could not be interpreted.
    pub unrecognized: Vec<String>,
    source: Option<PathBuf>,
    /// `-m` names the module.
    by_option: bool,
}

impl Invocation {
    /// Separates the action, which may be anywhere, from its operands.
    pub fn new(all: &[CliWord]) -> Result<Self> {
        let action = |argument: &CliWord| match argument {
            CliWord::Word(word) => Action::named(word),
            CliWord::Module(_) | CliWord::Version(_) => None,
        };
        let mut actions = all.iter().filter_map(action);
        let (first, second) = (actions.next(), actions.next());
        if let (Some(one), Some(other)) = (first, second) {
            return refuse(Exit::MANY_ACTIONS, format!("only one command at a time: {one} or {other}"));
        }
        let others = || all.iter().filter(|argument| action(argument).is_none());
        let Some(action) = first else {
            let word = others().find_map(|argument| match argument {
                CliWord::Word(word) => Some(word),
                CliWord::Module(_) | CliWord::Version(_) => None,
            });
            return refuse(
                Exit::NO_ACTION,
                match word {
                    Some(word) => super::unknown::command(word),
                    None => "no command given; see dkms --help".to_owned(),
                },
            );
        };
        let mut invocation = Self {
            action,
            rest: Vec::new(),
            name: None,
            version: None,
            empty_version: false,
            unrecognized: Vec::new(),
            source: None,
            by_option: false,
        };
        others().for_each(|argument| invocation.apply(argument));
        invocation.empty_version = invocation.version.as_deref() == Some("");
        for text in [&mut invocation.name, &mut invocation.version] {
            text.take_if(|text| text.is_empty());
        }
        Ok(invocation)
    }

    /// Applies the arguments in their order: the last one takes effect.
    fn apply(&mut self, argument: &CliWord) {
        match argument {
            CliWord::Module(word) => {
                self.by_option = true;
                self.module(word);
            }
            CliWord::Version(word) => self.version = Some(without_slash(word).to_owned()),
            CliWord::Word(word) => {
                self.rest.push(word.clone());
                match source_dir(Path::new(word)) {
                    Some(dir) => self.source = Some(dir),
                    None if self.name.as_ref().is_none_or(String::is_empty) => self.module(word),
                    None => self.unrecognized.push(word.clone()),
                }
            }
        }
    }

    fn module(&mut self, word: &str) {
        match word.split_once('/') {
            Some((name, version)) => {
                (self.name, self.version) = (Some(name.into()), Some(without_slash(version).into()));
            }
            None => self.name = Some(word.into()),
        }
    }

    /// The source directory that was given instead of a module.
    pub fn source(&self) -> Option<&Path> {
        self.source.as_deref().filter(|_| self.name.is_none() && self.version.is_none())
    }

    /// The operand that names the module, unless options or a source directory do.
    pub fn named_by_word(&self) -> Option<&String> {
        self.rest.first().filter(|_| !self.by_option && self.source.is_none())
    }

    /// Whether the module comes from a tarball.
    pub fn brings_tarball(&self, args: &Args) -> bool {
        match self.action.rules().operand {
            Operand::Tarball => true,
            operand => operand.takes_tarball() && !self.by_option && self.tarball(args).is_some(),
        }
    }

    /// The tarball: the one named by `--archive`, or any file among the operands that is not a dkms.conf.
    pub fn tarball(&self, args: &Args) -> Option<PathBuf> {
        let word = || {
            self.rest.iter().map(PathBuf::from).find(|path| path.is_file() && !path.ends_with("dkms.conf"))
        };
        args.archive.clone().or_else(word)
    }

    /// The module that the action applies to.
    pub fn module_id(&self) -> Result<ModuleId> {
        match (&self.name, &self.version) {
            (Some(name), Some(version)) => match (name.parse(), version.parse()) {
                (Ok(name), Ok(version)) => Ok(ModuleId { name, version }),
                (Err(error), _) | (_, Err(error)) => {
                    refuse(self.action.rules().operand.unknown(), format!("{error}"))
                }
            },
            _ => refuse(Exit::ERROR, format!("{} requires MODULE/VERSION", self.action)),
        }
    }
}

/// `1.0/`: the completion of a path leaves the slash.
fn without_slash(version: &str) -> &str {
    version.trim_end_matches('/')
}

/// A directory with a dkms.conf, or the directory of a dkms.conf.
fn source_dir(path: &Path) -> Option<PathBuf> {
    if path.is_file() && path.ends_with("dkms.conf") {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        return Some(dir.unwrap_or(Path::new(".")).to_owned());
    }
    (path.is_dir() && path.join("dkms.conf").is_file()).then(|| path.to_owned())
}
