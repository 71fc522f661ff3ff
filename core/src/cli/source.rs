//! `dkms add DIRECTORY`: copies a source tree to where sources are.

use std::path::Path;

use anyhow::{Context, Result};

use super::refuse;
use crate::conf::bash;
use crate::session::Session;
use crate::sys::file;
use crate::types::ModuleId;

/// Copies the tree, unless it is there already; the module that it holds.
pub(super) fn copy(session: &Session, dir: &Path, force: bool) -> Result<ModuleId> {
    let dir = dir.canonicalize().with_context(|| format!("reading {}", dir.display()))?;
    let id = module_of(session, &dir.join("dkms.conf"), 10)?;
    if !dir.starts_with(session.layout.version(&id)) {
        put(session, &dir, &id, force)?;
    }
    Ok(id)
}

/// The module that a dkms.conf is of. `code` is the exit code when it is of none.
pub(super) fn module_of(session: &Session, conf: &Path, code: u8) -> Result<ModuleId> {
    let files = [conf.to_owned()];
    let raw = match bash::framework(&files, "PACKAGE_NAME PACKAGE_VERSION", &session.layout.evaluated())? {
        Ok(raw) => raw,
        Err(error) => return refuse(code, error.to_string()),
    };
    let (name, version) = (raw.get("PACKAGE_NAME"), raw.get("PACKAGE_VERSION"));
    let (Ok(name), Ok(version)) = (name.parse(), version.parse()) else {
        return refuse(
            code,
            format!(
                "{}: PACKAGE_NAME {name:?} and PACKAGE_VERSION {version:?} are no valid names",
                conf.display()
            ),
        );
    };
    Ok(ModuleId { name, version })
}

/// Copies a source tree to its place.
pub(super) fn put(session: &Session, dir: &Path, id: &ModuleId, force: bool) -> Result<()> {
    let to = session.layout.source(id);
    if to.canonicalize().is_ok_and(|to| to == dir) {
        return Ok(());
    }
    if to.exists() && !force {
        return refuse(
            3,
            format!("{} exists already: --force replaces it by {}", to.display(), dir.display()),
        );
    }
    let staged = file::temp_beside(&to);
    file::copy_tree(dir, &staged, None)?;
    file::replace_dir(&staged, &to)
}
