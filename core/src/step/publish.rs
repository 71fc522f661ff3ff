//! Installs a build in the kernel's module directory: each file is the old or the new one at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};

use crate::conf::Recipe;
use crate::kernel::{Kernel, Module, elf, read_module};
use crate::layout::Layout;
use crate::marker::Marker;
use crate::session::Session;
use crate::sys::file::{self, Changed, Staged, Swap};
use crate::sys::hash;
use crate::tree::Installed;
use crate::types::{Attempt, ModuleId, ModuleName, Target, version};

/// One file to publish.
#[derive(Debug)]
struct Piece {
    from: PathBuf,
    to: PathBuf,
    name: String,
}

/// A prepared publication: all decisions are made, and all disk space is allocated.
#[derive(Debug)]
pub struct Publication {
    staged: Vec<(Staged, Installed)>,
    /// Where directories were created.
    changed: Changed,
    /// Original files of the kernel that are moved away, and where they are kept.
    originals: Vec<(PathBuf, PathBuf)>,
    /// Names of the modules.
    pub names: BTreeSet<String>,
    /// Modules that are not installed.
    pub skipped: Vec<Skipped>,
    /// Modules that another package has also installed for this kernel.
    pub conflicts: Vec<(String, ModuleId)>,
}

/// A module that is not installed, because the kernel has one of this name that must not be replaced.
#[derive(Debug)]
pub struct Skipped {
    /// The name of its file, without a suffix.
    pub name: String,
    /// The reason, as a sentence.
    pub why: String,
    /// The package that installed the other module; `None`: it is the kernel's own.
    pub owner: Option<ModuleId>,
    /// The native package that installed the other module.
    pub package: Option<String>,
}

impl Publication {
    /// The reason, if no module is installed.
    pub fn nothing(&self) -> Option<String> {
        let reasons: Vec<&str> = self.skipped.iter().map(|skipped| skipped.why.as_str()).collect();
        (self.staged.is_empty() && !reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// The directories that originals are moved away from, for the intent.
    pub fn left(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.originals.iter().filter_map(|(original, _)| original.parent().map(Path::to_path_buf))
    }

    /// The remarks about conflicts with other packages.
    pub fn conflicts(&self) -> impl Iterator<Item = String> + '_ {
        self.conflicts.iter().map(|(name, other)| {
            format!("conflict: {name} is also installed by {other}, and only one of them can be loaded; remove one of the packages")
        })
    }
}

/// The data that determine where files are installed, and whether they may be.
#[derive(Debug)]
pub struct Order<'a> {
    /// The module.
    pub module: &'a ModuleId,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Install even over a newer module of the kernel.
    pub force: bool,
    /// A version of this module is installed: a file at our path is ours.
    pub active: bool,
    /// The files of the installed version.
    pub published: &'a [Installed],
    /// Modules of the installed version that were not installed, because the kernel has them itself.
    pub withheld: &'a [String],
    /// The files of other modules in the DKMS tree for this kernel: never originals of the kernel.
    pub claims: &'a Claims,
    /// The modules that native packages have installed for this kernel: never replaced.
    pub markers: &'a BTreeMap<ModuleName, Marker>,
    /// All files in the kernel's module directory, and perhaps some that were there. modules.dep may be older, for example
    /// after `kernel_prerm`, which does not run depmod.
    pub present: &'a BTreeSet<PathBuf>,
}

/// Which modules have installed a file. Two packages may contain the same module.
pub type Claims = BTreeMap<PathBuf, BTreeSet<ModuleId>>;

impl Order<'_> {
    /// Whether a version of this module is installed.
    fn installed(&self, name: &str) -> bool {
        self.active && !self.withheld.iter().any(|withheld| withheld == name)
    }

    /// Another package that has installed this file.
    fn claimant(&self, file: &Path) -> Option<&ModuleId> {
        self.claims.get(file)?.iter().find(|id| id.name != self.module.name)
    }
}

/// The directories that a publication writes to, for the intent.
pub fn destinations(session: &Session, order: &Order<'_>) -> BTreeSet<PathBuf> {
    order.recipe.modules.iter().map(|module| place(session, order, &module.dest_location)).collect()
}

