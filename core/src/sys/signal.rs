//! SIGINT and SIGTERM set a flag that is checked between steps, so that each step is executed completely or not at all.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// The transaction was interrupted by this signal.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted(pub usize);

impl Interrupted {
    /// Not by a signal: another transaction has priority. No signal has this number.
    pub const GAVE_WAY: Self = Self(1 << 16);

    /// Whether it gave way to another transaction.
    pub fn gave_way(self) -> bool {
        self.0 == Self::GAVE_WAY.0
    }
}

/// Interrupts this process in favour of another one, as a signal would.
pub fn give_way() {
    let received = RECEIVED.get_or_init(|| Arc::new(AtomicUsize::new(0)));
    received.store(Interrupted::GAVE_WAY.0, Ordering::Relaxed);
}

/// Installs the handlers. SIGHUP counts, too: a closed terminal must not leave an incomplete transaction.
pub fn install() {
    let flag = RECEIVED.get_or_init(|| Arc::new(AtomicUsize::new(0)));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Registration fails only for signals that cannot be handled; these can.
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
