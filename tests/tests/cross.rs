//! Modules for another architecture are compiled by a cross compiler, if there is one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::kernels::Flavour;
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, stage};

#[test]
#[ignore = "long: downloads a cross compiler"]
fn a_module_for_64_bit_arm() {
    let root = Root::on(&stage::product(Suite::trixie()));
    root.run("dpkg --add-architecture arm64 && apt-get -q update").ok();
    let kernel = Kernel::newest(&root, Flavour::CloudArm64, Suite::trixie().kernel_series);
    // apt would replace this machine's compiler with that of the other architecture.
    let version = kernel.release.split('-').next().unwrap();
    root.apt_install(&[&format!("linux-headers-{version}-common"), &format!("linux-kbuild-{version}")]).ok();
    root.run(&format!("cd /opt && apt-get -q download {0}:arm64 && dpkg -x {0}_*.deb /", kernel.headers()))
        .ok();
    Sources::new("fine", "1.0").unpack(&root);
    root.run("dkms add fine/1.0").ok();
    let build = format!("dkms build fine/1.0 -k {} -a aarch64", kernel.release);
    root.run(&build).exits(10).says(&["aarch64-linux-gnu-gcc-14"]);
    root.apt_install(&["gcc-aarch64-linux-gnu"]).ok();
    root.run(&build).ok();
    assert_eq!(root.state_of("fine/1.0", &kernel.release), "built");
    // It is verified and signed here, and can be installed where no program of this machine runs.
    root.run(&format!("cd /opt && dkms mkpackage fine/1.0 -k {} -a aarch64", kernel.release)).ok();
    let package = format!("/opt/fine-modules-{}_1.0_arm64.deb", kernel.release);
    assert_eq!(root.run(&format!("dpkg-deb -f {package} Architecture")).ok().stdout, "arm64\n");
    root.run(&format!("dpkg-deb -x {package} /opt/root")).ok();
    let file = root.find("/opt/root/usr/lib/modules", "-name 'fine.ko*'").pop().expect("the module");
    root.run(&format!("xz -dc {file} >/opt/fine.ko && readelf -h /opt/fine.ko")).ok().says(&["AArch64"]);
    let vermagic = root.run("modinfo -F vermagic /opt/fine.ko").ok().stdout;
    assert!(vermagic.starts_with(&kernel.release) && vermagic.contains("aarch64"), "{vermagic}");
    // A kernel for another machine is none of this one.
    let line = format!("the headers of {} are for aarch64, not for x86_64", kernel.release);
    root.run(&format!("dkms autoinstall -k {} 2>&1", kernel.release)).says(&[&line]).never_says(&["FAILED"]);
    let package = Sources::new("other", "1.0").package(&root);
    root.apt_install(&[&package]).ok().never_says(&["FAILED"]);
}
