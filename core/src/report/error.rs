//! An error that ends a command or a hook.

use super::{AlreadyReported, Screen};
use crate::exit::Exit;
use crate::sys::signal::Interrupted;

/// Prints an error in one line with its chain, unless it was already reported; returns the exit code.
pub fn broke(error: &anyhow::Error, screen: Screen) -> Exit {
    if let Some(Interrupted(signal)) = error.downcast_ref() {
        if !error.is::<AlreadyReported>() {
            screen.alert(&format!("dkms: {error:#}: nothing was changed"));
        }
        return Exit::of_signal(*signal);
    }
    screen.alert(&format!("dkms: {error:#}"));
    Exit::ERROR
}
