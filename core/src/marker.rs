//! Modules that a native package has installed (`dkms mkpackage`). Such a package has a marker in the kernel's module
//! directory, `dkms-packages/NAME.json`:
//!
//! ```json
//! {
//!   "format": 1,
//!   "module": { "name": "NAME", "version": "VERSION" },
//!   "kernel": "6.12.1-amd64",
//!   "arch": "x86_64",
//!   "package": "NAME-modules-6.12.1-amd64",
//!   "files": { "updates/dkms/NAME.ko.xz": "SHA-256 in hex" }
//! }
//! ```
//!
//! `files` are relative to the kernel's module directory. A marker is data of a package: it counts only if all of it is valid,
//! and the files on the disk are those that it lists. Then dkms neither builds nor replaces this module for this kernel.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::sys::{file, hash};
use crate::types::{Arch, KernelRelease, ModuleId, ModuleName, Target, is_plain};

/// The version of the format.
pub const FORMAT: u32 = 1;
/// More than a marker with [`FILES`] has.
const SIZE: u64 = 256 << 10;
/// More modules than any package has.
const FILES: usize = 1000;
/// More than any module file has.
const MODULE: u64 = 1 << 30;

/// What one package has installed for one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The version of the format.
    pub format: u32,
    /// The module.
    pub module: ModuleId,
    /// The kernel.
    #[serde(flatten)]
    pub target: Target,
    /// The name of the package.
    pub package: String,
    /// Its module files, relative to the kernel's module directory, with their SHA-256.
    pub files: BTreeMap<String, String>,
}

/// Why a marker does not count, as a sentence without its subject.
pub type Invalid = String;

impl Marker {
    /// Reads a marker whose file has the name of this module, for this kernel.
    pub fn parse(text: &[u8], name: &ModuleName, kernel: &KernelRelease) -> Result<Self, Invalid> {
        let marker: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if marker.format != FORMAT {
            return Err(format!("has format {}; this dkms reads format {FORMAT}", marker.format));
        }
        if marker.module.name != *name {
            return Err(format!("is named after another module than {}", marker.module.name));
        }
        if marker.target.kernel != *kernel {
            return Err(format!("is of another kernel: {}", marker.target.kernel));
        }
        let package = &marker.package;
        if package.is_empty() || package.len() > 255 || !package.bytes().all(is_plain) {
            return Err(format!("has no valid package name: {package:?}"));
        }
        if marker.files.is_empty() || marker.files.len() > FILES {
            return Err(format!("lists {} files", marker.files.len()));
        }
        for (path, sha256) in &marker.files {
            if !is_module_path(path) {
                return Err(format!("lists {path:?}, which is not the path of a module"));
            }
            let hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
            if sha256.len() != 64 || !sha256.bytes().all(hex) {
                return Err(format!("has no SHA-256 of {path}"));
            }
        }
        Ok(marker)
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|_| String::new(), |text| text + "\n")
    }

    /// Whether the files on the disk are those of the package.
    fn holds(&self, kernel: &Path) -> bool {
        self.files.iter().all(|(path, sha256)| {
            let content = file::read_untrusted(kernel, Path::new(path), MODULE);
            content.is_ok_and(|content| hash::hex(&content) == *sha256)
        })
    }

    /// Whether a path is that of one of its files, with any compression: depmod would take either.
    pub fn owns(&self, layout: &Layout, path: &Path) -> bool {
        let Ok(relative) = path.strip_prefix(layout.kernel(&self.target.kernel)) else { return false };
        let Some(wanted) = relative.to_str().and_then(stem) else { return false };
        self.files.keys().any(|file| stem(file) == Some(wanted))
    }
}

/// A path without the suffix of a module.
fn stem(path: &str) -> Option<&str> {
    let plain = [".gz", ".xz", ".zst"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path);
    plain.strip_suffix(".ko")
}

/// A relative path below a subdirectory, of plain characters, that ends like a module.
fn is_module_path(path: &str) -> bool {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    let plain = |part: &Component<'_>| match part {
        Component::Normal(name) => name.as_encoded_bytes().iter().copied().all(is_plain),
        _ => false,
    };
    let first = path.split('/').next().unwrap_or_default();
    path.len() <= 1000
        && parts.len() > 1
        && parts.iter().all(plain)
        && parts.len() == path.split('/').count()
        && !["build", "source"].contains(&first)
        && path.split('/').all(|part| !part.starts_with(['.', '-']))
        && stem(path).is_some_and(|stem| !stem.ends_with('/'))
}

