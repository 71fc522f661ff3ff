//! Atomic writing of files, and every other change of files and directories.
#![allow(clippy::disallowed_methods)] // this is the place

mod beneath;
mod changed;
mod list;
mod read;
mod real;
mod staged;
mod state;
mod swap;
mod tree;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, RenameFlags};
use rustix::io::Errno;

pub use beneath::{remove_beneath, write_beneath};
pub use changed::Changed;
pub use list::{files_below, links_below, sorted_entries, sub_dirs, tree_size};
pub use read::{
    A_DIRECTORY, A_FILE, A_LINK, TREE_LIMIT, content, irregular, is_null, kind_of, open_data, open_regular,
    read_ends, read_optional, read_untrusted, record, same_content, text,
};
pub use real::{link_target, real_dir};
pub use staged::Staged;
pub use state::{
    Unwritable, is_executable, is_full, on_read_only, open_to_others, readable_by_all, room, unwritable,
    writable,
};
pub use swap::Swap;
pub use tree::{Adopted, DEPTH, Entry, adopt, copy as copy_tree, copy_real};

/// The prefix of temporary files next to final ones. Shell tools and depmod ignore them.
pub const TEMP_PREFIX: &str = ".dkms-tmp-";

/// A unique name in the same directory, across processes, threads and boots.
pub fn temp_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().unwrap_or(OsStr::new("x")).to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!("{TEMP_PREFIX}{}-{}-{count}-{name}", boot(), std::process::id()))
}

/// The beginning of the kernel's name for this boot, without hyphens; `0` without /proc.
fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = text(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default();
        id.split('-').next().filter(|id| !id.is_empty()).unwrap_or("0").to_owned()
    })
}

/// Syncs all files and directories of a tree.
pub fn sync_tree(dir: &Path) -> Result<()> {
    for entry in sorted_entries(dir).iter().filter(|entry| !entry.is_symlink()) {
        if entry.is_dir() { sync_tree(entry)? } else { sync(entry)? }
    }
    sync(dir)
}

/// Whether a file is a temporary one of a dead process.
pub fn is_abandoned(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(rest) = name.strip_prefix(TEMP_PREFIX) else { return false };
    let mut parts = rest.split('-');
    let (Some(begun), Some(pid)) = (parts.next(), parts.next()) else { return false };
    // After a power failure, another process has its number.
    begun != boot() || pid == std::process::id().to_string() || !crate::sys::number::exists(pid)
}

/// Syncs the content of a file, or the entries of a directory.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).with_context(|| format!("syncing {}", path.display()))
}

/// Syncs everything on the file system of a path, for what a program wrote to files that only it knows.
pub fn sync_file_system(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| Ok(rustix::fs::syncfs(&file)?))
        .with_context(|| format!("syncing the file system of {}", path.display()))
}

/// Syncs what another program made: the files of a directory whose names satisfy `named`, and their names.
pub fn sync_files(dir: &Path, named: impl Fn(&str) -> bool) -> Result<()> {
    let named = |path: &&PathBuf| path.file_name().and_then(OsStr::to_str).is_some_and(&named);
    let files = sorted_entries(dir);
    for file in files.iter().filter(named).filter(|file| file.is_file() && !file.is_symlink()) {
        sync(file)?;
    }
    sync(dir)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        // A name in the working directory.
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

/// Renames a complete, synced file, and syncs the directory.
pub fn name_synced(new: &Path, name: &Path) -> Result<()> {
    fs::rename(new, name).with_context(|| format!("putting {} in place", name.display()))?;
    sync(parent(name))
}

/// Creates a directory and its parents. It may exist.
pub fn make_dirs(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))
}

/// Creates a directory and its parents, and syncs the directories that have new entries: what is put there survives a power
/// failure.
fn make_dirs_synced(dir: &Path) -> Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    make_dirs(dir)?;
    missing.into_iter().rev().try_for_each(|made| sync(parent(made)))
}

/// Creates a directory that only its owner may enter, and its missing parents.
pub fn make_private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("creating {}", dir.display()))
}

/// Creates one directory. `false` if anything with this name exists.
pub fn make_dir(dir: &Path) -> Result<bool> {
    match fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("creating {}", dir.display())),
    }
}

