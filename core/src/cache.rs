//! Builds, cached under their inputs, for kernels and modules that are installed again. An entry is a directory
//! `KEY/{manifest.json,build/…}` that appears in one rename. Every file is checked against its hash before it is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::sys::hash::Digests;
use crate::sys::parallel::{self, ItemCost};
use crate::sys::{file, hash};
use crate::types::{Fingerprint, ModuleId, Target};

/// The format version of a manifest. Entries in another format are ignored.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// How long a view that no entry refers to is kept.
const VIEW_KEPT: Duration = Duration::from_secs(24 * 3600);

/// The cache.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    /// Size limit in bytes; 0 disables the cache.
    limit: u64,
}

/// The facts about an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// The module, for information only.
    pub module: ModuleId,
    /// The kernel, for information only.
    pub target: Target,
    /// The signer.
    pub signer: Option<String>,
    /// How long the build took, in seconds.
    pub seconds: f64,
    /// Remarks about the build.
    pub notes: Vec<String>,
    /// The overlay of the pre-build that made it: it is usable only if all of that is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// The URL of the store that it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// It was not judged against a kernel of this machine yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unproven: bool,
    /// Files with which it was compiled, and which its key does not cover: it is usable only while they are the same.
    #[serde(default, skip_serializing_if = "Digests::is_empty")]
    pub outside: Digests,
    /// SHA-256 of each file, by its path below `build`.
    files: BTreeMap<PathBuf, String>,
}

impl Manifest {
    /// A manifest without the hashes of the files.
    pub fn new(
        module: &ModuleId,
        target: &Target,
        signer: Option<String>,
        seconds: f64,
        notes: Vec<String>,
    ) -> Self {
        let (module, target) = (module.clone(), target.clone());
        Self {
            format: FORMAT,
            module,
            target,
            signer,
            seconds,
            notes,
            view: None,
            origin: None,
            unproven: false,
            outside: Digests::default(),
            files: BTreeMap::new(),
        }
    }
}

impl Manifest {
    /// The same for a build that was made under this view.
    #[must_use]
    pub fn within(self, view: Option<String>) -> Self {
        Self { view, ..self }
    }

    /// The same for a build that was judged and is from a store.
    #[must_use]
    pub fn with_origin(self, origin: Option<String>) -> Self {
        Self { origin, ..self }
    }

    /// The same for a build that was compiled with these files.
    #[must_use]
    pub fn compiled_with(self, outside: Digests) -> Self {
        Self { outside, ..self }
    }

    /// The same for a build that has just come from a store.
    #[must_use]
    pub fn fetched(self, url: &str) -> Self {
        Self { origin: Some(url.to_owned()), unproven: true, ..self }
    }
}

/// The key of an entry: the inputs of a build, and the signer.
pub fn key(fingerprint: &Fingerprint, signer: Option<&str>) -> String {
    hash::hex(format!("{} {}", fingerprint.0, signer.unwrap_or_default()).as_bytes())
}

/// The key of an entry from a pre-build, which is neither signed nor compressed.
pub fn unfinished(fingerprint: &Fingerprint, environment: &str) -> String {
    hash::hex(format!("{} {environment} unfinished", fingerprint.0).as_bytes())
}

/// The overlay of a pre-build: the [digest](hash::digest) of each file, by absolute path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View(pub BTreeMap<PathBuf, String>);

impl View {
    /// Whether each of its files is in the view `laid`, or else is installed, with the same content. No file is left out: a
    /// build may read files that the fingerprint does not cover.
    pub fn holds(&self, laid: &Self) -> bool {
        let files: Vec<(&PathBuf, &String)> = self.0.iter().collect();
        let hold = |files: &[(&PathBuf, &String)]| {
            files.iter().all(|(path, digest)| match laid.0.get(*path) {
                Some(laid) => laid == *digest,
                None => hash::digest(path).is_some_and(|now| now == **digest),
            })
        };
        // All headers of a kernel, within its package transaction.
        parallel::parts(&files, ItemCost::Quick, hold).into_iter().all(|hold| hold)
    }
}

impl Cache {
    /// The cache in a directory; `limit` in bytes, 0 for none.
    pub fn new(dir: PathBuf, limit: u64) -> Self {
        Self { dir, limit }
    }

    /// Whether there is an entry. Costs one lookup.
    pub fn holds(&self, key: &str) -> bool {
        self.limit > 0 && self.dir.join(key).join(MANIFEST).exists()
    }

    /// The view of an entry from a pre-build. `Err`: there is no such entry.
    pub fn view(&self, key: &str) -> Result<Option<String>> {
        if self.limit == 0 {
            bail!("there is no cache");
        }
        Ok(manifest(&self.dir.join(key))?.view)
    }

