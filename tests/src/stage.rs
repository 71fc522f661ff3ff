//! Prepared states that stories begin in, made once and kept as layers.

use crate::kernels::Flavour;
use crate::roots::Layer;
use crate::{Kernel, Root, Suite, host};

/// A base with the product installed from its .deb, by apt.
pub fn product(suite: &'static Suite) -> Layer {
    let deb = host::product_deb();
    let bytes = std::fs::read(&deb).unwrap_or_else(|e| panic!("{}: {e}", deb.display()));
    suite.base().prepared("product", &host::sha256(&bytes), |root| {
        install_product(root).ok();
    })
}

/// Installs the product's .deb in a root.
pub fn install_product(root: &Root) -> crate::Output {
    let deb = host::product_deb();
    root.copy_in(&deb, "/opt/product.deb");
    root.apt_install(&["--allow-downgrades", "/opt/product.deb"])
}

/// The product and its suite's newest cloud kernel with headers; no module is registered.
pub fn with_kernel(suite: &'static Suite) -> (Layer, Kernel) {
    let product = product(suite);
    let kernel = cloud_kernel(suite);
    let layer = product.prepared("kernel", &kernel.release, |root| {
        kernel.install(root).ok();
    });
    (layer, kernel)
}

/// Debian's own dkms, a kernel with headers, two module packages that it built.
pub fn debian_dkms(suite: &'static Suite) -> (Layer, Kernel) {
    let kernel = cloud_kernel(suite);
    let layer = suite.base().prepared("debian-dkms", &kernel.release, |root| {
        root.apt_install(&["dkms", &kernel.image(), &kernel.headers()]).ok();
        root.apt_install(&["bbswitch-dkms", "acpi-call-dkms"]).ok();
    });
    (layer, kernel)
}

/// The suite's newest small kernel.
pub fn cloud_kernel(suite: &'static Suite) -> Kernel {
    Kernel::newest(&Root::on(&suite.base()), Flavour::Cloud, suite.kernel_series)
}

/// The same with real module packages installed, each built for the kernel.
pub fn with_modules(suite: &'static Suite, packages: &[&str]) -> (Layer, Kernel) {
    let (layer, kernel) = with_kernel(suite);
    let name = format!("with-{}", packages.join("-"));
    let layer = layer.prepared(&name, "", |root| {
        root.apt_install(packages).ok();
    });
    (layer, kernel)
}

/// A kernel whose own module tree is small, so that depmod takes no time: for stories about files, not about the kernel.
pub fn with_small_tree(suite: &'static Suite) -> (Layer, Kernel) {
    let (layer, kernel) = with_kernel(suite);
    let dir = kernel.modules_dir();
    let layer = layer.prepared("small-tree", "1", |root| {
        let keep = "loop.ko.xz";
        root.run(&format!("cd {dir} && find kernel -name '*.ko*' ! -name {keep} -delete && find kernel -type d -empty -delete"))
            .ok();
        root.run(&format!("depmod {}", kernel.release)).ok();
    });
    (layer, kernel)
}
