//! Removes a module from a kernel's module directory and restores the kernel's original.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};

use crate::conf::ModuleSpec;
use crate::kernel::{Module, read_module};
use crate::layout::Layout;
use crate::sys::file::{self, Staged, Swap};
use crate::tree::Installed;
use crate::types::{Attempt, ModuleId, ModuleName, Target};

/// What was done with the kernel's originals.
#[derive(Debug, Default)]
pub struct Withdrawn {
    /// What was restored, as sentences.
    pub notes: Vec<String>,
    /// What could not be restored, and why. The copies are kept.
    pub lost: Vec<String>,
}

/// Deletes published files. Originals are restored first, so that the kernel is at no time without the module. If a file cannot
/// be changed, all are restored, and the inner error says why. Can be repeated after an interruption, until [`forget_restored`] was called: only the note of
/// its path distinguishes a restored file from a published one. When this returns, a power failure undoes nothing of it.
pub fn withdraw(
    layout: &Layout,
    id: &ModuleId,
    target: &Target,
    published: &[Installed],
) -> Attempt<Withdrawn, Error> {
    let kernel = layout.kernel(&target.kernel);
    let archive = layout.originals(&id.name, target);
    let mut done = Withdrawn::default();
    if !kernel.exists() {
        // Restoring originals would make a directory that belongs to no package. The copies stay: the file system with the
        // directory may only not be mounted.
        return Ok(Ok(done));
    }
    let mut swap = Swap::default();
    let swapped = exchange(&mut swap, &kernel, &archive, published, &mut done);
    let restored = match swapped {
        Ok(restored) => restored,
        Err(why) => {
            swap.undo().with_context(|| format!("{why:#}; this could not be undone"))?;
            return Ok(Err(why));
        }
    };
    // Before the tree says that these files are not there.
    swap.finish()?;
    fail::fail_point!("withdraw:finished");
    restored.iter().try_for_each(|kept| file::remove_all(kept))?;
    for dir in published.iter().filter_map(|file| file.path.parent()) {
        file::remove_empty_up_to(dir, &kernel);
    }
    Ok(Ok(done))
}

/// Restores originals, and sets published files aside. Returns the copies that are not needed any more.
fn exchange(
    swap: &mut Swap,
    kernel: &Path,
    archive: &Path,
    published: &[Installed],
    done: &mut Withdrawn,
) -> Result<Vec<PathBuf>> {
    let mut places = BTreeSet::new();
    let mut restored = Vec::new();
    for note in file::sorted_entries(archive) {
        let Some(kept) = Layout::noted_original(&note) else { continue };
        let there = kept.symlink_metadata().is_ok();
        let Some(place) = noted_place(&note, kernel) else {
            if there {
                done.lost.push(format!(
                    "the kernel's original {} was not restored: {} does not name a path in {}; copy it to its place and run depmod",
                    kept.display(),
                    note.display(),
                    kernel.display()
                ));
            }
            continue;
        };
        if !there {
            // The copy was not finished, or an earlier withdrawal restored it: then the original exists.
            match place.exists() {
                true => {
                    places.insert(place);
                }
                false => done.lost.push(not_restored(&place, &missing(kept))),
            }
            continue;
        }
        // A file here that is not ours was installed by the kernel's package since.
        if !place.exists() || published.iter().any(|file| file.path == place) {
            if let Err(why) = intact(kept) {
                done.lost.push(not_restored(&place, &damaged(kept, &why)));
                continue;
            }
            let copy = Staged::copy(kept, &place).context("restoring the kernel's original module")?;
            swap.put(copy)?;
            done.notes.push(format!("restored the kernel's original {}", place.display()));
        }
        restored.push(kept.to_owned());
        places.insert(place);
    }
    swap.sync()?;
    fail::fail_point!("withdraw:restored");
    for file in published.iter().filter(|file| !places.contains(&file.path)) {
        swap.set_aside(&file.path)?;
        fail::fail_point!("withdraw:between-files");
    }
    Ok(restored)
}

fn not_restored(place: &Path, why: &str) -> String {
    format!(
        "the kernel's original {} was not restored: {why}; reinstall the kernel's package",
        place.display()
    )
}

fn missing(kept: &Path) -> String {
    format!("its copy {} is missing", kept.display())
}

fn damaged(kept: &Path, why: &Error) -> String {
    format!("its copy {} is damaged: {why:#}", kept.display())
}