    /// The store of an entry that came from there and was not judged yet.
    pub fn unproven(&self, key: &str) -> Option<String> {
        let manifest =
            manifest(&self.dir.join(key)).ok().filter(|manifest| self.enabled() && manifest.unproven);
        manifest?.origin
    }

    /// Whether there is a cache.
    pub fn enabled(&self) -> bool {
        self.limit > 0
    }

    /// Stores a view, and returns the name under which it is [read](Self::read_view).
    pub fn keep_view(&self, view: &View) -> Result<String> {
        let content = serde_json::to_vec(view)?;
        let name = hash::hex(&content);
        if self.limit > 0 {
            file::write_atomic(&self.views().join(&name), &content, 0o644)?;
        }
        Ok(name)
    }

    /// A view by its name.
    pub fn read_view(&self, name: &str) -> Result<View> {
        let path = self.views().join(name);
        let content = file::content(&path).with_context(|| format!("reading {}", path.display()))?;
        if hash::hex(&content) != name {
            bail!("{} was changed", path.display());
        }
        Ok(serde_json::from_slice(&content)?)
    }

    fn views(&self) -> PathBuf {
        self.dir.join("views")
    }

    /// Deletes an entry.
    pub fn forget(&self, key: &str) -> Result<()> {
        file::remove_all(&self.dir.join(key))
    }

    /// Copies an entry's files to a new directory, unsynced. A damaged entry is an error, and is deleted.
    pub fn take(&self, key: &str, to: &Path) -> Result<Manifest> {
        let entry = self.dir.join(key);
        let result = copy(&entry, to);
        match &result {
            // For least-recently-used eviction, the manifest's mtime is the time of its last use.
            Ok(_) => drop(file::touch(&entry.join(MANIFEST))),
            Err(_) => {
                file::remove_all(to)?;
                file::remove_all(&entry)?;
            }
        }
        result
    }

