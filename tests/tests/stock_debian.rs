//! A Debian 13 without Rust, and a checkout of this tree on it: the Makefile's targets install Debian's own Rust.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::panic)] // a story stops at the first surprise

use std::time::Instant;

use dkms_tests::checkout::{self, Checkout};
use dkms_tests::{Suite, host};

/// The version of Debian 13's Rust.
const STOCK: &str = "cargo 1.85.";

#[test]
#[ignore = "long: run by `make test-long`"]
fn a_debian_without_rust_makes_the_package_with_its_own() {
    let _one_at_a_time = host::lock("stock");
    let checkout = Checkout::on(Suite::trixie(), &checkout::kept());
    // Whether the code compiles does not depend on the optimization level, and this runs in every test.
    let quick = "CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0";
    let made = checkout.make(&format!("{quick} deb")).ok();
    made.says(&["installing packages: ", "cargo"]);
    let root = checkout.root();
    root.run("cargo --version").ok().says(&[STOCK]);
    root.run("ls -l /root/dkms-rs/dist && dpkg-deb --info /root/dkms-rs/dist/dkms-rs_*.deb")
        .ok()
        .says(&["dkms-rs"]);
}

#[test]
fn a_cargo_that_is_too_old_is_named_before_it_speaks() {
    let checkout = Checkout::on(Suite::trixie(), &checkout::kept());
    checkout.root().write_script("/usr/bin/cargo", "#!/bin/sh\necho 'cargo 1.65.0'\n");
    for target in ["demo", "build", "check", "test"] {
        let told = checkout.make(&format!("-s {target}")).fails();
        let lines: Vec<&str> = told.stdout.lines().filter(|line| !line.starts_with("make")).collect();
        let [line] = lines[..] else { panic!("more than one line\n{told}") };
        for word in ["Rust 1.85 or newer is required", "cargo is version 1.65.0", "rustup"] {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
}

/// Debian 12's default Rust is from 2022. It has a newer one in packages with other names.
#[test]
#[ignore = "long: run by `make test-long`"]
fn debian_12_has_a_new_enough_rust_under_another_name() {
    let checkout = Checkout::on(Suite::bookworm(), &checkout::kept());
    let told = checkout.root().run("cd /root/dkms-rs && packaging/host-deps build").ok();
    told.says(&["installing packages: ", "cargo-web", "rustc-web"]);
    let version = checkout.root().run("cargo --version").ok();
    assert!(!version.stdout.contains("cargo 1.6"), "{version}");
    // Nothing is left to do.
    let again = checkout.root().run("cd /root/dkms-rs && packaging/host-deps build").ok();
    assert_eq!(again.stderr, "", "{again}");
}

/// From a fresh checkout to a loaded module on a minimal machine.
#[test]
#[ignore = "long: run by `make test-long`"]
fn the_demo_ends_with_the_module_loaded() {
    let _one_at_a_time = host::lock("stock");
    // Without earlier results: this is the time that a new user waits.
    let fresh = host::roots_dir().join("stock-demo");
    std::fs::remove_dir_all(&fresh).ok();
    let start = Instant::now();
    let checkout = Checkout::on(Suite::trixie(), &fresh);
    let shown = checkout.make("demo").ok();
    eprintln!("make demo on a Debian 13 without Rust: {} s", start.elapsed().as_secs());
    shown.says(&["LOADED v4l2loopback", "Done: the kernel came"]);
    checkout.root().run("cargo --version").ok().says(&[STOCK]);
    // The unit tests and lints of every commit, with the same Rust.
    checkout.make("check").ok();
    drop(checkout);
    std::fs::remove_dir_all(&fresh).unwrap();
}
