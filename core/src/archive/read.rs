//! Unpacks an untrusted tarball into a private directory.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::bound::{MEMORY, TooMuch};
use super::contents::{Contents, contents};
use super::member::{Kind, Member, leads_out};
use super::walk::{blame, walk};
use super::{Limits, Refused};
use crate::layout::Layout;
use crate::sys::confine::{self, Lease, Spec};
use crate::sys::file;
use crate::sys::inside::{self, Gone, Link};
use crate::sys::private::Private;

/// The content of a tarball, by path below its root. Includes directories that the tarball only implies.
pub type Listing = BTreeMap<PathBuf, Kind>;

/// The name of the part of our programs that unpacks tarballs.
pub const PART: &str = "tarball";
/// The directory that it writes to.
const WRITTEN: &str = "written";

/// A tarball, unpacked and checked. Its files are deleted when this is dropped.
#[derive(Debug)]
pub struct Unpacked {
    _private: Private,
    dir: PathBuf,
    /// Its content; all paths are below [`Unpacked::path`].
    pub contents: Contents,
}

impl Unpacked {
    /// Reads a tarball; for root, in a process without privileges. Errors are [`Refused`] if the tarball is at fault.
    pub fn open(layout: &Layout, file: &Path) -> Result<Self> {
        let private = Private::new(&layout.incoming())?;
        private.dir(Path::new(WRITTEN))?;
        let dir = private.path().join(WRITTEN);
        let contents = match confine::drops_privileges() {
            true => unpack_confined(file, &dir)?,
            false => unpack_file(file, &Private::given(dir.clone()))?,
        };
        private.open_up()?;
        Ok(Self { _private: private, dir, contents })
    }

    /// The path of a part of it.
    pub fn path(&self, part: &Path) -> PathBuf {
        self.dir.join(part)
    }
}

/// Root does not believe the process that unpacked: it lists and checks what was written.
fn unpack_confined(file: &Path, dir: &Path) -> Result<Contents> {
    let lease = confine::lease()?;
    let user = lease.as_ref().map(Lease::id);
    file::give(dir, user)?;
    let writable = vec![(dir.to_owned(), confine::PLACE.into())];
    let mut link = Link::start(PART, &Spec { writable, user, memory: Some(MEMORY), ..Spec::default() })?;
    let ended: Result<Option<Refused>> =
        link.call(&file, |kind, content| inside::lend([file], kind, &content));
    // It must have ended before its files are taken over.
    drop(link);
    match ended {
        Ok(None) => {}
        Ok(Some(refused)) => return Err(refused.into()),
        Err(error) if error.is::<Gone>() => {
            return Err(Refused::malformed("needs too much memory or is damaged"));
        }
        Err(error) => return Err(error),
    }
    let listing = file::adopt(dir, Limits::default().members)?.into_iter().map(|(path, entry)| {
        let kind = match entry {
            file::Entry::Dir => Kind::Dir,
            file::Entry::File { executable } => Kind::File { executable },
            file::Entry::Link(target) => Kind::Link(target),
        };
        (path, kind)
    });
    let listing: Listing = listing.collect();
    let contents = contents(&listing)?;
    for (path, target) in links(&listing, &contents) {
        link_inside(path, target, &contents)?;
    }
    Ok(contents)
}

/// The sandboxed part: unpacks a tarball, or returns why that was refused.
pub fn serve() -> Result<()> {
    inside::serve(|file: PathBuf| match unpack_file(&file, &Private::given(confine::PLACE.into())) {
        Ok(_) => Ok(None),
        Err(error) => error.downcast::<Refused>().map(Some),
    })
}

fn unpack_file(file: &Path, private: &Private) -> Result<Contents> {
    // The caller names the file.
    let (packed, size) = inside::opened(file)?;
    unpack(BufReader::new(packed), size, private, &Limits::default())
}

/// Unpacks into `private`, whose content must not be used unless this returns `Ok`.
pub fn unpack(packed: impl BufRead, size: u64, private: &Private, limits: &Limits) -> Result<Contents> {
    let mut into =
        Writing { private, limits, allowed: limits.allowed(size), copied: 0, listing: Listing::new() };
    walk(packed, into.allowed, limits.members, &mut |member, content| {
        into.member(member, content).map(ControlFlow::Continue)
    })
    .map_err(blame)?;
    let contents = contents(&into.listing)?;
    for (path, target) in links(&into.listing, &contents) {
        link_inside(path, target, &contents)?;
        private.link(path, target)?;
    }
    Ok(contents)
}

/// The state of unpacking. Links are created last, after all files were written.
struct Writing<'a> {
    private: &'a Private,
    limits: &'a Limits,
    allowed: u64,
    copied: u64,
    listing: Listing,
}

impl Writing<'_> {
    /// Writes a directory or a file.
    fn member(&mut self, member: Member, content: &mut dyn Read) -> Result<()> {
        member.strict()?;
        place(&mut self.listing, &member, self.private, self.limits)?;
        let path = &member.path;
        let kind = match &member.kind {
            Kind::File { executable } => {
                let wrote = self.private.file(path, content, *executable, member.mtime)?;
                if wrote != member.size {
                    return Err(Refused::truncated());
                }
                member.kind
            }
            Kind::Same(first) => {
                let Some(Kind::File { executable }) = self.listing.get(first).cloned() else {
                    let why = format!(
                        "contains a hard link {path:?} to {first:?}, which is not a file in the tarball"
                    );
                    return Err(Refused::malformed(why));
                };
                // A hard link becomes a copy, so that a write to one never changes the other. Copies count against the
                // limit: a tarball of hard links to one large file is a bomb, too.
                self.copied += self.private.copy(first, path, executable, member.mtime)?;
                if self.copied > self.allowed {
                    return Err(io::Error::other(TooMuch { allowed: self.allowed }).into());
                }
                Kind::File { executable }
            }
            Kind::Dir | Kind::Link(_) | Kind::Other(_) => member.kind,
        };
        if !path.as_os_str().is_empty() {
            self.listing.insert(member.path, kind);
        }
        Ok(())
    }
}

