//! Facts about one kernel, which need not be running.

pub mod certificate;
pub mod compiler;
mod compress;
mod compression_levels;
mod config;
mod der;
pub mod elf;
mod firmware;
mod fleet_key;
mod headers;
mod headers_package;
mod index;
mod judge;
mod module;
mod pkcs7;
mod rust;
pub mod signature;
pub mod signature_policy;
mod symvers;
mod tools;
mod trust;
pub mod unified;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub use compress::{Compression, read_module, undecompressable};
pub use compression_levels::CompressionLevels;
pub use config::{Config, config, signing_key};
pub use firmware::Firmware;
pub use fleet_key::FleetKey;
pub use headers::{Headers, Vermagic, roots};
pub use headers_package::owner;
pub use index::Index;
pub use judge::{Cause, Judgement, Reason, Requirements, judge};
pub use module::{Export, Malformed, Module};
pub use pkcs7::Algorithms;
pub use rust::{Lack, RustSupport, is_module as is_rust_module};
pub use signature_policy::Demand;
pub use symvers::{Exported, Symbols};
pub use tools::Loads;
pub use tools::installed_tools;
pub use trust::Trust;

use crate::distro::Distribution;
pub use crate::distro::headers::HeadersPackage;
use crate::layout::Layout;
use crate::sys::{file, run};
use crate::types::{Arch, KernelRelease, Target};

/// The facts about one kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kernel {
    /// Which one.
    pub target: Target,
    /// Its directory below the modules tree exists.
    pub exists: bool,
    /// Its headers, if they are installed.
    pub headers: Option<Headers>,
    /// The compression of its modules, and so of ours.
    pub compression: Compression,
    /// Its modules.dep. `None` if the kernel is not installed.
    pub indexed: Option<Index>,
    /// A file is damaged that programs read instead of modules.dep and what depmod wrote with it.
    #[serde(default)]
    pub index_damaged: bool,
    /// The kernel's package base (`linux-lts`), if its package records one.
    pub pkgbase: Option<String>,
    /// What installs its headers, according to the package database; queried only if they are missing.
    pub headers_package: Option<HeadersPackage>,
    /// Whether it has an initramfs.
    pub has_initramfs: bool,
    /// Whether it has one of a generator that the distribution does not have as its own.
    #[serde(default)]
    pub has_other_initramfs: bool,
    /// Programs that are needed for building and not installed.
    pub missing_tools: Vec<String>,
    /// Its headers are for this architecture, with which nothing can be built for the target's.
    #[serde(default)]
    pub other_architecture: Option<String>,
}

impl Kernel {
    /// Reads the facts about a kernel. `headers` and `config` override the paths of its headers and its configuration.
    pub fn load(
        layout: &Layout,
        distribution: &Distribution,
        target: &Target,
        headers: Option<&Path>,
        config: Option<&Path>,
    ) -> Result<Self> {
        let dir = layout.kernel(&target.kernel);
        let headers_dir = headers.map_or_else(|| layout.headers(&target.kernel), Path::to_path_buf);
        let headers = Headers::load(layout, distribution, target, &headers_dir, config)?;
        // Nothing can be built with a part of them.
        let damaged =
            headers.as_ref().and_then(|_| headers_package::damaged(layout, distribution, &headers_dir));
        let headers = headers.filter(|_| damaged.is_none());
        let list = layout.modules_dep(&target.kernel);
        // Something else at its place is replaced by depmod.
        let misplaced = file::kind_of(&list, false).is_some_and(|kind| kind != file::A_FILE);
        let indexed = if misplaced { Some(Vec::new()) } else { file::read_optional(&list)? };
        let indexed = indexed.map(Index::new);
        let compression =
            Compression::detect(indexed.as_ref(), headers.as_ref().map(|headers| &headers.config), |path| {
                dir.join(path).exists()
            });
        let mut missing_tools = Vec::new();
        for tool in ["make", "ld", "strip"] {
            if run::which(tool).is_none() {
                missing_tools.push(tool.to_owned());
            }
        }
        if let Some(headers) = &headers {
            missing_tools.extend(headers.missing.iter().cloned());
            if headers.compiler.is_none() && headers.missing.is_empty() {
                missing_tools.push("gcc".to_owned());
            }
        }
        let other_architecture =
            headers.as_ref().and_then(|_| headers::other_architecture(&headers_dir, target.arch.as_str()));
        let pkgbase = pkgbase(layout, &target.kernel);
        let images = layout.initramfs_images(&target.kernel, pkgbase.as_deref());
        let has_initramfs = images.iter().any(|image| image.exists());
        let [own, _] = distribution.generators();
        let has_other_initramfs = images.iter().any(|image| !own.made(image) && image.exists());
        let headers_package = damaged
            .or_else(|| headers.is_none().then(|| headers_package::find(layout, distribution, target))?);
        Ok(Self {
            target: target.clone(),
            exists: dir.is_dir(),
            headers,
            compression,
            indexed,
            index_damaged: misplaced
                || layout.binary_indexes(&target.kernel).iter().any(|path| index::is_damaged(path)),
            pkgbase,
            headers_package,
            has_initramfs,
            has_other_initramfs,
            missing_tools,
            other_architecture: other_architecture.map(str::to_owned),
        })
    }

    /// Module files with this name in modules.dep, in its order, as paths relative to the kernel's directory.
    pub fn modules_named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let wanted = elf::canonical_name(name);
        self.indexed.iter().flat_map(Index::paths).filter(move |path| elf::module_name(path) == wanted)
    }
}

