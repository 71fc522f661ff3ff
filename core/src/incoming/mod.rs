//! The kernels, headers and module sources in the packages of a transaction that has not begun.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::layout::Offered;
use crate::package::Package;
use crate::types::KernelRelease;

/// The relevant content of the packages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// Kernels with headers in the packages, and the directories of these.
    pub headers: BTreeMap<KernelRelease, PathBuf>,
    /// Kernels with an image in the packages, and the packages of these.
    pub images: BTreeMap<KernelRelease, String>,
    /// Directories of the source tree with a module's source, and their packages.
    pub sources: BTreeMap<String, String>,
    /// The packages with kernels and headers.
    pub packages: BTreeSet<String>,
    /// The packages with programs that are used for building.
    pub tools: BTreeSet<String>,
    /// They contain a compiler, or a library that it needs.
    pub toolchain: bool,
}

impl Incoming {
    /// Reads the lists of files of the packages.
    pub fn of<'p>(packages: impl IntoIterator<Item = &'p Package>) -> Self {
        let mut incoming = Self::default();
        for package in packages {
            for path in &package.paths {
                incoming.offered(&package.name, Offered::by(path));
            }
        }
        incoming
    }

    fn offered(&mut self, package: &str, what: Offered) {
        match what {
            Offered::Headers(release, dir) => {
                let Ok(release) = release.parse() else { return };
                self.headers.insert(release, dir);
                self.packages.insert(package.to_owned());
            }
            Offered::Image(release) => {
                let Ok(release) = release.parse() else { return };
                self.images.insert(release, package.to_owned());
                self.packages.insert(package.to_owned());
            }
            Offered::Source(dir) => drop(self.sources.insert(dir, package.to_owned())),
            Offered::Tool => drop(self.tools.insert(package.to_owned())),
            Offered::Toolchain => {
                self.toolchain = true;
                self.tools.insert(package.to_owned());
            }
            Offered::Other => {}
        }
    }

    /// Whether there is anything to build modules for or from.
    pub fn concerns(&self) -> bool {
        !self.headers.is_empty() || !self.sources.is_empty()
    }

    /// Whether any file of a package is needed. Images are large, and not needed for building.
    pub fn wants(&self, package: &Package, there: &dyn Fn(&Path) -> bool) -> bool {
        package.paths.iter().any(|path| self.takes(package, path, there))
    }

    /// Whether a file is needed; `there`: a file with this name is on the system. Headers need libraries and call
    /// programs; those of the system are sufficient.
    pub fn takes(&self, package: &Package, path: &Path, there: &dyn Fn(&Path) -> bool) -> bool {
        Offered::needed(path)
            || self.tools.contains(&package.name) && Offered::of_tools(path)
            || Offered::program(path) && !there(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, paths: &[&str]) -> Package {
        Package {
            file: name.into(),
            name: name.into(),
            version: "1".into(),
            machine: None,
            size: 0,
            paths: paths.iter().map(PathBuf::from).collect(),
        }
    }

    #[test]
    fn a_transaction_is_seen_by_what_its_packages_hold() {
        let headers =
            package("linux-headers-6.1-amd64", &["usr/src/linux-headers-6.1-amd64/include/config/auto.conf"]);
        let image = package(
            "linux-image-6.1-amd64",
            &["boot/vmlinuz-6.1-amd64", "usr/lib/modules/6.1-amd64/kernel/a.ko"],
        );
        let compiler = package("gcc-14", &["usr/bin/x86_64-linux-gnu-gcc-14"]);
        let library = package("libisl23", &["usr/lib/x86_64-linux-gnu/libisl.so.23"]);
        let module = package("zfs-dkms", &["usr/src/zfs-2.3/dkms.conf"]);
        let shell = package("zsh", &["usr/bin/zsh", "etc/zsh/zshrc"]);

        let all = Incoming::of([&headers, &image, &compiler, &library, &module, &shell]);
        let release: KernelRelease = "6.1-amd64".parse().unwrap();
        assert_eq!(all.headers.keys().collect::<Vec<_>>(), [&release]);
        assert_eq!(all.images, BTreeMap::from([(release, "linux-image-6.1-amd64".to_owned())]));
        assert_eq!(all.sources, BTreeMap::from([("zfs-2.3".to_owned(), "zfs-dkms".to_owned())]));
        assert_eq!(
            all.packages.iter().collect::<Vec<_>>(),
            ["linux-headers-6.1-amd64", "linux-image-6.1-amd64"]
        );
        let (new, old) = (|_: &Path| false, |_: &Path| true);
        assert!(all.concerns());
        for (package, wanted, when_there) in [
            (&headers, true, true),
            (&compiler, true, true),
            (&library, true, false),
            (&module, true, true),
            (&image, false, false),
            (&shell, true, false),
        ] {
            assert_eq!(
                (all.wants(package, &new), all.wants(package, &old)),
                (wanted, when_there),
                "{}",
                package.name
            );
        }
        for nothing in [&[&image][..], &[&shell, &library], &[]] {
            assert!(!Incoming::of(nothing.iter().copied()).concerns());
        }
    }
}
