//! Initramfs images that do not contain the modules that are installed, until they are regenerated.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::LockedTree;
use crate::layout::Layout;
use crate::sys::file;
use crate::types::{ModuleName, Target};

/// Why a kernel's initramfs may be out of date. Written before its modules are replaced, and deleted when it is known to be up
/// to date: an interrupted or failed run leaves it to the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// The packages whose modules were replaced.
    pub modules: BTreeSet<ModuleName>,
    /// The kernel's names of the modules.
    pub names: BTreeSet<String>,
    /// The package of each name; a note of an older dkms has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub owners: BTreeMap<String, ModuleName>,
    /// When the last of them was replaced, in seconds since 1970: an image from after this has it.
    #[serde(default)]
    pub since: u64,
    /// Why regenerating it failed; empty until that was tried.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Stale {
    /// The packages of the names that are in the initramfs, or are to be in it. If it is not known which are, or what failed is
    /// not about one of them: all packages.
    pub fn concerned(&self, inside: Option<&BTreeSet<String>>) -> BTreeSet<ModuleName> {
        let names = inside.into_iter().flatten();
        let owners: BTreeSet<ModuleName> = names.filter_map(|name| self.owners.get(name)).cloned().collect();
        if owners.is_empty() { self.modules.clone() } else { owners }
    }
}

/// All kernels whose initramfs may be out of date. Reads without the lock.
pub fn stale(layout: &Layout) -> Vec<(Target, Stale)> {
    let root = layout.stale();
    let mut found = Vec::new();
    for kernel in file::sub_dirs(&root) {
        for path in file::sorted_entries(&root.join(&kernel)) {
            let arch = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
            let read = || serde_json::from_slice(&file::content(&path).ok()?).ok();
            if let (Ok(kernel), Some(arch), Some(stale)) = (kernel.parse(), arch, read()) {
                found.push((Target { kernel, arch }, stale));
            }
        }
    }
    found
}

impl LockedTree {
    /// Records that a kernel's initramfs may be out of date, and syncs the record.
    pub fn note_stale(&self, target: &Target, stale: &Stale) -> Result<()> {
        file::write_atomic(&self.layout.stale_initramfs(target), &serde_json::to_vec_pretty(stale)?, 0o644)
    }

    /// A kernel's initramfs is up to date, or the kernel is being removed.
    pub fn forget_stale(&self, target: &Target) -> Result<()> {
        let path = self.layout.stale_initramfs(target);
        file::remove_all(&path)?;
        file::remove_empty_up_to(path.parent().unwrap_or(&path), &self.layout.own());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_found_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout { dkms_tree: dir.path().into(), ..Layout::default() };
        let tree = LockedTree::lock(&layout, |_| Ok(())).unwrap();
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let noted = Stale {
            modules: ["a".parse().unwrap()].into(),
            names: ["a_b".into()].into(),
            owners: BTreeMap::from([("a_b".into(), "a".parse().unwrap())]),
            since: 7,
            why: "full".into(),
        };
        assert_eq!(stale(&layout), []);
        tree.note_stale(&target, &noted).unwrap();
        assert_eq!(stale(&layout), [(target.clone(), noted)]);
        tree.forget_stale(&target).unwrap();
        assert_eq!(stale(&layout), []);
        assert!(!layout.stale().exists());
    }

    #[test]
    fn only_what_an_initramfs_has_is_named() {
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let modules = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let noted = Stale {
            modules: modules(&["disk", "fine"]),
            names: names(&["disk_a", "disk_b", "fine"]),
            owners: [("disk_a", "disk"), ("disk_b", "disk"), ("fine", "fine")]
                .into_iter()
                .map(|(name, owner)| (name.to_owned(), owner.parse().unwrap()))
                .collect(),
            ..Stale::default()
        };
        for (inside, expected) in [
            (&["disk_a"][..], &["disk"][..]),
            (&["disk_b", "fine"], &["disk", "fine"]),
            (&[], &["disk", "fine"]),
        ] {
            assert_eq!(noted.concerned(Some(&names(inside))), modules(expected), "{inside:?}");
        }
        assert_eq!(noted.concerned(None), noted.modules);
        let older = Stale { owners: BTreeMap::new(), ..noted.clone() };
        assert_eq!(older.concerned(Some(&names(&["fine"]))), noted.modules);
    }
}
