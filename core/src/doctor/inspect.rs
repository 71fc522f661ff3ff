//! Gathers the facts. Changes nothing, and takes no lock.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::facts::OUTSIDE;
use super::{Facts, KeptLong, Keys, Leftover, LostOriginal, Misplaced, Prospects, Space, Stray};
use crate::apply::{self, outlook};
use crate::inventory::all_targets;
use crate::kept_back::KeptBack;
use crate::layout::Layout;
use crate::marker::{self, Marker};
use crate::session::Session;
use crate::step::{initramfs, sign, withdraw};
use crate::survey;
use crate::sys::file::Unwritable;
use crate::sys::time::now;
use crate::sys::{file, lock, run};
use crate::tree::{self, Intent, Snapshot, Source, Stale, stale};
use crate::types::{ModuleId, ModuleName, Target};
use crate::upcoming::Upcoming;
use crate::{check, kernel, loaded};

/// Room for the builds of one transaction.
const FOR_BUILDS: u64 = 256 << 20;

/// Room for the module files of one transaction.
const FOR_MODULES: u64 = 64 << 20;

/// What a link is that cannot be followed.
const NOWHERE: &str = "a symbolic link to nothing";

/// Reads everything.
pub fn inspect(session: &mut Session) -> Result<Facts> {
    let layout = session.layout.clone();
    let snapshot = Snapshot::load(&layout)?;
    let targets = all_targets(session)?;
    let all: BTreeSet<Target> = targets.iter().cloned().collect();
    let installed = kernel::installed(&layout);
    // Then nothing is known of the modules, and nothing must be advised about them.
    let no_tree = file::kind_of(&layout.dkms_tree, false).is_some_and(|kind| kind != file::A_DIRECTORY);
    let there = |target: &Target| installed.contains(&target.kernel);
    let (stale, orphaned): (Vec<_>, Vec<_>) =
        stale(&layout).into_iter().partition(|(target, _)| there(target));
    let stale = stale.into_iter().filter_map(|(target, stale)| debt(session, target, stale)).collect();
    let built = snapshot.targets().into_iter().filter(|target| !there(target));
    let gone: BTreeSet<Target> = built.chain(orphaned.into_iter().map(|(target, _)| target)).collect();
    let misplaced = misplaced(session, &snapshot, &targets);
    let unwritable = unwritable(session, &targets);
    let hindrances: Vec<&Path> = misplaced
        .iter()
        .filter(|one| in_the_way(&layout, one))
        .map(|one| one.path.as_path())
        .chain(unwritable.iter().map(|(dir, _)| dir.as_path()))
        .collect();
    let mut prospects = Vec::new();
    for target in &targets {
        prospects.push(prospects_of(session, &snapshot, target, &hindrances)?);
    }
    let damaged_packages = marker::damaged(&layout);
    let unfinished: Vec<Intent> = tree::unfulfilled(&layout).into_iter().map(|(_, intent)| intent).collect();
    let admin = &session.policy.admin;
    Ok(Facts {
        policy: admin.broken.clone(),
        framework: session.policy.framework.broken.clone(),
        framework_files: layout.framework().into_iter().filter(|file| file.exists()).collect(),
        unknown_options: session.policy.framework.compression.unknown.clone(),
        misplaced,
        unwritable,
        space: space(session, &targets),
        keys: targets.last().filter(|_| !no_tree).and_then(|target| keys(session, target)),
        rejected: check::foreseen(session, &all, || Ok(snapshot.clone()))?,
        running: lock::holder(&layout.lock()),
        // What waits for a kernel that is gone is a finding of that kernel.
        unfinished: unfinished.iter().filter(|intent| !intent.waits(&layout)).count(),
        temporary: temporary(session, &snapshot, &targets),
        removed_kernels: gone.iter().map(|target| leftover(&snapshot, target.clone())).collect(),
        unowned: match no_tree {
            true => Vec::new(),
            false => unowned(session, &snapshot, &targets, &unfinished, &damaged_packages),
        },
        damaged_packages: damaged_packages
            .into_iter()
            // A build of dkms may have taken its place.
            .filter(|marker| {
                all.contains(&marker.target) && snapshot.active(&marker.module.name, &marker.target).is_none()
            })
            .map(|marker| (marker.target, marker.module, marker.package))
            .collect(),
        damaged: damaged(session, &snapshot, &all),
        boot_default: apply::boot::overdue(session, &snapshot)?,
        unrestored: unrestored(&layout, &snapshot, &all, &unfinished),
        lost_originals: lost_originals(session, &snapshot, &targets, &unfinished),
        broken: broken(&snapshot),
        stale,
        loaded: loaded::replaced(session, &snapshot, &all),
        prospects,
        upcoming: upcoming(&layout),
        kept_back: kept_back(&layout),
        hold_differs: !crate::kept_back::is_as_recorded(session),
        automatic: !layout.no_autoinstall().exists(),
        other_program: other_program(),
        missing_hooks: missing_hooks(session),
    })
}

