//! Any file as an .rpm: it is rejected, or the unpacked files are harmless. Nothing outside its directory changes.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    if mode % 2 == 0 {
        return common::package(data);
    }
    // A lead and no signatures, so that the header and the payload are tested, too.
    let mut rpm = vec![0xed, 0xab, 0xee, 0xdb];
    rpm.resize(96, 0);
    rpm.extend([0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    rpm.extend(data);
    common::package(&rpm);
});
