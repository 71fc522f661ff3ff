//! Package files that are not installed yet: their description and their content.
//!
//! The author of a package file is not trusted: root reads it before the package manager has installed anything. Every
//! size, count and name is limited; an error names the file and the reason, and the caller continues without it.

mod ar;
mod cpio;
mod deb;
mod header;
mod machine;
mod mtree;
mod paths;
mod reader;
mod rpm;
#[cfg(test)]
mod tests;
mod unpack;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub(crate) use machine::in_deb as machine_in_deb;
pub use reader::{PART, Reader, serve};
pub use unpack::Unpacking;

use crate::archive::{Each, Limits, Refused, blame};
use crate::sys::inside;
use crate::types::Arch;

/// The limits of a description: a list of a million files is 64 MiB.
const DESCRIPTION: Limits = Limits { bytes: 64 << 20, ratio: 200, free: 16 << 20, members: 1000 };

/// A package file: a .deb, an .rpm or a .pkg.tar.*; recognized by its first bytes, not by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The file.
    pub file: PathBuf,
    /// The name for the package manager.
    pub name: String,
    /// The version in the package format: epoch, version, release.
    pub version: String,
    /// Its architecture as printed by `uname -m`; `None`: any.
    pub machine: Option<Arch>,
    /// The installed size in bytes, according to the package.
    pub size: u64,
    /// The files that the package lists, relative to the root, with the paths of a system with merged `/usr`. Without
    /// directories, and for a .deb without symbolic links. Only a hint: the unpacked files are checked again.
    pub paths: Vec<PathBuf>,
}

/// The description of a package, in the terms of its format.
#[derive(Debug, Default)]
struct Metadata {
    name: String,
    version: String,
    machine: String,
    size: u64,
    paths: Vec<PathBuf>,
}

/// The format of a package file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Deb,
    Rpm,
    /// A tarball with any compression.
    Pacman,
}

impl Package {
    /// Reads the description of a package: of a .deb the control archive, of an .rpm the header, of pacman's the first
    /// files. A transaction may contain hundreds of packages, and most do not concern kernels.
    pub fn open(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let (file, size) = inside::opened(path)?;
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

/// Whether the name of a file is that of an .rpm.
pub fn named_like_rpm(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rpm")
}

fn reading(path: &Path) -> String {
    format!("reading package {}", path.display())
}

/// The format of a file, from its first bytes. The file is rewound.
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

/// Passes on everything that a package would install.
fn walk(path: &Path, allowed: u64, members: usize, each: &mut Each<'_>) -> Result<()> {
    let (file, size) = inside::opened(path)?;
    let (format, mut file) = told(file)?;
    match format {
        Format::Deb => deb::content(&mut file, size, allowed, members, each),
        Format::Rpm => rpm::content(&mut file, allowed, members, each),
        Format::Pacman => mtree::content(file, allowed, members, each),
    }
}

/// Names and versions are printed, and compared with those of the package manager: they must be one word each.
fn checked_word(what: &str, word: String) -> Result<String> {
    let bad =
        word.is_empty() || word.len() > 255 || word.chars().any(|c| c.is_whitespace() || c.is_control());
    if bad {
        return Err(Refused::malformed(format!("has no valid {what}")));
    }
    Ok(word)
}
