//! What is in a directory, in byte order. A directory that does not exist is empty.

use std::fs;
use std::path::{Path, PathBuf};

/// The entries of a directory in byte order; empty if it does not exist.
pub fn sorted_entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// The names of the subdirectories (links are not followed), in byte order.
pub fn sub_dirs(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The regular files below a directory, in byte order. Links are neither followed nor listed; `skip` names entries of the
/// directory itself.
pub fn files_below(dir: &Path, skip: &[&str]) -> Vec<PathBuf> {
    below(dir, skip, fs::FileType::is_file)
}

/// The links below a directory, in byte order.
pub fn links_below(dir: &Path) -> Vec<PathBuf> {
    below(dir, &[], fs::FileType::is_symlink)
}

/// The type of each entry comes with the directory: thousands of files are not examined one by one.
fn below(dir: &Path, skip: &[&str], wanted: fn(&fs::FileType) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    let mut open: Vec<_> = entries(dir).collect();
    open.retain(|entry| !skip.iter().any(|name| entry.file_name() == *name));
    while let Some(entry) = open.pop() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => open.extend(entries(&entry.path())),
            Ok(kind) if wanted(&kind) => found.push(entry.path()),
            _ => {}
        }
    }
    found.sort();
    found
}

/// The size of all files below a directory, in bytes.
pub fn tree_size(dir: &Path) -> u64 {
    let size = |path: PathBuf| match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => tree_size(&path),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    sorted_entries(dir).into_iter().map(size).sum()
}
