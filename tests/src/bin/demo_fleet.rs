//! `make demo-fleet`: one throwaway Debian 13 builds v4l2loopback, another one without compiler and headers installs it.
//!
//! The package comes from a repository, brings its kernel, and that kernel is booted under QEMU and loads the module.

// An interactive program: it prints, and panics on errors.
#![allow(clippy::print_stdout, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use dkms_tests::kernels::Flavour;
use dkms_tests::{Kernel, Root, Suite, boot, fleet, stage};

fn main() {
    let start = Instant::now();
    let say = |text: &str| println!("\n\x1b[1m== {text}\x1b[0m  ({} s)", start.elapsed().as_secs());
    let suite = Suite::trixie();

    say("The building machine: a kernel with headers, a compiler, and v4l2loopback-dkms");
    let product = stage::product(suite);
    let kernel = Kernel::newest(&Root::on(&product), Flavour::Plain, suite.kernel_series);
    let builder = product.prepared("demo-fleet", &kernel.release, |root| {
        root.apt_install(&["v4l2loopback-dkms", &kernel.image(), &kernel.headers()]).ok();
    });
    let builder = Root::on(&builder);
    builder.show("dkms status");
    let module = builder.status().first().expect("a module").module.clone();

    say(&format!(
        "dkms mkpackage {module} -k {kernel}, and --meta, as an unprivileged user; published with apt-ftparchive"
    ));
    let machine = fleet::bare(suite).prepared("fleet-apt-utils", "", |root| {
        root.apt_install(&["apt-utils"]).ok();
    });
    let root = Root::on(&machine);
    fleet::publish(&root, &builder, &module, &kernel);
    root.show("ls -l /opt/repository/*.deb");

    say("Another machine, without compiler, headers and dkms: apt-get install v4l2loopback-modules-amd64");
    root.show("command -v gcc make dkms; true");
    let code = root.show("apt-get -q -y install v4l2loopback-modules-amd64 2>&1 | grep -E '^(Setting up|Unpacking)'; exit ${PIPESTATUS[0]}");
    assert_eq!(code, 0, "apt failed");
    root.expect_clean_dpkg();
    root.show(&format!("modinfo -k {kernel} v4l2loopback | head -n 4"));

    say(&format!("Booting {kernel} under QEMU and loading v4l2loopback"));
    let console = boot::boot_and_load(&root, &kernel, "v4l2loopback");
    let shown = |line: &&str| ["LOADED", "REFUSED", "DEV"].iter().any(|word| line.starts_with(word));
    for line in console.lines().filter(shown) {
        println!("   {line}");
    }
    assert!(console.contains("LOADED v4l2loopback"), "v4l2loopback was refused\n{console}");
    say("Done: built once, installed elsewhere, loaded");
}