/// The valid markers of a kernel, by the name of their module.
pub fn markers(layout: &Layout, target: &Target) -> BTreeMap<ModuleName, Marker> {
    names(layout, target).filter_map(|name| Some((name.clone(), marker(layout, target, &name)?))).collect()
}

/// The valid marker of a module.
pub fn marker(layout: &Layout, target: &Target, name: &ModuleName) -> Option<Marker> {
    let kernel = layout.kernel(&target.kernel);
    stated(layout, target, name).filter(|marker| marker.holds(&kernel))
}

/// The markers of a kernel whose files are missing or were changed, by the name of their module.
pub fn damaged_of(layout: &Layout, target: &Target) -> BTreeMap<ModuleName, Marker> {
    let kernel = layout.kernel(&target.kernel);
    let stated =
        names(layout, target).filter_map(|name| Some((name.clone(), stated(layout, target, &name)?)));
    stated.filter(|(_, marker)| !marker.holds(&kernel)).collect()
}

/// The names of the modules that have a marker.
fn names(layout: &Layout, target: &Target) -> impl Iterator<Item = ModuleName> {
    let files = file::sorted_entries(&layout.packages(&target.kernel)).into_iter();
    files.filter_map(|path| path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok())
}

/// What the marker of a module says, whatever is on the disk.
fn stated(layout: &Layout, target: &Target, name: &ModuleName) -> Option<Marker> {
    let (path, kernel) = (layout.package_marker(&target.kernel, name), layout.kernel(&target.kernel));
    let mut text = Vec::new();
    let meta = path.symlink_metadata().ok()?;
    // Only who may change the kernel's modules may say whose they are.
    let owner = kernel.metadata().ok()?.uid();
    if !meta.is_file() || meta.uid() != owner || meta.mode() & 0o022 != 0 {
        return None;
    }
    file::open_data(&path, SIZE).ok()?.read_to_end(&mut text).ok()?;
    let marker = Marker::parse(&text, name, &target.kernel).ok()?;
    (marker.target.arch == target.arch).then_some(marker)
}

/// The valid markers of all kernels.
pub fn all(layout: &Layout) -> Vec<Marker> {
    let holds = |marker: &Marker| marker.holds(&layout.kernel(&marker.target.kernel));
    all_stated(layout).into_iter().filter(holds).collect()
}

/// The markers of packages whose files are missing or were changed.
pub fn damaged(layout: &Layout) -> Vec<Marker> {
    let holds = |marker: &Marker| marker.holds(&layout.kernel(&marker.target.kernel));
    all_stated(layout).into_iter().filter(|marker| !holds(marker)).collect()
}

fn all_stated(layout: &Layout) -> Vec<Marker> {
    let kernels = file::sub_dirs(&layout.install_tree).into_iter();
    let kernels = kernels.filter_map(|kernel| kernel.parse::<KernelRelease>().ok());
    let mut found = Vec::new();
    for kernel in kernels {
        for path in file::sorted_entries(&layout.packages(&kernel)) {
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
            let Some(name): Option<ModuleName> = name else { continue };
            // The marker says for which architecture it is.
            let arch = arch(&path);
            let target = arch.map(|arch| Target { kernel: kernel.clone(), arch });
            found.extend(target.and_then(|target| stated(layout, &target, &name)));
        }
    }
    found
}

