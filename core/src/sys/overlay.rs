//! Lays a directory over the system's own, as this process and what it starts see it; everybody else sees nothing of it.
#![allow(clippy::disallowed_methods)] // this is the place

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_bind_recursive, mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::thread::UnshareFlags;

use super::file;

/// From now on the caller and what it starts see `over/A/B` as `/A/B`, for every file in `over`. `pairs` are directories
/// of the system, each with the one that goes over it; `scratch` is an empty directory of ours. Must be called
/// while this process has one thread only.
#[allow(deprecated)] // the deprecation is about CLONE_FILES, which is not among our flags
pub fn lay(pairs: &[(PathBuf, PathBuf)], scratch: &Path) -> Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWNS).context("creating a mount namespace")?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .context("making mounts private")?;
    for (number, (place, over)) in pairs.iter().enumerate() {
        // What is mounted below would vanish behind the new layer.
        let mut below = Vec::new();
        for point in mounts_below(place) {
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

/// One directory over another: by overlayfs, or, where that is not to be had, by links to the files of both.
fn layer(place: &Path, over: &Path, scratch: &Path) -> Result<()> {
    let options = format!("lowerdir={}:{}", escaped(over)?, escaped(place)?);
    let by_overlay = || -> Result<()> {
        fail::fail_point!("lay:overlay", |_| Err(anyhow::anyhow!("failpoint")));
        let options = CString::new(options)?;
        Ok(mount("overlay", place, "overlay", MountFlags::RDONLY, Some(options.as_c_str()))?)
    };
    if by_overlay().is_ok() {
        return Ok(());
    }
    // Seen from here, whatever is mounted over it.
    fs::create_dir_all(scratch)?;
    mount_bind_recursive(place, scratch).with_context(|| format!("mounting {}", place.display()))?;
    // The system's own files are under it, in a directory that will be deleted: nothing may be written through it, and it goes
    // as soon as it has served. A build sees the system read-only in any case.
    mount_remount(scratch, MountFlags::BIND | MountFlags::RDONLY, c"")
        .with_context(|| format!("remounting {} read-only", scratch.display()))?;
    mount("tmpfs", place, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))
        .with_context(|| format!("mounting over {}", place.display()))?;
    let merged = merge(place, over, scratch);
    unmount(scratch, UnmountFlags::DETACH).with_context(|| format!("unmounting {}", scratch.display()))?;
    merged
}

/// Fills an empty directory with what two others have, the first before the second.
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

/// A path in the options of overlayfs, where colons and commas mean something.
fn escaped(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not valid UTF-8", path.display()))?;
    if text.contains([':', ',', '\\', '"']) {
        bail!("{text} contains a character that overlayfs does not accept");
    }
    Ok(text.to_owned())
}

/// Mount points below a directory, outer ones first.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let mut points: Vec<PathBuf> = points.map(|point| point.replace("\\040", " ").into()).collect();
    points.retain(|point| point != dir && point.starts_with(dir));
    points.sort();
    points.dedup();
    points
}
