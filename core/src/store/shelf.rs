//! A store in a directory: what is in it, whether it is whole, and what may go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::envelope;
use super::key::PublicKey;
use super::object;
use super::statement::{FILES_LIMIT, Manifest};
use super::{MANIFEST_LIMIT, manifest_path, object_path};
use crate::sys::{file, signal};
use crate::types::KernelRelease;

/// The directories of a store.
const KINDS: [&str; 2] = ["builds", "objects"];
/// How long an object without a manifest is kept: a push may be writing it.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// A build in a store.
#[derive(Debug)]
pub struct Found {
    /// Its manifest, relative to the store.
    pub path: PathBuf,
    /// When it was written.
    pub written: SystemTime,
    /// What it states.
    pub manifest: Manifest,
}

/// Something wrong in a store.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, relative to the store.
    pub path: PathBuf,
    /// What is wrong.
    pub why: String,
}

/// The files of one kind, relative to the store.
fn files(dir: &Path, kind: &str, end: &str) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        bail!("{} is not a directory", dir.display());
    }
    let real = |kind: &&str| dir.join(kind).symlink_metadata().is_ok_and(|meta| meta.is_dir());
    // It may be empty: a push was killed.
    if !KINDS.iter().any(real) && !file::sorted_entries(dir).is_empty() {
        bail!("{} is no store: it has no directory {}", dir.display(), KINDS.join(" or "));
    }
    let files = file::files_below(&dir.join(kind), &[]).into_iter();
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == end));
    Ok(files.filter_map(|path| Some(path.strip_prefix(dir).ok()?.to_owned())).collect())
}

/// Reads the manifest at a path of a store, which must be the one of its fingerprint.
fn manifest(dir: &Path, path: &Path, keys: &[PublicKey]) -> Result<Manifest> {
    let content = file::read_untrusted(dir, path, MANIFEST_LIMIT)?;
    let manifest = Manifest::read(&envelope::open(&content, keys)?)?;
    if manifest_path(&manifest.fingerprint).is_none_or(|own| Path::new(&own) != path) {
        bail!("it is the manifest of another build");
    }
    Ok(manifest)
}

/// All builds with a valid manifest, and what is wrong with the other manifests.
pub fn list(dir: &Path, keys: &[PublicKey]) -> Result<(Vec<Found>, Vec<Problem>)> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for path in files(dir, "builds", "json")? {
        signal::check()?;
        let written = dir.join(&path).metadata().and_then(|meta| meta.modified());
        match manifest(dir, &path, keys) {
            Ok(manifest) => {
                found.push(Found { path, written: written.unwrap_or(SystemTime::UNIX_EPOCH), manifest });
            }
            Err(error) => problems.push(Problem { path, why: format!("{error:#}") }),
        }
    }
    Ok((found, problems))
}

/// The same, with all objects and the files in them.
pub fn verify(dir: &Path, keys: &[PublicKey]) -> Result<(Vec<Found>, Vec<Problem>)> {
    let (found, mut problems) = list(dir, keys)?;
    for Found { manifest, .. } in &found {
        signal::check()?;
        let path = PathBuf::from(object_path(&manifest.object.sha256).context("an object without a hash")?);
        let content = file::read_untrusted(dir, &path, FILES_LIMIT);
        if let Err(error) = content.and_then(|content| object::unpack(&content, manifest)) {
            problems.push(Problem { path, why: format!("{error:#}") });
        }
    }
    Ok((found, problems))
}

/// What remains in a store.
#[derive(Debug, Default)]
pub struct Keep {
    /// Only builds for these kernels; if empty, for all.
    pub kernels: BTreeSet<KernelRelease>,
    /// Only builds that were written in the last days.
    pub days: Option<u32>,
}

/// Deletes builds that are not kept, and objects that no manifest names. Returns the deleted files, relative to the store;
/// with `dry`, nothing is deleted. A manifest that cannot be read is kept, together with all objects.
pub fn gc(dir: &Path, keys: &[PublicKey], keep: &Keep, dry: bool) -> Result<Vec<PathBuf>> {
    let (found, problems) = list(dir, keys)?;
    let wanted = |build: &Found| keep.kernels.contains(&build.manifest.place.target.kernel);
    // A kernel's name that was mistyped would delete all of them.
    if !keep.kernels.is_empty() && !found.is_empty() && !found.iter().any(wanted) {
        let kernels: Vec<&str> = keep.kernels.iter().map(KernelRelease::as_str).collect();
        bail!("{} has no build for {}; nothing was deleted", dir.display(), kernels.join(", "));
    }
    let now = SystemTime::now();
    let age = |written: SystemTime| now.duration_since(written).unwrap_or_default();
    let limit = keep.days.map(|days| Duration::from_secs(u64::from(days) * 24 * 3600));
    let (mut gone, mut named): (Vec<PathBuf>, BTreeMap<PathBuf, usize>) = (Vec::new(), BTreeMap::new());
    for Found { path, written, manifest } in &found {
        let kernel = keep.kernels.is_empty() || keep.kernels.contains(&manifest.place.target.kernel);
        if kernel && limit.is_none_or(|limit| age(*written) <= limit) {
            let object = object_path(&manifest.object.sha256).unwrap_or_default();
            *named.entry(object.into()).or_default() += 1;
        } else {
            gone.push(path.clone());
        }
    }
    if problems.is_empty() {
        for path in files(dir, "objects", "zst")? {
            let written = dir.join(&path).metadata().and_then(|meta| meta.modified())?;
            // Its manifest may have been deleted just now.
            let of_gone = !gone.is_empty()
                && found.iter().any(|build| {
                    object_path(&build.manifest.object.sha256)
                        .is_some_and(|object| Path::new(&object) == path)
                });
            if !named.contains_key(&path) && (of_gone || age(written) > KEPT) {
                gone.push(path);
            }
        }
    }
    if !dry {
        // The manifests come first: a killed run leaves objects without a manifest, never the reverse.
        gone.iter().try_for_each(|path| file::remove_beneath(dir, path))?;
    }
    Ok(gone)
}
