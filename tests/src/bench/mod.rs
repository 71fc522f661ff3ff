//! How long it takes, and where the time goes: Debian's dkms, ours and the bare compilers, on the same machine in one run.
//!
//! Absolute times say more about the machine than about the programs: what counts is the ratios. `make bench` prints them
//! and writes the schedules as SVG; nothing here is asserted, for a busy machine must not fail a test.

pub mod bare;
pub mod drawing;
pub mod machine;
pub mod measure;
pub mod recording;
pub mod rows;
pub mod synthetic;
pub mod table;

/// Four real module packages, for the short version: small, and one with two modules.
pub const FEW: &[&str] = &["acpi-call-dkms", "bbswitch-dkms", "dm-writeboost-dkms", "tp-smapi-dkms"];
