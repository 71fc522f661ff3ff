//! Packages that are not installed yet: what their files say of themselves, and what is in them.
//!
//! Whoever made a package file is not trusted: it is read before its package manager has installed anything, by root. Every
//! size, count and name is bounded; an error says which file and why, and leaves the caller where it would be without it.

mod ar;
mod cpio;
mod deb;
mod header;
mod machine;
mod mtree;
mod paths;
mod rpm;
#[cfg(test)]
mod tests;
mod unpack;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use unpack::Unpacking;

use crate::archive::{Each, Limits, Refused, blame};
use crate::sys::file;
use crate::types::Arch;

/// What a package may say of itself: a list of a million files is 64 MiB.
const DESCRIPTION: Limits = Limits { bytes: 64 << 20, ratio: 200, free: 16 << 20, members: 1000 };

/// A package file: a .deb, an .rpm or a .pkg.tar.*; told by its first bytes, not by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The file.
    pub file: PathBuf,
    /// As the package manager calls it.
    pub name: String,
    /// As the format has it: epoch, version, release.
    pub version: String,
    /// The machine that it is for, as `uname -m` has it; `None`: any.
    pub machine: Option<Arch>,
    /// Bytes that it takes when it is installed, as far as it says.
    pub size: u64,
    /// The files that it says it holds, relative to the root, where they lie on a system whose `/usr` is merged. Directories are
    /// left out, and what a .deb says names no symbolic links. A hint: what is unpacked is looked at again.
    pub paths: Vec<PathBuf>,
}

/// What a package says of itself, in the words of its format.
#[derive(Debug, Default)]
struct Metadata {
    name: String,
    version: String,
    machine: String,
    size: u64,
    paths: Vec<PathBuf>,
}

/// What kind of package a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Deb,
    Rpm,
    /// A tarball, whatever it is compressed with.
    Pacman,
}

impl Package {
    /// Reads what a package says of itself. Of a .deb that is its control archive, of an .rpm its header, of pacman's the files
    /// that come first: a transaction may bring hundreds of packages, and most have nothing to do with kernels.
    pub fn open(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let (file, size) = file::open_regular(path)?;
            let (format, mut file) = told(file)?;
            let metadata = match format {
                Format::Deb => deb::describe(&mut file, size),
                Format::Rpm => rpm::describe(&mut file),
                Format::Pacman => mtree::describe(file, size),
            }
            .map_err(blame)?;
            let name = checked_word("name", metadata.name)?;
            let version = checked_word("version", metadata.version)?;
            let machine = machine::of(&metadata.machine)?;
            Ok(Self {
                file: path.to_owned(),
                name,
                version,
                machine,
                size: metadata.size,
                paths: metadata.paths,
            })
        };
        read().with_context(|| reading(path))
    }
}

/// Whether a file is an .rpm by its name.
pub fn named_like_rpm(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rpm")
}

fn reading(path: &Path) -> String {
    format!("reading package {}", path.display())
}

/// Which format a file has, by its first bytes. The file is at its beginning again.
fn told(mut file: File) -> Result<(Format, File)> {
    let mut start = Vec::new();
    (&mut file).take(8).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let format = if start == ar::MAGIC {
        Format::Deb
    } else if start.starts_with(rpm::MAGIC) {
        Format::Rpm
    } else {
        Format::Pacman
    };
    Ok((format, file))
}

/// Hands out all that a package would install.
fn walk(path: &Path, allowed: u64, members: usize, each: &mut Each<'_>) -> Result<()> {
    let (file, size) = file::open_regular(path)?;
    let (format, mut file) = told(file)?;
    match format {
        Format::Deb => deb::content(&mut file, size, allowed, members, each),
        Format::Rpm => rpm::content(&mut file, allowed, members, each),
        Format::Pacman => mtree::content(file, allowed, members, each),
    }
}

/// Names and versions are shown to people and compared with those of the package manager: one word each.
fn checked_word(what: &str, word: String) -> Result<String> {
    let bad =
        word.is_empty() || word.len() > 255 || word.chars().any(|c| c.is_whitespace() || c.is_control());
    if bad {
        return Err(Refused::malformed(format!("has no valid {what}")));
    }
    Ok(word)
}
