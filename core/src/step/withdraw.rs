//! Takes a module out of a kernel's tree and puts back what the kernel had itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::layout::Layout;
use crate::sys::file;
use crate::tree::Installed;
use crate::types::{ModuleId, Target};

/// Deletes published files. Originals are put back first, so that the kernel is at no time without the module.
/// Returns remarks.
pub fn withdraw(
    layout: &Layout,
    id: &ModuleId,
    target: &Target,
    published: &[Installed],
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let restored = restore(layout, id, target, published, &mut notes)?;
    let kernel = layout.kernel(&target.kernel);
    for file in published.iter().filter(|file| !restored.contains(&file.path)) {
        file::remove_all(&file.path)?;
        fail::fail_point!("withdraw:between-files");
        if let Some(dir) = file.path.parent() {
            file::remove_empty_up_to(dir, &kernel);
        }
    }
    // Only what was put back is deleted: a copy without a known place may be the only one.
    file::remove_empty_up_to(&layout.originals(&id.name, target), &layout.module(&id.name));
    Ok(notes)
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
        let Some(kept) = origin.to_str().and_then(|path| path.strip_suffix(".origin")).map(Path::new) else {
            continue;
        };
        let place = fs::read_to_string(&origin).unwrap_or_default();
        let place = PathBuf::from(place.lines().next().unwrap_or_default());
        if !place.starts_with(&kernel) || place.components().any(|part| part.as_os_str() == "..") {
            notes.push(format!(
                "{} names a place outside the kernel's directory and was not put back",
                origin.display()
            ));
            continue;
        }
        // A copy that was never finished: the original never left.
        let Ok(content) = fs::read(kept) else { continue };
        // What lies there now and is not ours has come with the kernel's package since.
        if !place.exists() || published.iter().any(|file| file.path == place) {
            file::write_atomic(&place, &content, 0o644).context("putting back the kernel's own module")?;
            notes.push(format!("put back the kernel's own {}", place.display()));
        }
        file::remove_all(kept)?;
        file::remove_all(&origin)?;
        restored.push(place);
    }
    Ok(restored)
}