/// Whether a copy is a module that a kernel can read. Decompressing it finds missing and changed bytes.
pub fn intact(kept: &Path) -> Result<()> {
    // Nothing else is read: reading a fifo would wait.
    if let Some(kind) = file::kind_of(kept, false).filter(|kind| *kind != file::A_FILE) {
        bail!("it is {kind}");
    }
    Module::read(&read_module(kept)?)?;
    Ok(())
}

/// Originals that a withdrawal could not restore now, with the reason: their copies are missing or damaged. A file in the place of
/// one that is not ours (`published`) was installed by the kernel's package since.
pub fn lost(
    layout: &Layout,
    name: &ModuleName,
    target: &Target,
    published: &[PathBuf],
) -> Vec<(PathBuf, String)> {
    let entries = file::sorted_entries(&layout.originals(name, target));
    let noted = entries.iter().filter_map(|path| Layout::noted_original(path));
    let copies: BTreeSet<&Path> = noted
        .chain(entries.iter().map(PathBuf::as_path).filter(|path| Layout::noted_original(path).is_none()))
        .collect();
    let mut found = Vec::new();
    for kept in copies {
        let Some(place) = place_of(layout, target, kept) else { continue };
        let why = match kept.symlink_metadata() {
            Ok(_) if place.exists() && !published.contains(&place) => continue,
            Ok(_) => intact(kept).err().map(|why| damaged(kept, &why)),
            Err(_) => (!place.exists()).then(|| missing(kept)),
        };
        found.extend(why.map(|why| (place, why)));
    }
    found
}

/// The path in a note, if it is one in the kernel's module directory.
fn noted_place(note: &Path, kernel: &Path) -> Option<PathBuf> {
    let place = PathBuf::from(file::text(note).ok()?.lines().next()?);
    let inside = place.strip_prefix(kernel).is_ok_and(|inside| inside.file_name().is_some());
    (inside && !place.components().any(|part| part.as_os_str() == "..")).then_some(place)
}

/// After the module was marked as not installed: deletes the notes of restored originals' paths. Copies that were not
/// restored are kept with theirs, because they may be the only ones.
pub fn forget_restored(layout: &Layout, id: &ModuleId, target: &Target) -> Result<()> {
    let dir = layout.originals(&id.name, target);
    let kernel = layout.kernel(&target.kernel);
    // Of a lost one, the note is the only trace.
    let lost =
        |note: &Path| kernel.exists() && noted_place(note, &kernel).is_some_and(|place| !place.exists());
    for origin in file::sorted_entries(&dir) {
        let missing = Layout::noted_original(&origin).is_some_and(|kept| kept.symlink_metadata().is_err());
        if missing && !lost(&origin) {
            file::remove_all(&origin)?;
        }
    }
    file::remove_empty_up_to(&dir, &layout.module(&id.name));
    Ok(())
}

/// Notes where originals go whose note is missing or damaged. Shell DKMS before 3.1 had no notes, and restored originals to the
/// destination in dkms.conf. What a note said is usually in the kernel's own list of its modules, too.
pub fn note_places(layout: &Layout, id: &ModuleId, target: &Target, modules: &[ModuleSpec]) -> Result<()> {
    let kernel = layout.kernel(&target.kernel);
    for kept in file::sorted_entries(&layout.originals(&id.name, target)) {
        let note = Layout::origin_note(&kept);
        let missing = note.symlink_metadata().is_err();
        if Layout::noted_original(&kept).is_some() || !missing && noted_place(&note, &kernel).is_some() {
            continue;
        }
        let Some(name) = kept.file_name().and_then(|name| name.to_str()) else { continue };
        let Some((stem, suffix)) = name.split_once(".ko") else { continue };
        let asked = modules.iter().find(|module| module.dest_name == stem);
        let asked = asked.map(|module| kernel.join(module.dest_location.trim_matches('/')).join(name));
        // If the kernel has its own module, without a note, this was the copy of another one.
        let own = kernels_own(layout, target, stem, suffix).filter(|own| !missing || !own.exists());
        if let Some(place) = own.or(asked) {
            file::write_atomic(&note, format!("{}\n", place.display()).as_bytes(), 0o644)?;
        }
    }
    Ok(())
}