/// What an initramfs lacks. An interrupted run has noted all modules that it was to replace, before it was known which of them
/// the initramfs has.
fn debt(session: &Session, target: Target, mut stale: Stale) -> Option<(Target, Stale)> {
    let inside = initramfs::inside(session, &target, &stale.names);
    if stale.why.is_empty() && inside.as_ref().is_some_and(BTreeSet::is_empty) {
        return None;
    }
    stale.modules = stale.concerned(inside.as_ref());
    Some((target, stale))
}

fn upcoming(layout: &Layout) -> Vec<String> {
    let failing = Upcoming::load(layout).unwrap_or_default().failing(layout);
    failing.into_iter().map(|(_, sentence)| sentence).collect()
}

fn kept_back(layout: &Layout) -> Option<KeptLong> {
    let kept = KeptBack::load(layout)?;
    let days = now().saturating_sub(kept.since()) / 86_400;
    Some(KeptLong { what: kept.sentence(), days })
}

/// `hindrances`: paths at which nothing can be written.
fn prospects_of(
    session: &mut Session,
    snapshot: &Snapshot,
    target: &Target,
    hindrances: &[&Path],
) -> Result<Prospects> {
    let outlook = outlook(session, target)?;
    let modules = outlook.all();
    let own = own_dir(session, target);
    let (dir, destination) = (session.layout.kernel(&target.kernel), session.policy.destination());
    let needed = |id: &ModuleId| {
        let build = snapshot.build(id, target).filter(|build| build.active);
        let files = build.map(|build| build.places(&dir, destination)).unwrap_or_default();
        files.into_iter().chain(own.clone()).chain([session.layout.work(), session.layout.lock()])
    };
    let blocked = |id: &&ModuleId| needed(id).any(|path| hindrances.iter().any(|one| path.starts_with(one)));
    let index = session.layout.modules_dep(&target.kernel);
    Ok(Prospects {
        target: target.clone(),
        installed: outlook.installed(),
        blocked: modules.iter().map(|(id, _)| id).filter(blocked).cloned().collect(),
        index_blocked: hindrances.iter().any(|one| index.starts_with(one)),
        modules,
        package: outlook.headers_package(session),
        tools: outlook.missing_tools(),
        index_outdated: outlook.index_outdated(),
    })
}

/// What no transaction replaces. A file can be replaced, whatever it is.
fn in_the_way(layout: &Layout, Misplaced { path, is, needed }: &Misplaced) -> bool {
    *needed == file::A_DIRECTORY || *is == file::A_DIRECTORY || *path == layout.lock()
}

/// Directories that a transaction changes, and cannot. Only root is expected to be able to. Where `/usr` is an image, it is
/// read-only by design.
fn unwritable(session: &Session, targets: &[Target]) -> Vec<(PathBuf, Unwritable)> {
    let layout = &session.layout;
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let mut dirs = vec![layout.dkms_tree.clone(), layout.own()];
    if !layout.ostree().exists() {
        dirs.push(layout.install_tree.clone());
        let modules = targets.iter().filter_map(|target| own_dir(session, target));
        dirs.extend(modules.filter_map(|dir| dir.ancestors().find(|dir| dir.exists()).map(Path::to_owned)));
    }
    let mut found: Vec<(PathBuf, Unwritable)> = Vec::new();
    for dir in dirs {
        // A directory on a read-only file system is one of many.
        let within = |(outer, why): &(PathBuf, Unwritable)| {
            *outer == dir || *why == Unwritable::ReadOnly && dir.starts_with(outer)
        };
        let why = file::unwritable(&dir).filter(|_| !found.iter().any(within));
        found.extend(why.map(|why| (dir, why)));
    }
    found
}

