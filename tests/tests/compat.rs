//! Every `*-dkms` package of Debian 13 has the same result with our dkms as with Debian's, for its newest kernel.
//! `make compat` (`cargo test --locked -p dkms-tests --test compat -- --ignored`): more than an hour without stored
//! results.
//! `DKMS_COMPAT_ONLY=zfs-dkms,…` tries these packages only; `DKMS_COMPAT_SIDE=debian` only creates that side's records.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use dkms_tests::Suite;
use dkms_tests::compat::{Bench, Side, compare::differences, table};

/// Packages that end differently on purpose: a difference that must be there, and why.
const EXPLAINED: &[(&str, &str, &str)] = &[
    (
        "dkms-replace-test-dkms",
        "original_module",
        "the file of another registered module is not archived as the kernel's own: shell DKMS restores it for ever, even after \
         that module is removed",
    ),
    (
        "mstflint-dkms",
        "add exits 0, ours 8",
        "its version is the placeholder #MODULES_VERSION#, which is no version; with Debian's dkms its build fails later",
    ),
    (
        "nvidia-fs-dkms",
        "build exits 0, ours 7",
        "it imports symbols of nvidia.ko without their CRCs, and Debian's kernels refuse such a module: `make verdicts` has the \
         row. Debian's dkms installs it nevertheless",
    ),
];

/// The reason for the differences of a package, if they are intended.
fn explained(package: &str, differences: &[String]) -> Option<&'static str> {
    let (_, must, why) = EXPLAINED.iter().find(|(name, ..)| *name == package)?;
    differences.iter().any(|line| line.contains(must)).then_some(why)
}

#[test]
#[ignore = "long: run by `make compat` and `make test-long`"]
fn every_module_package_comes_to_the_same() {
    let bench = Bench::of(Suite::trixie());
    let mut packages = bench.packages();
    if let Ok(only) = std::env::var("DKMS_COMPAT_ONLY") {
        let wanted: Vec<&str> = only.split(',').collect();
        packages.retain(|p| wanted.contains(&p.name.as_str()));
    }
    let side = std::env::var("DKMS_COMPAT_SIDE").unwrap_or_default();
    if let Some(alone) = [Side::Debian, Side::Ours].into_iter().find(|s| s.name() == side) {
        bench.records(alone, &packages);
        return;
    }
    let debian = bench.records(Side::Debian, &packages);
    let ours = bench.records(Side::Ours, &packages);
    let pairs: Vec<_> = debian.into_iter().zip(ours).collect();
    eprintln!("kernel {}\n{}", bench.kernel.release, table::render(&pairs));
    let mut unexplained = Vec::new();
    for (debian, ours) in &pairs {
        let found = differences(debian, ours);
        let on_purpose = EXPLAINED.iter().any(|(name, ..)| *name == debian.package);
        match explained(&debian.package, &found) {
            Some(why) => eprintln!("{} differs on purpose: {why}", debian.package),
            // A row without its difference is out of date.
            None if on_purpose || !found.is_empty() => unexplained.push(debian.package.as_str()),
            None => {}
        }
    }
    assert!(!pairs.is_empty() && unexplained.is_empty(), "packages that differ: {unexplained:?}");
}
