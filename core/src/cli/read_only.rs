//! Actions that would write to a read-only file system: in the sandbox in which rpm-ostree runs the scripts of packages, and on
//! systems whose `/usr` is an image.

use anyhow::Result;

use super::action::{Action, Writes};
use super::args::Args;
use super::invocation::Invocation;
use super::refuse;
use crate::caller;
use crate::exit::Exit;
use crate::session::Session;

/// The end of an action that cannot write what it has to. A package's script and the start of the machine go on: neither can
/// do anything about it, and a failed script would undo the whole update of an image.
pub(super) fn end(session: &Session, args: &Args, invocation: &Invocation) -> Result<Option<Exit>> {
    let action = invocation.action;
    let kernels = match action.rules().writes {
        _ if args.dry_run => return Ok(None),
        Writes::Kernels => true,
        Writes::Tree => false,
        Writes::Nothing | Writes::AsRoot if matches!(action, Action::GenerateMok | Action::Ldtarball) => {
            false
        }
        Writes::Nothing | Writes::AsRoot => return Ok(None),
    };
    let Some(found) = session.read_only(kernels) else { return Ok(None) };
    if args.at_boot || caller::in_transaction() {
        session.screen.alert(&format!("dkms: {action} skipped: {}", found.what()));
        return Ok(Some(Exit::SUCCESS));
    }
    refuse(Exit::ERROR, format!("{action}: {}; {}", found.what(), found.advice()))
}