/// Where an original belongs: its note, else the kernel's own list of its modules.
pub fn place_of(layout: &Layout, target: &Target, kept: &Path) -> Option<PathBuf> {
    let noted = noted_place(&Layout::origin_note(kept), &layout.kernel(&target.kernel));
    noted.or_else(|| {
        let (stem, suffix) = kept.file_name()?.to_str()?.split_once(".ko")?;
        kernels_own(layout, target, stem, suffix)
    })
}

/// The path that the kernel's package has for a module.
fn kernels_own(layout: &Layout, target: &Target, stem: &str, suffix: &str) -> Option<PathBuf> {
    let list = file::text(layout.modules_order(&target.kernel)).ok()?;
    let named =
        |line: &&str| line.rsplit('/').next().is_some_and(|file| file.strip_suffix(".ko") == Some(stem));
    let relative = list.lines().find(named)?;
    // The list has the names without the suffix of a compression.
    Some(layout.kernel(&target.kernel).join(format!("{relative}{suffix}")))
}

/// The directories that a withdrawal writes to, for the intent.
pub fn destinations(
    layout: &Layout,
    id: &ModuleId,
    target: &Target,
    published: &[Installed],
) -> BTreeSet<PathBuf> {
    let kernel = layout.kernel(&target.kernel);
    let archived = file::sorted_entries(&layout.originals(&id.name, target)).into_iter();
    let notes = archived.filter(|path| Layout::noted_original(path).is_some());
    let files = notes
        .filter_map(|note| noted_place(&note, &kernel))
        .chain(published.iter().map(|file| file.path.clone()));
    files.filter_map(|file| file.parent().map(Path::to_path_buf)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The kernel's own.
    const OWN: &[u8] = include_bytes!("../../../tests/fuzz/seeds/module/plain");

    struct World {
        dir: tempfile::TempDir,
        layout: Layout,
        id: ModuleId,
        target: Target,
    }

    impl World {
        /// A kernel with its own list of modules, and the copy of one of them: `a.ko`.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            let layout = Layout {
                dkms_tree: root.join("tree"),
                install_tree: root.join("modules"),
                ..Layout::default()
            };
            let id = ModuleId { name: "a".parse().unwrap(), version: "1".parse().unwrap() };
            let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
            let world = Self { dir, layout, id, target };
            world.write(&world.kernel("modules.order"), "kernel/net/ba.ko\nkernel/net/a.ko\n");
            file::write_atomic(&world.kept("a.ko"), OWN, 0o644).unwrap();
            world
        }
        fn kernel(&self, path: &str) -> PathBuf {
            self.layout.kernel(&self.target.kernel).join(path)
        }
        fn kept(&self, name: &str) -> PathBuf {
            self.layout.originals(&self.id.name, &self.target).join(name)
        }
        fn write(&self, path: &Path, text: &str) {
            file::write_atomic(path, text.as_bytes(), 0o644).unwrap();
        }
        fn withdraw(&self, published: &[&str]) -> Withdrawn {
            let module = ModuleSpec {
                built: "a".to_owned(),
                dest_name: "a".to_owned(),
                dest_location: "/kernel/extra".to_owned(),
                strip: true,
            };
            note_places(&self.layout, &self.id, &self.target, &[module]).unwrap();
            let published = published
                .iter()
                .map(|path| Installed { path: self.kernel(path), sha256: String::new() })
                .collect::<Vec<_>>();
            let done = withdraw(&self.layout, &self.id, &self.target, &published).unwrap().unwrap();
            forget_restored(&self.layout, &self.id, &self.target).unwrap();
            done
        }
        fn is_restored_to(&self, path: &str) {
            let all = file::files_below(self.dir.path(), &[]);
            let found: Vec<&PathBuf> = all.iter().filter(|file| fs::read(file).unwrap() == OWN).collect();
            assert_eq!(found, [&self.kernel(path)], "{all:?}");
        }
    }

    #[test]
    fn an_original_goes_where_its_note_says() {
        let world = World::new();
        world.write(&world.kept("a.ko.origin"), &format!("{}\n", world.kernel("updates/a.ko").display()));
        world.withdraw(&[]);
        world.is_restored_to("updates/a.ko");
    }

    #[test]
    fn an_original_without_a_note_goes_where_the_kernel_or_dkms_conf_has_the_module() {
        for (listed, there, place) in [
            ("kernel/net/a.ko", None, "kernel/net/a.ko"),
            ("kernel/net/b.ko", None, "kernel/extra/a.ko"),
            ("kernel/net/a.ko", Some("kernel/net/a.ko"), "kernel/extra/a.ko"),
        ] {
            let world = World::new();
            world.write(&world.kernel("modules.order"), listed);
            if let Some(there) = there {
                world.write(&world.kernel(there), "from a package");
            }
            world.write(&world.kept("zz.ko"), "of another module");
            world.withdraw(&[]);
            world.is_restored_to(place);
            let archive = world.layout.originals(&world.id.name, &world.target);
            assert_eq!(file::sorted_entries(&archive), [world.kept("zz.ko")], "what is not known stays");
        }
    }

    #[test]
    fn an_original_with_a_damaged_note_goes_where_the_kernel_has_it() {
        for damaged in ["", "\0\0\0", "/etc/passwd\n", "$KERNEL/../../../etc/passwd\n", "$KERNEL\n"] {
            let world = World::new();
            let text = damaged.replace("$KERNEL", &world.kernel("").display().to_string());
            world.write(&world.kept("a.ko.origin"), &text);
            world.write(&world.kernel("updates/dkms/a.ko"), "ours");
            let done = world.withdraw(&["updates/dkms/a.ko"]);
            world.is_restored_to("kernel/net/a.ko");
            assert!(done.lost.is_empty() && !world.kernel("updates").exists(), "{damaged:?}: {done:?}");
        }
    }

    #[test]
    fn an_original_whose_place_is_not_known_is_kept_and_named() {
        let world = World::new();
        file::remove_all(&world.kept("a.ko")).unwrap();
        file::write_atomic(&world.kept("unknown.ko"), OWN, 0o644).unwrap();
        world.write(&world.kept("unknown.ko.origin"), "");
        let done = world.withdraw(&[]);
        assert!(
            matches!(done.lost.as_slice(), [lost] if lost.contains("unknown.ko was not restored")),
            "{done:?}"
        );
        assert!(world.kept("unknown.ko").exists() && world.kept("unknown.ko.origin").exists());
    }

    #[test]
    fn a_copy_that_is_missing_or_damaged_is_named_before_and_at_the_removal() {
        let remove = |world: &World| file::remove_all(&world.kept("a.ko")).unwrap();
        type Damage<'a> = (&'static str, &'a dyn Fn(&World));
        let damages: [Damage<'_>; 6] = [
            ("is damaged", &|world| world.write(&world.kept("a.ko"), "")),
            ("is damaged", &|world| world.write(&world.kept("a.ko"), "\0\0\0\0")),
            ("is damaged", &|world| world.write(&world.kept("a.ko"), "\x7fELF and no more")),
            ("it is a directory", &|world| {
                remove(world);
                file::make_dirs(&world.kept("a.ko")).unwrap();
            }),
            ("it is a fifo", &|world| {
                remove(world);
                let mode = rustix::fs::Mode::from_raw_mode(0o644);
                let (at, kind) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
                rustix::fs::mknodat(at, world.kept("a.ko"), kind, mode, 0).unwrap();
            }),
            ("is missing", &remove),
        ];
        for (expected, damage) in damages {
            let world = World::new();
            let place = world.kernel("kernel/net/a.ko");
            let found = |world: &World| lost(&world.layout, &world.id.name, &world.target, &[]);
            world.write(&world.kept("a.ko.origin"), &format!("{}\n", place.display()));
            assert_eq!(found(&world), []);
            damage(&world);
            let before = found(&world);
            assert!(
                matches!(before.as_slice(), [(at, why)] if *at == place && why.contains(expected)),
                "{before:?}"
            );
            let done = world.withdraw(&[]);
            let [lost] = done.lost.as_slice() else { panic!("{expected}: {done:?}") };
            assert!(lost.contains(expected) && lost.ends_with("reinstall the kernel's package"), "{lost}");
            assert!(!world.kernel("kernel").exists() && found(&world) == before, "it stays a finding");
            // Until the kernel's package is installed again.
            world.write(&place, "from its package");
            assert_eq!(found(&world), [], "{expected}");
            assert!(world.withdraw(&[]).lost.is_empty());
            assert!(!world.layout.originals(&world.id.name, &world.target).exists(), "{expected}");
        }
    }

    #[test]
    fn a_kernel_that_is_gone_is_not_made_again() {
        let world = World::new();
        file::remove_all(&world.kernel("")).unwrap();
        world.withdraw(&["updates/dkms/a.ko"]);
        assert!(!world.kernel("").exists() && world.kept("a.ko").exists());
    }
}
