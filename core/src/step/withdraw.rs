//! Removes a module from a kernel's module directory and restores the kernel's original.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::conf::ModuleSpec;
use crate::layout::Layout;
use crate::sys::file::{self, Changed};
use crate::tree::Installed;
use crate::types::{ModuleId, Target};

/// Deletes published files. Originals are restored first, so that the kernel is at no time without the module. Returns
/// remarks. Can be repeated after an interruption, until [`forget_restored`] was called: only the note of its path
/// distinguishes a restored file from a published one. When this returns, a power failure undoes nothing of it.
pub fn withdraw(
    layout: &Layout,
    id: &ModuleId,
    target: &Target,
    published: &[Installed],
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let restored = restore(layout, id, target, published, &mut notes)?;
    fail::fail_point!("withdraw:restored");
    let kernel = layout.kernel(&target.kernel);
    let mut changed = Changed::default();
    for file in published.iter().filter(|file| !restored.contains(&file.path)) {
        changed.remove(&file.path)?;
        fail::fail_point!("withdraw:between-files");
        if let Some(dir) = file.path.parent() {
            file::remove_empty_up_to(dir, &kernel);
        }
    }
    // Before the tree says that these files are not there.
    changed.sync()?;
    Ok(notes)
}

/// After the module was marked as not installed: deletes the notes of restored originals' paths. Copies that were not
/// restored are kept with theirs, because they may be the only ones.
pub fn forget_restored(layout: &Layout, id: &ModuleId, target: &Target) -> Result<()> {
    let dir = layout.originals(&id.name, target);
    for origin in file::sorted_entries(&dir) {
        if kept_beside(&origin).is_some_and(|kept| kept.symlink_metadata().is_err()) {
            file::remove_all(&origin)?;
        }
    }
    file::remove_empty_up_to(&dir, &layout.module(&id.name));
    Ok(())
}

fn kept_beside(origin: &Path) -> Option<&Path> {
    origin.to_str()?.strip_suffix(".origin").map(Path::new)
}

/// Shell DKMS before 3.1 archived originals without recording their paths, and restored them to the destination in
/// dkms.conf: records these paths, so that they are restored like any others.
pub fn note_places(layout: &Layout, id: &ModuleId, target: &Target, modules: &[ModuleSpec]) -> Result<()> {
    for kept in file::sorted_entries(&layout.originals(&id.name, target)) {
        let Some(name) = kept.file_name().and_then(|name| name.to_str()) else { continue };
        let is_it = |module: &&ModuleSpec| {
            let suffix = name.strip_prefix(module.dest_name.as_str());
            suffix.is_some_and(|suffix| [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].contains(&suffix))
        };
        let Some(module) = modules.iter().find(is_it) else { continue };
        let note = kept.with_file_name(format!("{name}.origin"));
        if note.symlink_metadata().is_err() {
            let below = module.dest_location.trim_matches('/');
            let place = layout.kernel(&target.kernel).join(below).join(name);
            file::write_atomic(&note, format!("{}\n", place.display()).as_bytes(), 0o644)?;
        }
    }
    Ok(())
}

/// The directories that a withdrawal writes to, for the intent.
pub fn destinations(
    layout: &Layout,
    id: &ModuleId,
    target: &Target,
    published: &[Installed],
) -> BTreeSet<PathBuf> {
    let origins = file::sorted_entries(&layout.originals(&id.name, target));
    let places =
        origins.iter().filter(|path| path.extension().is_some_and(|extension| extension == "origin"));
    let places = places.filter_map(|path| fs::read_to_string(path).ok());
    let restored = places.filter_map(|text| text.lines().next().map(PathBuf::from));
    let files = restored.chain(published.iter().map(|file| file.path.clone()));
    files.filter_map(|file| file.parent().map(Path::to_path_buf)).collect()
}

fn restore(
    layout: &Layout,
    id: &ModuleId,
    target: &Target,
    published: &[Installed],
    notes: &mut Vec<String>,
) -> Result<Vec<PathBuf>> {
    let dir = layout.originals(&id.name, target);
    let kernel = layout.kernel(&target.kernel);
    let mut restored = Vec::new();
    for origin in file::sorted_entries(&dir) {
        let Some(kept) = kept_beside(&origin) else { continue };
        let place = fs::read_to_string(&origin).unwrap_or_default();
        let place = PathBuf::from(place.lines().next().unwrap_or_default());
        if !place.starts_with(&kernel) || place.components().any(|part| part.as_os_str() == "..") {
            notes.push(format!(
                "{} names a path outside the kernel's module directory; the original was not restored",
                origin.display()
            ));
            continue;
        }
        // An incomplete copy, or one that an earlier withdrawal restored: the original exists.
        if kept.symlink_metadata().is_err() {
            restored.push(place);
            continue;
        }
        // A file here that is not ours was installed by the kernel's package since.
        if !place.exists() || published.iter().any(|file| file.path == place) {
            file::copy_atomic(kept, &place).context("restoring the kernel's original module")?;
            notes.push(format!("restored the kernel's original {}", place.display()));
        }
        file::remove_all(kept)?;
        restored.push(place);
    }
    Ok(restored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_original_without_a_note_of_its_place_goes_where_dkms_conf_asks_for_the_module() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let layout =
            Layout { dkms_tree: root.join("tree"), install_tree: root.join("modules"), ..Layout::default() };
        let id = ModuleId { name: "a".parse().unwrap(), version: "1".parse().unwrap() };
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let module = ModuleSpec {
            built: "a".to_owned(),
            dest_name: "a".to_owned(),
            dest_location: "/kernel/extra".to_owned(),
            strip: true,
        };
        let originals = layout.originals(&id.name, &target);
        for name in ["a.ko.xz", "ab.ko"] {
            file::write_atomic(&originals.join(name), b"the kernel's own", 0o644).unwrap();
        }
        note_places(&layout, &id, &target, &[module]).unwrap();
        withdraw(&layout, &id, &target, &[]).unwrap();
        forget_restored(&layout, &id, &target).unwrap();
        let restored = fs::read(layout.kernel(&target.kernel).join("kernel/extra/a.ko.xz")).unwrap();
        assert_eq!(restored, b"the kernel's own");
        assert_eq!(file::sorted_entries(&originals), [originals.join("ab.ko")], "nobody's file stays");
    }
}
