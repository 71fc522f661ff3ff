//! The file system view of a confined command: everything is read-only, except for a few private directories; secrets
//! are hidden. Every failed step is fatal: a command that could see more than it may is not run.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, mount_remount,
    move_mount, open_tree,
};

use super::Spec;
use crate::sys::mounts::{self, Mount};

/// Directories that are replaced by empty ones, with their mount options. This includes /run, because daemons would act
/// for the command through their sockets.
const EMPTY: [(&str, &str); 8] = [
    ("/tmp", "mode=1777,size=25%"),
    ("/var/tmp", "mode=1777,size=10%"),
    ("/run", "mode=755,size=1m"),
    ("/root", "mode=755,size=1m"),
    ("/home", "mode=755,size=1m"),
    ("/etc/ssh", "mode=755,size=1m"),
    ("/etc/ssl/private", "mode=755,size=1m"),
    ("/etc/pki/akmods/private", "mode=755,size=1m"),
];
/// The options of a directory that is replaced because only its owner may enter it.
const PRIVATE: &str = "mode=755,size=1m";
/// Those of them that are writable.
const SCRATCH: [&str; 2] = ["/tmp", "/var/tmp"];
/// Files that are empty for the command. Its user could not read them either: this is a second barrier.
const SECRET: [&str; 6] =
    ["/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/proc/keys", "/proc/key-users"];
/// The devices that exist for it.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// No shell works without this one.
const NULL: &str = "/dev/null";
/// Shared memory of its programs.
const SHARED: &str = "/dev/shm";

/// A device, by its name.
pub(in crate::sys) type Device = (&'static str, OwnedFd);

/// A part of the file system, held open while it is covered by a mount.
struct Held {
    tree: OwnedFd,
    to: PathBuf,
}

/// Ends mount propagation: from here on, mounts are private.
pub(in crate::sys) fn detach() -> Result<()> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .context("making mounts private")
}

/// Mounts only the writable directories, for a command that keeps all privileges.
pub(super) fn places(spec: &Spec) -> Result<()> {
    writable(spec)?.iter().try_for_each(attach)
}

/// Builds the whole view. Must be called in a mount namespace that is [detached](detach), with its own PID namespace.
pub(super) fn build(spec: &Spec) -> Result<()> {
    let empty = empty_dirs(spec);
    let hidden = |path: &Path| empty.iter().any(|(dir, _)| path.starts_with(dir));
    // An open directory remains the same when something is mounted over it.
    let writable = writable(spec)?;
    let shown = shown(spec, &hidden)?;
    let masks = masks(spec, &hidden)?;
    let devices = devices()?;
    for (dir, options) in &empty {
        tmpfs(dir, options)?;
    }
    fresh_proc()?;
    dev(&devices)?;
    for held in shown.iter().chain(&masks) {
        place(held, &hidden)?;
        attach(held)?;
    }
    for held in writable.iter().filter(|held| hidden(&held.to)) {
        place(held, &hidden)?;
    }
    let mut ours: Vec<PathBuf> =
        SCRATCH.iter().filter_map(|dir| Path::new(dir).canonicalize().ok()).collect();
    ours.extend([PathBuf::from("/proc"), SHARED.into()]);
    read_only(&ours)?;
    writable.iter().try_for_each(attach)?;
    ours.extend(writable.into_iter().map(|held| held.to));
    verify(&ours)
}

/// The directories to be replaced, with canonical paths, each once: also those that its user may not enter, above a
/// path that must be visible.
fn empty_dirs(spec: &Spec) -> Vec<(PathBuf, &'static str)> {
    let mut dirs: Vec<(PathBuf, &'static str)> = Vec::new();
    let private = spec.visible.iter().filter_map(|path| outermost_private(&path.canonicalize().ok()?));
    let all = EMPTY.iter().map(|(dir, options)| (PathBuf::from(dir), *options));
    let absent = spec.absent.iter().cloned();
    for (dir, options) in all.chain(private.chain(absent).map(|dir| (dir, PRIVATE))) {
        let real = dir.canonicalize().ok().filter(|real| real.is_dir() && real != Path::new("/"));
        if let Some(real) = real.filter(|real| !dirs.iter().any(|(known, _)| real.starts_with(known))) {
            dirs.push((real, options));
        }
    }
    dirs
}

/// Whether a command does not see a path unless it is listed as visible.
pub(super) fn hides(path: &Path) -> bool {
    EMPTY.iter().any(|(dir, _)| path.starts_with(dir)) || outermost_private(path).is_some()
}

/// The first directory on the way to a path that other users may not enter.
fn outermost_private(path: &Path) -> Option<PathBuf> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    let private = |dir: &&Path| dir.metadata().is_ok_and(|meta| meta.mode() & 0o001 == 0);
    above.into_iter().rev().find(private).map(Path::to_owned)
}

fn hold(from: &Path, to: &Path) -> Result<Held> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, from, flags).with_context(|| format!("holding {}", from.display()))?;
    Ok(Held { tree, to: to.to_owned() })
}

