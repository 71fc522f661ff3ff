//! `dkms add DIRECTORY`: copies a source directory into the source tree.

use std::path::Path;

use anyhow::{Context, Result};

use super::args::Args;
use super::refuse;
use crate::exit::Exit;
use crate::inventory::{self, NoModule};
use crate::session::Session;
use crate::survey;
use crate::sys::file;
use crate::types::ModuleId;

/// Copies the directory unless the source tree already has it; returns its module. `--force` replaces an older copy
/// completely.
pub(super) fn copy(session: &Session, dir: &Path, args: &Args) -> Result<ModuleId> {
    let dir = dir.canonicalize().with_context(|| format!("reading {}", dir.display()))?;
    let id = module_of(session, &dir.join("dkms.conf"))?;
    if crate::apply::status_of(session, Some(&id.name))?.registered(&id) {
        return refuse(
            Exit::ALREADY_ADDED,
            format!("{id} is already in the DKMS tree; run `dkms remove {id} --all` first"),
        );
    }
    if !dir.starts_with(session.layout.version(&id)) {
        // A source that cannot be added leaves nothing in the source tree.
        for target in args.any_targets(session)?.iter().take(1) {
            if let Err(error) = survey::recipe(session, &id, &session.kernel(target)?, &dir)? {
                return refuse(Exit::BAD_CONF, error.to_string());
            }
        }
        put(session, &dir, &id, args.force)?;
    }
    Ok(id)
}

/// The module that a dkms.conf belongs to.
pub(super) fn module_of(session: &Session, conf: &Path) -> Result<ModuleId> {
    inventory::module_of(session, conf).or_else(|error| match error.downcast::<NoModule>() {
        Ok(NoModule(why)) => refuse(Exit::BAD_CONF, why),
        Err(error) => Err(error),
    })
}

/// Copies a source directory to its place. Files that only an older copy has are kept, unless `force` replaces it
/// completely.
pub(super) fn put(session: &Session, dir: &Path, id: &ModuleId, force: bool) -> Result<()> {
    let to = session.layout.source(id);
    if to.canonicalize().is_ok_and(|to| to == dir) {
        return Ok(());
    }
    let staged = file::temp_beside(&to);
    let copy = || -> Result<()> {
        file::copy_tree(dir, &staged, None)?;
        if to.is_dir() && !force {
            keep_others(&to, &staged)?;
        }
        // Before its name: after a power failure, a registered source is whole. Once for thousands of files.
        file::sync_file_system(&staged)?;
        file::replace_dir(&staged, &to)
    };
    copy().inspect_err(|_| {
        // What cannot be deleted now is deleted by the next run.
        let _ = file::remove_all(&staged);
    })
}

/// Keeps files that only the old directory has, as shell DKMS does.
fn keep_others(old: &Path, new: &Path) -> Result<()> {
    for entry in file::sorted_entries(old) {
        let Some(name) = entry.file_name() else { continue };
        let other = new.join(name);
        let dir = |path: &Path| path.is_dir() && !path.is_symlink();
        if other.symlink_metadata().is_err() {
            file::copy_tree(&entry, &other, None)?;
        } else if dir(&entry) && dir(&other) {
            keep_others(&entry, &other)?;
        }
    }
    Ok(())
}
