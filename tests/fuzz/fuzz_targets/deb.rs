//! Any file as a .deb: it is rejected, or the unpacked files are harmless. Nothing outside its directory changes.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    if mode % 2 == 0 {
        return common::package(data);
    }
    // A valid archive whose control and data archives contain any bytes, so that these are tested, too.
    let (control, content) = data.split_at(data.len().min(1536));
    let mut deb = b"!<arch>\n".to_vec();
    let (control, content) = (common::with_checksums(control), common::with_checksums(content));
    for (name, part) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control), ("data.tar", &content)] {
        deb.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 0, part.len()).bytes());
        deb.extend(part);
        if deb.len() % 2 == 1 {
            deb.push(b'\n');
        }
    }
    common::package(&deb);
});
