//! Prepared states for tests, created once and kept as layers.

use crate::kernels::Flavour;
use crate::modules::Sources;
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

/// A module that compiles, `fine/1.0`, one that does not, `broken-net/1.0`, and no kernel yet.
pub fn fine_and_broken(suite: &'static Suite) -> (Root, Kernel) {
    let kernel = cloud_kernel(suite);
    let sources = [Sources::new("fine", "1.0"), Sources::new("broken-net", "1.0").broken()];
    let key = format!("{:?}", sources.each_ref().map(Sources::files));
    let layer = product(suite).prepared("fine-and-broken", &key, |root| {
        let packages = sources.each_ref().map(|sources| sources.package(root));
        root.apt_install(&packages.each_ref().map(String::as_str)).ok();
    });
    (Root::on(&layer), kernel)
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

/// A kernel with a small module tree, so that depmod is fast: for tests about files, not about the kernel.
pub fn with_small_tree(suite: &'static Suite) -> (Layer, Kernel) {
    let (layer, kernel) = with_kernel(suite);
    let layer = layer.prepared("small-tree", "1", |root| shrink_tree(root, &kernel));
    (layer, kernel)
}

/// Two kernels with headers and small trees, a signing key, and module files compiled for both: the initial state of
/// scenarios.
pub fn two_kernels(suite: &'static Suite) -> (Layer, [Kernel; 2]) {
    let base = Root::on(&suite.base());
    let newest = |flavour| Kernel::newest(&base, flavour, suite.kernel_series);
    let kernels = [newest(Flavour::Cloud), newest(Flavour::Plain)];
    drop(base);
    let path = host::workspace().join("tests/scenarios/prebuild.sh");
    let prebuild = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let releases = format!("{} {}", kernels[0].release, kernels[1].release);
    let layer = suite.base().prepared("two-kernels", &format!("{releases}{prebuild}"), |root| {
        let packages = kernels.each_ref().map(|k| [k.image(), k.headers()]).concat();
        root.apt_install(&packages.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        for kernel in &kernels {
            shrink_tree(root, kernel);
        }
        root.run(&format!("set -- {releases}\n{prebuild}")).ok();
    });
    (layer, kernels)
}

/// Removes the kernel's own modules except for one, so that depmod is fast.
pub fn shrink_tree(root: &Root, kernel: &Kernel) {
    let (dir, keep) = (kernel.modules_dir(), "loop.ko.xz");
    root.run(&format!(
        "cd {dir} && find kernel -name '*.ko*' ! -name {keep} -delete && find kernel -type d -empty -delete"
    ))
    .ok();
    root.run(&format!("depmod {}", kernel.release)).ok();
}

/// The product over any layer.
pub fn product_over(layer: &Layer) -> Layer {
    let deb = host::product_deb();
    let bytes = std::fs::read(&deb).unwrap_or_else(|e| panic!("{}: {e}", deb.display()));
    layer.prepared("product-over", &host::sha256(&bytes), |root| {
        install_product(root).ok();
    })
}

/// The shell DKMS of the layer's own suite over any layer.
pub fn shell_dkms_over(layer: &Layer) -> Layer {
    layer.prepared("shell-dkms-over", &shell_dkms_version(layer), |root| {
        root.apt_install(&["dkms"]).ok();
    })
}

/// The product over any layer, and next to it, in `/opt/shell-dkms`, the files of the suite's shell DKMS.
pub fn both_over(layer: &Layer) -> Layer {
    let version = shell_dkms_version(layer);
    product_over(layer).prepared("both-over", &version, |root| {
        root.run(
            "cd /tmp && apt-get -q download dkms && dpkg-deb -x dkms_*.deb /opt/shell-dkms && rm dkms_*.deb",
        )
        .ok();
    })
}

fn shell_dkms_version(layer: &Layer) -> String {
    let shown = Root::on(layer).run("apt-cache show --no-all-versions dkms").ok().stdout;
    let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
    version.expect("Debian has a dkms").to_owned()
}
