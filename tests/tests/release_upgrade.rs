//! A release upgrade installs a new kernel, a new compiler and a new C library at once: every module is built.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use std::time::Instant;

use dkms_tests::kernels::Flavour;
use dkms_tests::{Kernel, Root, Suite, history, stage};

const PACKAGES: [&str; 5] =
    ["bbswitch-dkms", "v4l2loopback-dkms", "acpi-call-dkms", "tp-smapi-dkms", "lttng-modules-dkms"];

/// Debian 12 with six modules, each installed for its kernel, of which the meta packages are installed.
fn before() -> Root {
    let product = stage::product(Suite::bookworm());
    let layer = product.prepared("release-upgrade", &PACKAGES.join(" "), |root| {
        root.apt_install(&["linux-image-amd64", "linux-headers-amd64"]).ok();
        root.apt_install(&PACKAGES).ok();
    });
    Root::on(&layer)
}

fn upgraded(policy: &str) {
    let root = before();
    if !policy.is_empty() {
        root.write("/etc/dkms/policy.toml", policy);
    }
    root.run("sed -i 's/bookworm/trixie/g' /etc/apt/sources.list $(find /etc/apt/sources.list.d -type f) && apt-get -q update")
        .ok();
    let earlier = history::transactions(&root).len();
    let began = Instant::now();
    let told = root.run_within(3000, "apt-get -q -y -o Dpkg::Options::=--force-confold dist-upgrade 2>&1");
    eprintln!("dist-upgrade took {:.0} s", began.elapsed().as_secs_f64());
    let told = told.ok().never_says(&["GLIBC_"]);
    // The pre-build is the first of them.
    for transaction in history::transactions(&root).iter().skip(earlier) {
        let (cause, seconds) = history::cause(&root, transaction);
        eprintln!("{seconds:.0} s: {cause}");
    }
    let kernel = Kernel::newest(&root, Flavour::Plain, Suite::trixie().kernel_series);
    // Every module that compiles for the new kernel was installed during the upgrade.
    for id in root.status().iter().map(|line| line.module.clone()).collect::<std::collections::BTreeSet<_>>()
    {
        let installed =
            root.run(&format!("dkms status {id} -k {} | grep -q installed", kernel.release)).status == 0;
        let builds = root.run(&format!("dkms build --force {id} -k {}", kernel.release)).status == 0;
        assert_eq!(installed, builds, "{id}: installed {installed}, builds {builds}\n{told}");
    }
    assert!(!root.find(&kernel.dkms_dir(), "-name 'v4l2loopback.ko*'").is_empty(), "{told}");
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn every_module_survives_the_upgrade_from_bookworm_to_trixie() {
    upgraded("");
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn the_same_with_a_critical_module() {
    upgraded("critical = [\"v4l2loopback\"]\n");
}