/// What would make a transaction fail, or be overlooked by one. A missing file or directory is none of it.
fn misplaced(session: &Session, snapshot: &Snapshot, targets: &[Target]) -> Vec<Misplaced> {
    let layout = &session.layout;
    let mut expected: Vec<(PathBuf, &'static str)> = Vec::new();
    expected.extend(layout.own_dirs().into_iter().map(|path| (path, file::A_DIRECTORY)));
    expected.extend(layout.own_files().into_iter().map(|path| (path, file::A_FILE)));
    for target in targets {
        let indexes =
            layout.binary_indexes(&target.kernel).into_iter().chain([layout.modules_dep(&target.kernel)]);
        expected.extend(indexes.map(|path| (path, file::A_FILE)));
    }
    for name in file::sub_dirs(&layout.dkms_tree).iter().filter_map(|name| name.parse().ok()) {
        expected.extend(targets.iter().map(|target| (layout.active_link(&name, target), file::A_LINK)));
    }
    let lock = layout.lock();
    let wrong = expected.into_iter().filter_map(|(path, needed)| {
        // A link to the lock could be one to a file that others lock.
        let itself = needed == file::A_LINK || path == lock;
        let is = match file::kind_of(&path, itself) {
            // No directory can be made there. A file is replaced, or a link to nothing disables it.
            None if needed == file::A_DIRECTORY && path.is_symlink() => NOWHERE,
            is => is?,
        };
        (is != needed && !file::is_null(&path)).then_some(Misplaced { path, is, needed })
    });
    let directories = files(session, snapshot).into_iter().filter(|file| file.is_dir() && !file.is_symlink());
    let directories = directories.map(|path| Misplaced { path, is: file::A_DIRECTORY, needed: file::A_FILE });
    wrong.chain(directories).chain(linked(session, targets)).collect()
}

/// Links on the way to the directory for modules of dkms that lead out of the directory of all modules: nothing is installed
/// there, and the file system behind one may be missing at the next start, or now.
fn linked(session: &Session, targets: &[Target]) -> Vec<Misplaced> {
    let Ok(tree) = session.layout.install_tree.canonicalize() else { return Vec::new() };
    let wrong = |path: PathBuf| {
        let is = match path.canonicalize() {
            _ if !path.is_symlink() => return None,
            Ok(real) if real.starts_with(&tree) => return None,
            Ok(_) => OUTSIDE,
            Err(_) => NOWHERE,
        };
        Some(Misplaced { path, is, needed: file::A_DIRECTORY })
    };
    let mut found = Vec::new();
    for target in targets {
        let kernel = session.layout.kernel(&target.kernel);
        let Some(dir) = own_dir(session, target) else { continue };
        let mut parts: Vec<PathBuf> =
            dir.ancestors().take_while(|dir| dir.starts_with(&kernel)).map(Path::to_owned).collect();
        parts.reverse();
        found.extend(parts.into_iter().find_map(wrong));
    }
    found
}

/// The file systems: one entry each, with the largest need.
fn space(session: &Session, targets: &[Target]) -> Vec<Space> {
    let layout = &session.layout;
    let images = targets.iter().flat_map(|target| {
        layout.initramfs_images(&target.kernel, kernel::pkgbase(layout, &target.kernel).as_deref())
    });
    let largest = images.filter_map(|image| Some(image.metadata().ok()?.len())).max();
    // The new image is written beside the old one.
    let image = largest.filter(|_| !session.policy.distribution.make_initramfs.is_empty());
    let mut needs = vec![
        (layout.dkms_tree.clone(), FOR_BUILDS),
        (layout.install_tree.clone(), FOR_MODULES),
        (layout.boot.clone(), image.unwrap_or(0)),
    ];
    // It may have a file system of its own.
    needs.extend(targets.iter().filter_map(|target| own_dir(session, target)).map(|dir| (dir, FOR_MODULES)));
    let mut found: Vec<(u64, Space)> = Vec::new();
    for (dir, needed) in needs.into_iter().filter(|(_, needed)| *needed > 0) {
        let (Ok(meta), Some(free)) = (dir.metadata(), file::room(&dir)) else { continue };
        match found.iter_mut().find(|(device, _)| *device == meta.dev()) {
            Some((_, space)) => space.needed = space.needed.max(needed),
            None => found.push((meta.dev(), Space { dir, free, needed })),
        }
    }
    found.into_iter().map(|(_, space)| space).collect()
}

/// The key pair, if modules are signed with files.
fn keys(session: &Session, target: &Target) -> Option<Keys> {
    let (key, certificate) = sign::pair(session, target);
    if key.starts_with("pkcs11:") || !session.signs() {
        return None;
    }
    let damaged = sign::damaged(&key, &certificate);
    let key = PathBuf::from(key);
    let mode = key.metadata().ok().map(|meta| meta.permissions().mode());
    Some(Keys {
        has_key: mode.is_some(),
        has_certificate: certificate.exists(),
        exposed: mode.is_some_and(|mode| mode & 0o044 != 0),
        damaged,
        key,
        certificate,
    })
}

/// Temporary files of dead processes: in the DKMS tree, where modules are published, and in the source tree.
fn temporary(session: &Session, snapshot: &Snapshot, targets: &[Target]) -> Vec<PathBuf> {
    let layout = &session.layout;
    let mut open = vec![(layout.dkms_tree.clone(), 2), (layout.own(), 4), (layout.source_tree.clone(), 0)];
    open.extend(published(session, snapshot, targets).into_iter().map(|dir| (dir, 0)));
    let mut found: BTreeSet<PathBuf> = file::sorted_entries(&layout.work()).into_iter().collect();
    while let Some((dir, depth)) = open.pop() {
        for path in file::sorted_entries(&dir) {
            if file::is_abandoned(&path) {
                found.insert(path);
            } else if depth > 0 && path.is_dir() && !path.is_symlink() && !path.ends_with("build") {
                open.push((path, depth - 1));
            }
        }
    }
    found.into_iter().collect()
}

/// Directories of kernels with modules of ours.
fn published(session: &Session, snapshot: &Snapshot, targets: &[Target]) -> BTreeSet<PathBuf> {
    let own = targets.iter().filter_map(|target| own_dir(session, target));
    own.chain(files(session, snapshot).into_iter().filter_map(|file| Some(file.parent()?.to_owned())))
        .collect()
}

/// The files of all installed modules.
fn files(session: &Session, snapshot: &Snapshot) -> BTreeSet<PathBuf> {
    check::installed(session, snapshot, |_, _| true).into_iter().map(|candidate| candidate.file).collect()
}

/// The directory for modules of dkms, if the distribution has one that is for no other modules.
fn own_dir(session: &Session, target: &Target) -> Option<PathBuf> {
    let destination = session.policy.destination().filter(|dir| dir.ends_with("dkms"))?;
    Some(session.layout.kernel(&target.kernel).join(destination.trim_matches('/')))
}

/// Files of an interrupted transaction are its own until it is completed.
fn unowned(
    session: &Session,
    snapshot: &Snapshot,
    targets: &[Target],
    unfinished: &[Intent],
    damaged: &[Marker],
) -> Vec<Stray> {
    let touched: BTreeSet<&PathBuf> = unfinished.iter().flat_map(|intent| &intent.touched).collect();
    // A directory on the way to it may be a link.
    let owned: BTreeSet<PathBuf> = files(session, snapshot).iter().map(|file| real(file)).collect();
    let packaged = |path: &PathBuf| damaged.iter().any(|marker| marker.owns(&session.layout, path));
    let module = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().contains(".ko"))
            && !file::is_abandoned(path)
    };
    let mut found = Vec::new();
    for target in targets {
        let dir = own_dir(session, target).filter(|dir| !touched.contains(dir));
        let here = dir.iter().flat_map(|dir| file::sorted_entries(dir)).filter(module);
        let strange = here.filter(|file| !owned.contains(&real(file)) && !packaged(file));
        found.extend(strange.map(|file| Stray {
            target: target.clone(),
            builds: builds_of(&session.layout, snapshot, target, &file),
            file,
        }));
    }
    found
}

