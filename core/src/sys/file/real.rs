//! The directory that a path means.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As the kernel's limit.
const LINKS: usize = 40;

/// Resolves all links of a path. A link of another user than root must lead to a file of that user: root would otherwise
/// read for the owner of a home directory what only root may read.
pub fn real_dir(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut rest: VecDeque<OsString> = parts(&path).collect();
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            real.pop();
            continue;
        }
        let next = real.join(part);
        let meta = next.symlink_metadata()?;
        if !meta.is_symlink() {
            real = next;
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(io::Error::other("there are too many links"));
        }
        if meta.uid() != 0 && next.metadata()?.uid() != meta.uid() {
            let why = format!("{} is a link of a user to a file of another owner", next.display());
            return Err(io::Error::other(why));
        }
        let target = std::fs::read_link(&next)?;
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        parts(&target).rev().for_each(|part| rest.push_front(part));
    }
    Ok(real)
}

/// The absolute path that a link contains; `None` if the file is none. The same rule as for [`real_dir`] holds.
pub fn link_target(link: &Path) -> io::Result<Option<PathBuf>> {
    if !link.is_symlink() {
        return Ok(None);
    }
    real_dir(link)?;
    Ok(Some(link.parent().unwrap_or(Path::new("/")).join(std::fs::read_link(link)?)))
}

/// The names in a path, and its `..`.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_to_where_they_lead() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("../a/b", root.join("a/relative")).unwrap();
        symlink(root.join("a"), root.join("absolute")).unwrap();
        symlink("absolute/relative/..", root.join("chain")).unwrap();
        symlink("round", root.join("round")).unwrap();
        for (path, expected) in [
            ("a/relative", Some("a/b")),
            ("absolute/b", Some("a/b")),
            ("chain", Some("a")),
            ("round", None),
            ("none", None),
        ] {
            let found = real_dir(&root.join(path)).ok();
            assert_eq!(found, expected.map(|expected| root.join(expected)), "{path}");
            assert_eq!(found, root.join(path).canonicalize().ok(), "{path}");
        }
    }
}
