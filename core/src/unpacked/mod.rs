//! Packages that are not installed, unpacked and laid over the system for confined processes only. A process without privileges
//! reads the packages and writes their files. Then root takes the files over, and neither mounts nor executes any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::archive::{self, Kind, Limits};
use crate::cache::View;
use crate::incoming::Incoming;
use crate::kernel::Loads;
use crate::layout::Offered;
use crate::package::{Package, Unpacking};
use crate::session::Session;
use crate::sys::confine::{self, Lease, Spec};
use crate::sys::inside::{self, Link};
use crate::sys::overlay::Layers;
use crate::sys::private::Private;
use crate::sys::{file, hash, signal};

/// The directory that the unprivileged process writes to, that of the unpacked files in it, and that of the system's files
/// that are needed if overlayfs is not available.
const WRITTEN: &str = "written";
const OVER: &str = "over";
const UNDER: &str = "under";
/// The part of our programs that unpacks.
pub const PART: &str = "unpack";

/// Larger than any program that is used for building.
const PROGRAM_LIMIT: u64 = 256 << 20;

/// The unpacked files, which are deleted with this value.
#[derive(Debug)]
pub struct Overlay {
    _private: Private,
    /// The overlay that confined processes see.
    pub layers: Layers,
    /// The name under which the overlay's content is recorded.
    pub view: String,
}

/// The packages to unpack.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    packages: Vec<Package>,
    incoming: Incoming,
    /// Links that are in no package, with their targets.
    links: Vec<(PathBuf, PathBuf)>,
}

/// Unpacks the files that are needed for building.
pub fn unpack(session: &Session, packages: &[Package], incoming: &Incoming) -> Result<Overlay> {
    let private = Private::new(&session.layout.incoming())?;
    private.dir(Path::new(WRITTEN))?;
    let written = private.path().join(WRITTEN);
    let lease = confine::lease()?;
    let user = lease.as_ref().map(Lease::id);
    file::give(&written, user)?;
    let spec = Spec {
        writable: vec![(written.clone(), confine::PLACE.into())],
        user,
        memory: Some(archive::MEMORY),
        ..Spec::default()
    };
    let files: Vec<&Path> = packages.iter().map(|package| package.file.as_path()).collect();
    let mut link = Link::start(PART, &spec)?;
    let ended: Result<()> = link.call(&Request::of(session, packages, incoming), |kind, content| {
        inside::lend(files.iter().copied(), kind, &content)
    });
    // It must have ended before its files are taken over.
    drop(link);
    ended?;
    let over = written.join(OVER);
    let files = file::adopt(&over, Limits::default().members)?;
    let view = view(&over, files)?;
    let view = session.cache().keep_view(&view).context("recording the files of the overlay")?;
    fail::fail_point!("preflight:unpacked");
    let layers = Layers { pairs: Offered::places(&over), scratch: private.path().join(UNDER) };
    Ok(Overlay { _private: private, layers, view })
}

impl Request {
    fn of(session: &Session, packages: &[Package], incoming: &Incoming) -> Self {
        let may_matter =
            |path: &PathBuf| Offered::needed(path) || Offered::of_tools(path) || Offered::program(path);
        let packages = packages.iter().map(|package| {
            // The file lists of thousands of packages would exceed the limit of a message.
            Package {
                paths: package.paths.iter().filter(|path| may_matter(path)).cloned().collect(),
                ..package.clone()
            }
        });
        // On some distributions, the link to the headers is in another package.
        let missing = incoming
            .headers
            .iter()
            .filter(|(kernel, _)| session.layout.headers(kernel).symlink_metadata().is_err());
        let links = missing.map(|(kernel, dir)| (Offered::headers_link(kernel), Path::new("/").join(dir)));
        Self { packages: packages.collect(), incoming: incoming.clone(), links: links.collect() }
    }
}

/// The sandboxed part.
pub fn serve() -> Result<()> {
    inside::serve(|request: Request| write(&request))
}

fn write(request: &Request) -> Result<()> {
    let Request { packages, incoming, links } = request;
    let private = Private::given(confine::PLACE.into());
    let mut unpacking = Unpacking::new(&private, Path::new(OVER));
    let there = |path: &Path| Path::new("/").join(path).symlink_metadata().is_ok();
    for package in packages.iter().filter(|package| incoming.wants(package, &there)) {
        unpacking.take(package, &|path| incoming.takes(package, path, &there))?;
    }
    libraries(&mut unpacking, packages)?;
    for (path, target) in links {
        unpacking.link(path, target)?;
    }
    unpacking.finish()
}

/// Unpacks the libraries of programs, in the versions that they were linked with, even if libraries with the same name
/// are installed; and the libraries of these, until there are no more.
fn libraries(unpacking: &mut Unpacking<'_>, packages: &[Package]) -> Result<()> {
    let mut read: BTreeSet<PathBuf> = BTreeSet::new();
    let mut named: BTreeSet<String> = BTreeSet::new();
    loop {
        let programs: Vec<PathBuf> = unpacking
            .taken()
            .iter()
            .filter(|(path, kind)| may_load(path, kind) && !read.contains(*path))
            .map(|(path, _)| path.clone())
            .collect();
        let mut new: BTreeSet<String> = BTreeSet::new();
        for path in programs {
            let names = loads(&unpacking.place(&path)).names;
            new.extend(names.into_iter().filter(|name| !named.contains(name)));
            read.insert(path);
        }
        if new.is_empty() {
            return Ok(());
        }
        let wanted = |path: &Path| new.iter().any(|name| Offered::library(path, name));
        for package in packages.iter().filter(|package| package.paths.iter().any(|path| wanted(path))) {
            signal::check()?;
            unpacking.take(package, &Offered::program)?;
        }
        named.append(&mut new);
    }
}

fn may_load(path: &Path, kind: &Kind) -> bool {
    let executable = matches!(kind, Kind::File { executable: true });
    matches!(kind, Kind::File { .. }) && (executable || Offered::program(path) || Offered::of_tools(path))
}

fn loads(path: &Path) -> Loads {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = file::open_regular(path)?.0;
        let mut content = Vec::new();
        (&mut file).take(4).read_to_end(&mut content)?;
        if content == b"\x7fELF" {
            file.take(PROGRAM_LIMIT).read_to_end(&mut content)?;
        }
        Ok(content)
    };
    read().map(|content| Loads::of(content.as_slice())).unwrap_or_default()
}

/// The files of the overlay.
fn view(over: &Path, files: file::Adopted) -> Result<View> {
    let mut view = BTreeMap::new();
    for (path, entry) in files {
        signal::check()?;
        let digest = match entry {
            file::Entry::Dir => continue,
            file::Entry::Link(target) => Some(hash::link_digest(&target)),
            file::Entry::File { .. } => hash::digest(&over.join(&path)),
        };
        let digest = digest.with_context(|| format!("reading {}", over.join(&path).display()))?;
        view.insert(Path::new("/").join(path), digest);
    }
    Ok(View(view))
}
