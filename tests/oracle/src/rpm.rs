//! .rpm files, read with the crate `rpm`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use dkms_core::layout::merged;
use rpm::{FileFlags, FileType};

use crate::deb::plain;
use crate::facts::{Description, Facts, Node, Tree, sha256};
use crate::machine;

pub fn read(file: &Path) -> Facts {
    let text = |error: anyhow::Error| format!("{error:#}");
    // The crate panics on some damaged headers.
    let caught = std::panic::catch_unwind(|| -> Result<Facts> {
        let package = rpm::Package::open(file)?;
        if package.metadata.is_source_package() {
            bail!("is a source package");
        }
        Ok(Facts { description: description(&package).map_err(text), tree: tree(&package).map_err(text) })
    });
    match caught {
        Ok(Ok(facts)) => facts,
        Ok(Err(error)) => Facts { description: Err(text(error)), tree: Err("is not opened".into()) },
        Err(_) => Facts { description: Err("panicked".into()), tree: Err("panicked".into()) },
    }
}

fn description(package: &rpm::Package) -> Result<Description> {
    let head = &package.metadata;
    let epoch = match head.get_epoch() {
        Ok(epoch) => format!("{epoch}:"),
        Err(rpm::Error::TagNotFound(_)) => String::new(),
        Err(error) => return Err(error.into()),
    };
    let files = head.get_file_entries()?;
    let listed = files
        .iter()
        .filter(|file| !file.flags().contains(FileFlags::GHOST) && file.file_type() != FileType::Dir);
    Ok(Description {
        name: head.get_name()?.to_owned(),
        version: format!("{epoch}{}-{}", head.get_version()?, head.get_release()?),
        machine: machine::of_rpm(head.get_arch()?),
        size: head.get_installed_size().unwrap_or(0),
        paths: listed.map(|file| place(&file.path())).collect(),
    })
}

fn place(path: &Path) -> PathBuf {
    merged(plain(path))
}

fn tree(package: &rpm::Package) -> Result<Tree> {
    let mut tree = Tree::new();
    // Hard links: one of them has the content in the payload, all have its digest in the header.
    let mut contents: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut names = Vec::new();
    for file in package.files()? {
        let file = file?;
        let entry = &file.metadata;
        if entry.flags().contains(FileFlags::GHOST) {
            continue;
        }
        let node = match entry.file_type() {
            FileType::Dir => Node::Dir,
            FileType::SymbolicLink => Node::Link(entry.linkto().context("a link without a target")?.into()),
            FileType::Regular => {
                let digest = entry.digest().map(|digest| digest.as_hex().to_owned()).unwrap_or_default();
                let (executable, mtime) =
                    (entry.permissions() & 0o111 != 0, u64::from(entry.modified_at().0));
                let Some(content) = file.content() else {
                    names.push((place(&entry.path()), digest, executable, mtime));
                    continue;
                };
                let (size, sha256) = (content.len() as u64, sha256(content));
                contents.insert(digest, (size, sha256.clone()));
                Node::File { executable, mtime, size, sha256 }
            }
            _ => Node::Special,
        };
        tree.insert(place(&entry.path()), node);
    }
    for (path, digest, executable, mtime) in names {
        let (size, sha256) =
            contents.get(&digest).with_context(|| format!("{path:?} has no content"))?.clone();
        tree.insert(path, Node::File { executable, mtime, size, sha256 });
    }
    Ok(tree)
}
