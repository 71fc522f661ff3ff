//! The DKMS tree on disk. Any process may load a [`Snapshot`]; only a [`LockedTree`] can write.

mod load;
mod locked;
mod record;
mod stale;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use locked::{Intent, LockedTree, Pending, unfulfilled};
pub use record::{Failure, Installed, Record, Verdict, is_unsigned, unsigned};
pub use stale::{Stale, stale};

use crate::types::{ModuleId, ModuleName, Placement, Target};

/// The DKMS tree at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every version of every module that has a directory.
    pub modules: BTreeMap<ModuleId, Entry>,
    /// Recorded failures.
    pub failures: BTreeMap<Placement, Failure>,
    /// Module packages with archived originals of the kernel.
    pub originals: BTreeSet<(ModuleName, Target)>,
}

/// One version of one module.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its source.
    pub source: Source,
    /// Its builds.
    pub builds: BTreeMap<Target, Build>,
}

/// The state of a module's source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Registered; the link points to a directory.
    Linked(PathBuf),
    /// The link is dangling: the source was deleted without unregistering.
    Dangling(PathBuf),
    /// The source exists and the link was deleted.
    Unlinked,
    /// No link while the package is being replaced; its old or new source exists.
    Kept(PathBuf),
    /// Neither link nor source: a build that is kept until its successor is verified, or an empty leftover.
    Gone,
}

impl Source {
    /// What is missing of a broken module, as a sentence.
    pub fn missing(&self) -> String {
        match self {
            Self::Dangling(to) => format!("source directory {} not found", to.display()),
            _ => "the source link is missing".to_owned(),
        }
    }
}

/// One build.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// Its module files' names, with suffix.
    pub files: Vec<String>,
    /// It is the installed one.
    pub active: bool,
    /// The record that was written when it was built; `None` if shell DKMS built it.
    pub record: Option<Record>,
}

impl Build {
    /// The paths of its files below `kernel`, the kernel's directory. Without a record, they are known only if the
    /// distribution defines the destination; elsewhere the dkms.conf would have to be evaluated, and nothing is
    /// returned.
    pub fn places(&self, kernel: &Path, destination: Option<&str>) -> Vec<PathBuf> {
        let noted = self.record.iter().flat_map(|record| &record.installed).map(|file| file.path.clone());
        let noted: Vec<PathBuf> = noted.collect();
        match destination {
            Some(destination) if noted.is_empty() => {
                let dir = kernel.join(destination.trim_matches('/'));
                self.files.iter().map(|file| dir.join(file)).collect()
            }
            _ => noted,
        }
    }
}

impl Entry {
    /// The source's directory, if it can be used.
    pub fn source_dir(&self) -> Option<&PathBuf> {
        match &self.source {
            Source::Linked(dir) | Source::Kept(dir) => Some(dir),
            _ => None,
        }
    }
    /// Not registered: a build that stands in until its successor is verified.
    pub fn stands_in(&self) -> bool {
        matches!(self.source, Source::Kept(_) | Source::Gone)
    }
    /// Registered, and must be repaired manually.
    pub fn broken(&self) -> bool {
        matches!(self.source, Source::Dangling(_) | Source::Unlinked)
    }
}

impl Snapshot {
    /// Whether the module is registered.
    pub fn registered(&self, id: &ModuleId) -> bool {
        self.modules.get(id).is_some_and(|entry| matches!(entry.source, Source::Linked(_)))
    }
    /// A module's build.
    pub fn build(&self, id: &ModuleId, target: &Target) -> Option<&Build> {
        self.modules.get(id)?.builds.get(target)
    }
    /// All versions of a module.
    pub fn versions<'a>(&'a self, name: &'a ModuleName) -> impl Iterator<Item = (&'a ModuleId, &'a Entry)> {
        self.modules.iter().filter(move |(id, _)| id.name == *name)
    }
    /// The installed version of a module for a kernel.
    pub fn active(&self, name: &ModuleName, target: &Target) -> Option<&ModuleId> {
        let active = |entry: &Entry| entry.builds.get(target).is_some_and(|build| build.active);
        self.modules.iter().find(|(id, entry)| id.name == *name && active(entry)).map(|(id, _)| id)
    }
    /// Other versions of a module that are marked as installed, or stand in, although this one is installed now.
    pub fn superseded<'a>(&'a self, id: &'a ModuleId, target: &Target) -> BTreeSet<&'a ModuleId> {
        let left = |entry: &Entry| {
            entry.builds.get(target).is_some_and(|build| {
                entry.stands_in() || build.record.as_ref().is_some_and(|record| !record.installed.is_empty())
            })
        };
        self.versions(&id.name)
            .filter(|(other, entry)| *other != id && left(entry))
            .map(|(other, _)| other)
            .collect()
    }
    /// Every target that has a build.
    pub fn targets(&self) -> BTreeSet<Target> {
        self.modules.values().flat_map(|entry| entry.builds.keys().cloned()).collect()
    }
}
