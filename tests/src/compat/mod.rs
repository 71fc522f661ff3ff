//! Builds every module package of the archive with Debian's dkms and with ours, and compares.
//!
//! One trial is one package, one side, one fresh root: the package and its dependencies are installed by apt without
//! building, then `dkms add`, `build` and `install` are run one by one, as by a user. The result is kept under
//! `target/roots/compat`, with a key of all its inputs, so that only changes are tested again.

pub mod compare;
pub mod packages;
pub mod record;
pub mod table;
pub mod trial;

use crate::kernels::Flavour;
use crate::roots::Layer;
use crate::{Kernel, Root, Suite, host, mirror::Mirror, stage};
use packages::Package;
use record::Record;

/// The dkms under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The archive's own package `dkms`.
    Debian,
    /// Our .deb.
    Ours,
}

impl Side {
    /// Name of the directory of its records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Ours => "ours",
        }
    }
}

/// A machine with the newest kernel, its headers, the whole archive in its index, and no dkms yet.
#[derive(Debug)]
pub struct Bench {
    layer: Layer,
    /// The kernel that everything is built for.
    pub kernel: Kernel,
}

impl Bench {
    /// Makes it for a suite.
    pub fn of(suite: &'static Suite) -> Self {
        let kernel = Kernel::newest(&Root::on(&suite.base()), Flavour::Plain, suite.kernel_series);
        let lines =
            Mirror::of_host().lines_of(suite.name, "main contrib non-free non-free-firmware").join("\n");
        let layer = suite.base().prepared("whole-archive", &format!("{} {lines}", kernel.release), |root| {
            root.write("/etc/apt/sources.list", format!("{lines}\n"));
            root.run("apt-get -q update").ok();
            kernel.install(root).ok();
            // Both versions of common.postinst read it: packages only unpack their sources, and the trial calls dkms.
            root.write("/etc/dkms/no-autoinstall", "");
        });
        Self { layer, kernel }
    }

    /// The packages to try, from the archive's index.
    pub fn packages(&self) -> Vec<Package> {
        packages::all(&Root::on(&self.layer))
    }

    /// The same machine with one side's dkms, and the identity of that dkms.
    pub fn with(&self, side: Side) -> (Layer, String) {
        match side {
            Side::Debian => {
                let shown = Root::on(&self.layer).run("apt-cache show --no-all-versions dkms").ok().stdout;
                let version = packages::field(&shown, "Version").expect("the archive has dkms").to_owned();
                let layer = self.layer.prepared("compat-debian", &version, |root| {
                    root.apt_install(&["dkms"]).ok();
                });
                (layer, version)
            }
            Side::Ours => {
                let hash = host::sha256(&std::fs::read(host::product_deb()).expect("the product's .deb"));
                let layer = self.layer.prepared("compat-ours", &hash, |root| {
                    stage::install_product(root).ok();
                });
                (layer, hash[..16].to_owned())
            }
        }
    }

    /// The records of one side for these packages; existing ones are not repeated.
    pub fn records(&self, side: Side, packages: &[Package]) -> Vec<Record> {
        let (layer, dkms) = self.with(side);
        let known = |package: &Package| {
            let file = record::file(side, package, &self.kernel.release, &dkms);
            if let Some(record) = Record::load(&file) {
                return record;
            }
            let record = trial::run(&Root::on(&layer), package, &self.kernel);
            eprintln!("{}: {}", side.name(), record.line());
            if !record.tells_nothing() {
                record.store(&file);
            }
            record
        };
        packages.iter().map(known).collect()
    }
}
