//! ^C and SIGTERM become a flag that is asked between steps, so that a step either happens or does not.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// The transaction was told to stop.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted(pub usize);

/// Starts to collect signals. SIGHUP counts too: a terminal that is gone must not leave half a transaction.
pub fn install() {
    let flag = RECEIVED.get_or_init(|| Arc::new(AtomicUsize::new(0)));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Registration fails only for signals that cannot be caught; these can.
        let _ = signal_hook::flag::register_usize(signal, Arc::clone(flag), signal as usize);
    }
}

/// Fails once a signal has arrived.
pub fn check() -> Result<(), Interrupted> {
    match RECEIVED.get().map(|flag| flag.load(Ordering::Relaxed)) {
        Some(signal) if signal != 0 => Err(Interrupted(signal)),
        _ => Ok(()),
    }
}
