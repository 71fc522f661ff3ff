//! SHA-256 of files and trees. A tree's hash is remembered under what `stat` says of its files, so that
//! asking again costs no read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::sys::parallel::Each;
use crate::sys::{file, parallel};

/// SHA-256 in lower-case hex.
pub fn hex(content: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(content);
    finish(hash)
}

fn finish(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How closely `stat` looks before a remembered hash is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Every file. For sources, which people edit in place.
    Files,
    /// Every directory, the files at its top and in folders named `generated`, and the configuration. For kernel
    /// headers: package managers replace files by rename, which changes the directory's time, and twenty
    /// thousand `stat`s would make an idle hook slow.
    Directories,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    /// A list, not a map: every idle hook reads it, and comparing paths is slow.
    seen: Vec<(PathBuf, Stamp)>,
    hash: String,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stamp(u64, i64, i64, i64, i64, u64, u32);

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = path.symlink_metadata().ok()?;
        let size = if meta.is_dir() { 0 } else { meta.size() };
        Some(Self(
            size,
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
            meta.ino(),
            meta.mode(),
        ))
    }
}

/// The content hash of some trees (or single files) together. `memory` is where the hash is remembered between
/// runs; `skip` names files whose content does not count.
pub fn trees(roots: &[PathBuf], watch: Watch, memory: Option<&Path>, skip: &[&str]) -> Result<String> {
    if let Some(known) = memory.and_then(|memory| recall(memory, roots)) {
        return Ok(known);
    }
    let mut seen = BTreeMap::new();
    let mut hash = Sha256::new();
    for root in roots {
        // A root that is a link counts as what it points to.
        let real = root.canonicalize().with_context(|| format!("reading {}", root.display()))?;
        seen.extend(Stamp::of(root).map(|stamp| (root.clone(), stamp)));
        walk(&real, Path::new(""), watch, skip, &mut seen, &mut hash)?;
    }
    let hash = finish(hash);
    if let Some(memory) = memory {
        let remembered = Remembered { seen: seen.into_iter().collect(), hash: hash.clone() };
        // Not being able to remember costs time, not correctness.
        let _ = serde_json::to_vec(&remembered)
            .map_err(anyhow::Error::from)
            .and_then(|json| file::write_atomic(memory, &json, 0o644));
    }
    Ok(hash)
}

fn recall(memory: &Path, roots: &[PathBuf]) -> Option<String> {
    let known: Remembered = serde_json::from_slice(&fs::read(memory).ok()?).ok()?;
    let all =
        roots.iter().all(|root| known.seen.iter().any(|(path, _)| path.as_os_str() == root.as_os_str()));
    let same = |(path, stamp): &(PathBuf, Stamp)| Stamp::of(path).as_ref() == Some(stamp);
    let same = all
        && parallel::parts(&known.seen, Each::Instant, |part| part.iter().all(same))
            .into_iter()
            .all(|same| same);
    same.then_some(known.hash)
}

fn walk(
    path: &Path,
    name: &Path,
    watch: Watch,
    skip: &[&str],
    seen: &mut BTreeMap<PathBuf, Stamp>,
    hash: &mut Sha256,
) -> Result<()> {
    let meta = path.symlink_metadata().with_context(|| format!("reading {}", path.display()))?;
    let mut entry = |kind: &[u8], content: &[u8]| {
        hash.update(kind);
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    };
    let watched = watch == Watch::Files
        || meta.is_dir()
        || name.parent().is_none_or(|dir| dir == Path::new(""))
        || name.parent().and_then(Path::file_name).is_some_and(|dir| dir == "generated")
        || name.ends_with("config/auto.conf");
    if watched {
        seen.extend(Stamp::of(path).map(|stamp| (path.to_owned(), stamp)));
    }
    if meta.is_dir() {
        entry(b"d", b"");
        for child in file::sorted_entries(path) {
            let Some(child_name) = child.file_name() else { continue };
            walk(&child, &name.join(child_name), watch, skip, seen, hash)?;
        }
    } else if skip.iter().any(|skipped| name.ends_with(skipped)) {
        entry(b"s", b"");
    } else if meta.is_symlink() {
        let target = fs::read_link(path)?;
        entry(b"l", target.as_os_str().as_encoded_bytes());
    } else if meta.is_file() {
        let kind: &[u8] = if meta.mode() & 0o111 == 0 { b"f" } else { b"x" };
        let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        entry(kind, &content);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("src");
        file::write_atomic(&root.join("a/b.c"), b"int x;", 0o644).unwrap();
        let memory = dir.path().join("memory.json");
        (dir, root, memory)
    }

    #[test]
    fn content_name_and_mode_all_count() {
        let (_dir, root, _) = tree();
        let hash = || trees(std::slice::from_ref(&root), Watch::Files, None, &[]).unwrap();
        let before = hash();
        file::write_atomic(&root.join("a/b.c"), b"int y;", 0o644).unwrap();
        let changed = hash();
        assert_ne!(before, changed);
        file::write_atomic(&root.join("a/b.c"), b"int x;", 0o755).unwrap();
        assert_ne!(hash(), before);
        file::write_atomic(&root.join("a/b.c"), b"int x;", 0o644).unwrap();
        assert_eq!(hash(), before);
    }

    #[test]
    fn a_remembered_hash_is_dropped_when_a_file_changes_in_place() {
        let (_dir, root, memory) = tree();
        let roots = [root.clone()];
        let before = trees(&roots, Watch::Files, Some(&memory), &[]).unwrap();
        assert_eq!(trees(&roots, Watch::Files, Some(&memory), &[]).unwrap(), before);
        file::write_atomic(&root.join("a/b.c"), b"int z;", 0o644).unwrap();
        assert_ne!(trees(&roots, Watch::Files, Some(&memory), &[]).unwrap(), before);
    }

    #[test]
    fn skipped_files_do_not_count() {
        let (_dir, root, _) = tree();
        let hash = || trees(std::slice::from_ref(&root), Watch::Files, None, &["a/b.c"]).unwrap();
        let before = hash();
        file::write_atomic(&root.join("a/b.c"), b"int y;", 0o644).unwrap();
        assert_eq!(hash(), before);
    }
}