/// The content of one of the kernel's own modules, as a sample of what it loads: the first small one of its modules.dep.
fn own_file(layout: &Layout, kernel: &Kernel) -> Option<Vec<u8>> {
    const SMALL: u64 = 256 << 10;
    let dir = layout.kernel(&kernel.target.kernel);
    let paths = kernel.indexed.iter().flat_map(Index::paths).filter(|path| path.starts_with("kernel/"));
    let small = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() < SMALL);
    let mut paths = paths.take(50).map(|path| dir.join(path)).filter(small);
    paths.find_map(|path| read_module(&path).ok())
}

/// One of the kernel's own modules.
pub fn own_module(layout: &Layout, kernel: &Kernel) -> Option<Module> {
    Module::read(&own_file(layout, kernel)?).ok()
}

/// Who signed the kernel's own modules.
pub fn own_signer(layout: &Layout, kernel: &Kernel, algorithms: &Algorithms) -> Option<certificate::Signer> {
    let signature = signature::examine(&own_file(layout, kernel)?, &[], algorithms).ok()?;
    signature.signer().cloned()
}

/// The package base of a kernel. A name with characters that package names cannot have is ignored.
pub fn pkgbase(layout: &Layout, kernel: &KernelRelease) -> Option<String> {
    let text = file::read_optional(&layout.pkgbase(kernel)).ok().flatten()?;
    let text = String::from_utf8(text).ok()?.trim().to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._+-".contains(c);
    (!text.is_empty() && !text.starts_with(['-', '.']) && text.chars().all(plain)).then_some(text)
}

/// Whether the kernel is installed, and not only its headers or leftovers.
pub fn is_there(layout: &Layout, kernel: &KernelRelease) -> bool {
    layout.image(kernel).exists() || layout.modules_dep(kernel).exists() && !is_removed(layout, kernel)
}

/// Whether only what depmod wrote is left of a kernel: dpkg deletes that when the package is purged, which an automatic removal
/// does not do. A kernel's package has at least one of the two lists, also without any module.
fn is_removed(layout: &Layout, kernel: &KernelRelease) -> bool {
    let [index, ..] = layout.binary_indexes(kernel);
    let lists = [layout.modules_order(kernel), layout.modules_builtin(kernel)];
    index.exists()
        && !lists.iter().any(|list| list.exists())
        && file::sorted_entries(&layout.kernel(kernel)).iter().all(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("modules.") && !path.is_dir()
        })
}

/// Releases of kernels that are installed, or whose headers are, newest last. A directory without either is a leftover.
pub fn installed(layout: &Layout) -> Vec<KernelRelease> {
    let mut releases: Vec<KernelRelease> =
        file::sub_dirs(&layout.install_tree).iter().filter_map(|name| name.parse().ok()).collect();
    releases.retain(|kernel| {
        layout.modules_dep(kernel).exists() && !is_removed(layout, kernel)
            || layout.headers(kernel).join("include").exists()
    });
    releases.sort_by(|a, b| crate::types::version::compare(a.as_str(), b.as_str()));
    releases
}

/// Whether a kernel release begins with this version and release of a package; its suffix depends on the distribution.
pub fn of_package(kernel: &KernelRelease, version: &str, release: &str) -> bool {
    let rest = kernel.as_str().strip_prefix(&format!("{version}-{release}"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '+']))
}

/// Whether a kernel release has this version or a newer one.
pub fn since(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(['.', '-', '+', '~']).map(|part| part.parse().unwrap_or(0_u32));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}

/// The running kernel's release. Only for commands that do not name a kernel.
pub fn running() -> Option<KernelRelease> {
    rustix::system::uname().release().to_str().ok()?.parse().ok()
}

/// The machine's architecture, as printed by `uname -m`.
pub fn machine() -> Option<Arch> {
    rustix::system::uname().machine().to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depmod_leaves_is_no_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout { install_tree: dir.path().to_owned(), ..Layout::default() };
        let depmods = ["modules.dep", "modules.dep.bin", "modules.alias"];
        for (name, more, there) in [
            ("6.1-removed", &[][..], false),
            ("6.1-modules", &["kernel/a.ko"], true),
            ("6.1-ours", &["updates/dkms/a.ko"], true),
            ("6.1-monolithic", &["modules.builtin"], true),
            ("6.1-image", &["vmlinuz"], true),
        ] {
            for file in depmods.iter().chain(more) {
                file::write_atomic(&dir.path().join(name).join(file), b"", 0o644).unwrap();
            }
            let kernel: KernelRelease = name.parse().unwrap();
            assert_eq!(is_there(&layout, &kernel), there, "{name}");
            assert_eq!(installed(&layout).contains(&kernel), there, "{name}");
        }
    }

    #[test]
    fn kernels_are_called_like_their_package() {
        for (kernel, version, release, expected) in [
            ("6.12.1-1.fc43.x86_64", "6.12.1", "1.fc43", true),
            ("6.12.1-1.fc43.x86_64+debug", "6.12.1", "1.fc43", true),
            ("6.12.1-10.fc43.x86_64", "6.12.1", "1", false),
            ("6.12.10-1.fc43.x86_64", "6.12.1", "1.fc43", false),
        ] {
            let kernel: KernelRelease = kernel.parse().unwrap();
            assert_eq!(of_package(&kernel, version, release), expected, "{kernel}");
        }
    }
}