fn attach(held: &Held) -> Result<()> {
    move_mount(&held.tree, "", CWD, &held.to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .with_context(|| format!("mounting {}", held.to.display()))
}

fn writable(spec: &Spec) -> Result<Vec<Held>> {
    let pairs = spec.writable.iter();
    pairs
        .map(|(from, to)| {
            // A link in the path is resolved here, once: the mount table contains canonical paths only.
            let to = to.canonicalize().with_context(|| format!("looking for {}", to.display()))?;
            hold(from, &to)
        })
        .collect()
}

/// Paths that remain visible although they are in a directory that is replaced: the given name, and the canonical path.
fn shown(spec: &Spec, hidden: &impl Fn(&Path) -> bool) -> Result<Vec<Held>> {
    let mut list: Vec<Held> = Vec::new();
    for path in spec.visible.iter().chain([&spec.cwd]) {
        let Ok(real) = path.canonicalize() else { continue };
        for to in [&real, path] {
            let known = list.iter().any(|held| held.to == *to);
            let writable = spec.writable.iter().any(|(_, place)| to.starts_with(place));
            if hidden(to) && !known && !writable {
                list.push(hold(&real, to)?);
            }
        }
    }
    Ok(list)
}

/// Secrets, each to be covered by an empty device.
fn masks(spec: &Spec, hidden: &impl Fn(&Path) -> bool) -> Result<Vec<Held>> {
    let files = SECRET.iter().map(Path::new).chain(spec.hidden.iter().map(PathBuf::as_path));
    let real = files.filter_map(|path| path.canonicalize().ok());
    let real = real.filter(|path| path.is_file() && !hidden(path));
    real.map(|path| hold(Path::new(NULL), &path)).collect()
}

/// The devices that exist for a command, held open.
pub(in crate::sys) fn devices() -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        if path.exists() || path == Path::new(NULL) {
            devices.push((name, hold(&path, &path)?.tree));
        }
    }
    Ok(devices)
}

/// Creates a mount point in a directory that was replaced.
fn place(held: &Held, hidden: &impl Fn(&Path) -> bool) -> Result<()> {
    if held.to.symlink_metadata().is_ok() || !hidden(&held.to) {
        return Ok(());
    }
    let context = || format!("making a place for {}", held.to.display());
    let file = rustix::fs::fstat(&held.tree).with_context(context)?;
    let dir = rustix::fs::FileType::from_raw_mode(file.st_mode) == rustix::fs::FileType::Directory;
    if dir {
        return fs::create_dir_all(&held.to).with_context(context);
    }
    fs::create_dir_all(held.to.parent().unwrap_or(Path::new("/"))).with_context(context)?;
    fs::File::create_new(&held.to).map(drop).with_context(context)
}

fn tmpfs(dir: &Path, options: &str) -> Result<()> {
    let options = std::ffi::CString::new(options)?;
    mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))
        .with_context(|| format!("mounting a private {}", dir.display()))
}

/// The old /proc shows the processes of the outer namespace.
pub(in crate::sys) fn fresh_proc() -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).context("mounting a private /proc")
}

/// A /dev without devices that reach a disk, a terminal or kernel memory.
pub(in crate::sys) fn dev(devices: &[Device]) -> Result<()> {
    let context = "filling a private /dev";
    mount("tmpfs", "/dev", "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, Some(c"mode=755,size=64k"))
        .context("mounting a private /dev")?;
    for (name, tree) in devices {
        let to = Path::new("/dev").join(name);
        fs::File::create_new(&to).context(context)?;
        move_mount(tree, "", CWD, &to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).context(context)?;
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        symlink(target, Path::new("/dev").join(name)).context(context)?;
    }
    fs::create_dir(SHARED).context(context)?;
    tmpfs(Path::new(SHARED), "mode=1777,size=5%")
}

/// Whether a mount is one of those that remain writable. Mounts below one do not.
fn excepted(mount: &Mount, ours: &[PathBuf]) -> bool {
    ours.contains(&mount.point)
}

/// Makes every mount read-only except for `ours`. The kernel can do this in one call, for which there is no safe
/// interface yet; the result is checked afterwards.
fn read_only(ours: &[PathBuf]) -> Result<()> {
    for mount in mounts::table().context("reading the mount table")? {
        if excepted(&mount, ours) || mount.flags.contains(MountFlags::RDONLY) {
            continue;
        }
        // A mount that is covered by another one cannot be reached by its path: the check decides whether this is so.
        let _ = mount_remount(&mount.point, mount.flags | MountFlags::BIND | MountFlags::RDONLY, c"");
    }
    Ok(())
}

/// Checks that only `ours` are writable.
fn verify(ours: &[PathBuf]) -> Result<()> {
    let open = |mount: &Mount| {
        !mount.flags.contains(MountFlags::RDONLY) && !excepted(mount, ours) && mount.reachable()
    };
    match mounts::table().context("reading the mount table")?.iter().find(|mount| open(mount)) {
        Some(mount) => bail!("{} could not be made read-only", mount.point.display()),
        None => Ok(()),
    }
}
