//! Unpacks the packages of a transaction into one directory, as their package manager will.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Each, Package, reading, walk};
use crate::archive::{Kind, Limits, Listing, Member, Refused, blame};
use crate::layout::merged;
use crate::sys::inside;
use crate::sys::private::Private;

/// Reads a package with these limits of bytes and members.
type Reading<'a> = dyn FnMut(u64, usize, &mut Each<'_>) -> Result<()> + 'a;

/// The state of unpacking. Links are created by [`Unpacking::finish`], after everything was written: nothing is ever
/// written through a link.
#[derive(Debug)]
pub struct Unpacking<'a> {
    private: &'a Private,
    below: PathBuf,
    limits: Limits,
    /// Paths as in the packages.
    listing: Listing,
    bytes: u64,
}

/// Names, by the first name of their file, that are needed while that one is not.
type Orphans = BTreeMap<PathBuf, Vec<PathBuf>>;

impl<'a> Unpacking<'a> {
    /// Creates the directory with this name.
    pub fn new(private: &'a Private, below: &Path) -> Self {
        let limits = Limits::default();
        Self { private, below: below.to_owned(), limits, listing: Listing::new(), bytes: 0 }
    }

    /// With other limits: for all packages together, and for each according to its size.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Unpacks the needed files of a package: paths as in [`Package::paths`], and directories. After an error, the
    /// unpacked files must not be used.
    pub fn take(&mut self, package: &Package, take: &dyn Fn(&Path) -> bool) -> Result<()> {
        let mut read = || -> Result<()> {
            let (_, size) = inside::opened(&package.file)?;
            self.take_from(size, take, &mut |allowed, members, each| {
                walk(&package.file, allowed, members, each).map_err(blame)
            })
        };
        read().with_context(|| reading(&package.file))
    }