fn place(session: &Session, order: &Order<'_>, wanted: &str) -> PathBuf {
    let location = session.policy.destination().unwrap_or(wanted).trim_matches('/');
    session.layout.kernel(&order.kernel.target.kernel).join(location)
}

/// Writes all files next to their final paths. On an error, all of them are deleted.
pub fn stage(session: &Session, order: &Order<'_>) -> Result<Publication> {
    let layout = &session.layout;
    let target = &order.kernel.target;
    let built = layout.built_modules(order.module, target);
    let mut publication = Publication {
        staged: Vec::new(),
        changed: Changed::default(),
        originals: Vec::new(),
        names: BTreeSet::new(),
        skipped: Vec::new(),
        conflicts: Vec::new(),
    };
    for piece in pieces(session, order, &built)? {
        if let Some(skipped) = packaged(layout, order, &piece) {
            publication.skipped.push(skipped);
            continue;
        }
        let others = others(session, order, &piece);
        if let Some(skipped) = newer(order, &piece, &others)? {
            publication.skipped.push(skipped);
            continue;
        }
        let dir = piece.to.parent().unwrap_or(&layout.install_tree);
        let kernel = layout.kernel(&target.kernel);
        make_dir_inside(dir, &kernel, &layout.install_tree, &mut publication.changed)?;
        let content =
            file::content(&piece.from).with_context(|| format!("reading {}", piece.from.display()))?;
        let installed = Installed { path: piece.to.clone(), sha256: hash::hex(&content) };
        let staged = if session.symlink_modules() {
            Staged::link(&piece.to, &piece.from)?
        } else {
            Staged::new(&piece.to, &content, 0o644)?
        };
        publication.staged.push((staged, installed));
        let claimed = others.iter().find_map(|other| order.claimant(other));
        publication.conflicts.extend(claimed.map(|owner| (piece.name.clone(), owner.clone())));
        let original = others.into_iter().find(|other| {
            order.claimant(other).is_none() && (*other != piece.to || is_foreign(other, &piece.from))
        });
        if let Some(original) = original.filter(|_| !order.installed(&piece.name)) {
            let keep = layout.originals(&order.module.name, target);
            let name = original.file_name().unwrap_or_default().to_owned();
            publication.originals.push((original, keep.join(name)));
        }
        publication.names.insert(elf::canonical_name(&piece.name));
    }
    Ok(publication)
}

impl Publication {
    /// Renames all files to their final names. Afterwards deletes the originals, and files of an older version with
    /// other names: never before, also on the disk. When this returns, a power failure undoes nothing of it. If a file
    /// cannot be replaced, the others are restored, and the inner error says why.
    pub fn commit(self, order: &Order<'_>) -> Attempt<Vec<Installed>, Error> {
        let Self { staged, changed, originals, .. } = self;
        let mut swap = Swap::after(changed);
        let swapped = keep(&originals).and_then(|()| exchange(&mut swap, staged, &originals, order));
        fail::fail_point!("publish:swapped");
        match swapped {
            Ok(installed) => {
                // Before the records say that the old files are not there.
                swap.finish()?;
                Ok(Ok(installed))
            }
            Err(why) => {
                swap.undo().with_context(|| format!("{why:#}; this could not be undone"))?;
                originals.iter().try_for_each(|(original, kept)| unkeep(original, kept))?;
                Ok(Err(why))
            }
        }
    }
}

/// Copies originals of the kernel.
fn keep(originals: &[(PathBuf, PathBuf)]) -> Result<()> {
    for (original, kept) in originals {
        // The original's path is written first: a copy without it could not be restored.
        let note = Layout::origin_note(kept);
        file::write_atomic(&note, format!("{}\n", original.display()).as_bytes(), 0o644)?;
        file::copy_atomic(original, kept)?;
    }
    fail::fail_point!("publish:originals-kept");
    Ok(())
}

/// Deletes the copy of an original that is in its place.
fn unkeep(original: &Path, kept: &Path) -> Result<()> {
    if file::content(original).is_ok_and(|there| file::content(kept).is_ok_and(|copy| copy == there)) {
        file::remove_all(kept)?;
        file::remove_all(&Layout::origin_note(kept))?;
    }
    Ok(())
}

