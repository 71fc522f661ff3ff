//! `--rpm_safe_upgrade`: rpm runs the new package's script, which adds, before the old one's, which removes. If both
//! have the same version, the old one would remove what the new one has just added.

use anyhow::Result;

use crate::caller::transaction;
use crate::session::Session;
use crate::sys::file;
use crate::types::ModuleId;

/// Records which transaction added the module.
pub(super) fn note(session: &Session, module: &ModuleId) -> Result<()> {
    match transaction() {
        Some(transaction) => {
            file::write_atomic(&session.layout.upgrade_note(module), transaction.as_bytes(), 0o644)
        }
        None => Ok(()),
    }
}

/// Whether the same transaction has added the module. It is then kept, and a message is printed.
pub(super) fn replaced(session: &Session, module: &ModuleId) -> Result<bool> {
    let note = session.layout.upgrade_note(module);
    let Some(noted) = file::read_optional(&note)? else { return Ok(false) };
    file::remove_all(&note)?;
    let same = transaction().is_some_and(|transaction| transaction.as_bytes() == noted);
    if same {
        session.screen.alert(&format!(
            "dkms: {module} is kept: this transaction has just added it (--rpm_safe_upgrade)"
        ));
    }
    Ok(same)
}
