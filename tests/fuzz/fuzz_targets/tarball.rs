//! Whatever is called a tarball: it is refused, or what it unpacks to is harmless. Nothing outside its directory
//! changes.
#![no_main]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dkms_core::archive::{Contents, Limits, unpack};
use dkms_core::sys::private::Private;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { bytes: 1 << 20, ratio: 200, free: 1 << 18, members: 200 };

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    // Random changes never hit a header's checksum; with them put right, what is behind it is tried, too.
    let data = if mode % 2 == 0 { data.to_vec() } else { with_checksums(data) };
    let dir = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(if dir.is_dir() { dir } else { Path::new("/tmp") }).unwrap();
    let (inner, precious) = (dir.path().join("inner"), dir.path().join("precious"));
    fs::write(&precious, "do not touch").unwrap();
    let private = Private::new(&inner).unwrap();
    let unpacked = unpack(&data[..], data.len() as u64, &private, &LIMITS);
    if let Ok(contents) = unpacked {
        sensible(&contents, private.path());
        harmless(private.path(), private.path());
    }
    drop(private);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "do not touch");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
});

/// What it says is there, is.
fn sensible(contents: &Contents, root: &Path) {
    assert!(root.join(&contents.conf).symlink_metadata().unwrap().is_file());
    if let Some(source) = &contents.source {
        assert!(root.join(source).symlink_metadata().unwrap().is_dir());
    }
    for dir in contents.builds.values() {
        assert!(root.join(dir).join("module").symlink_metadata().unwrap().is_dir());
    }
}

/// Plain files of one name each, directories, and links that stay inside.
fn harmless(dir: &Path, root: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if meta.is_symlink() {
            if let Ok(real) = path.canonicalize() {
                assert!(real.starts_with(root.canonicalize().unwrap()), "{path:?} -> {real:?}");
            }
        } else if meta.is_dir() {
            assert_eq!(meta.mode() & 0o7777, 0o755, "{path:?}");
            harmless(&path, root);
        } else {
            assert!(meta.is_file() && meta.nlink() == 1, "{path:?}");
            assert!([0o644, 0o755].contains(&(meta.mode() & 0o7777)), "{path:?}");
        }
    }
}

/// Takes bytes for an uncompressed tarball and gives each header the checksum that it should have.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let mut at = 0;
    while let Some(header) = data.get_mut(at..at + 512) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = header[124..136].iter().take_while(|byte| (b'0'..=b'7').contains(byte));
        let size = size.fold(0_usize, |size, digit| size.saturating_mul(8).saturating_add((digit - b'0') as usize));
        at = at.saturating_add(512).saturating_add(size.min(1 << 30).next_multiple_of(512));
        if at > data.len() {
            break;
        }
    }
    data
}
