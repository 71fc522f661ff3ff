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
    let unequal = pairs.iter().filter(|(d, o)| !differences(d, o).is_empty()).count();
    assert!(!pairs.is_empty() && unequal == 0, "{unequal} packages differ");
}
