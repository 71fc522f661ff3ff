//! `make demo`: the main job on a throwaway Debian 13, from apt's prompt to a loaded module.
//!
//! A root gets the product's .deb and three real module packages, one of which does not compile. Then apt installs the
//! newest kernel, the summary is shown, and that kernel is booted under QEMU and loads v4l2loopback.

// An interactive program: it prints, and panics on errors.
#![allow(clippy::print_stdout, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use dkms_tests::kernels::Flavour;
use dkms_tests::{Kernel, Root, Suite, boot, stage};

const PACKAGES: &[&str] = &["v4l2loopback-dkms", "bbswitch-dkms", "lttng-modules-dkms"];

fn main() {
    let start = Instant::now();
    let say = |text: &str| println!("\n\x1b[1m== {text}\x1b[0m  ({} s)", start.elapsed().as_secs());
    let suite = Suite::trixie();

    say("A throwaway Debian 13 with our package in place of dkms");
    let machine = stage::product(suite).prepared("demo", &PACKAGES.join(" "), |root| {
        root.apt_install(PACKAGES).ok();
    });
    let root = Root::on(&machine);
    root.show("dpkg-query -W -f '${Package} ${Version} ${Status}\\n' dkms-rs");
    let kernel = Kernel::newest(&root, Flavour::Plain, suite.kernel_series);
    let (image, headers) = (kernel.image(), kernel.headers());

    say(&format!("Three real module packages, no kernel yet: {}", PACKAGES.join(", ")));
    root.show("dkms status");
    root.run(&format!("apt-get -q -y install --download-only {image} {headers}")).ok();

    say(&format!("apt-get install {image} {headers}"));
    let code = root.show(&format!("apt-get -q -y install {image} {headers} 2>&1 | grep -v '^\\(Get\\|Selecting\\|Preparing\\):\\?'; exit ${{PIPESTATUS[0]}}"));
    assert_eq!(code, 0, "an optional module must not break apt's transaction");

    say("apt exited 0. What dpkg and dkms say now");
    root.show("dpkg --audit && echo 'dpkg --audit: nothing to complain about'; echo; dkms status; echo; dkms history");
    root.expect_clean_dpkg();
    for module in ["v4l2loopback/", "bbswitch/"] {
        let lines = root.status();
        let line = lines.iter().find(|l| l.module.starts_with(module)).expect("registered");
        assert_eq!(line.state, "installed", "{module}");
    }
    kernel.expect_vermagic(&root);

    say(&format!("Booting {} under QEMU and loading v4l2loopback", kernel.release));
    let console = boot::boot_and_load(&root, &kernel, "v4l2loopback");
    let shown = |line: &&str| ["LOADED", "REFUSED", "PROC", "DEV"].iter().any(|word| line.starts_with(word));
    for line in console.lines().filter(shown) {
        println!("   {line}");
    }
    assert!(console.contains("LOADED v4l2loopback"), "v4l2loopback was refused\n{console}");
    say("Done: the kernel came, the drivers came with it, and the one that could not was named");
}
