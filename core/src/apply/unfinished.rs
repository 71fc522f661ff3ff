//! What a failed depmod or initramfs leaves to later runs.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::Work;
use crate::kernel::elf;
use crate::report::{KernelStep, Unfinished};
use crate::session::Session;
use crate::step::initramfs;
use crate::sys::signal;
use crate::sys::time::now;
use crate::tree::{Installed, stale};
use crate::types::{ModuleName, Target};

impl Work<'_> {
    /// Regenerates each initramfs that is out of date, also those that an earlier run left. A failure does not fail the
    /// transaction: the modules are installed, and the next run retries.
    pub(super) fn refresh_initramfs(&mut self) -> Result<()> {
        // A dkms above this process is not done yet: depmod may not have run.
        if self.proving || self.tree.nested() || !regenerates(self.session) {
            return Ok(());
        }
        for (target, mut stale) in stale(&self.tree.layout) {
            if self.gone.contains(&target) {
                continue;
            }
            match initramfs::refresh(self.session, &target, &stale.names, stale.since) {
                Ok(regenerated) => {
                    self.report.initramfs.extend(regenerated.then(|| target.clone()));
                    self.tree.forget_stale(&target)?;
                }
                Err(error) if error.is::<signal::Interrupted>() => return Err(error),
                Err(error) => {
                    stale.why = error.root_cause().to_string();
                    self.tree.note_stale(&target, &stale)?;
                    let inside = initramfs::inside(self.session, &target, &stale.names);
                    stale.modules = stale.concerned(inside.as_ref());
                    let earlier =
                        self.published.get(&target).is_none_or(|published| published.modules.is_empty());
                    let (step, modules, why) = (KernelStep::Initramfs, stale.modules, stale.why);
                    self.report.unfinished.push(Unfinished { step, target, modules, why, earlier });
                }
            }
        }
        Ok(())
    }

    /// modules.dep of a kernel is out of date. The intent is kept, so that the next run repeats depmod.
    pub(super) fn depmod_failed(&mut self, target: &Target, why: String) {
        self.unfinished = true;
        let modules = self.published.get(target).map(|published| published.modules.clone());
        self.report.unfinished.push(Unfinished {
            earlier: false,
            step: KernelStep::Depmod,
            target: target.clone(),
            modules: modules.unwrap_or_default(),
            why,
        });
    }

    /// Before modules of a kernel are replaced: records that its initramfs may be out of date from now on.
    pub(super) fn outdates(
        &mut self,
        module: &ModuleName,
        target: &Target,
        names: &BTreeSet<String>,
    ) -> Result<()> {
        if !self.initramfs.contains(target) {
            return Ok(());
        }
        self.note_outdated(module, target, names)
    }

    /// The same before modules are removed, or the kernel's own restored.
    pub(super) fn outdates_without(
        &mut self,
        module: &ModuleName,
        target: &Target,
        files: &[Installed],
    ) -> Result<()> {
        if !initramfs::exists(self.session, target) {
            return Ok(());
        }
        let names = files.iter().map(|file| elf::module_name(&file.path.to_string_lossy())).collect();
        self.note_outdated(module, target, &names)
    }

    fn note_outdated(&self, module: &ModuleName, target: &Target, names: &BTreeSet<String>) -> Result<()> {
        if !regenerates(self.session) || names.is_empty() {
            return Ok(());
        }
        let noted = stale(&self.tree.layout).into_iter().find(|(noted, _)| noted == target);
        let mut noted = noted.map(|(_, stale)| stale).unwrap_or_default();
        noted.modules.insert(module.clone());
        noted.names.extend(names.iter().cloned());
        noted.owners.extend(names.iter().map(|name| (name.clone(), module.clone())));
        noted.since = now();
        self.tree.note_stale(target, &noted)
    }
}

/// Whether this run may regenerate an initramfs: only of this system, and after depmod.
fn regenerates(session: &Session) -> bool {
    !session.options.no_depmod && session.layout.depmod_root() == Some(Path::new("/"))
}
