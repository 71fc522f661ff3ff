//! Which installed file belongs to which module. Two packages may contain the same module: the file of one is never taken
//! for the kernel's own, and comes back when the other one is removed.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Work;
use crate::step::publish;
use crate::sys::file;
use crate::tree::{Installed, Snapshot};
use crate::types::{ModuleId, Target};

impl Work<'_> {
    /// The files of all installed modules, of every kernel.
    pub(super) fn all_claims(&mut self) -> Result<&mut publish::Claims> {
        let destination = self.session.policy.destination();
        let read = || -> Result<publish::Claims> {
            let mut claims = publish::Claims::new();
            for (id, entry) in &self.tree.snapshot()?.modules {
                for (target, build) in entry.builds.iter().filter(|(_, build)| build.active) {
                    let kernel = self.tree.layout.kernel(&target.kernel);
                    for file in build.places(&kernel, destination) {
                        claims.entry(file).or_default().insert(id.clone());
                    }
                }
            }
            Ok(claims)
        };
        let claims = match self.claims.take() {
            Some(claims) => claims,
            None => read()?,
        };
        Ok(self.claims.insert(claims))
    }

    /// The files of all modules that are installed for a kernel.
    pub(super) fn claims(&mut self, target: &Target) -> Result<publish::Claims> {
        let kernel = self.tree.layout.kernel(&target.kernel);
        let claims = self.all_claims()?.iter().filter(|(file, _)| file.starts_with(&kernel));
        Ok(claims.map(|(file, modules)| (file.clone(), modules.clone())).collect())
    }

    /// A module has installed these files, and no others.
    pub(super) fn claim(&mut self, module: &ModuleId, installed: &[Installed]) {
        let Some(claims) = &mut self.claims else { return };
        for file in installed {
            let owners = claims.entry(file.path.clone()).or_default();
            owners.retain(|owner| owner.name != module.name);
            owners.insert(module.clone());
        }
    }

    /// A module is no longer installed for a kernel. Returns other modules that have installed one of its files, those of
    /// packages that contain the same module. Only packages that were in conflict with it are read.
    pub(super) fn unclaim(
        &mut self,
        module: &ModuleId,
        target: &Target,
        published: &[Installed],
    ) -> Result<Vec<(ModuleId, PathBuf)>> {
        let kernel = self.tree.layout.kernel(&target.kernel);
        for (_, owners) in self.claims.iter_mut().flatten().filter(|(file, _)| file.starts_with(&kernel)) {
            owners.retain(|owner| owner.name != module.name);
        }
        let record = self.snapshot.build(module, target).and_then(|build| build.record.as_ref());
        let others = record.map(|record| record.shares.clone()).unwrap_or_default();
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let destination = self.session.policy.destination();
        let mut hidden = Vec::new();
        for (other, entry) in &Snapshot::load_some(&self.tree.layout, others)?.modules {
            let Some(build) = entry.builds.get(target).filter(|build| build.active) else { continue };
            let files = build.places(&kernel, destination).into_iter();
            let same = files.filter(|file| published.iter().any(|published| published.path == *file));
            hidden.extend(same.map(|file| (other.clone(), file)));
        }
        Ok(hidden)
    }

    /// Installs the file of another package again, after the one that had replaced it was removed.
    pub(super) fn reveal(&self, module: &ModuleId, target: &Target, file: &Path) -> Result<()> {
        let built = self.tree.layout.built_modules(module, target).join(file.file_name().unwrap_or_default());
        if file.exists() || !built.is_file() {
            return Ok(());
        }
        file::write_atomic(file, &file::content(&built)?, 0o644)?;
        self.session.screen.progress(&format!("dkms: {module}: restored {}", file.display()));
        Ok(())
    }
}
