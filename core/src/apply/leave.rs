//! Our package is being removed: what no later run can undo is undone now.

use anyhow::Result;

use super::{boot, hold};
use crate::kept_back;
use crate::session::Session;

/// Restores the boot default, and lets the package manager install what is kept back. If one fails, the other is still done.
pub fn let_go(session: &Session) -> Result<()> {
    let lifted = hold(session).and_then(|tree| kept_back::lift(session, &tree));
    boot::restore(session)?;
    lifted
}