    fn take_from(&mut self, size: u64, take: &dyn Fn(&Path) -> bool, read: &mut Reading<'_>) -> Result<()> {
        let (allowed, members) = (self.limits.allowed(size), self.limits.members);
        let mut orphans = Orphans::new();
        read(allowed, members, &mut |mut member, content| {
            member.path = merged(member.path);
            if take(&member.path) && !member.path.as_os_str().is_empty() {
                self.member(member, content, &mut orphans)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if orphans.is_empty() {
            return Ok(());
        }
        // The content belongs to a name that is not needed: the archive is read again for the others.
        read(allowed, members, &mut |member, content| {
            let names = orphans.remove(&merged(member.path)).unwrap_or_default();
            let mut first: Option<PathBuf> = None;
            for name in names {
                if !matches!(member.kind, Kind::File { .. }) {
                    return Err(no_file(&name));
                }
                let (kind, size) = match &first {
                    None => (member.kind.clone(), member.size),
                    Some(first) => (Kind::Same(first.clone()), 0),
                };
                let one = Member { path: name.clone(), kind, size, mtime: member.mtime, set_id: false };
                self.member(one, content, &mut Orphans::new())?;
                first.get_or_insert(name);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        orphans.into_values().flatten().next().map_or(Ok(()), |name| Err(no_file(&name)))
    }

    /// Adds a link that no package contains. An existing file with its name, or in its path, is kept.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        let in_the_way = |above: &Path| !matches!(self.listing.get(above), None | Some(Kind::Dir));
        if self.listing.contains_key(path) || path.ancestors().skip(1).any(in_the_way) {
            return Ok(());
        }
        let member = Member {
            path: path.to_owned(),
            kind: Kind::Link(target.to_owned()),
            mtime: 0,
            size: 0,
            set_id: false,
        };
        self.member(member, &mut io::empty(), &mut Orphans::new())
    }

    fn below(&self, path: &Path) -> PathBuf {
        self.below.join(path)
    }

    /// Writes a directory or a file, and records a link.
    fn member(&mut self, member: Member, content: &mut dyn Read, orphans: &mut Orphans) -> Result<()> {
        let path = member.path.as_path();
        if let Kind::Other(what) = member.kind {
            return Err(Refused::malformed(format!("contains {path:?}, {what}")));
        }
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for dir in above.into_iter().rev() {
            self.dir(dir, path)?;
        }
        let kind = match member.kind {
            Kind::Dir => return self.dir(path, path),
            Kind::Same(first) => {
                let first = merged(first);
                let Some(Kind::File { executable }) = self.listing.get(&first).cloned() else {
                    orphans.entry(first).or_default().push(member.path);
                    return Ok(());
                };
                if first == path {
                    return Ok(());
                }
                // A hard link becomes a copy, so that a write to one never changes the other.
                self.free(path, &Kind::File { executable })?;
                let left = self.left();
                let size = self.private.path().join(self.below(&first)).symlink_metadata()?.len();
                if size > left {
                    return Err(self.too_much());
                }
                self.bytes +=
                    self.private.copy(&self.below(&first), &self.below(path), executable, member.mtime)?;
                Kind::File { executable }
            }
            Kind::File { executable } => {
                self.free(path, &member.kind)?;
                if member.size > self.left() {
                    return Err(self.too_much());
                }
                let wrote = self.private.file(&self.below(path), content, executable, member.mtime)?;
                if wrote != member.size {
                    return Err(Refused::truncated());
                }
                self.bytes += wrote;
                member.kind
            }
            Kind::Link(_) | Kind::Other(_) => {
                self.free(path, &member.kind)?;
                member.kind
            }
        };
        self.insert(member.path, kind)
    }

    /// Creates the directories above `path`.
    fn dir(&mut self, dir: &Path, path: &Path) -> Result<()> {
        match self.listing.get(dir) {
            Some(Kind::Dir) => Ok(()),
            Some(_) => {
                let why = format!("contains {path:?}, but {dir:?} is not a directory");
                Err(Refused::malformed(why))
            }
            None => {
                self.insert(dir.to_owned(), Kind::Dir)?;
                Ok(self.private.dir(&self.below(dir))?)
            }
        }
    }

    /// Checks that a name is free: a file of another package is replaced if it has the same type.
    fn free(&self, path: &Path, kind: &Kind) -> Result<()> {
        match (self.listing.get(path), kind) {
            (None, _) | (Some(Kind::Link(_)), Kind::Link(_)) => Ok(()),
            (Some(Kind::File { .. }), Kind::File { .. }) => Ok(self.private.remove(&self.below(path))?),
            _ => {
                Err(Refused::malformed(format!("contains {path:?}, which already exists with another type")))
            }
        }
    }

    fn insert(&mut self, path: PathBuf, kind: Kind) -> Result<()> {
        if self.listing.len() >= self.limits.members {
            let why =
                format!("exceeds the limit: more than {} files in one transaction", self.limits.members);
            return Err(Refused::malformed(why));
        }
        self.listing.insert(path, kind);
        Ok(())
    }

    fn left(&self) -> u64 {
        self.limits.bytes.saturating_sub(self.bytes)
    }

    fn too_much(&self) -> anyhow::Error {
        let mib = self.limits.bytes >> 20;
        Refused::malformed(format!("exceeds the limit: more than {mib} MiB in one transaction"))
    }

    /// The unpacked paths with their types.
    pub fn taken(&self) -> &Listing {
        &self.listing
    }

    /// The path where a file of a package was unpacked.
    pub fn place(&self, path: &Path) -> PathBuf {
        self.private.path().join(self.below(path))
    }

    /// Creates the links.
    pub fn finish(mut self) -> Result<()> {
        self.dir(Path::new(""), Path::new(""))?;
        let make = || -> io::Result<()> {
            for (path, kind) in &self.listing {
                if let Kind::Link(target) = kind {
                    self.private.link(&self.below(path), target)?;
                }
            }
            Ok(())
        };
        make().context("creating the links of packages")
    }
}

fn no_file(name: &Path) -> anyhow::Error {
    Refused::malformed(format!("contains a hard link {name:?} to a missing file"))
}