/// The builds for a kernel that have a module with the name of this file: whether its content is theirs, and whether they are
/// installed. A version without a source is none of them: it is not installed again.
fn builds_of(
    layout: &Layout,
    snapshot: &Snapshot,
    target: &Target,
    file: &Path,
) -> Vec<(ModuleId, bool, bool)> {
    let name = kernel::elf::module_name(&file.to_string_lossy());
    let mut found = Vec::new();
    for (id, entry) in snapshot.modules.iter().filter(|(id, _)| snapshot.registered(id)) {
        let Some(build) = entry.builds.get(target) else { continue };
        let Some(built) = build.files.iter().find(|built| kernel::elf::module_name(built) == name) else {
            continue;
        };
        let same = file::same_content(&layout.built_modules(id, target).join(built), file).unwrap_or(false);
        found.push((id.clone(), same, build.active));
    }
    found
}

/// A file in the directory to which its path leads. The file itself may be a link.
fn real(file: &Path) -> PathBuf {
    let dir = file.parent().and_then(|dir| dir.canonicalize().ok());
    dir.zip(file.file_name()).map_or_else(|| file.to_owned(), |(dir, name)| dir.join(name))
}

/// Installed modules whose files are missing or were changed.
fn damaged(session: &Session, snapshot: &Snapshot, targets: &BTreeSet<Target>) -> Vec<(Target, ModuleId)> {
    let mut found = Vec::new();
    for (id, entry) in &snapshot.modules {
        for (target, build) in entry.builds.iter().filter(|(target, _)| targets.contains(target)) {
            if survey::damaged(session, snapshot, id, target, build)
                || survey::unusable(session, id, target, build)
            {
                found.push((target.clone(), id.clone()));
            }
        }
    }
    found
}