/// Creates a link to `target`; an error if anything with this name exists.
pub fn make_link(target: &Path, link: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, link)
        .with_context(|| format!("linking {} to {}", link.display(), target.display()))
}

/// Changes the owner of a file, link or directory to a user and the group with the same number; does nothing for
/// `None`.
pub fn give(path: &Path, owner: Option<u32>) -> io::Result<()> {
    match owner {
        Some(id) => std::os::unix::fs::lchown(path, Some(id), Some(id)),
        None => Ok(()),
    }
}

/// Opens a file for appending; creates it if it is missing.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Sets a file's time of modification to now.
pub fn touch(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_modified(SystemTime::now())
}

/// Creates a hard link `to` for `from` if the file system supports it, else writes `content`, which is the content of
/// `from`.
pub fn share(from: &Path, to: &Path, content: &[u8]) -> Result<()> {
    make_dirs(parent(to))?;
    if fs::hard_link(from, to).is_err() {
        write_unsynced(to, content)?;
    }
    Ok(())
}

/// Files that this process creates from now on are readable for all and writable for the owner, whatever the caller's
/// umask is.
pub fn set_umask() {
    rustix::process::umask(Mode::from_raw_mode(0o022));
}

/// Writes a file atomically: after a power failure it has the old or the new content.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    make_dirs_synced(parent(path))?;
    Staged::new(path, content, mode)?.commit()
}

/// Writes a file in a directory that nothing refers to yet. [`sync_tree`] follows before something does, unless the
/// file may be lost.
pub fn write_unsynced(path: &Path, content: &[u8]) -> Result<()> {
    make_dirs(parent(path))?;
    let write = || {
        // Never through a link, and never into a file that has another name.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
        file.write_all(content)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Writes to a path that a user named: a device or a pipe is written to, not replaced, and so is the target of a link.
pub fn write_named(path: &Path, content: &[u8]) -> Result<()> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => {
            let write = || OpenOptions::new().write(true).open(path)?.write_all(content);
            write().with_context(|| format!("writing {}", path.display()))
        }
        Ok(_) => write_atomic(&path.canonicalize()?, content, 0o644),
        Err(_) => write_atomic(path, content, 0o644),
    }
}

/// Copies a file atomically, with its mode, owner and time of modification.
pub fn copy_atomic(from: &Path, to: &Path) -> Result<()> {
    Staged::copy(from, to)?.commit()
}

/// Makes `link` point to `target`, replacing an existing one atomically.
pub fn symlink_atomic(target: &Path, link: &Path) -> Result<()> {
    make_dirs_synced(parent(link))?;
    Staged::link(link, target)?.commit()
}

/// Renames the directory `from` to `to`. An existing directory is exchanged with it and then deleted, so that `to` is
/// complete at any time. If the file system cannot exchange directories, each file is replaced on its own.
pub fn replace_dir(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("replacing {}", to.display());
    make_dirs_synced(parent(to))?;
    fail::fail_point!("file:before-effect");
    if to.symlink_metadata().is_err() {
        fs::rename(from, to).with_context(context)?;
        return sync(parent(to));
    }
    fail::fail_point!("file:no-exchange", |_| replace_files(from, to).and_then(|()| remove_all(from)));
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => sync(parent(to))?,
        // A directory in the lower layer of an overlay cannot be renamed (containers, image builds); some file systems
        // do not support exchanging.
        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => replace_files(from, to)?,
        Err(error) => return Err(error).with_context(context),
    }
    remove_all(from)
}

/// Moves the files of `from` over those of `to`, and deletes files that only `to` has.
fn replace_files(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("replacing {}", to.display());
    let wanted = sorted_entries(from);
    for new in &wanted {
        let old = to.join(new.file_name().unwrap_or_default());
        if new.is_dir() && !new.is_symlink() {
            fs::create_dir_all(&old).with_context(context)?;
            replace_files(new, &old)?;
        } else {
            fail::fail_point!("file:before-effect");
            fs::rename(new, &old).with_context(context)?;
        }
    }
    for old in sorted_entries(to) {
        if !wanted.iter().any(|new| new.file_name() == old.file_name()) {
            remove_all(&old)?;
        }
    }
    sync(to)
}

