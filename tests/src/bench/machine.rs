//! The measured machines: two real kernels with headers, the sources of real module packages, one dkms.

use crate::compat::Side;
use crate::kernels::Flavour;
use crate::roots::Layer;
use crate::{Kernel, Root, Suite, host, stage};

/// Two machines that differ in one package.
#[derive(Debug)]
pub struct Machines {
    /// The newest kernels of these flavours.
    pub kernels: Vec<Kernel>,
    debian: Layer,
    /// With our dkms.
    pub ours: Layer,
}

impl Machines {
    /// With kernels of these flavours, and with these module packages, registered and not built.
    pub fn with(flavours: &[Flavour], packages: &[&str]) -> Self {
        let suite = Suite::trixie();
        let base = Root::on(&suite.base());
        let kernels: Vec<Kernel> =
            flavours.iter().map(|flavour| Kernel::newest(&base, *flavour, suite.kernel_series)).collect();
        drop(base);
        let mut names: Vec<String> = kernels.iter().flat_map(|k| [k.image(), k.headers()]).collect();
        names.extend(["strace", "curl"].map(str::to_owned));
        let kernel_layer = suite.base().prepared(
            &format!("bench-kernels-{}", flavours.len()),
            &format!("no initramfs {}", names.join(" ")),
            |root| {
                root.apt_install(&names.iter().map(String::as_str).collect::<Vec<_>>()).ok();
                // Our dkms regenerates an initramfs with a changed module, and Debian's does not: here there is none.
                root.run("rm -f /boot/initrd.img-*").ok();
                root.write("/etc/dkms/no-autoinstall", "");
            },
        );
        let machine = |side: Side| {
            let dkms = match side {
                Side::Debian => "archive".to_owned(),
                Side::Ours => host::sha256(&std::fs::read(host::product_deb()).expect("the product's .deb")),
            };
            let name = format!("bench-{}-{}", side.name(), packages.len());
            kernel_layer.prepared(&name, &format!("{dkms} {packages:?}"), |root| {
                match side {
                    Side::Debian => root.apt_install(&["dkms"]).ok(),
                    Side::Ours => stage::install_product(root).ok(),
                };
                root.apt_install(packages).ok();
                root.run("rm /etc/dkms/no-autoinstall").ok();
                root.run("for conf in /usr/src/*/dkms.conf; do dkms add \"${conf%/*}\" || exit; done").ok();
            })
        };
        Self { debian: machine(Side::Debian), ours: machine(Side::Ours), kernels }
    }

    /// A fresh one.
    pub fn fresh(&self, side: Side) -> Root {
        Root::on(match side {
            Side::Debian => &self.debian,
            Side::Ours => &self.ours,
        })
    }
}
