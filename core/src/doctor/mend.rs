//! Carries out repairs. Everything but the deletion of temporary files is an ordinary transaction, with its summary and its
//! entry in the history.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use super::{Finding, Repair};
use crate::apply;
use crate::event::Event;
use crate::session::Session;
use crate::types::Target;

/// Repairs what can be repaired of these findings.
pub fn mend(session: &mut Session, findings: &[Finding]) -> Result<()> {
    let mut repairs: Vec<Repair> = Vec::new();
    for finding in findings {
        repairs.extend(finding.repair().filter(|repair| !repairs.contains(repair)));
    }
    let temporary = |finding: &Finding| match finding {
        Finding::Temporary { paths } => paths.clone(),
        _ => Vec::new(),
    };
    let temporary: Vec<PathBuf> = findings.iter().flat_map(temporary).collect();
    let mut indexes: BTreeSet<Target> = BTreeSet::new();
    let mut events = Vec::new();
    let (mut transaction, mut boot_default) = (false, false);
    for repair in repairs {
        match repair {
            Repair::Sweep => {}
            Repair::BootDefault => boot_default = true,
            Repair::Complete | Repair::Initramfs(_) => transaction = true,
            Repair::Index(target) => {
                indexes.insert(target);
            }
            Repair::Autoinstall(target) => events.push(Event::Autoinstall(target)),
        }
    }
    if !temporary.is_empty() || !indexes.is_empty() {
        apply::tidy(session, &temporary, &indexes)?;
    }
    if transaction || !indexes.is_empty() || !events.is_empty() {
        apply::run(session, events)?;
    }
    if boot_default {
        apply::boot::catch_up(session)?;
    }
    Ok(())
}