/// Removes a directory with one rename, then deletes it; file by file if it cannot be renamed. It does not come back after a
/// power failure.
pub fn set_aside(dir: &Path, trash: &Path) -> Result<()> {
    make_dirs(parent(trash))?;
    let renamed = fs::rename(dir, trash).is_ok();
    if !renamed {
        remove_all(dir)?;
    }
    sync(parent(dir))?;
    if renamed { remove_all(trash) } else { Ok(()) }
}

/// Deletes a file or a directory with its content. It may be missing. Never follows links.
pub fn remove_all(path: &Path) -> Result<()> {
    let result = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(meta) => {
            fail::fail_point!("file:before-effect");
            if meta.is_dir() { tree::remove(path) } else { fs::remove_file(path) }
        }
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("deleting {}", path.display())),
    }
}

/// Deletes `dir` and then its parents while they are empty, up to but not including `stop`.
pub fn remove_empty_up_to(dir: &Path, stop: &Path) {
    let mut dir = dir;
    while dir != stop && dir.starts_with(stop) {
        match fs::remove_dir(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return,
        }
        dir = parent(dir);
    }
}

/// Copies a tree over another one: files and links replace existing ones, directories are merged.
pub fn overlay_tree(from: &Path, to: &Path, owner: Option<u32>) -> Result<()> {
    let real_dir = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if !real_dir(from) || !real_dir(to) {
        remove_all(to)?;
        return copy_tree(from, to, owner);
    }
    for entry in sorted_entries(from) {
        if let Some(name) = entry.file_name() {
            overlay_tree(&entry, &to.join(name), owner)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_a_user_names_is_written_to_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        write_named(&target, b"one").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_named(&link, b"two").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"two");
        // A link, because root could replace the device itself.
        let full = dir.path().join("full");
        std::os::unix::fs::symlink("/dev/full", &full).unwrap();
        let error = write_named(&full, b"three").unwrap_err().downcast::<io::Error>().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(full.is_symlink());
        assert!(write_named(dir.path(), b"four").is_err());
    }

    #[test]
    fn a_temporary_file_is_abandoned_when_its_process_or_its_boot_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let name = |boot: &str, pid: u32| dir.path().join(format!("{TEMP_PREFIX}{boot}-{pid}-0-a.json"));
        let (here, init) = (std::process::id(), 1);
        for (path, abandoned) in [
            (name(boot(), here), true),
            (name(boot(), init), false),
            (name("00000000", init), true),
            (name(boot(), 4_000_001), true),
            (temp_beside(&dir.path().join("a.json")), true),
            (dir.path().join("a.json"), false),
        ] {
            assert_eq!(is_abandoned(&path), abandoned, "{}", path.display());
        }
    }

    #[test]
    fn an_unsynced_file_replaces_a_link_and_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let [kept, link, other] = ["kept", "link", "other"].map(|name| dir.path().join(name));
        write_atomic(&kept, b"kept", 0o644).unwrap();
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        fs::hard_link(&kept, &other).unwrap();
        for path in [&link, &other] {
            write_unsynced(path, b"new").unwrap();
            assert_eq!(fs::read(path).unwrap(), b"new");
        }
        assert_eq!(fs::read(&kept).unwrap(), b"kept");
    }

    #[test]
    fn a_staged_file_that_is_not_committed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("a.ko");
        write_atomic(&dest, b"old", 0o644).unwrap();
        drop(Staged::new(&dest, b"new", 0o644).unwrap());
        assert_eq!(sorted_entries(dir.path()), vec![dest.clone()]);
        Staged::new(&dest, b"new", 0o644).unwrap().commit().unwrap();
        assert_eq!(fs::read(&dest).unwrap(), b"new");
        assert_eq!(sorted_entries(dir.path()), vec![dest]);
    }

    #[test]
    fn a_tree_laid_over_another_replaces_files_and_keeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (over, under) = (dir.path().join("over"), dir.path().join("under"));
        for (path, text) in [(&over, "new"), (&under, "old")] {
            write_atomic(&path.join("sub/both"), text.as_bytes(), 0o644).unwrap();
            write_atomic(&path.join(text), text.as_bytes(), 0o644).unwrap();
        }
        // A link at the destination is replaced, never followed.
        std::os::unix::fs::symlink(dir.path(), under.join("new")).unwrap();
        overlay_tree(&over, &under, None).unwrap();
        let text = |path: &str| fs::read_to_string(under.join(path)).unwrap();
        assert_eq!((text("sub/both"), text("new"), text("old")), ("new".into(), "new".into(), "old".into()));
        overlay_tree(&over, &dir.path().join("absent"), None).unwrap();
        assert!(dir.path().join("absent/sub/both").exists());
    }

    #[test]
    fn contents_are_compared_to_their_last_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for size in [0, 1, (1 << 16) - 1, 1 << 16, (1 << 17) + 1] {
            let mut content = vec![7; size];
            write_atomic(&path("a"), &content, 0o644).unwrap();
            write_atomic(&path("b"), &content, 0o644).unwrap();
            assert!(same_content(&path("a"), &path("b")).unwrap(), "{size}");
            if let Some(last) = content.last_mut() {
                *last = 8;
                write_atomic(&path("b"), &content, 0o644).unwrap();
                assert!(!same_content(&path("a"), &path("b")).unwrap(), "{size}");
            }
            content.push(7);
            write_atomic(&path("b"), &content, 0o644).unwrap();
            assert!(!same_content(&path("a"), &path("b")).unwrap(), "{size}");
        }
        assert!(same_content(&path("a"), &path("nowhere")).is_err());
    }

    #[test]
    fn a_directory_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        write_atomic(&old.join("x"), b"1", 0o644).unwrap();
        write_atomic(&new.join("y"), b"2", 0o644).unwrap();
        replace_dir(&new, &old).unwrap();
        assert!(!new.exists() && !old.join("x").exists() && old.join("y").exists());
        write_atomic(&new.join("z/z"), b"3", 0o644).unwrap();
        replace_files(&new, &old).unwrap();
        assert!(!old.join("y").exists() && old.join("z/z").exists());
    }

    #[test]
    fn a_copied_file_keeps_mode_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("sub/to"));
        write_atomic(&from, b"content", 0o640).unwrap();
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::new(1_577_836_800, 5);
        OpenOptions::new().write(true).open(&from).unwrap().set_modified(time).unwrap();
        copy_atomic(&from, &to).unwrap();
        let meta = to.metadata().unwrap();
        assert_eq!((meta.modified().unwrap(), meta.mode() & 0o7777), (time, 0o640));
        assert_eq!(fs::read(&to).unwrap(), b"content");
        assert_eq!(sorted_entries(to.parent().unwrap()), [to]);
    }

    #[test]
    fn a_long_file_keeps_its_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write_atomic(&path, b"begin-middle-end", 0o644).unwrap();
        assert_eq!(read_ends(&path, (10, 10)).unwrap(), b"begin-middle-end");
        assert_eq!(read_ends(&path, (5, 3)).unwrap(), b"begin\n[... 8 bytes omitted ...]\nend");
    }

    #[test]
    fn an_untrusted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| read_untrusted(dir.path(), Path::new(name), 1 << 20);
        write_atomic(&dir.path().join("sub/file"), b"x", 0o644).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("sub/file", dir.path().join("inside")).unwrap();
        assert_eq!(read("sub/file").unwrap(), b"x");
        assert_eq!(read("inside").unwrap(), b"x");
        for hostile in ["link", "dir/passwd", "../../etc/passwd", "sub"] {
            assert!(read(hostile).is_err(), "{hostile}");
        }
    }

    #[test]
    fn a_copied_tree_keeps_links_modes_and_times() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        write_atomic(&from.join("sub/run.sh"), b"#!/bin/sh\n", 0o755).unwrap();
        std::os::unix::fs::symlink("sub/run.sh", from.join("link")).unwrap();
        copy_tree(&from, &to, None).unwrap();
        let (a, b) = (from.join("sub/run.sh").metadata().unwrap(), to.join("sub/run.sh").metadata().unwrap());
        assert_eq!((a.mode(), a.mtime()), (b.mode(), b.mtime()));
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("sub/run.sh"));
    }
}
