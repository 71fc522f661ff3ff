//! `--svg FILE`: the result of a query as a picture.

use std::path::Path;

use anyhow::Result;

use super::refuse;
use crate::exit::Exit;
use crate::session::Session;
use crate::sys::file;

/// Writes the file. Its directory must exist: a misspelt one is not created.
pub(super) fn write(session: &Session, path: &Path, svg: &str) -> Result<Exit> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        return refuse(
            Exit::ERROR,
            format!("writing {}: there is no directory {}", path.display(), directory.display()),
        );
    }
    file::write_named(path, svg.as_bytes())?;
    // Nothing is mixed with a picture on standard output.
    if path.is_file() {
        session.screen.progress(&format!("dkms: wrote {}", path.display()));
    }
    Ok(Exit::SUCCESS)
}
