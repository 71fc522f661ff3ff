//! Malicious and valid packages of every format, created here.

mod described;
mod hostile;
pub(super) mod made;