/// Gives the new files their names, and sets the old ones aside.
fn exchange(
    swap: &mut Swap,
    staged: Vec<(Staged, Installed)>,
    originals: &[(PathBuf, PathBuf)],
    order: &Order<'_>,
) -> Result<Vec<Installed>> {
    let mut installed = Vec::with_capacity(staged.len());
    for (staged, file) in staged {
        swap.put(staged)?;
        fail::fail_point!("publish:between-files");
        installed.push(file);
    }
    swap.sync()?;
    fail::fail_point!("publish:renamed");
    let new: BTreeSet<&PathBuf> = installed.iter().map(|file| &file.path).collect();
    for (original, _) in originals.iter().filter(|(original, _)| !new.contains(original)) {
        swap.set_aside(original)?;
    }
    for old in order.published.iter().filter(|old| !new.contains(&old.path)) {
        swap.set_aside(&old.path)?;
    }
    for file in &installed {
        for other in other_suffixes(&file.path) {
            swap.set_aside(&other)?;
        }
    }
    Ok(installed)
}

/// `a.ko` next to `a.ko.xz`: depmod would take either.
fn other_suffixes(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((stem, _)) = name.split_once(".ko") else { return Vec::new() };
    let all = ["", ".gz", ".xz", ".zst"].map(|suffix| format!("{stem}.ko{suffix}"));
    all.iter().filter(|other| **other != name).map(|other| path.with_file_name(other)).collect()
}

fn pieces(session: &Session, order: &Order<'_>, built: &Path) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for module in &order.recipe.modules {
        let dir = place(session, order, &module.dest_location);
        let file = ["", ".gz", ".xz", ".zst"]
            .iter()
            .map(|suffix| format!("{}.ko{suffix}", module.dest_name))
            .find(|name| built.join(name).is_file());
        let Some(file) = file else {
            let (id, kernel) = (order.module, &order.kernel.target.kernel);
            bail!(
                "the build does not contain {}.ko; to rebuild: dkms build {id} -k {kernel} --force",
                module.dest_name
            )
        };
        pieces.push(Piece { from: built.join(&file), to: dir.join(&file), name: module.dest_name.clone() });
    }
    Ok(pieces)
}

/// Whether a file at our own path is another module than the build's. What no kernel can read, or was only signed or compressed
/// again, is no original of the kernel.
fn is_foreign(there: &Path, built: &Path) -> bool {
    let read = |path: &Path| read_module(path).ok().and_then(|content| Module::read(&content).ok());
    let Some(there) = read(there) else { return false };
    let key = |module: Module| (module.version, module.srcversion);
    there.srcversion.is_empty() || read(built).map(key) != Some(key(there))
}

/// Files with this module's name in the kernel's module directory that dkms did not publish, the most likely original
/// first.
fn others(session: &Session, order: &Order<'_>, piece: &Piece) -> Vec<PathBuf> {
    let root = session.layout.kernel(&order.kernel.target.kernel);
    let same = |path: &Path| file::content(path).ok() == file::content(&piece.from).ok();
    let ours = |path: &PathBuf| {
        // A file at our own path is ours if a version is installed, or if it is identical: an interrupted publication
        // left it.
        path.parent() == piece.to.parent()
            && (order.installed(&piece.name) || order.claimant(path).is_none() && same(path))
            || order.published.iter().any(|file| file.path == *path)
    };
    let name = elf::canonical_name(&piece.name);
    let named = |path: &PathBuf| {
        path.to_string_lossy().contains(".ko") && elf::module_name(&path.to_string_lossy()) == name
    };
    // Of several, shell DKMS takes the one that depmod lists first.
    let mut found: Vec<PathBuf> =
        order.kernel.modules_named(&piece.name).map(|relative| root.join(relative)).collect();
    found.retain(|path| order.present.contains(path));
    let rest: Vec<PathBuf> =
        order.present.iter().filter(|path| named(path) && !found.contains(path)).cloned().collect();
    found.extend(rest);
    // A module before it may have replaced or archived one of them.
    found.retain(|path| path.exists() && !ours(path));
    // In shell DKMS's order of preference.
    let rank = |path: &Path| match path.strip_prefix(&root).ok().and_then(|path| path.components().next()) {
        Some(first) if first.as_os_str() == "extra" => 0,
        Some(first) if first.as_os_str() == "updates" => 1,
        _ => 2,
    };
    found.sort_by_key(|path| rank(path));
    found
}

