//! The files that a package must contain: payload, documentation, manual pages.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::payload::{self, Contents};
use super::repository;
use crate::facts::sha256;

/// One file: mode including the type, owner, and the hash of its content if the content is a file of this tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    pub mode: u32,
    pub owner: String,
    pub sha256: Option<String>,
}

pub type Files = BTreeMap<PathBuf, Meant>;

pub const DIR: u32 = 0o040_000;
pub const FILE: u32 = 0o100_000;
pub const ROOT: &str = "root root";

/// All files. Directories are added by the caller: the formats differ there.
pub fn files(contents: &Contents) -> Result<Files> {
    let mut files = Files::new();
    // The source of a program is below this directory; its content is not known here.
    let built = PathBuf::from("/built");
    for file in payload::files(&repository(), &built, contents)? {
        let content = match file.source.starts_with(&built) {
            true => None,
            false => Some(sha256(&fs::read(&file.source)?)),
        };
        files.insert(
            file.path.into(),
            Meant { mode: FILE | file.mode, owner: ROOT.to_owned(), sha256: content },
        );
    }
    let mut text = |path: String| {
        files.insert(path.into(), Meant { mode: FILE | 0o644, owner: ROOT.to_owned(), sha256: None });
    };
    for name in ["README.md.gz", "CHANGELOG.md.gz", "copyright", "third-party.gz"] {
        text(format!("usr/share/doc/dkms-rs/{name}"));
    }
    for page in fs::read_dir(repository().join("packaging/man"))? {
        let page = page?.file_name().into_string().ok().context("a page whose name is no text")?;
        let page = page.strip_suffix(".in").context("a page that is not filled in")?;
        let section = page.rsplit('.').next().unwrap_or_default();
        text(format!("usr/share/man/man{section}/{page}.gz"));
    }
    Ok(files)
}

pub fn dir() -> Meant {
    Meant { mode: DIR | 0o755, owner: ROOT.to_owned(), sha256: None }
}

/// Removes the hashes of files whose content is not known here.
pub fn forget_unknown(found: &mut Files, meant: &Files) {
    for (path, file) in found {
        if meant.get(path).is_none_or(|meant| meant.sha256.is_none()) {
            file.sha256 = None;
        }
    }
}
