//! xz2, as its maintained fork has it.
pub use liblzma::*;
