//! Which files pacman is about to install. It tells its hooks names and paths, and neither versions nor files: those that it was
//! given are on its command line, those of its repositories lie in its cache under the names that the repositories say.
//!
//! A wrong file would be a wrong proof. So none is guessed, and each must hold what pacman has said that the transaction brings.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Package;
use crate::archive::{Limits, blame, walk};
use crate::layout::{Layout, Place};
use crate::sys::file;
use crate::sys::run::{Cmd, Output};

/// A repository's list: Arch's largest has fifteen thousand packages.
const LIST: Limits = Limits { bytes: 1 << 30, ratio: 200, free: 16 << 20, members: 1 << 20 };

/// What pacman tells.
#[derive(Debug, Default)]
pub struct Told {
    /// Packages that come.
    names: BTreeSet<String>,
    /// Paths that they touch, as far as they were asked for.
    paths: BTreeSet<String>,
}

/// How pacman was called.
#[derive(Debug, Default)]
pub struct Call {
    /// Its command line.
    pub words: Vec<String>,
    /// Directories of which one is where it was called.
    pub dirs: Vec<PathBuf>,
}

impl Told {
    /// Reads lines: what has a slash is a path, and packages' names have none.
    pub fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty()).map(str::to_owned);
        let (paths, names) = lines.partition(|line| line.contains('/'));
        Self { names, paths }
    }

    /// Whether any of it has to do with kernels or modules.
    pub fn concerns(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Whether a package holds nothing but what was told, as far as that was asked for.
    fn fits(&self, package: &Package) -> bool {
        let asked = |path: &str| match Place::of(&format!("/{path}")) {
            Some(Place::Image(_)) => path.ends_with("/vmlinuz"),
            Some(Place::Source(_)) => true,
            _ => path.ends_with("/build/include/config/auto.conf"),
        };
        let paths = package.paths.iter().filter_map(|path| path.to_str());
        paths.filter(|path| asked(path)).all(|path| self.paths.contains(path))
    }
}

impl Call {
    /// The value of an option: `--name VALUE` or `--name=VALUE`.
    fn option(&self, name: &str) -> Option<&str> {
        self.words.iter().enumerate().find_map(|(at, word)| {
            let rest = word.strip_prefix(name)?;
            if rest.is_empty() { self.words.get(at + 1).map(String::as_str) } else { rest.strip_prefix('=') }
        })
    }

    /// What a word means that is a path.
    fn path(&self, word: &str) -> PathBuf {
        let places = self.dirs.iter().map(|dir| dir.join(word));
        places.into_iter().find(|path| path.exists()).unwrap_or_else(|| word.into())
    }

    /// Words that are no options. Values of options are among them: no package is called like one.
    fn targets(&self) -> impl Iterator<Item = &str> {
        self.words
            .iter()
            .skip(1)
            .map(String::as_str)
            .filter(|word| !word.is_empty() && !word.starts_with("--"))
    }
}

/// All files of the transaction, or why they are not known.
pub fn files(layout: &Layout, told: &Told, call: &Call) -> Result<Vec<PathBuf>> {
    if call.targets().any(|word| word == "-") {
        bail!("pacman reads from a pipe what it is to install");
    }
    let config = |key: &str| ask(call, key);
    let mut caches: Vec<PathBuf> = call.option("--cachedir").map(|dir| call.path(dir)).into_iter().collect();
    caches.extend(config("CacheDir")?.into_iter().map(PathBuf::from));
    let mut found = given(told, call, &caches);
    if told.names.iter().any(|name| !found.contains_key(name)) {
        let lists =
            call.option("--dbpath").map_or_else(|| layout.pacman(), |dir| call.path(dir)).join("sync");
        let repositories = config("--repo-list")?;
        for (name, file) in offered(told, call, &lists, &repositories)? {
            let Entry::Vacant(place) = found.entry(name) else { continue };
            let there = caches.iter().map(|dir| dir.join(&file)).find(|path| path.is_file());
            place.insert(there.with_context(|| format!("{file} is not in pacman's cache"))?);
        }
    }
    if let Some(name) = told.names.iter().find(|name| !found.contains_key(*name)) {
        bail!("it is not known from which file pacman installs {name}");
    }
    for path in found.values() {
        // What cannot be read is said later, by whoever needs it.
        if Package::open(path).is_ok_and(|package| !told.fits(&package)) {
            bail!("{} is not what pacman is about to install", path.display());
        }
    }
    Ok(found.into_values().collect())
}

/// What pacman's configuration says.
fn ask(call: &Call, key: &str) -> Result<Vec<String>> {
    let mut words = vec![key.to_owned()];
    words.extend(call.option("--config").map(|file| format!("--config={}", call.path(file).display())));
    let said = Cmd::new("pacman-conf")
        .args(words)
        .output(Output::Split)
        .check()
        .context("asking for pacman's configuration")?;
    Ok(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect())
}

/// Files that pacman was given, by the names of their packages; what was fetched from an address lies in the cache.
fn given(told: &Told, call: &Call, caches: &[PathBuf]) -> BTreeMap<String, PathBuf> {
    let places = |word: &str| match word.split_once("://") {
        Some(("file", path)) => vec![PathBuf::from(path)],
        Some((_, rest)) => {
            let name = rest.rsplit('/').next().unwrap_or_default().to_owned();
            caches.iter().map(|dir| dir.join(&name)).collect()
        }
        None => vec![call.path(word)],
    };
    let files = call.targets().flat_map(places).filter(|path| path.is_file());
    let packages = files.filter_map(|path| Package::open(&path).ok());
    packages
        .filter(|package| told.names.contains(&package.name))
        .map(|package| (package.name, package.file))
        .collect()
}

/// The files that repositories offer, by the names of their packages. The first repository counts, unless pacman was told another.
fn offered(
    told: &Told,
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
            listed(&list, &told.names).with_context(|| format!("reading {}", list.display()))?
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
    let (packed, size) = file::open_regular(list)?;
    let mut found = Vec::new();
    walk(BufReader::new(packed), LIST.allowed(size), LIST.members, &mut |member, content| {
        let name = member.path.to_str().and_then(|path| path.strip_suffix("/desc")).and_then(|directory| {
            let mut parts = directory.rsplitn(3, '-');
            parts.nth(2).filter(|name| names.contains(*name)).map(str::to_owned)
        });
        if let Some(name) = name {
            let mut text = String::new();
            content.take(1 << 20).read_to_string(&mut text)?;
            let file = text.split("\n\n").find_map(|field| field.trim_start().strip_prefix("%FILENAME%\n"));
            // A name, and no way to elsewhere.
            let file = file.map(str::trim).filter(|file| !file.is_empty() && !file.contains('/'));
            found.extend(file.map(|file| (name, file.to_owned())));
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(blame)?;
    Ok(found)
}

#[cfg(test)]
#[path = "tests/fetched.rs"]
mod tests;
