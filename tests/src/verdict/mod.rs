//! The same verdicts: scripted scenarios run with Debian's shell dkms in one root and with ours in another, and the
//! results are compared after every command.
//!
//! [`scenario`] reads the files below `tests/scenarios`, [`run`] plays one in a root and stores the result of Debian's
//! dkms, [`compare`] distinguishes differences that a scenario declares from others, [`play`] does everything.

pub mod compare;
pub mod explained;
mod play;
pub mod run;
pub mod scenario;
pub mod walk;

pub use play::play;
pub use run::{Side, Step, Verdict};
pub use scenario::Scenario;
