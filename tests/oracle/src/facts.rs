//! What a reader finds in a package, in one form for all readers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// What the control archive or the header contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub version: String,
    /// As `uname -m` has it; empty: any.
    pub machine: String,
    /// Bytes, installed.
    pub size: u64,
    /// The listed files and links, as on a system with merged `/usr`.
    pub paths: BTreeSet<PathBuf>,
}

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Dir,
    File {
        executable: bool,
        mtime: u64,
        size: u64,
        sha256: String,
    },
    Link(PathBuf),
    /// A device, a fifo or a socket. Our readers refuse to unpack it.
    Special,
}

/// The content of a package by path.
pub type Tree = BTreeMap<PathBuf, Node>;

/// The result of one reader. An error is a result, too.
pub struct Facts {
    pub description: Result<Description, String>,
    pub tree: Result<Tree, String>,
}

/// Adds the parent directories of all paths.
pub fn with_parents(mut tree: Tree) -> Tree {
    let above: BTreeSet<PathBuf> =
        tree.keys().flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned).collect();
    for dir in above {
        tree.entry(dir).or_insert(Node::Dir);
    }
    tree.remove(Path::new(""));
    tree
}

pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
