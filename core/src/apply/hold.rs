//! The lock of a transaction, and what runs that were killed have left.

use anyhow::Result;

use super::recover;
use crate::session::Session;
use crate::sys::private;
use crate::tree::LockedTree;

/// Waits for the lock of the DKMS tree, and deletes what a killed run has left.
pub fn hold(session: &Session) -> Result<LockedTree> {
    let tree = LockedTree::lock(&session.layout, |holder| {
        let who = if holder.is_empty() { "another dkms".to_owned() } else { format!("dkms (pid {holder})") };
        session.screen.alert(&format!("dkms: waiting for the lock held by {who}"));
    })?;
    if !tree.nested() {
        sweep(session, &tree)?;
    }
    Ok(tree)
}

/// Deletes what runs that were killed have left.
pub(super) fn sweep(session: &Session, tree: &LockedTree) -> Result<()> {
    // Tarballs are unpacked before the lock is taken: it cannot tell of them.
    private::sweep(&tree.layout.incoming())?;
    if tree.unclean() {
        recover::sweep_work(tree)?;
        // What is left in the cache does no harm.
        drop(session.cache().trim());
    }
    Ok(())
}
