//! Reads the DKMS tree. Takes no lock, starts no process, evaluates no shell: of a concurrent change, either the old or
//! the new state is seen.

use std::path::Path;

use anyhow::Result;

use super::{Build, Entry, Failure, Record, Snapshot, Source};
use crate::layout::Layout;
use crate::sys::parallel::ItemCost;
use crate::sys::{file, parallel};
use crate::types::{ModuleId, ModuleName, Placement, Target};

impl Snapshot {
    /// Loads everything.
    pub fn load(layout: &Layout) -> Result<Self> {
        let mut names = file::sub_dirs(&layout.dkms_tree);
        names.extend(file::sub_dirs(&layout.own().join("failures")));
        names.sort();
        names.dedup();
        Self::load_some(layout, names.iter().filter_map(|name| name.parse().ok()))
    }

    /// Loads these modules: the cost does not depend on the number of others.
    pub fn load_some(layout: &Layout, names: impl IntoIterator<Item = ModuleName>) -> Result<Self> {
        let names: Vec<ModuleName> = names.into_iter().collect();
        let mut snapshot = Self::default();
        for part in parallel::parts(&names, ItemCost::Quick, |names| Self::load_part(layout, names)) {
            snapshot.modules.extend(part.modules);
            snapshot.failures.extend(part.failures);
            snapshot.originals.extend(part.originals);
        }
        Ok(snapshot)
    }

    fn load_part(layout: &Layout, names: &[ModuleName]) -> Self {
        let mut snapshot = Self::default();
        // Then a typical link needs no resolution from the root.
        let plain = layout.source_tree.canonicalize().is_ok_and(|real| real == layout.source_tree);
        for name in names {
            for version in file::sub_dirs(&layout.module(name)) {
                let Ok(version) = version.parse() else { continue };
                let id = ModuleId { name: name.clone(), version };
                if id.version.as_str() == "original_module" {
                    snapshot.load_originals(layout, name);
                    continue;
                }
                let entry = Entry { source: source(layout, &id, plain), builds: builds(layout, &id) };
                if entry.source != Source::Gone || !entry.builds.is_empty() {
                    snapshot.modules.insert(id, entry);
                }
            }
        }
        snapshot.load_failures(layout, names);
        snapshot
    }

    fn load_originals(&mut self, layout: &Layout, name: &ModuleName) {
        for target in targets_below(&layout.originals_root(name)) {
            // The note of a lost copy may be left.
            let copies = file::sorted_entries(&layout.originals(name, &target)).into_iter();
            if copies.into_iter().any(|path| Layout::noted_original(&path).is_none()) {
                self.originals.insert((name.clone(), target));
            }
        }
    }

    /// Includes versions that are not registered: a pre-build tried them before their package was installed.
    fn load_failures(&mut self, layout: &Layout, names: &[ModuleName]) {
        let versions = |name: &ModuleName| file::sub_dirs(&layout.own_module("failures", name));
        let ids = names.iter().flat_map(|name| {
            let id = |version: String| Some(ModuleId { name: name.clone(), version: version.parse().ok()? });
            versions(name).into_iter().filter_map(id)
        });
        for id in ids.collect::<Vec<_>>() {
            let dir = layout.own_version("failures", &id);
            for kernel in file::sub_dirs(&dir) {
                for path in file::sorted_entries(&dir.join(&kernel)) {
                    let arch = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
                    let (Some(Ok(arch)), Ok(kernel)) = (arch.map(str::parse), kernel.parse()) else {
                        continue;
                    };
                    if let Some(failure) = json::<Failure>(&path) {
                        let target = Target { kernel, arch };
                        self.failures.insert(Placement { module: id.clone(), target }, failure);
                    }
                }
            }
        }
    }
}

/// The source of a module. `plain`: the path of the source tree contains no links.
fn source(layout: &Layout, id: &ModuleId, plain: bool) -> Source {
    let link = layout.source_link(id);
    let linked = std::fs::read_link(&link);
    let usual = layout.source(id);
    if plain
        && linked.as_ref().is_ok_and(|to| *to == usual)
        && usual.symlink_metadata().is_ok_and(|meta| meta.is_dir())
    {
        return Source::Linked(usual);
    }
    // Shell DKMS's binary-only tarballs have a directory instead of the link.
    if link.is_dir() {
        return Source::Linked(std::fs::canonicalize(&link).unwrap_or(link));
    }
    match linked {
        Ok(to) => Source::Dangling(to),
        Err(_) if usual.is_dir() && layout.kept_marker(id).exists() => Source::Kept(usual),
        Err(_) if usual.is_dir() => Source::Unlinked,
        Err(_) => Source::Gone,
    }
}

/// `KERNEL/ARCH` pairs below a directory. A kernel release begins with a digit, as in shell DKMS.
fn targets_below(dir: &Path) -> Vec<Target> {
    let mut targets = Vec::new();
    for kernel in file::sub_dirs(dir) {
        if !kernel.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let Ok(kernel) = kernel.parse::<crate::types::KernelRelease>() else { continue };
        for arch in file::sub_dirs(&dir.join(kernel.as_str())) {
            if let Ok(arch) = arch.parse() {
                targets.push(Target { kernel: kernel.clone(), arch });
            }
        }
    }
    targets
}

fn builds(layout: &Layout, id: &ModuleId) -> std::collections::BTreeMap<Target, Build> {
    let mut builds = std::collections::BTreeMap::new();
    for target in targets_below(&layout.version(id)) {
        let Ok(entries) = std::fs::read_dir(layout.built_modules(id, &target)) else { continue };
        let mut files: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        files.retain(|name| name.contains(".ko"));
        files.sort();
        let link = std::fs::read_link(layout.active_link(&id.name, &target));
        let active = link.is_ok_and(|to| {
            to == Path::new(&format!("{}/{}/{}", id.version, target.kernel, target.arch))
                || to == layout.built(id, &target)
        });
        let record = json::<Record>(&layout.record(id, &target));
        builds.insert(target, Build { files, active, record });
    }
    builds
}

/// One of our records. An unreadable one counts as missing, which costs at most a build.
fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&file::content(path).ok()?).ok()
}
