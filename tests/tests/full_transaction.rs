//! The main case: a Debian 13 with 23 real module packages gets its newest kernel in one apt run. `make full` (`cargo
//! test --locked -p dkms-tests --test full_transaction -- --ignored`): several minutes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::kernels::Flavour;
use dkms_tests::modules::REAL;
use dkms_tests::roots::Layer;
use dkms_tests::{Kernel, Output, Root, Suite, stage};

/// These do not compile for its kernel.
const BAD: &[&str] = &["lttng-modules-dkms", "openrazer-driver-dkms"];
const BAD_NAMES: &[&str] = &["lttng-modules/", "openrazer-driver/"];

/// The product and all 23 packages; no kernel. The initramfs is generated as on a real machine.
fn machine() -> (Layer, Kernel) {
    let suite = Suite::trixie();
    let all = [REAL, BAD].concat();
    let layer = stage::product(suite).prepared("twenty-three", &all.join(" "), |root| {
        root.run("rm -f /etc/initramfs-tools/conf.d/quick").ok();
        root.apt_install(&all).ok();
        // All packages without modules are downloaded and unpacked beforehand: the transaction contains only the
        // kernel.
        root.run("dkms status").ok();
    });
    let kernel = Kernel::newest(&Root::on(&layer), Flavour::Plain, suite.kernel_series);
    (layer, kernel)
}

#[track_caller]
fn expect_told(root: &Root, output: Output, kernel: &Kernel) {
    root.expect_log(&output);
    let told = output.says(BAD_NAMES).says(&[&kernel.release]).shows_compiler_error();
    let tail: Vec<&str> = told.stderr.lines().collect();
    eprintln!("the end of apt's stderr:\n{}", tail[tail.len().saturating_sub(25)..].join("\n"));
}

#[track_caller]
fn expect_the_good_ones(root: &Root, kernel: &Kernel) {
    let status = root.status();
    let is_bad = |module: &str| BAD_NAMES.iter().any(|bad| module.starts_with(bad));
    let here = |l: &&dkms_tests::status::StatusLine| {
        l.kernel.as_deref() == Some(&kernel.release) && l.state == "installed"
    };
    let installed: Vec<_> = status.iter().filter(here).map(|l| l.module.clone()).collect();
    assert_eq!(installed.len(), REAL.len(), "{status:#?}");
    assert!(!installed.iter().any(|m| is_bad(m)), "{installed:#?}");
    kernel.expect_vermagic(root);
    let files = kernel.module_files(root);
    root.run(&format!("depmod -n {} >/dev/null", kernel.release)).ok().never_says(&["needs unknown symbol"]);
    eprintln!(
        "{} packages installed, {} module files, all with vermagic {}",
        installed.len(),
        files.len(),
        kernel.release
    );
}

#[test]
#[ignore = "long: run by `make full` and `make test-long`"]
fn twenty_three_packages_and_a_new_kernel() {
    let (layer, kernel) = machine();
    let root = Root::on(&layer);
    let counters = Counters::install(&root);
    let start = std::time::Instant::now();
    expect_told(&root, kernel.install(&root).ok(), &kernel);
    eprintln!("apt-get install {} {}: {:?}", kernel.image(), kernel.headers(), start.elapsed());
    root.expect_clean_dpkg();
    expect_the_good_ones(&root, &kernel);
    let counts = counters.take();
    eprintln!("{} builds, {} depmods of ours", counts.builds, counts.depmods);
    assert_eq!(counts.depmods, 1, "{counts:#?}");
}

#[test]
#[ignore = "long: run by `make full` and `make test-long`"]
fn the_same_with_a_critical_module() {
    let (layer, kernel) = machine();
    let root = Root::on(&layer);
    root.write("/etc/dkms/policy.toml", "critical = [\"lttng-modules\"]\n");
    // The pre-build stops the transaction, and nothing is changed.
    let told = kernel.install(&root).fails();
    expect_told(&root, told.says(&["transaction aborted, nothing changed: lttng-modules"]), &kernel);
    root.expect_clean_dpkg();
    assert!(!root.exists(&kernel.modules_dir()));
    // With the admin's permission, as the message advises, the others are installed.
    let command =
        format!("DKMS_ALLOW=lttng-modules apt-get -q -y install {} {}", kernel.image(), kernel.headers());
    root.run(&command).ok();
    expect_the_good_ones(&root, &kernel);
}
