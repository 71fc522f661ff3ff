//! The product's own readers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use dkms_core::package::{Package, Unpacking};
use dkms_core::sys::private::Private;

use crate::facts::{Description, Facts, Node, Tree, sha256};

/// Reads a package file. `scratch`: a directory to unpack in. `special`: the paths that the other reader calls a device, a fifo or a
/// socket. Our reader must refuse them when they are wanted; then they are left out.
pub fn read(file: &Path, scratch: &Path, special: &dyn Fn(&Path) -> bool, any_special: bool) -> Facts {
    let opened = Package::open(file).map_err(|error| format!("{error:#}"));
    let description = opened.clone().map(|package| Description {
        name: package.name,
        version: package.version,
        machine: package.machine.map_or_else(String::new, |machine| machine.as_str().to_owned()),
        size: package.size,
        paths: package.paths.into_iter().collect(),
    });
    // Unpacking does not depend on the description: both are tried.
    let package = opened.unwrap_or_else(|_| Package {
        file: file.to_owned(),
        name: String::new(),
        version: String::new(),
        machine: None,
        size: 0,
        paths: Vec::new(),
    });
    let tree = || -> Result<Tree> {
        if any_special && unpacked(&package, scratch, &|_| true).is_ok() {
            bail!("a device, a fifo or a socket was unpacked");
        }
        unpacked(&package, scratch, &|path| !special(path))
    };
    Facts { description, tree: tree().map_err(|error| format!("{error:#}")) }
}

fn unpacked(package: &Package, scratch: &Path, take: &dyn Fn(&Path) -> bool) -> Result<Tree> {
    let private = Private::new(scratch)?;
    let mut unpacking = Unpacking::new(&private, Path::new("over"));
    unpacking.take(package, take)?;
    unpacking.finish()?;
    let root = private.path().join("over");
    let mut tree = Tree::new();
    look(&root, &root, &mut tree).context("looking at what was unpacked")?;
    Ok(tree)
}

fn look(dir: &Path, root: &Path, tree: &mut Tree) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let meta = path.symlink_metadata()?;
        let node = if meta.is_dir() {
            look(&path, root, tree)?;
            Node::Dir
        } else if meta.is_symlink() {
            Node::Link(fs::read_link(&path)?)
        } else {
            let content = fs::read(&path)?;
            let mtime = u64::try_from(meta.mtime())?;
            Node::File {
                executable: meta.mode() & 0o111 != 0,
                mtime,
                size: meta.len(),
                sha256: sha256(&content),
            }
        };
        tree.insert(path.strip_prefix(root)?.to_owned(), node);
    }
    Ok(())
}
