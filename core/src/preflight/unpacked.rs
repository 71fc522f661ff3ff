//! What comes, unpacked where it can be laid over the system. Root writes it, and runs nothing of it.

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

/// What is unpacked, and what of the system is seen under it where overlayfs is not to be had.
const OVER: &str = "over";
const UNDER: &str = "under";

/// More than any program that takes part in building.
const PROGRAM_LIMIT: u64 = 512 << 20;

/// What was unpacked. It is deleted with this value.
pub(super) struct Unpacked {
    _private: Private,
    /// How it lies over the system.
    pub(super) layers: Layers,
    /// What it is.
    pub(super) view: View,
}

/// Unpacks what is needed to build.
pub(super) fn unpack(session: &Session, packages: &[Package], incoming: &Incoming) -> Result<Unpacked> {
    let private = Private::new(&session.layout.incoming())?;
    let mut unpacking = Unpacking::new(&private, Path::new(OVER));
    let there = |path: &Path| Path::new("/").join(path).symlink_metadata().is_ok();
    for package in packages.iter().filter(|package| incoming.wants(package, &there)) {
        signal::check()?;
        unpacking.take(package, &|path| incoming.takes(package, path, &there))?;
    }
    libraries(&mut unpacking, packages)?;
    // On some distributions another package than the headers' brings the link to them.
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

/// What runs needs its libraries: those that come are of the versions that it was made with, also where others of the same
/// name are installed. Theirs come along, until no more are named.
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

/// What lies over the system, file by file. Headers of the only kernel that comes are left out: its builds are known by them.
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

/// Writes down what lies over the system.
pub(super) fn keep(session: &Session, view: &View) -> Result<String> {
    session.cache().keep_view(view).context("recording the files of the overlay")
}
