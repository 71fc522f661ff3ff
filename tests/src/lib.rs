//! Throwaway Debian roots, real kernels and real module packages: everything that a test needs for one story about the
//! product's .deb, and the whole transcript if the story fails.
//!
//! A story: take a [`Root`] from a prepared [`roots::Layer`], run commands in it as an administrator would, check exit
//! codes, `dkms status`, files, and the processes that were really started ([`count::Counters`]).

// Tests start processes, write fixtures and panic on errors; these rules are for the product.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout
)]

pub mod attacks;
pub mod bench;
pub mod boot;
pub mod checkout;
pub mod compat;
pub mod corpus;
pub mod count;
pub mod dressed;
pub mod fleet;
pub mod history;
pub mod host;
pub mod image;
pub mod kernels;
pub mod loader;
pub mod mirror;
pub mod model;
pub mod modules;
pub mod output;
pub mod pacman;
pub mod photograph;
pub mod powercut;
pub mod preparing;
pub mod random;
pub mod repack;
pub mod roots;
pub mod rpm;
pub mod stage;
pub mod status;
pub mod store_faults;
pub mod verdict;
pub mod watch;
pub mod web;

pub use kernels::Kernel;
pub use output::Output;
pub use roots::{Root, Suite};
