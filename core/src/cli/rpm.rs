//! `--rpm_safe_upgrade`: rpm runs the new package's script, which adds, before the old one's, which removes. When both
//! have the same version, the old one would take away what the new one has just brought.

use anyhow::Result;

use crate::session::Session;
use crate::sys::{file, run};
use crate::types::ModuleId;

/// Notes which run of rpm added the module.
pub(super) fn note(session: &Session, module: &ModuleId) -> Result<()> {
    match transaction() {
        Some(transaction) => {
            file::write_atomic(&session.layout.upgrade_note(module), transaction.as_bytes(), 0o644)
        }
        None => Ok(()),
    }
}

/// Whether this same run of rpm has added the module: then it stays. Says so.
pub(super) fn replaced(session: &Session, module: &ModuleId) -> Result<bool> {
    let note = session.layout.upgrade_note(module);
    let Some(noted) = file::read_optional(&note)? else { return Ok(false) };
    file::remove_all(&note)?;
    let same = transaction().is_some_and(|transaction| transaction.as_bytes() == noted);
    if same {
        session
            .screen
            .alert(&format!("dkms: {module} stays: this transaction has just added it (--rpm_safe_upgrade)"));
    }
    Ok(same)
}

/// The process that runs the script that runs us: its number, and when it started, since numbers are used again.
fn transaction() -> Option<String> {
    let above = run::ancestors();
    let rpm = above.get(1)?;
    Some(format!("{} {}", rpm.pid, rpm.started))
}
