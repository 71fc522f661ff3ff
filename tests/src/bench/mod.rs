//! Benchmarks: Debian's dkms, ours and the bare compilers, on the same machine in one run.
//!
//! Absolute times depend on the machine, so the ratios are relevant. `make bench` prints them and writes the schedules
//! as SVG; nothing is asserted, because a busy machine must not fail a test.

pub mod bare;
pub mod machine;
pub mod measure;
pub mod recording;
pub mod rows;
pub mod schedule;
pub mod store;
pub mod synthetic;
pub mod table;

/// Four real module packages, for the short version: small, and one with two modules.
pub const FEW: &[&str] = &["acpi-call-dkms", "bbswitch-dkms", "dm-writeboost-dkms", "tp-smapi-dkms"];
