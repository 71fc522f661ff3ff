//! SHA-256 of files and trees. A tree's hash is stored together with the `stat` data of its files, so that an unchanged
//! tree is not read again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, open, statat};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::sys::{file, signal};

/// Random bytes of the kernel, for a private key.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let count = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if count != N {
        bail!("the kernel returned too few random bytes");
    }
    Ok(bytes)
}

/// SHA-256 in lower-case hex.
pub fn hex(content: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(content);
    finish(hash)
}

fn finish(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of a file: the hash of the content and the executable bit of a regular file, or of the target of a link.
/// `None` for anything else.
pub fn digest(path: &Path) -> Option<String> {
    let meta = path.symlink_metadata().ok()?;
    if meta.is_symlink() {
        return Some(link_digest(&fs::read_link(path).ok()?));
    }
    if !meta.is_file() {
        return None;
    }
    let mut content = Hashing::new(file::open_regular(path).ok()?.0);
    std::io::copy(&mut content, &mut std::io::sink()).ok()?;
    Some(content.digest(meta.mode() & 0o111 != 0))
}

/// The [digest] of a link.
pub fn link_digest(target: &Path) -> String {
    format!("l:{}", hex(target.as_os_str().as_bytes()))
}

/// The [digest]s of files, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digests(BTreeMap<PathBuf, String>);

/// The largest file of which a digest is kept. It is read in every run, and its owner may be another user.
const DIGESTED: u64 = 64 << 20;

impl Digests {
    /// The digest; that of no file if it is too large.
    fn of(path: &Path) -> Option<String> {
        let large = path.metadata().is_ok_and(|meta| meta.len() > DIGESTED);
        if large { Some(String::new()) } else { digest(path) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The first of the files.
    pub fn first(&self) -> Option<&Path> {
        self.0.keys().next().map(PathBuf::as_path)
    }

    /// The first file that has another content now. One that is gone has none: what was made with it cannot be made again.
    pub fn changed(&self) -> Option<&Path> {
        let changed = |(path, known): &(&PathBuf, &String)| Self::of(path).is_some_and(|now| now != **known);
        self.0.iter().find(changed).map(|(path, _)| path.as_path())
    }
}

impl FromIterator<(PathBuf, PathBuf)> for Digests {
    /// From the paths of files, and where each of them is now. What is not there is left out.
    fn from_iter<T: IntoIterator<Item = (PathBuf, PathBuf)>>(files: T) -> Self {
        let digests = files.into_iter().filter_map(|(path, place)| Some((path, Self::of(&place)?)));
        Self(digests.filter(|(_, digest)| !digest.is_empty()).collect())
    }
}

/// A reader that computes the [digest] of what is read through it.
pub struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    /// Wraps a reader.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// The digest of a file with this content.
    pub fn digest(self, executable: bool) -> String {
        format!("{}:{}", if executable { "x" } else { "f" }, finish(self.hash))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Which files are checked with `stat` before a stored hash is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Every file. For sources, which users edit in place.
    Files,
    /// Every directory, the files at the top and in directories named `generated`, and the configuration. For kernel
    /// headers: package managers replace files by rename, which changes the directory's time, and twenty thousand
    /// `stat` calls would make an idle hook slow.
    Directories,
}

/// The `stat` data of a file as a number (also of a missing one), and whether it is a directory.
fn stamp(dir: impl AsFd, name: &Path) -> (u64, bool) {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok();
    let is_dir = stat.as_ref().is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
    let mut hash = DefaultHasher::new();
    stat.map(|stat| {
        let size = if is_dir { 0 } else { stat.st_size };
        let times = (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
        (size, times, stat.st_ino, stat.st_mode)
    })
    .hash(&mut hash);
    (hash.finish(), is_dir)
}

/// The combination of all stamps.
fn together(stamps: impl IntoIterator<Item = u64>) -> String {
    let mut all = DefaultHasher::new();
    stamps.into_iter().for_each(|stamp| stamp.hash(&mut all));
    all.finish().to_string()
}

/// The stamps of these paths, in their order. Paths below a directory of the list are opened relative to it: resolving
/// hundreds of long paths from the root is slow.
#[allow(clippy::disallowed_methods)] // a directory is opened to ask for what is in it, as a path
fn stamps(paths: &[&Path]) -> Vec<u64> {
    let mut stamps = Vec::with_capacity(paths.len());
    let mut top: Option<(&Path, OwnedFd)> = None;
    for path in paths.iter().copied() {
        // By bytes: comparing components takes as long as the system calls.
        let bytes = path.as_os_str().as_bytes();
        let below = top.as_ref().and_then(|(top, dir)| {
            let rest = bytes.strip_prefix(top.as_os_str().as_bytes())?.strip_prefix(b"/")?;
            Some((dir, Path::new(OsStr::from_bytes(rest))))
        });
        let (stamp, is_dir) = match below {
            Some((dir, name)) => stamp(dir, name),
            None => stamp(CWD, path),
        };
        stamps.push(stamp);
        if below.is_none() && is_dir {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            top = open(path, flags, Mode::empty()).ok().map(|dir| (path, dir));
        }
    }
    stamps
}

/// A stored hash, if nothing has changed since. Every idle hook reads some, so the format is simple: a line with the
/// hash, a line with the combined stamps, and the paths, separated by zero bytes, in the order of the stamps.
fn recall(memory: &Path, roots: &[PathBuf]) -> Option<String> {
    let content = file::content(memory).ok()?;
    let mut parts = content.splitn(3, |byte| *byte == b'\n');
    let mut line = || std::str::from_utf8(parts.next()?).ok();
    let (hash, known) = (line()?, line()?);
    let paths: Vec<&Path> =
        parts.next()?.split(|byte| *byte == 0).map(|path| Path::new(OsStr::from_bytes(path))).collect();
    let all = roots.iter().all(|root| paths.iter().any(|path| path.as_os_str() == root.as_os_str()));
    (all && together(stamps(&paths)) == known).then(|| hash.to_owned())
}

fn remember(memory: &Path, hash: &str, seen: &BTreeMap<PathBuf, u64>) -> Result<()> {
    let mut content = format!("{hash}\n{}\n", together(seen.values().copied())).into_bytes();
    let paths: Vec<&[u8]> = seen.keys().map(|path| path.as_os_str().as_bytes()).collect();
    content.extend(paths.join(&0));
    file::write_atomic(memory, &content, 0o644)
}

/// The content hash of several trees (or files) together. The hash is stored in `memory` between runs; `skip` selects
/// files whose content does not count, and directories that do not count at all.
pub fn trees(roots: &[PathBuf], watch: Watch, memory: Option<&Path>, skip: &[&str]) -> Result<String> {
    if let Some(known) = memory.and_then(|memory| recall(memory, roots)) {
        return Ok(known);
    }
    // Stamps are taken before the content is read: a concurrent change is detected the next time.
    // Headers can be a whole kernel's build directory; root has installed them.
    let left = if watch == Watch::Files { file::TREE_LIMIT } else { u64::MAX };
    // A root that is a link counts as its target.
    let real = |root: &PathBuf| root.canonicalize().with_context(|| format!("reading {}", root.display()));
    let tops = roots.iter().map(real).collect::<Result<Vec<PathBuf>>>()?;
    let (seen, hash) = (BTreeMap::new(), Sha256::new());
    let mut walk = Walk { watch, skip, tops: &tops, seen, hash, left, entries: None, depth: 0 };
    for (root, real) in roots.iter().zip(&tops) {
        walk.seen.insert(root.clone(), stamp(CWD, root).0);
        walk.walk(real, Path::new(""))?;
    }
    let hash = finish(walk.hash);
    if let Some(memory) = memory {
        // If the hash cannot be stored, this costs only time.
        let _ = remember(memory, &hash, &walk.seen);
    }
    Ok(hash)
}

/// The content hash of several files. `start` identifies the set, and `all` computes it: it is called only if the
/// stored hash is not valid.
pub fn files(start: &[PathBuf], memory: &Path, all: impl FnOnce() -> Vec<PathBuf>) -> Result<String> {
    if let Some(known) = recall(memory, start) {
        return Ok(known);
    }
    let mut roots = start.to_vec();
    roots.extend(all());
    roots.sort();
    roots.dedup();
    trees(&roots, Watch::Files, Some(memory), &[])
}

/// The hash of a tree while it is computed.
struct Walk<'a> {
    watch: Watch,
    skip: &'a [&'a str],
    /// The trees, without links in their paths.
    tops: &'a [PathBuf],
    seen: BTreeMap<PathBuf, u64>,
    hash: Sha256,
    /// The bytes that may follow.
    left: u64,
    /// The entries that may follow, in a directory outside of the trees; `None` in the trees.
    entries: Option<usize>,
    /// The directories that the current one is in.
    depth: usize,
}

/// How much of a directory outside of a tree counts, in entries and bytes. A larger one is no part of a driver: kernel headers,
/// which are an input of their own, or all of the system.
const OUTSIDE: (usize, u64) = (4000, 64 << 20);

impl Walk<'_> {
    fn start(&mut self, kind: &[u8], name: &Path, size: u64) {
        self.hash.update(kind);
        self.hash.update(name.as_os_str().as_encoded_bytes());
        self.hash.update([0]);
        self.hash.update(size.to_le_bytes());
    }

    fn walk(&mut self, path: &Path, name: &Path) -> Result<()> {
        signal::check()?;
        let reading = || format!("reading {}", path.display());
        let meta = path.symlink_metadata().with_context(reading)?;
        if let Some(entries) = &mut self.entries {
            *entries = entries.checked_sub(1).context("the directory contains too many files")?;
        }
        let skipped = self.skip.iter().any(|skipped| name.ends_with(skipped));
        if skipped && meta.is_dir() {
            return Ok(());
        }
        let watched = self.watch == Watch::Files
            || meta.is_dir()
            || name.parent().is_none_or(|dir| dir == Path::new(""))
            || name.parent().and_then(Path::file_name).is_some_and(|dir| dir == "generated")
            || name.ends_with("config/auto.conf");
        if watched {
            self.seen.insert(path.to_owned(), stamp(CWD, path).0);
        }
        if meta.is_dir() {
            // Any user can make a directory in which this would have no end.
            if self.depth >= file::DEPTH {
                bail!("directories are nested more than {} deep", file::DEPTH);
            }
            self.depth += 1;
            self.start(b"d", name, 0);
            for child in file::sorted_entries(path) {
                let Some(child_name) = child.file_name() else { continue };
                self.walk(&child, &name.join(child_name))?;
            }
            self.depth -= 1;
        } else if skipped {
            self.start(b"s", name, 0);
        } else if meta.is_symlink() {
            let target = fs::read_link(path)?;
            let target = target.as_os_str().as_encoded_bytes();
            self.start(b"l", name, target.len() as u64);
            self.hash.update(target);
            self.beyond(path, name)?;
        } else if meta.is_file() {
            let kind: &[u8] = if meta.mode() & 0o111 == 0 { b"f" } else { b"x" };
            let (opened, size) = file::open_regular(path).with_context(reading)?;
            self.start(kind, name, size);
            self.content(opened, size).with_context(reading)?;
        }
        Ok(())
    }

    /// What is outside of the trees, and to which a link of a source leads: a build reads it like a part of the source.
    fn beyond(&mut self, link: &Path, name: &Path) -> Result<()> {
        let Some(real) = link.canonicalize().ok().filter(|_| self.watch == Watch::Files) else {
            return Ok(());
        };
        if self.tops.iter().any(|top| real.starts_with(top)) {
            return Ok(());
        }
        if real.is_dir() {
            return self.directory_beyond(&real, name);
        }
        if !real.is_file() {
            return Ok(());
        }
        let reading = || format!("reading {}", real.display());
        self.seen.insert(real.clone(), stamp(CWD, &real).0);
        let (opened, size) = file::open_regular(&real).with_context(reading)?;
        self.start(b"t", name, size);
        self.content(opened, size).with_context(reading)
    }

    /// Links in such a directory are followed to files only: links to directories may have no end.
    fn directory_beyond(&mut self, real: &Path, name: &Path) -> Result<()> {
        if self.entries.is_some() {
            return Ok(());
        }
        let (entries, left) = OUTSIDE;
        let mut outside = Walk {
            watch: self.watch,
            skip: &[],
            tops: &[real.to_owned()],
            seen: BTreeMap::new(),
            hash: Sha256::new(),
            left: left.min(self.left),
            entries: Some(entries),
            depth: 0,
        };
        match outside.walk(real, Path::new("")) {
            Ok(()) => {}
            Err(error) if error.is::<signal::Interrupted>() => return Err(error),
            // Too large, or not readable: not a part of the source, and no reason to refuse it.
            Err(_) => return Ok(()),
        }
        self.left -= left.min(self.left) - outside.left;
        self.seen.append(&mut outside.seen);
        self.start(b"t", name, 0);
        self.hash.update(outside.hash.finalize());
        Ok(())
    }

    /// Reads as much as the file had when it was opened: it may grow without end.
    fn content(&mut self, file: fs::File, size: u64) -> Result<()> {
        let Some(left) = self.left.checked_sub(size) else {
            bail!("the directory contains more than {} MiB", file::TREE_LIMIT >> 20);
        };
        self.left = left;
        let mut file = file.take(size);
        let mut buffer = vec![0; usize::try_from(size.clamp(1, 1 << 20))?];
        let mut read = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => {
                    self.hash.update(&buffer[..count]);
                    read += count as u64;
                }
            }
            signal::check()?;
        }
        if read != size {
            bail!("it was changed while it was read");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("src");
        file::write_atomic(&root.join("a/b.c"), b"int x;", 0o644).unwrap();
        let memory = dir.path().join("memory");
        (dir, root, memory)
    }

    #[test]
    fn digests_have_a_limit_and_tell_what_has_changed() {
        let (_dir, root, _) = tree();
        let (one, large) = (root.join("a/b.c"), root.join("large"));
        let file = fs::File::options().write(true).create_new(true).open(&large).unwrap();
        file.set_len(DIGESTED + 1).unwrap();
        let known: Digests = [&one, &large].map(|path| (path.clone(), path.clone())).into_iter().collect();
        assert_eq!((known.len(), known.changed()), (1, None));
        file::write_atomic(&one, b"other", 0o644).unwrap();
        assert_eq!(known.changed(), Some(one.as_path()));
        // Who owns it can make it endless.
        fs::File::options().write(true).open(&one).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(known.changed(), Some(one.as_path()));
        file::remove_all(&one).unwrap();
        assert_eq!(known.changed(), None);
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
    fn a_file_outside_to_which_a_link_leads_counts() {
        let (dir, root, memory) = tree();
        let outside = dir.path().join("outside.h");
        file::write_atomic(&outside, b"one", 0o644).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("x.h")).unwrap();
        std::os::unix::fs::symlink("a/b.c", root.join("inside.h")).unwrap();
        std::os::unix::fs::symlink("/nonexistent", root.join("nothing")).unwrap();
        let hash = || trees(std::slice::from_ref(&root), Watch::Files, Some(&memory), &[]).unwrap();
        let before = hash();
        assert_eq!(hash(), before);
        file::write_atomic(&outside, b"two", 0o644).unwrap();
        assert_ne!(hash(), before);
        file::write_atomic(&outside, b"one", 0o644).unwrap();
        assert_eq!(hash(), before);
    }

    #[test]
    fn a_directory_outside_to_which_a_link_leads_counts_unless_it_is_large() {
        let (dir, root, memory) = tree();
        let outside = dir.path().join("sdk");
        file::write_atomic(&outside.join("include/api.h"), b"one", 0o644).unwrap();
        std::os::unix::fs::symlink("..", outside.join("include/round")).unwrap();
        for (name, target) in
            [("sdk", outside.as_path()), ("all", Path::new("/")), ("kernel", Path::new("/sys"))]
        {
            std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        }
        let hash = || trees(std::slice::from_ref(&root), Watch::Files, Some(&memory), &[]).unwrap();
        let before = hash();
        assert_eq!(hash(), before);
        file::write_atomic(&outside.join("include/api.h"), b"two", 0o644).unwrap();
        let changed = hash();
        assert_ne!(changed, before);
        // Also what comes later.
        file::write_atomic(&outside.join("include/more.h"), b"", 0o644).unwrap();
        assert_ne!(hash(), changed);
        let before = hash();
        for number in 0..OUTSIDE.0 {
            fs::File::options().write(true).create_new(true).open(outside.join(number.to_string())).unwrap();
        }
        let large = hash();
        assert_ne!(large, before);
        file::write_atomic(&outside.join("include/api.h"), b"three", 0o644).unwrap();
        assert_eq!(hash(), large);
    }

    #[test]
    fn what_is_skipped_does_not_count() {
        for skip in ["a/b.c", "src/a", "a"] {
            let (_dir, root, _) = tree();
            let hash = || trees(std::slice::from_ref(&root), Watch::Files, None, &[skip]).unwrap();
            let before = hash();
            file::write_atomic(&root.join("a/b.c"), b"int y;", 0o644).unwrap();
            assert_eq!(hash() == before, skip != "src/a", "{skip}");
        }
    }

    #[test]
    fn a_deep_tree_is_refused_and_no_part_of_another() {
        let (dir, root, _) = tree();
        let hash = || trees(std::slice::from_ref(&root), Watch::Files, None, &[]);
        let before = hash().unwrap();
        let deep = |top: &Path| {
            let mut path = top.join("deep");
            (0..1500).for_each(|_| path.push("d"));
            fs::create_dir_all(&path).unwrap();
        };
        let outside = dir.path().join("outside");
        deep(&outside);
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        assert_ne!(hash().unwrap(), before, "the link counts");
        deep(&root);
        let error = hash().unwrap_err().to_string();
        assert_eq!(error, "directories are nested more than 64 deep");
    }

    #[test]
    fn a_tree_without_end_is_refused_at_once() {
        let (_dir, root, _) = tree();
        let hash = || trees(std::slice::from_ref(&root), Watch::Files, None, &[]);
        let large = fs::File::options().write(true).create_new(true).open(root.join("large")).unwrap();
        large.set_len(file::TREE_LIMIT).unwrap();
        let why = format!("{:#}", hash().unwrap_err());
        assert!(why.contains("more than 4096 MiB"), "{why}");
        // What is no file has no content: a fifo would never end.
        file::remove_all(&root.join("large")).unwrap();
        let before = hash().unwrap();
        rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(hash().unwrap(), before);
        assert!(file::open_regular(&root.join("fifo")).is_err());
        assert!(file::content(root.join("fifo")).is_err());
        assert!(file::content("/dev/null").unwrap().is_empty());
        assert!(file::open_regular(Path::new("/dev/zero")).is_err());
        assert_eq!(digest(&root.join("fifo")), None);
    }

    #[test]
    fn a_hash_is_remembered_for_files_of_any_name_and_those_that_come_or_go() {
        let (_dir, root, memory) = tree();
        file::write_atomic(&root.join("a/new\nline \"and\" more"), b"", 0o644).unwrap();
        let roots = [root.clone()];
        let hash = || trees(&roots, Watch::Files, Some(&memory), &[]).unwrap();
        let before = hash();
        assert_eq!(recall(&memory, &roots), Some(before.clone()));
        assert_eq!(recall(&memory, &[root.join("b")]), None);
        file::write_atomic(&root.join("c/d.c"), b"", 0o644).unwrap();
        assert_eq!(recall(&memory, &roots), None);
        assert_ne!(hash(), before);
    }
}
