//! Overlays over the system's directories, visible to one confined process and its children only. All other processes,
//! including root's, see the files of an incoming package only as data.
#![allow(clippy::disallowed_methods)] // this is the place

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind_recursive, mount_remount,
    move_mount, open_tree, unmount,
};
use serde::{Deserialize, Serialize};

use super::{file, mounts};

/// The number of links after which a path counts as a loop.
const LINKS: usize = 40;

/// The overlay of a confined process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Directories of the system, each with its upper directory.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// An empty private directory.
    pub scratch: PathBuf,
}

impl Layers {
    /// The real path of a file as seen by a process with the overlay: links are resolved through the layers and the
    /// system. A path that exists in neither is returned unchanged.
    pub fn find(&self, path: &Path) -> PathBuf {
        let mut seen = PathBuf::from("/");
        let mut open: Vec<OsString> = components(path);
        let mut links = 0;
        while let Some(name) = open.pop() {
            if name == ".." {
                seen.pop();
                continue;
            }
            seen.push(&name);
            let Ok(target) = fs::read_link(self.real(&seen)) else { continue };
            links += 1;
            if links > LINKS {
                return path.to_owned();
            }
            seen.pop();
            if target.is_absolute() {
                seen = PathBuf::from("/");
            }
            open.extend(components(&target));
        }
        self.real(&seen)
    }

    /// A path without links, in the layer that contains it.
    fn real(&self, path: &Path) -> PathBuf {
        let layer = |(place, over): &(PathBuf, PathBuf)| {
            let there = over.join(path.strip_prefix(place).ok()?);
            there.symlink_metadata().is_ok().then_some(there)
        };
        self.pairs.iter().find_map(layer).unwrap_or_else(|| path.to_owned())
    }
}

/// The components of a path in reverse order.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

/// Mounts the overlay: from now on the caller and its children see `over/A/B` as `/A/B`, for every file in `over`. The
/// caller must have one thread, and its own mount namespace with private propagation.
pub fn lay(layers: &Layers) -> Result<()> {
    let Layers { pairs, scratch } = layers;
    for (number, (place, over)) in pairs.iter().enumerate() {
        // Mounts below would be hidden by the new layer.
        let mut below = Vec::new();
        for point in mounts::below(place).context("reading the mount table")? {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(CWD, &point, flags)
                .with_context(|| format!("opening mount {}", point.display()))?;
            below.push((point, tree));
        }
        layer(place, over, &scratch.join(number.to_string()))?;
        for (index, (point, tree)) in below.into_iter().enumerate() {
            attach(&tree, &point)?;
            let inner = over.join(point.strip_prefix(place)?);
            if inner.is_dir() {
                layer(&point, &inner, &scratch.join(format!("{number}-{index}")))?;
            }
        }
    }
    Ok(())
}

fn attach(tree: &OwnedFd, point: &Path) -> Result<()> {
    move_mount(tree, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .with_context(|| format!("restoring mount {}", point.display()))
}

/// Mounts one directory over another: with overlayfs, or, if that is not available, with links to the files of both.
fn layer(place: &Path, over: &Path, scratch: &Path) -> Result<()> {
    let options = format!("lowerdir={}:{}", escaped(over)?, escaped(place)?);
    let by_overlay = || -> Result<()> {
        let options = CString::new(options)?;
        Ok(mount("overlay", place, "overlay", MountFlags::RDONLY, Some(options.as_c_str()))?)
    };
    if by_overlay().is_ok() {
        return Ok(());
    }
    // Opened here, before something is mounted over it.
    fs::create_dir_all(scratch)?;
    mount_bind_recursive(place, scratch).with_context(|| format!("mounting {}", place.display()))?;
    // The lower directory contains the system's own files, and its mount point will be deleted: it is mounted read-only
    // and unmounted after use. A build sees the system read-only in any case.
    mount_remount(scratch, MountFlags::BIND | MountFlags::RDONLY, c"")
        .with_context(|| format!("remounting {} read-only", scratch.display()))?;
    mount("tmpfs", place, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))
        .with_context(|| format!("mounting over {}", place.display()))?;
    let merged = merge(place, over, scratch);
    unmount(scratch, UnmountFlags::DETACH).with_context(|| format!("unmounting {}", scratch.display()))?;
    merged
}

/// Fills an empty directory with the files of two others; the first takes precedence.
fn merge(place: &Path, over: &Path, under: &Path) -> Result<()> {
    let names = |dir: &Path| {
        let entries = file::sorted_entries(dir).into_iter();
        entries.filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect::<Vec<_>>()
    };
    let mut all = names(over);
    all.extend(names(under));
    all.sort();
    all.dedup();
    for name in all {
        let (to, first, second) = (place.join(&name), over.join(&name), under.join(&name));
        let is_dir = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if is_dir(&first) && is_dir(&second) {
            fs::create_dir(&to)?;
            merge(&to, &first, &second)?;
            continue;
        }
        let from = if first.symlink_metadata().is_ok() { first } else { second };
        let kind = from.symlink_metadata()?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&to)?
        } else {
            drop(File::create_new(&to)?)
        }
        mount_bind_recursive(&from, &to).with_context(|| format!("mounting {}", to.display()))?;
    }
    Ok(())
}

/// A path in the options of overlayfs, in which colons and commas are special.
fn escaped(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not valid UTF-8", path.display()))?;
    if text.contains([':', ',', '\\', '"']) {
        bail!("{text} contains a character that overlayfs does not accept");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_where_a_process_below_the_layers_would_see_it() {
        let dir = tempfile::tempdir().unwrap();
        let (place, over) = (dir.path().join("usr"), dir.path().join("over"));
        for (root, files) in
            [(&place, &["src/old/a.h", "src/both/a.h"][..]), (&over, &["src/new/a.h", "src/both/a.h"])]
        {
            for file in files {
                file::write_atomic(&root.join(file), b"", 0o644).unwrap();
            }
        }
        std::os::unix::fs::symlink("../src/new", place.join("src/relative")).unwrap();
        std::os::unix::fs::symlink(place.join("src/both"), over.join("src/absolute")).unwrap();
        std::os::unix::fs::symlink("loop", over.join("loop")).unwrap();
        let layers = Layers { pairs: vec![(place.clone(), over.clone())], scratch: PathBuf::new() };
        for (path, root, real) in [
            ("src/old/a.h", &place, "src/old/a.h"),
            ("src/new/a.h", &over, "src/new/a.h"),
            ("src/both/a.h", &over, "src/both/a.h"),
            ("src/relative/a.h", &over, "src/new/a.h"),
            ("src/absolute/a.h", &over, "src/both/a.h"),
            ("src/old/../new/a.h", &over, "src/new/a.h"),
            ("src/nowhere/a.h", &place, "src/nowhere/a.h"),
            ("loop", &place, "loop"),
        ] {
            assert_eq!(layers.find(&place.join(path)), root.join(real), "{path}");
        }
    }
}
