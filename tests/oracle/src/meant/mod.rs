//! Compares the packages that we make with the inputs of `packaging`.

mod deb;
mod files;
#[allow(dead_code)] // Arch's part
#[path = "../../../../packaging/src/payload.rs"]
mod payload;
mod rpm;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::compare::Difference;

/// The checkout whose packages these are.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The differences if the file is one of our packages.
pub fn check(file: &Path) -> Result<Vec<Difference>> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("dkms-rs_") && name.ends_with(".deb") {
        deb::check(file)
    } else if name.starts_with("dkms-rs-") && name.ends_with(".rpm") {
        rpm::check(file)
    } else {
        Ok(Vec::new())
    }
}
