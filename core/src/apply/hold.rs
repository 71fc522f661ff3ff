//! The lock of a transaction, and the cleanup after killed runs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use super::recover;
use crate::session::Session;
use crate::sys::signal::Interrupted;
use crate::sys::{file, lock, private};
use crate::tree::{Intent, LockedTree};
use crate::types::Target;

/// Waits for the lock of the DKMS tree, and deletes what killed runs left.
pub fn hold(session: &Session) -> Result<LockedTree> {
    let tree = LockedTree::lock(&session.layout, |holder| {
        if session.options.gives_way {
            return Err(Interrupted::GAVE_WAY.into());
        }
        let who = if holder.is_empty() { "another dkms".to_owned() } else { format!("dkms (pid {holder})") };
        session.screen.alert(&format!("dkms: waiting for the lock held by {who}"));
        Ok(())
    })?;
    if session.options.gives_way {
        lock::give_way(&session.layout.lock());
    }
    if !tree.nested() {
        sweep(session, &tree)?;
    }
    Ok(tree)
}

/// Deletes temporary files of dead processes, and notes that these kernels need depmod: the next transaction runs it, as
/// after an interrupted one.
pub fn tidy(session: &Session, temporary: &[PathBuf], depmod: &BTreeSet<Target>) -> Result<()> {
    let tree = hold(session)?;
    if !tree.nested() {
        recover::sweep_work(&tree)?;
    }
    for path in temporary.iter().filter(|path| file::is_abandoned(path)) {
        file::remove_all(path)?;
    }
    if !depmod.is_empty() {
        tree.intend(&Intent { depmod: depmod.clone(), ..Intent::default() })?;
    }
    Ok(())
}

/// Deletes what killed runs left.
fn sweep(session: &Session, tree: &LockedTree) -> Result<()> {
    // Tarballs are unpacked before the lock is acquired, so the lock does not show that a run left one.
    private::sweep(&tree.layout.incoming())?;
    private::sweep(&tree.layout.borrowed())?;
    // So are sources. They may be many files; a directory that is read-only now is swept later.
    let sources = file::sorted_entries(&tree.layout.source_tree);
    sources.iter().filter(|path| file::is_abandoned(path)).for_each(|path| drop(file::remove_all(path)));
    // So are hashes. A process that is writing one now calculates it again later.
    recover::sweep(&tree.layout.hashes())?;
    // After a power failure, the lock file may say nothing of the run that it ended.
    let started = tree.first_after_start();
    // A run that an error ended released its lock.
    let failed = !file::sorted_entries(&tree.layout.work()).is_empty();
    if tree.unclean() || started || failed {
        recover::sweep_work(tree)?;
        // Leftovers in the cache are harmless.
        drop(session.cache().trim());
    }
    if started { tree.note_start() } else { Ok(()) }
}
