//! Same verdicts: scripted scenarios run with Debian's shell dkms in one root and with ours in another, and what both left
//! behind is compared after every command.
//!
//! [`scenario`] reads the files below `tests/scenarios`, [`run`] plays one in a root and remembers Debian's side,
//! [`compare`] tells differences that a scenario declares from those that nobody knew of, [`play`] does it all.

pub mod compare;
mod play;
pub mod run;
pub mod scenario;

pub use play::play;
pub use run::{Side, Step, Verdict};
pub use scenario::Scenario;
