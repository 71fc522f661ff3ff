//! Any file as a tarball: it is rejected, or the unpacked files are harmless. Nothing outside its directory changes.
#![no_main]

mod common;

use std::path::Path;

use dkms_core::archive::{Contents, Limits, unpack};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { bytes: 1 << 20, ratio: 200, free: 1 << 18, members: 200 };

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    // Random changes never produce a correct header checksum; correcting them tests the code behind that check, too.
    let data = if mode % 2 == 0 { data.to_vec() } else { common::with_checksums(data) };
    common::in_private(|private, _| {
        if let Ok(contents) = unpack(&data[..], data.len() as u64, private, &LIMITS) {
            sensible(&contents, private.path());
            common::harmless(private.path(), Some(private.path()));
        }
    });
});

/// Everything that it lists exists.
fn sensible(contents: &Contents, root: &Path) {
    assert!(root.join(&contents.conf).symlink_metadata().unwrap().is_file());
    if let Some(source) = &contents.source {
        assert!(root.join(source).symlink_metadata().unwrap().is_dir());
    }
    for dir in contents.builds.values() {
        assert!(root.join(dir).join("module").symlink_metadata().unwrap().is_dir());
    }
}
