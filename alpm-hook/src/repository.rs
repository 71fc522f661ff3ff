//! The files that pacman is about to install. Its hooks get names and paths, without versions and files. Files that
//! were given to pacman are on its command line; those of its repositories are in its cache, with the names that the
//! repositories list.
//!
//! A wrong file would prove something wrong, so none is guessed, and each must contain what pacman has named for the
//! transaction. This is more than translation, and therefore in a separate file: only package files of the transaction
//! may be opened.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dkms_core::archive;
use dkms_core::distro::managers::PACMAN_DATABASE;
use dkms_core::layout::PackagePath;
use dkms_core::package::{Package, Reader};
use dkms_core::sys::run::{Cmd, Output};

use crate::call::Call;

/// The input that pacman gives to the hook.
#[derive(Debug, Default)]
pub struct PacmanInput {
    /// Packages that are installed.
    names: BTreeSet<String>,
    /// Their paths, as far as the hook file selects them.
    paths: BTreeSet<String>,
}

impl PacmanInput {
    /// Reads lines: a path has a slash, and a package name does not.
    pub fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty()).map(str::to_owned);
        let (paths, names) = lines.partition(|line| line.contains('/'));
        Self { names, paths }
    }

    /// Whether any of it concerns kernels or modules.
    pub fn concerns(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Whether the selected paths of a package are all in the input.
    fn fits(&self, package: &Package) -> bool {
        let asked = |path: &str| match PackagePath::of(&format!("/{path}")) {
            Some(PackagePath::Image(_)) => path.ends_with("/vmlinuz"),
            Some(PackagePath::Source(_)) => true,
            _ => path.ends_with("/build/include/config/auto.conf"),
        };
        let paths = package.paths.iter().filter_map(|path| path.to_str());
        paths.filter(|path| asked(path)).all(|path| self.paths.contains(path))
    }
}

/// All files of the transaction, or why they are unknown.
pub fn files(input: &PacmanInput, call: &Call) -> Result<Vec<PathBuf>> {
    if call.targets().any(|word| word == "-") {
        bail!("pacman reads its targets from a pipe");
    }
    let mut caches: Vec<PathBuf> = call.option("--cachedir").map(|dir| call.path(dir)).into_iter().collect();
    caches.extend(ask(call, "CacheDir")?.into_iter().map(PathBuf::from));
    let mut reader = Reader::default();
    let mut found = given(input, call, &caches, |path| reader.describe(path).ok());
    if input.names.iter().any(|name| !found.contains_key(name)) {
        let database = call.option("--dbpath").map_or_else(|| PACMAN_DATABASE.into(), |dir| call.path(dir));
        let lists = database.join("sync");
        let repositories = ask(call, "--repo-list")?;
        for (name, file) in offered(input, call, &lists, &repositories)? {
            let Entry::Vacant(place) = found.entry(name) else { continue };
            let there = caches.iter().map(|dir| dir.join(&file)).find(|path| path.is_file());
            place.insert(there.with_context(|| format!("{file} not found in pacman's cache"))?);
        }
    }
    if let Some(name) = input.names.iter().find(|name| !found.contains_key(*name)) {
        bail!("the package file of {name} is not known");
    }
    for path in found.values() {
        // Unreadable files are reported later, when they are used.
        if reader.describe(path).is_ok_and(|package| !input.fits(&package)) {
            bail!("{} does not match the transaction", path.display());
        }
    }
    Ok(found.into_values().collect())
}

/// A value of pacman's configuration.
fn ask(call: &Call, key: &str) -> Result<Vec<String>> {
    let mut words = vec![key.to_owned()];
    words.extend(call.option("--config").map(|file| format!("--config={}", call.path(file).display())));
    let said = Cmd::new("pacman-conf")
        .args(words)
        .output(Output::Split)
        .check()
        .context("reading pacman's configuration")?;
    Ok(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect())
}

/// Files that were given to pacman, by package name; those from a URL are in the cache.
fn given(
    input: &PacmanInput,
    call: &Call,
    caches: &[PathBuf],
    mut open: impl FnMut(&Path) -> Option<Package>,
) -> BTreeMap<String, PathBuf> {
    let places = |word: &str| match word.split_once("://") {
        Some(("file", path)) => vec![PathBuf::from(path)],
        Some((_, rest)) => {
            let name = rest.rsplit('/').next().unwrap_or_default().to_owned();
            caches.iter().map(|dir| dir.join(&name)).collect()
        }
        None => vec![call.path(word)],
    };
    let files = call.targets().flat_map(places).filter(|path| path.is_file());
    let packages = files.filter_map(|path| open(&path));
    packages
        .filter(|package| input.names.contains(&package.name))
        .map(|package| (package.name, package.file))
        .collect()
}

/// The files in repositories, by package name. The first repository takes precedence, unless one was named.
fn offered(
    input: &PacmanInput,
    call: &Call,
    lists: &Path,
    repositories: &[String],
) -> Result<BTreeMap<String, String>> {
    let mut offered = BTreeMap::new();
    for repository in repositories {
        let list = lists.join(format!("{repository}.db"));
        if !list.is_file() {
            continue;
        }
        for (name, file) in
            listed(&list, &input.names).with_context(|| format!("reading {}", list.display()))?
        {
            let chosen = format!("{repository}/{name}");
            if call.targets().any(|word| word == chosen) {
                offered.insert(name, file);
            } else {
                offered.entry(name).or_insert(file);
            }
        }
    }
    Ok(offered)
}

/// The files of these packages in a repository's list: a tarball of `NAME-VERSION-RELEASE/desc`.
fn listed(list: &Path, names: &BTreeSet<String>) -> Result<Vec<(String, String)>> {
    let name = |path: &Path| {
        let directory = path.to_str()?.strip_suffix("/desc")?;
        directory.rsplitn(3, '-').nth(2).filter(|name| names.contains(*name)).map(str::to_owned)
    };
    let texts = archive::texts(list, |path| name(path).is_some())?;
    let listed = texts.iter().filter_map(|(path, text)| {
        let file = text.split("\n\n").find_map(|field| field.trim_start().strip_prefix("%FILENAME%\n"));
        // A file name, without a path.
        let file = file.map(str::trim).filter(|file| !file.is_empty() && !file.contains('/'));
        Some((name(path)?, file?.to_owned()))
    });
    Ok(listed.collect())
}

#[cfg(test)]
#[path = "repository_tests.rs"]
mod tests;
