//! Installed modules that import from a module which is about to be replaced. A module that declares its dependency is
//! rebuilt in the same plan; others would be rejected by the kernel from then on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Work;
use crate::kernel::{Module, read_module};
use crate::plan::Task;
use crate::sys::file;
use crate::tree::Installed;
use crate::types::{ModuleId, Placement, Target};

/// A module that the kernel will reject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    module: ModuleId,
    target: Target,
    by: ModuleId,
    why: String,
}

impl Broken {
    /// As one line.
    pub(super) fn line(&self) -> String {
        let Self { module, target, by, why } = self;
        let kernel = &target.kernel;
        format!(
            "{module} for {kernel} no longer loads with {by}: {why}; to rebuild it: dkms build {module} -k {kernel} --force"
        )
    }

    /// Where it is installed.
    pub(super) fn placement(&self) -> Placement {
        Placement::of(&self.module, &self.target)
    }
}

/// CRCs by exported symbol.
type Exports = BTreeMap<String, Option<u32>>;

/// Finds the modules that break when the files of a task are published in place of the old ones.
pub(super) fn broken_by(work: &Work<'_>, task: &Task, old: &[Installed]) -> Vec<Broken> {
    let (layout, target) = (&work.session.layout, &task.target);
    let dir = layout.built_modules(&task.module, target);
    let before: Vec<PathBuf> = old.iter().map(|file| file.path.clone()).collect();
    let before = exports(&before);
    if before.is_empty() {
        return Vec::new();
    }
    let after = exports(&file::sorted_entries(&dir));
    let mut broken = Vec::new();
    for (id, entry) in work.snapshot.modules.iter().filter(|(id, _)| id.name != task.module.name) {
        let Some(build) = entry.builds.get(target).filter(|build| build.active) else { continue };
        let files = layout.built_modules(id, target);
        let mut modules = build.files.iter().filter_map(|name| module(&files.join(name)));
        if let Some(why) = modules.find_map(|module| mismatch(&module, &before, &after)) {
            let (module, by) = (id.clone(), task.module.clone());
            broken.push(Broken { module, target: target.clone(), by, why });
        }
    }
    broken
}

fn module(path: &std::path::Path) -> Option<Module> {
    path.to_string_lossy().contains(".ko").then(|| Module::read(&read_module(path).ok()?).ok())?
}

fn exports(files: &[PathBuf]) -> Exports {
    let modules = files.iter().filter_map(|path| module(path));
    modules.flat_map(|module| module.exports).map(|(name, export)| (name, export.crc)).collect()
}

/// Why a module that used the old exports cannot use the new ones.
fn mismatch(module: &Module, before: &Exports, after: &Exports) -> Option<String> {
    let used = module.imports.iter().filter(|(symbol, _)| before.contains_key(*symbol));
    used.into_iter().find_map(|(symbol, weak)| match after.get(symbol) {
        None if *weak => None,
        None => Some(format!("{symbol} is no longer exported")),
        Some(new) => {
            let known = module.versions.as_ref().and_then(|versions| versions.get(symbol));
            let differs = known.is_some_and(|known| new.is_some_and(|new| u64::from(new) != *known));
            differs.then(|| format!("disagrees about the version of symbol {symbol}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_new_module_exports_decides() {
        let exports = |rows: &[(&str, u32)]| -> Exports {
            rows.iter().map(|(name, crc)| ((*name).to_owned(), Some(*crc))).collect()
        };
        let before = exports(&[("a", 1), ("b", 2)]);
        for (imports, weak, after, expected) in [
            ("a", false, &[("a", 1), ("b", 3)][..], None),
            ("a", false, &[("a", 9)], Some("disagrees about the version of symbol a")),
            ("a", false, &[], Some("a is no longer exported")),
            ("a", true, &[], None),
            // Another module exports it.
            ("c", false, &[], None),
        ] {
            let module = Module {
                imports: [(imports.to_owned(), weak)].into(),
                versions: Some([("a".to_owned(), 1), ("b".to_owned(), 2), ("c".to_owned(), 3)].into()),
                ..Module::default()
            };
            assert_eq!(mismatch(&module, &before, &exports(after)).as_deref(), expected, "{after:?}");
        }
    }
}
