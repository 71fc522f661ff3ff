//! Functions for several targets. Each target uses some of them.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dkms_core::archive::Limits;
use dkms_core::package::{Package, Unpacking};
use dkms_core::sys::private::Private;

/// Runs a function in a private directory and checks that it changed nothing next to it. The second path is for an
/// input file.
pub fn in_private(run: impl FnOnce(&Private, &Path)) {
    let dir = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(if dir.is_dir() { dir } else { Path::new("/tmp") }).unwrap();
    let (inner, precious) = (dir.path().join("inner"), dir.path().join("precious"));
    fs::write(&precious, "do not touch").unwrap();
    let private = Private::new(&inner).unwrap();
    let input = dir.path().join("input");
    fs::write(&input, "").unwrap();
    run(&private, &input);
    drop(private);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "do not touch");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
}

/// Reads a package, unpacks all of it and checks the result.
pub fn package(content: &[u8]) {
    const LIMITS: Limits = Limits { bytes: 1 << 20, ratio: 200, free: 1 << 18, members: 200 };
    in_private(|private, input| {
        fs::write(input, content).unwrap();
        let _ = Package::open(input);
        let any = Package {
            file: input.to_owned(),
            name: "a".into(),
            version: "1".into(),
            machine: None,
            size: 0,
            paths: Vec::new(),
        };
        let mut unpacking = Unpacking::new(private, Path::new("over")).within(LIMITS);
        let result = unpacking.take(&any, &|path| !path.starts_with("dev"));
        // Links are created last, whatever happened before.
        no_links(private.path());
        if result.is_ok() {
            unpacking.finish().unwrap();
            harmless(private.path(), None);
        }
    });
}

fn no_links(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        assert!(!path.is_symlink(), "{path:?}");
        if path.is_dir() {
            no_links(&path);
        }
    }
}

/// Checks that there are only regular files with one name, directories, and links; links stay inside of `root` if it is
/// given.
pub fn harmless(dir: &Path, root: Option<&Path>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if meta.is_symlink() {
            if let (Some(root), Ok(real)) = (root, path.canonicalize()) {
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

/// Corrects the checksums of the headers in an uncompressed tarball.
pub fn with_checksums(data: &[u8]) -> Vec<u8> {
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
