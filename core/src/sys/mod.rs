//! The rim: the only place that runs processes, takes locks, renames and makes namespaces.
//! Nothing here knows what a module is.

pub mod confine;
pub mod file;
pub mod hash;
pub mod lock;
pub mod memory;
pub mod run;
pub mod signal;
