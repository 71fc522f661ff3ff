//! `dkms add DIRECTORY`: copies a source tree to where sources are.

use std::path::Path;

use anyhow::{Context, Result};

use super::refuse;
use crate::conf::evaluate;
use crate::session::Session;
use crate::sys::file;
use crate::types::ModuleId;

/// Copies the tree, unless it is there already; the module that it holds.
pub(super) fn copy(session: &Session, dir: &Path, force: bool) -> Result<ModuleId> {
    let dir = dir.canonicalize().with_context(|| format!("reading {}", dir.display()))?;
    let conf = dir.join("dkms.conf");
    let raw = match evaluate::framework(&[conf], "PACKAGE_NAME PACKAGE_VERSION", &session.layout.evaluated())?
    {
        Ok(raw) => raw,
        Err(error) => return refuse(10, error.to_string()),
    };
    let (name, version) = (raw.get("PACKAGE_NAME"), raw.get("PACKAGE_VERSION"));
    let (Ok(name), Ok(version)) = (name.parse(), version.parse()) else {
        return refuse(
            10,
            format!(
                "{}: PACKAGE_NAME {name:?} and PACKAGE_VERSION {version:?} are no valid names",
                dir.display()
            ),
        );
    };
    let id = ModuleId { name, version };
    let to = session.layout.source(&id);
    if to.canonicalize().is_ok_and(|to| to == dir) || dir.starts_with(session.layout.version(&id)) {
        return Ok(id);
    }
    if to.exists() && !force {
        return refuse(
            3,
            format!("{} exists already: --force replaces it by {}", to.display(), dir.display()),
        );
    }
    let staged = file::temp_beside(&to);
    file::copy_tree(&dir, &staged, None)?;
    file::replace_dir(&staged, &to)?;
    Ok(id)
}
