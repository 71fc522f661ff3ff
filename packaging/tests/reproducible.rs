//! The same commit gives the same packages, in any directory and at any time.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::panic)] // tests start programs and stop at the first surprise

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package built in a separate directory from programs that were written just now.
fn made(format: &str, programs: &[&str], out: &Path) -> PathBuf {
    let binaries = out.join("bin");
    fs::create_dir_all(&binaries).unwrap();
    for name in programs {
        fs::write(binaries.join(name), "#!/bin/sh\n").unwrap();
    }
    let done = Command::new(env!("CARGO_BIN_EXE_dkms-packaging"))
        .args([format, "--binaries"])
        .arg(&binaries)
        .arg("--out")
        .arg(out.join("dist"))
        .env("SOURCE_DATE_EPOCH", "1790000000")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().into()
}

fn the_same_twice(format: &str, programs: &[&str]) {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = made(format, programs, one.path());
    // Times in a package have a resolution of seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = made(format, programs, other.path());
    assert_eq!(first.file_name(), second.file_name());
    assert!(
        fs::read(&first).unwrap() == fs::read(&second).unwrap(),
        "{format}: two packages of one commit differ"
    );
}

#[test]
fn the_rpm_is_the_same_twice() {
    the_same_twice("rpm", &["dkms", "dkms-dnf-plugin"]);
}

#[test]
fn the_deb_is_the_same_twice() {
    the_same_twice("deb", &["dkms", "dkms-apt-hook"]);
}
