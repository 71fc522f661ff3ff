//! Unpacks packages for an overlay over the system. Root writes the files, and executes none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::archive::Kind;
use crate::cache::View;
use crate::incoming::Incoming;
use crate::kernel::Loads;
use crate::layout::Offered;
use crate::package::{Package, Unpacking};
use crate::session::Session;
use crate::sys::overlay::Layers;
use crate::sys::private::Private;
use crate::sys::{hash, signal};

/// The directory of the unpacked files, and of the system's files that are needed if overlayfs is not available.
const OVER: &str = "over";
const UNDER: &str = "under";

/// Larger than any program that is used for building.
const PROGRAM_LIMIT: u64 = 512 << 20;

/// The unpacked files, which are deleted with this value.
pub(super) struct Unpacked {
    _private: Private,
    /// The overlay.
    pub(super) layers: Layers,
    /// The files of the overlay.
    pub(super) view: View,
}

/// Unpacks the files that are needed for building.
pub(super) fn unpack(session: &Session, packages: &[Package], incoming: &Incoming) -> Result<Unpacked> {
    let private = Private::new(&session.layout.incoming())?;
    let mut unpacking = Unpacking::new(&private, Path::new(OVER));
    let there = |path: &Path| Path::new("/").join(path).symlink_metadata().is_ok();
    for package in packages.iter().filter(|package| incoming.wants(package, &there)) {
        signal::check()?;
        unpacking.take(package, &|path| incoming.takes(package, path, &there))?;
    }
    libraries(&mut unpacking, packages)?;
    // On some distributions, the link to the headers is in another package.
    for (kernel, dir) in &incoming.headers {
        let there = session.layout.headers(kernel).symlink_metadata().is_ok();
        if !there {
            unpacking.link(&Offered::headers_link(kernel), &Path::new("/").join(dir))?;
        }
    }
    let view = view(&unpacking, incoming);
    unpacking.finish()?;
    fail::fail_point!("preflight:unpacked");
    let layers =
        Layers { pairs: Offered::places(&private.path().join(OVER)), scratch: private.path().join(UNDER) };
    Ok(Unpacked { _private: private, layers, view })
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
        let mut file = File::open(path)?;
        let mut content = Vec::new();
        (&mut file).take(4).read_to_end(&mut content)?;
        if content == b"\x7fELF" {
            file.take(PROGRAM_LIMIT).read_to_end(&mut content)?;
        }
        Ok(content)
    };
    read().map(|content| Loads::of(&content)).unwrap_or_default()
}

/// The files of the overlay. Headers of the only new kernel are left out, because the fingerprint covers them.
fn view(unpacking: &Unpacking<'_>, incoming: &Incoming) -> View {
    let alone = incoming.headers.len() == 1 && incoming.sources.is_empty();
    let files = unpacking.taken().iter().filter(|(path, _)| !(alone && Offered::of_headers(path)));
    let digests = files.filter_map(|(path, kind)| {
        let digest = match kind {
            Kind::Link(target) => hash::link_digest(target),
            Kind::File { .. } => hash::digest(&unpacking.place(path))?,
            _ => return None,
        };
        Some((Path::new("/").join(path), digest))
    });
    View(digests.collect::<BTreeMap<_, _>>())
}

/// Stores the view.
pub(super) fn keep(session: &Session, view: &View) -> Result<String> {
    session.cache().keep_view(view).context("recording the files of the overlay")
}