fn arch(path: &Path) -> Option<Arch> {
    #[derive(Deserialize)]
    struct Only {
        arch: Arch,
    }
    let mut text = Vec::new();
    file::open_data(path, SIZE).ok()?.read_to_end(&mut text).ok()?;
    serde_json::from_slice::<Only>(&text).ok().map(|only| only.arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn text(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
        let mut value = serde_json::json!({
            "format": 1, "module": { "name": "a", "version": "1" }, "kernel": "6.1", "arch": "x86_64",
            "package": "a-modules-6.1", "files": { "updates/dkms/a.ko.xz": HASH },
        });
        change(&mut value);
        value.to_string().into_bytes()
    }

    #[test]
    fn only_a_valid_marker_is_read() {
        let files = |path: &str| text(|value| value["files"] = serde_json::json!({ path: HASH }));
        let with = |key: &str, new: serde_json::Value| text(|value| value[key] = new.clone());
        for (text, expected) in [
            (text(|_| {}), ""),
            (files("updates/a.ko"), ""),
            (files("kernel/drivers/a/a.ko.zst"), ""),
            (b"{".to_vec(), "EOF"),
            (with("format", 2.into()), "format 2"),
            (with("module", serde_json::json!({ "name": "b", "version": "1" })), "another module"),
            (
                with("module", serde_json::json!({ "name": "../a", "version": "1" })),
                "not a valid module name",
            ),
            (with("kernel", "6.2".into()), "another kernel"),
            (with("kernel", "../6.1".into()), "not a valid kernel release"),
            (with("package", "".into()), "package name"),
            (with("package", "a b".into()), "package name"),
            (with("package", "a\n".into()), "package name"),
            (with("files", serde_json::json!({})), "lists 0 files"),
            (with("files", serde_json::json!({ "updates/a.ko": "abc" })), "SHA-256"),
            (with("files", serde_json::json!({ "updates/a.ko": HASH.to_uppercase() })), "SHA-256"),
            (files("/updates/a.ko"), "not the path"),
            (files("a.ko"), "not the path"),
            (files("updates/../../a.ko"), "not the path"),
            (files("updates/./a.ko"), "not the path"),
            (files("updates//a.ko"), "not the path"),
            (files("updates/a.ko/"), "not the path"),
            (files("updates/.ko"), "not the path"),
            (files("updates/.hidden.ko"), "not the path"),
            (files("updates/a.txt"), "not the path"),
            (files("updates/a b.ko"), "not the path"),
            (files("build/a.ko"), "not the path"),
            (files("source/a.ko"), "not the path"),
            (files("updates/a.ko\0"), "not the path"),
        ] {
            let read = Marker::parse(&text, &"a".parse().unwrap(), &"6.1".parse().unwrap());
            let text = String::from_utf8_lossy(&text);
            match read {
                Ok(marker) => {
                    assert_eq!(expected, "", "{text}");
                    let again = marker.text();
                    let again = Marker::parse(again.as_bytes(), &marker.module.name, &marker.target.kernel);
                    assert_eq!(again, Ok(marker));
                }
                Err(why) => assert!(!expected.is_empty() && why.contains(expected), "{text}: {why}"),
            }
        }
    }

    #[test]
    fn only_a_marker_that_matches_the_disk_counts() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout { install_tree: dir.path().into(), ..Layout::default() };
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let kernel = layout.kernel(&target.kernel);
        let (name, other) = ("a".parse().unwrap(), "b".parse().unwrap());
        let there = || markers(&layout, &target).into_keys().collect::<Vec<_>>();
        assert_eq!(there(), []);
        let put = |path: &Path, content: &[u8]| file::write_atomic(path, content, 0o644).unwrap();
        put(&layout.package_marker(&target.kernel, &name), &text(|_| {}));
        assert_eq!(there(), [], "no file");
        let module = kernel.join("updates/dkms/a.ko.xz");
        put(&module, b"");
        assert_eq!(there(), std::slice::from_ref(&name));
        assert_eq!(all(&layout).len(), 1);
        let marker = marker(&layout, &target, &name).unwrap();
        for (path, owned) in [
            ("updates/dkms/a.ko.xz", true),
            ("updates/dkms/a.ko", true),
            ("updates/dkms/a.ko.zst", true),
            ("updates/dkms/b.ko.xz", false),
            ("updates/a.ko.xz", false),
            ("updates/dkms/a.ko.txt", false),
        ] {
            assert_eq!(marker.owns(&layout, &kernel.join(path)), owned, "{path}");
        }
        put(&layout.package_marker(&target.kernel, &other), &text(|_| {}));
        assert_eq!(there(), [name], "a marker of another name");
        assert_eq!((damaged(&layout), damaged_of(&layout, &target).len()), (vec![], 0));
        put(&module, b"changed");
        assert_eq!((there(), all(&layout)), (vec![], vec![]));
        assert_eq!(damaged(&layout), std::slice::from_ref(&marker));
        assert_eq!(damaged_of(&layout, &target).into_values().collect::<Vec<_>>(), damaged(&layout));
        let foreign = Target { arch: "aarch64".parse().unwrap(), ..target.clone() };
        put(&module, b"");
        assert!(markers(&layout, &foreign).is_empty());
        file::write_atomic(&layout.package_marker(&target.kernel, &marker.module.name), &text(|_| {}), 0o666)
            .unwrap();
        assert_eq!(there(), [], "a marker that others may write");
    }
}
