//! Facts about one kernel, found without asking the running one.

pub mod certificate;
mod compiler;
mod compress;
pub mod demand;
mod der;
pub mod elf;
mod firmware;
mod headers;
pub mod signature;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

pub use compress::{Compression, read_module};
pub use demand::Demand;
pub use firmware::Firmware;
pub use headers::{Headers, Vermagic};

use crate::layout::Layout;
use crate::policy::distro::Row;
use crate::sys::{file, run};
use crate::types::{Arch, KernelRelease, Target};

/// What is known about one kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Which one.
    pub target: Target,
    /// Its directory in the modules tree is there.
    pub exists: bool,
    /// Its headers, when they are installed.
    pub headers: Option<Headers>,
    /// How its modules are compressed, and thus how ours are.
    pub compression: Compression,
    /// Paths in its module index, relative to its directory. `None` when the kernel itself is not installed.
    pub indexed: Option<BTreeSet<String>>,
    /// Whether it has an initramfs already.
    pub has_initramfs: bool,
    /// Programs that building for it needs and that are not installed.
    pub missing_tools: Vec<String>,
}

impl Kernel {
    /// Looks at a kernel. `headers` and `config` override the places of its headers and its configuration.
    pub fn load(
        layout: &Layout,
        row: &Row,
        target: &Target,
        headers: Option<&Path>,
        config: Option<&Path>,
    ) -> Result<Self> {
        let dir = layout.kernel(&target.kernel);
        let headers_dir = headers.map_or_else(|| layout.headers(&target.kernel), Path::to_path_buf);
        let headers = Headers::load(layout, row, target, &headers_dir, config)?;
        let indexed = file::read_optional(&layout.modules_dep(&target.kernel))?.map(|text| {
            let text = String::from_utf8_lossy(&text).into_owned();
            text.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
        });
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
        let has_initramfs = layout.initramfs_images(&target.kernel).iter().any(|image| image.exists());
        Ok(Self {
            target: target.clone(),
            exists: dir.is_dir(),
            headers,
            compression,
            indexed,
            has_initramfs,
            missing_tools,
        })
    }

    /// Module files of this name that the kernel has, as paths relative to its directory.
    pub fn modules_named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a String> {
        let wanted = elf::canonical_name(name);
        self.indexed.iter().flatten().filter(move |path| elf::module_name(path) == wanted)
    }
}

/// Releases of kernels that are installed, or whose headers are, newest last. A directory without either is a
/// left-over.
pub fn installed(layout: &Layout) -> Vec<KernelRelease> {
    let mut releases: Vec<KernelRelease> =
        file::sub_dirs(&layout.install_tree).iter().filter_map(|name| name.parse().ok()).collect();
    releases.retain(|kernel| {
        layout.modules_dep(kernel).exists() || layout.headers(kernel).join("include").exists()
    });
    releases.sort_by(|a, b| crate::conf::version::compare(a.as_str(), b.as_str()));
    releases
}

/// Whether a kernel is called like a package of this version and release; what follows them differs between distributions.
pub fn of_package(kernel: &KernelRelease, version: &str, release: &str) -> bool {
    let rest = kernel.as_str().strip_prefix(&format!("{version}-{release}"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '+']))
}

/// The running kernel's release. Only for commands that name no kernel.
pub fn running() -> Option<KernelRelease> {
    rustix::system::uname().release().to_str().ok()?.parse().ok()
}

/// The machine's architecture, as `uname -m` has it.
pub fn machine() -> Option<Arch> {
    rustix::system::uname().machine().to_str().ok()?.parse().ok()
}

/// A kernel's configuration: `CONFIG_X` → value without quotes.
pub type Config = BTreeMap<String, String>;

/// Reads `.config` or `auto.conf`.
fn parse_config(text: &str) -> Config {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            name.starts_with("CONFIG_").then(|| (name.to_owned(), value.trim_matches('"').to_owned()))
        })
        .collect()
}

/// A kernel's configuration, from its headers, else as it is kept beside its image; `None` when it is in neither place.
pub fn config(layout: &Layout, kernel: &KernelRelease) -> Option<Config> {
    let places = [config_file(&layout.headers(kernel)), layout.boot_config(kernel)];
    let text = places.iter().find_map(|place| file::read_optional(place).ok().flatten())?;
    Some(parse_config(&String::from_utf8_lossy(&text)))
}

/// The file that holds a kernel's configuration, in its headers.
fn config_file(headers: &Path) -> PathBuf {
    let auto = headers.join("include/config/auto.conf");
    if auto.exists() { auto } else { headers.join(".config") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
