//! A kernel is installed by apt: in any order of image and headers, every registered module is built once before apt
//! ends, and the second hook has nothing to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::{Counters, Counts};
use dkms_tests::roots::Layer;
use dkms_tests::{Kernel, Root, Suite, stage};

const PACKAGES: &[&str] = &["bbswitch-dkms", "acpi-call-dkms"];

/// The product and two real module packages; no kernel yet.
fn registered(suite: &'static Suite) -> (Layer, Kernel) {
    let layer = stage::product(suite).prepared("registered", &PACKAGES.join(" "), |root| {
        root.apt_install(PACKAGES).ok();
    });
    (layer, stage::cloud_kernel(suite))
}

/// Both modules are installed correctly, and were built once with one depmod run of ours.
#[track_caller]
fn expect_built_once(root: &Root, kernel: &Kernel, counts: &Counts) {
    let modules: Vec<String> = root.status().into_iter().map(|l| l.module).collect();
    assert_eq!(modules.len(), PACKAGES.len(), "{modules:?}");
    for module in &modules {
        root.expect_installed(&[module], &kernel.release);
    }
    kernel.expect_vermagic(root);
    assert_eq!(kernel.module_files(root).len(), PACKAGES.len(), "one file per module");
    root.expect_clean_dpkg();
    assert_eq!(counts.builds_and_depmods(), (PACKAGES.len(), 1), "builds, depmods\n{counts:#?}");
    assert_eq!(counts.initramfs, 0, "the initramfs is the kernel's own business here\n{counts:#?}");
}

/// A second run of every hook for this kernel starts no process and prints nothing to stdout.
#[track_caller]
fn expect_idle_hooks(root: &Root, kernel: &Kernel, counters: &Counters<'_>) {
    let release = &kernel.release;
    let before = kernel.module_files(root);
    counters.take();
    let timed = "TIMEFORMAT='idle hook: %R s'; time";
    let image = format!("{timed} /etc/kernel/postinst.d/dkms {release} /boot/vmlinuz-{release}");
    let told = root.run(&image).ok().quiet_stdout();
    eprintln!("{}", told.stderr.trim());
    root.run(&format!("/etc/kernel/header_postinst.d/dkms {release}")).ok().quiet_stdout();
    let counts = counters.take();
    assert_eq!(counts.lines, [""; 0], "an idle hook starts nothing");
    assert_eq!(kernel.module_files(root), before);
}

fn both_in_one_run(suite: &'static Suite) {
    let (layer, kernel) = registered(suite);
    let root = Root::on(&layer);
    let counters = Counters::install(&root);
    kernel.install(&root).ok();
    expect_built_once(&root, &kernel, &counters.take());
    expect_idle_hooks(&root, &kernel, &counters);
}

fn image_then_headers(suite: &'static Suite) {
    let (layer, kernel) = registered(suite);
    let root = Root::on(&layer);
    let counters = Counters::install(&root);
    root.apt_install(&[&kernel.image()]).ok().says(&[&kernel.headers()]);
    let alone = counters.take();
    assert_eq!(alone.builds_and_depmods(), (0, 0), "nothing can be built without headers\n{alone:#?}");
    root.apt_install(&[&kernel.headers()]).ok();
    expect_built_once(&root, &kernel, &counters.take());
}

/// If headers depend on their image, only dpkg can configure them first.
fn headers_then_image(suite: &'static Suite) {
    let (layer, kernel) = registered(suite);
    let root = Root::on(&layer);
    let counters = Counters::install(&root);
    let headers = kernel.headers();
    if suite.headers_stand_alone {
        root.apt_install(&[&headers]).ok();
    } else {
        root.run(&format!("apt-get -q -y install --download-only {headers}")).ok();
        root.run(&format!(
            "cd /var/cache/apt/archives && apt-get -q -y install $(apt-cache depends {headers} | \
             awk '/Depends: (gcc|linux-kbuild|linux-headers)/ {{print $2}}') && dpkg --force-depends -i {headers}_*.deb"
        ))
        .ok();
    }
    root.apt_install(&[&kernel.image(), &headers]).ok();
    let counts = counters.take();
    assert!(counts.depmods <= 2, "one depmod per transaction at most\n{counts:#?}");
    expect_built_once(&root, &kernel, &Counts { depmods: 1, ..counts });
    expect_idle_hooks(&root, &kernel, &counters);
}

#[test]
fn trixie_image_and_headers_in_one_run() {
    both_in_one_run(Suite::trixie());
}

#[test]
fn trixie_image_before_headers() {
    image_then_headers(Suite::trixie());
}

#[test]
fn trixie_headers_before_image() {
    headers_then_image(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_image_and_headers_in_one_run() {
    both_in_one_run(Suite::bookworm());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_image_before_headers() {
    image_then_headers(Suite::bookworm());
}

#[test]
fn bookworm_headers_before_image() {
    headers_then_image(Suite::bookworm());
}

/// The first installation of everything: modules, image and headers are configured in apt's order.
#[test]
fn trixie_modules_image_and_headers_in_one_run() {
    let suite = Suite::trixie();
    let kernel = stage::cloud_kernel(suite);
    let root = Root::on(&stage::product(suite));
    let counters = Counters::install(&root);
    root.apt_install(&[PACKAGES[0], &kernel.image(), PACKAGES[1], &kernel.headers()]).ok();
    let counts = counters.take();
    assert_eq!(counts.builds, PACKAGES.len(), "each module once\n{counts:#?}");
    expect_built_once(&root, &kernel, &Counts { depmods: 1, ..counts });
}
