//! The kernel that apt installed boots, and the module that was built for it loads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::kernels::Flavour;
use dkms_tests::{Kernel, Root, Suite, boot, stage};

#[test]
fn the_new_kernel_boots_and_loads_v4l2loopback() {
    let suite = Suite::trixie();
    let root = Root::on(&stage::product(suite));
    let kernel = Kernel::newest(&root, Flavour::Plain, suite.kernel_series);
    root.apt_install(&["v4l2loopback-dkms"]).ok();
    kernel.install(&root).ok();
    kernel.expect_vermagic(&root);
    let console = boot::boot_and_load(&root, &kernel, "v4l2loopback");
    for wanted in ["LOADED videodev", "LOADED v4l2loopback", "PROC v4l2loopback", "DEV /dev/video0"] {
        assert!(console.contains(wanted), "{wanted:?} is not on the console\n{console}");
    }
}