/// Copies of originals whose module is not installed, and where they belong. If its own place is not known: where depmod
/// finds it.
fn unrestored(
    layout: &Layout,
    snapshot: &Snapshot,
    targets: &BTreeSet<Target>,
    unfinished: &[Intent],
) -> Vec<(Target, PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for name in file::sub_dirs(&layout.dkms_tree).iter().filter_map(|name| name.parse().ok()) {
        for target in targets {
            if snapshot.active(&name, target).is_some() || pending(unfinished, &name, target) {
                continue;
            }
            let kept = file::sorted_entries(&layout.originals(&name, target)).into_iter();
            for kept in kept.filter(|path| Layout::noted_original(path).is_none()) {
                let own = withdraw::place_of(layout, target, &kept);
                let elsewhere = || {
                    layout.kernel(&target.kernel).join("updates").join(kept.file_name().unwrap_or_default())
                };
                let place = own.unwrap_or_else(elsewhere);
                // A damaged copy is a finding of its own.
                if !place.exists() && withdraw::intact(&kept).is_ok() {
                    found.push((target.clone(), kept, place));
                }
            }
        }
    }
    found
}

/// Whether an interrupted transaction installs or removes a version of a module.
fn pending(unfinished: &[Intent], name: &ModuleName, target: &Target) -> bool {
    unfinished.iter().any(|intent| {
        let publish = intent.publish.iter().any(|one| one.module.name == *name && one.target == *target);
        publish || intent.withdraw.iter().any(|one| one.module.name == *name && one.target == *target)
    })
}

/// Originals that a removal could not restore.
fn lost_originals(
    session: &Session,
    snapshot: &Snapshot,
    targets: &[Target],
    unfinished: &[Intent],
) -> Vec<LostOriginal> {
    let layout = &session.layout;
    let mut found = Vec::new();
    for name in file::sub_dirs(&layout.dkms_tree).iter().filter_map(|name| name.parse().ok()) {
        for target in targets.iter().filter(|target| !pending(unfinished, &name, target)) {
            let build = snapshot.active(&name, target).and_then(|id| snapshot.build(id, target));
            let kernel = layout.kernel(&target.kernel);
            let files = build.map(|build| build.places(&kernel, session.policy.destination()));
            for (place, why) in withdraw::lost(layout, &name, target, &files.unwrap_or_default()) {
                let package = kernel::owner(layout, &session.policy.distribution, target, &place);
                found.push(LostOriginal { target: target.clone(), place, why, package });
            }
        }
    }
    found
}

fn leftover(snapshot: &Snapshot, target: Target) -> Leftover {
    let built = snapshot.modules.iter().filter(|(_, entry)| entry.builds.contains_key(&target));
    Leftover { modules: built.map(|(id, _)| id.clone()).collect(), target }
}

fn broken(snapshot: &Snapshot) -> Vec<(ModuleId, Source)> {
    let broken = snapshot.modules.iter().filter(|(_, entry)| entry.broken());
    broken.map(|(id, entry)| (id.clone(), entry.source.clone())).collect()
}

/// The program that `dkms` starts, if it is not the one of our package: another one is found first, or is in its place.
fn other_program() -> Option<PathBuf> {
    let found = run::which("dkms")?;
    let ours = Path::new(Layout::PROGRAM).canonicalize().ok()?;
    let is_script = |path: &Path| file::read_ends(path, (2, 0)).is_ok_and(|start| start.starts_with(b"#!"));
    let other = found.canonicalize().is_ok_and(|real| real != ours) || is_script(&ours);
    other.then_some(found)
}

fn missing_hooks(session: &Session) -> Vec<PathBuf> {
    let hooks = session.policy.distribution.hooks.iter().map(PathBuf::from);
    hooks.filter(|hook| hook.symlink_metadata().is_err()).collect()
}
