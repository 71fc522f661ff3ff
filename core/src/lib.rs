//! Out-of-tree kernel modules survive kernel updates: a package transaction becomes events; events and what is
//! on disk become a plan; the plan is carried out and published atomically; what happened becomes a report.

// Unit tests create temporary machines. Without `cfg(test)`, the same files are checked completely.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod apply;
pub mod archive;
pub mod boot;
pub mod borrowed;
pub mod cache;
pub mod caller;
pub mod check;
pub mod cli;
pub mod conf;
pub mod distro;
pub mod doctor;
pub mod event;
pub mod exit;
pub mod hook;
pub mod in_use;
pub mod incoming;
pub mod inventory;
pub mod kept_back;
pub mod kernel;
pub mod layout;
pub mod loaded;
pub mod manager;
pub mod marker;
pub mod mkpackage;
pub mod package;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod report;
pub mod session;
pub mod step;
pub mod store;
pub mod survey;
pub mod sys;
pub mod tree;
pub mod types;
pub mod unpacked;
pub mod upcoming;

/// The manual pages, for tests that compare them with the code.
#[cfg(test)]
#[path = "../tests/support/page.rs"]
mod page;

/// The shipped JSON schemas, for the same tests.
#[cfg(test)]
#[path = "../tests/support/schemas.rs"]
mod schemas;

/// Compares them with the types that are printed.
#[cfg(test)]
#[path = "../tests/support/shipped.rs"]
mod shipped;