/// Checks that a member's name is free, and creates the directories above it.
fn place(listing: &mut Listing, member: &Member, private: &Private, limits: &Limits) -> Result<()> {
    let path = &member.path;
    let above: Vec<&Path> = path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()).collect();
    for dir in above.into_iter().rev() {
        match listing.get(dir) {
            Some(Kind::Dir) => {}
            Some(_) => {
                let why = format!("contains {path:?} below {dir:?}, which is not a directory");
                return Err(Refused::malformed(why));
            }
            None if listing.len() >= limits.members => {
                return Err(Refused::malformed(format!("contains more than {} files", limits.members)));
            }
            None => {
                private.dir(dir)?;
                listing.insert(dir.to_owned(), Kind::Dir);
            }
        }
    }
    match listing.get(path) {
        Some(Kind::Dir) if member.kind == Kind::Dir => Ok(()),
        Some(_) => Err(Refused::malformed(format!("contains {path:?} twice"))),
        None if member.kind == Kind::Dir && !path.as_os_str().is_empty() => Ok(private.dir(path)?),
        None => Ok(()),
    }
}

/// The directory whose content is used.
fn used(contents: &Contents) -> &Path {
    contents.source.as_deref().unwrap_or(Path::new("dkms_binaries_only"))
}

/// The links of the source. A build has none, and nothing else is used.
fn links<'a>(listing: &'a Listing, contents: &'a Contents) -> impl Iterator<Item = (&'a Path, &'a Path)> {
    listing.iter().filter_map(|(path, kind)| match kind {
        Kind::Link(target) if path.starts_with(used(contents)) => Some((path.as_path(), target.as_path())),
        _ => None,
    })
}

/// A link must not lead out of the source.
fn link_inside(path: &Path, target: &Path, contents: &Contents) -> Result<()> {
    if target.is_absolute() || leads_out(path, target, used(contents)) {
        let why = format!("contains a link {path:?} to {target:?}, which points outside its directory");
        return Err(Refused::malformed(why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tar::{Builder, EntryType, Header};

    use super::*;

    /// A tarball with a dkms.conf; `fill` adds members.
    fn tarball(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        add(&mut tar, "a/dkms.conf", EntryType::Regular, b"x");
        fill(&mut tar);
        tar.into_inner().unwrap()
    }

    fn add(tar: &mut Builder<Vec<u8>>, path: &str, kind: EntryType, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        if kind == EntryType::Link {
            tar.append_link(&mut header, path, "a/dkms.conf").unwrap();
        } else {
            tar.append_data(&mut header, path, content).unwrap();
        }
    }

    /// Why a tarball is rejected with these limits; empty if it is not.
    fn refused(tarball: &[u8], limits: &Limits) -> String {
        let parent = tempfile::tempdir().unwrap();
        let private = Private::new(parent.path()).unwrap();
        let result = unpack(tarball, tarball.len() as u64, &private, limits);
        drop(private);
        assert!(file::sorted_entries(parent.path()).is_empty());
        result.err().map_or(String::new(), |error| error.downcast::<Refused>().unwrap().why)
    }

    #[test]
    fn each_bound_is_kept() {
        let wide = Limits::default();
        let many = tarball(|tar| (0..50).for_each(|n| add(tar, &format!("a/{n}"), EntryType::Regular, b"")));
        let deep = tarball(|tar| add(tar, &"d/".repeat(50), EntryType::Directory, b""));
        let links = tarball(|tar| {
            add(tar, "a/0", EntryType::Regular, &[0; 4000]);
            (0..50).for_each(|n| add(tar, &format!("a/l{n}"), EntryType::Link, b""));
        });
        for (name, tarball) in [("many", &many), ("deep", &deep), ("links", &links)] {
            assert_eq!(refused(tarball, &wide), "", "{name}");
        }
        let few = Limits { members: 50, ..wide };
        assert!(refused(&many, &few).contains("more than 50 files"));
        assert!(refused(&deep, &few).contains("more than 50 files"));
        let small = Limits { bytes: many.len() as u64 - 1, ..wide };
        assert!(refused(&many, &small).contains("is a decompression bomb"));
        let exact = Limits { bytes: many.len() as u64, ..wide };
        assert_eq!(refused(&many, &exact), "");
    }

    #[test]
    fn copies_of_hard_links_count() {
        let tarball = tarball(|tar| {
            (0..50).for_each(|n| add(tar, &format!("a/l{n}"), EntryType::Link, b""));
        });
        let mut grown = Builder::new(Vec::new());
        add(&mut grown, "a/dkms.conf", EntryType::Regular, &[1; 100_000]);
        for n in 0..50 {
            add(&mut grown, &format!("a/l{n}"), EntryType::Link, b"");
        }
        let grown = grown.into_inner().unwrap();
        let limits = Limits { ratio: 1, free: 100_000, ..Limits::default() };
        assert_eq!(refused(&tarball, &limits), "");
        assert!(refused(&grown, &limits).contains("is a decompression bomb"));
    }
}