/// Why the module that the kernel has must not be replaced; `None` if it may be.
fn newer(order: &Order<'_>, piece: &Piece, others: &[PathBuf]) -> Result<Option<Skipped>> {
    if order.force {
        return Ok(None);
    }
    let [other] = others else { return Ok(None) };
    // An unreadable file of the kernel does not prevent the installation of ours.
    let theirs = read_module(other).and_then(|content| Ok(Module::read(&content)?));
    let Ok(theirs) = theirs else { return Ok(None) };
    let ours = Module::read(&read_module(&piece.from)?)?;
    let age = version::compare(&theirs.version, &ours.version);
    let same = age.is_eq() && !ours.srcversion.is_empty() && theirs.srcversion == ours.srcversion;
    let owner = order.claimant(other).cloned();
    let who = owner.as_ref().map_or("the kernel".to_owned(), |owner| format!("conflict: {owner}"));
    let why = if !theirs.version.is_empty() && age.is_gt() {
        let than = if ours.version.is_empty() { "this unversioned module" } else { &ours.version };
        format!("{who} provides {} version {}, newer than {than}", piece.name, theirs.version)
    } else if same {
        format!("{who} provides the same {}", piece.name)
    } else {
        return Ok(None);
    };
    let why = format!("{why} (use --force to install anyway)");
    Ok(Some(Skipped { name: piece.name.clone(), why, owner, package: None }))
}

/// A module that the package of another module has installed at this path.
fn packaged(layout: &Layout, order: &Order<'_>, piece: &Piece) -> Option<Skipped> {
    let marker = order.markers.values().find(|marker| marker.owns(layout, &piece.to))?;
    let why = format!("conflict: package {} has installed {}", marker.package, piece.name);
    Some(Skipped { name: piece.name.clone(), why, owner: None, package: Some(marker.package.clone()) })
}

/// Creates a directory below the kernel's own, without leaving the modules tree through a link.
fn make_dir_inside(dir: &Path, kernel: &Path, tree: &Path, changed: &mut Changed) -> Result<()> {
    let real = |path: &Path| path.canonicalize().with_context(|| format!("reading {}", path.display()));
    let tree = real(tree)?;
    let inside = |path: &Path| -> Result<()> {
        let actual = real(path)?;
        if !actual.starts_with(&tree) {
            bail!(
                "{} is a symlink to {}, outside the modules directory; remove the symlink",
                path.display(),
                actual.display()
            );
        }
        Ok(())
    };
    inside(kernel)?;
    let mut path = kernel.to_owned();
    for part in dir
        .strip_prefix(kernel)
        .context("the destination is outside the kernel's module directory")?
        .components()
    {
        path.push(part);
        if file::make_dir(&path)? {
            changed.note(&path);
        } else {
            inside(&path)?;
        }
    }
    Ok(())
}

/// The files of an installed build without a record, according to the distribution's and the dkms.conf's destinations.
pub fn guess(
    layout: &Layout,
    destination: Option<&str>,
    recipe: Option<&Recipe>,
    files: &[String],
    target: &Target,
) -> Vec<Installed> {
    let root = layout.kernel(&target.kernel);
    let by_name: BTreeMap<&str, &str> = recipe
        .iter()
        .flat_map(|recipe| &recipe.modules)
        .map(|module| (module.dest_name.as_str(), module.dest_location.as_str()))
        .collect();
    files
        .iter()
        .filter_map(|file| {
            let name = file.split_once(".ko").map_or(file.as_str(), |(name, _)| name);
            let places = destination.into_iter().chain(by_name.get(name).copied());
            places.map(|place| root.join(place.trim_matches('/')).join(file)).find(|path| path.exists())
        })
        .map(|path| Installed { path, sha256: String::new() })
        .collect()
}