    /// Stores the build in `from`. Its files are shared with the cache if possible: a tool that changes one in place,
    /// as shell tools do, invalidates the entry, because its hash no longer matches.
    pub fn store(&self, key: &str, from: &Path, manifest: Manifest) -> Result<()> {
        if self.limit == 0 || self.dir.join(key).exists() {
            return Ok(());
        }
        file::make_dirs(&self.dir)?;
        let entry = self.dir.join(key);
        let staged = file::temp_beside(&entry);
        let kept = (|| {
            let mut manifest = manifest;
            share(from, &staged.join("build"), Path::new(""), &mut manifest.files)?;
            // After a power failure, it is used only if all hashes match.
            file::write_unsynced(&staged.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
            file::replace_dir(&staged, &entry)
        })();
        if kept.is_err() {
            file::remove_all(&staged)?;
        }
        kept
    }

    /// Deletes the least recently used entries until the rest is within the limit, and what killed runs left.
    pub fn trim(&self) -> Result<()> {
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in file::sorted_entries(&self.dir) {
            match entry.join(MANIFEST).metadata().and_then(|manifest| manifest.modified()) {
                Ok(used) => entries.push((used, file::tree_size(&entry), entry)),
                Err(_) if file::is_abandoned(&entry) => file::remove_all(&entry)?,
                Err(_) => {}
            }
        }
        let used: Vec<String> = entries.iter().filter_map(|(.., entry)| manifest(entry).ok()?.view).collect();
        for view in file::sorted_entries(&self.views()) {
            // A pre-build may take up to a day.
            let age =
                view.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
            let named = view.file_name().is_some_and(|name| used.iter().any(|view| name == view.as_str()));
            if !named && age.is_some_and(|age| age > VIEW_KEPT) {
                file::remove_all(&view)?;
            }
        }
        entries.sort();
        let mut size: u64 = entries.iter().map(|(_, size, _)| size).sum();
        for (_, bytes, entry) in entries {
            if size <= self.limit {
                return Ok(());
            }
            file::remove_all(&entry)?;
            size -= bytes;
        }
        Ok(())
    }
}

fn manifest(entry: &Path) -> Result<Manifest> {
    let path = entry.join(MANIFEST);
    let text = file::content(&path).with_context(|| format!("reading {}", path.display()))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
    if manifest.format != FORMAT || manifest.files.is_empty() {
        bail!("{} has an unsupported format", path.display());
    }
    Ok(manifest)
}

fn copy(entry: &Path, to: &Path) -> Result<Manifest> {
    let manifest = manifest(entry)?;
    if let Some(file) = manifest.outside.changed() {
        bail!("it was compiled with {}, which has changed", file.display());
    }
    for (name, sha256) in &manifest.files {
        let from = entry.join("build").join(name);
        let content = file::content(&from).with_context(|| format!("reading {}", from.display()))?;
        if hash::hex(&content) != *sha256 {
            bail!("{} is corrupt: its hash does not match", from.display());
        }
        file::write_unsynced(&to.join(name), &content)?;
    }
    Ok(manifest)
}

fn share(from: &Path, to: &Path, name: &Path, files: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    for path in file::sorted_entries(from) {
        let Some(last) = path.file_name() else { continue };
        let (name, to) = (name.join(last), to.join(last));
        if path.is_dir() && !path.is_symlink() {
            share(&path, &to, &name, files)?;
            continue;
        }
        let content = file::content(&path).with_context(|| format!("reading {}", path.display()))?;
        file::share(&path, &to, &content)?;
        files.insert(name, hash::hex(&content));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct TempCache {
        _dir: tempfile::TempDir,
        cache: Cache,
        built: PathBuf,
        out: PathBuf,
    }

    fn place(limit: u64) -> TempCache {
        let dir = tempfile::tempdir().unwrap();
        let (cache, built, out) =
            (dir.path().join("cache"), dir.path().join("built"), dir.path().join("out"));
        file::write_atomic(&built.join("module/a.ko"), b"module", 0o644).unwrap();
        file::write_atomic(&built.join("log/make.log"), b"log", 0o644).unwrap();
        TempCache { _dir: dir, cache: Cache::new(cache, limit), built, out }
    }

    fn manifest() -> Manifest {
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        Manifest::new(&"a/1".parse().unwrap(), &target, Some("me".into()), 1.5, Vec::new())
    }

    #[test]
    fn what_was_kept_comes_back() {
        let place = place(1 << 20);
        assert!(!place.cache.holds("k"));
        place.cache.store("k", &place.built, manifest()).unwrap();
        file::remove_all(&place.built).unwrap();
        assert!(place.cache.holds("k"));
        let taken = place.cache.take("k", &place.out).unwrap();
        assert_eq!((taken.seconds, taken.signer.as_deref()), (1.5, Some("me")));
        assert_eq!(fs::read(place.out.join("module/a.ko")).unwrap(), b"module");
        assert_eq!(fs::read(place.out.join("log/make.log")).unwrap(), b"log");
    }

    #[test]
    fn a_view_holds_by_what_lies_over_the_system_and_then_by_what_is_installed() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        file::write_atomic(&a, b"one", 0o644).unwrap();
        let digest = hash::digest(&a).unwrap();
        let view = |rows: &[(&PathBuf, &str)]| {
            View(rows.iter().map(|(path, digest)| ((*path).clone(), (*digest).to_owned())).collect())
        };
        let old = view(&[(&a, &digest), (&b, "two")]);
        for (laid, holds) in [
            (view(&[(&b, "two")]), true),
            (view(&[(&a, &digest), (&b, "two")]), true),
            (view(&[]), false),
            (view(&[(&b, "other")]), false),
            (view(&[(&a, "other"), (&b, "two")]), false),
        ] {
            assert_eq!(old.holds(&laid), holds, "{laid:?}");
        }
    }

    #[test]
    fn a_damaged_entry_is_refused_and_gone() {
        let place = place(1 << 20);
        for damage in ["build/module/a.ko", "manifest.json"] {
            place.cache.store("k", &place.built, manifest()).unwrap();
            let path = place.cache.dir.join("k").join(damage);
            file::write_atomic(&path, b"something else", 0o644).unwrap();
            assert!(place.cache.take("k", &place.out).is_err(), "{damage}");
            assert!(!place.cache.holds("k") && !place.out.exists(), "{damage}");
        }
        place.cache.store("k", &place.built, manifest()).unwrap();
        file::remove_all(&place.cache.dir.join("k/build/log/make.log")).unwrap();
        assert!(place.cache.take("k", &place.out).is_err(), "a file that is missing");
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let place = place(1 << 20);
        for key in ["a", "b", "c"] {
            place.cache.store(key, &place.built, manifest()).unwrap();
        }
        let size = file::tree_size(&place.cache.dir.join("a"));
        let hours_ago = |key: &str, hours: u64| {
            let manifest =
                fs::File::options().write(true).open(place.cache.dir.join(key).join(MANIFEST)).unwrap();
            manifest.set_modified(SystemTime::now() - Duration::from_secs(3600 * hours)).unwrap();
        };
        hours_ago("a", 3);
        hours_ago("b", 2);
        hours_ago("c", 1);
        // Using it makes it the most recent one.
        place.cache.take("a", &place.out).unwrap();
        let abandoned = place.cache.dir.join(format!("{}4000000-0-k", file::TEMP_PREFIX));
        fs::create_dir(&abandoned).unwrap();
        Cache { limit: 2 * size, ..place.cache.clone() }.trim().unwrap();
        assert!(place.cache.holds("a") && !place.cache.holds("b") && place.cache.holds("c"));
        assert!(!abandoned.exists());
    }

    #[test]
    fn without_room_there_is_no_cache() {
        let place = place(0);
        place.cache.store("k", &place.built, manifest()).unwrap();
        assert!(!place.cache.holds("k") && !place.cache.dir.exists());
    }
}
