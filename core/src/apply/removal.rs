//! A module leaves a kernel: its files are deleted, the kernel's originals restored, and what is not ours is kept.

use std::path::Path;

use anyhow::Result;

use super::Work;
use crate::exit::Exit;
use crate::kernel::{self, Module};
use crate::marker;
use crate::plan::Removal;
use crate::report::{Failing, Fault, Outcome};
use crate::step::{script, weak_modules, withdraw};
use crate::sys::file::{self, Changed};
use crate::sys::hash;
use crate::tree::{Installed, Pending};
use crate::types::{ModuleId, Placement, Target};

impl Work<'_> {
    pub(super) fn remove(&mut self, removal: &Removal) -> Result<()> {
        let Removal { module, target, .. } = removal;
        self.forget_module_files();
        if removal.withdraw {
            let published = self.published_files(module, target)?;
            // Two packages may provide the same module: the file here may belong to the other one.
            let mut ours = Vec::with_capacity(published.len());
            // What a native package has installed since belongs to the package manager.
            let marker = marker::marker(&self.tree.layout, target, &module.name);
            let packaged = |path: &Path| {
                let path = path.strip_prefix(self.tree.layout.kernel(&target.kernel)).ok();
                path.and_then(Path::to_str)
                    .zip(marker.as_ref())
                    .is_some_and(|(path, marker)| marker.files.contains_key(path))
            };
            for file in published.into_iter().filter(|file| !packaged(&file.path)) {
                if self.foreign(module, target, &file)? {
                    let path = file.path.display();
                    self.report
                        .remarks
                        .push(format!("{module}: kept {path}: it is not the file that dkms installed"));
                } else {
                    ours.push(file);
                }
            }
            let published = ours;
            let leaves = removal.kernel_leaves;
            let leaves_tree = self.unregister.iter().any(|one| one.module == *module && !one.keep_builds);
            let recipe = self.recipe_of(module, target)?;
            if recipe.as_ref().is_some_and(|recipe| recipe.weak_modules) {
                let why = weak_modules::notify(self.session, target, false, &published)?;
                self.report.remarks.extend(why.map(|why| format!("{module}: {why}")));
            }
            let modules = recipe.as_ref().map(|recipe| recipe.modules.as_slice()).unwrap_or_default();
            withdraw::note_places(&self.tree.layout, module, target, modules)?;
            let post_remove = recipe.map(|recipe| recipe.scripts.post_remove);
            let post_remove = post_remove.filter(|command| !command.is_empty());
            let pending = post_remove.is_some().then(|| Placement::of(module, target));
            let touched = withdraw::destinations(&self.tree.layout, module, target, &published);
            let hidden = if leaves { Vec::new() } else { self.unclaim(module, target, &published)? };
            let again = hidden.iter().map(|(other, _)| Pending {
                module: other.clone(),
                target: target.clone(),
                force: true,
            });
            let again: Vec<Pending> = again.collect();
            let before = self.intent.clone();
            self.intend(|intent| {
                intent.touched.extend(touched);
                intent.publish.extend(again);
                intent.withdraw.push(Placement::of(module, target));
                if removal.unbuild {
                    intent.unbuild.insert(Placement::of(module, target));
                }
                intent.unregister.extend(leaves_tree.then(|| module.clone()));
                intent.post_remove.extend(pending);
                if !leaves {
                    intent.depmod.insert(target.clone());
                }
            })?;
            fail::fail_point!("withdraw:intended");
            if !leaves {
                self.outdates_without(&module.name, target, &published)?;
            }
            let withdrawn = match withdraw::withdraw(&self.tree.layout, module, target, &published)? {
                Ok(withdrawn) => withdrawn,
                Err(why) => {
                    self.intend(|intent| *intent = before)?;
                    self.stuck(removal, &why);
                    return Ok(());
                }
            };
            fail::fail_point!("withdraw:before-deactivate");
            self.tree.deactivate(&module.name, target)?;
            fail::fail_point!("withdraw:deactivated");
            if let Some(mut record) =
                self.snapshot.build(module, target).and_then(|build| build.record.clone())
            {
                record.installed.clear();
                self.tree.record(module, target, &record)?;
            }
            withdraw::forget_restored(&self.tree.layout, module, target)?;
            for (other, file) in hidden {
                self.reveal(&other, target, &file)?;
            }
            for note in withdrawn.notes {
                self.session.screen.progress(&format!("dkms: {module}: {note}"));
            }
            self.report.problems.extend(withdrawn.lost.iter().map(|lost| format!("{module}: {lost}")));
            self.post_remove(module, target, post_remove.as_deref())?;
            self.published.entry(target.clone()).or_default();
        }
        if removal.unbuild {
            if !removal.withdraw && self.snapshot.active(&module.name, target).is_none() {
                self.strays(module, target)?;
            }
            fail::fail_point!("withdraw:before-unbuild");
            self.tree.delete_build(module, target)?;
        }
        if removal.kernel_leaves {
            self.published.remove(target);
            let kernel = self.tree.layout.kernel(&target.kernel);
            file::remove_empty_up_to(&kernel, &self.tree.layout.install_tree);
        }
        let outcome = if removal.unbuild { Outcome::Unbuilt } else { Outcome::Uninstalled };
        self.session.screen.progress(&crate::report::text::progress(module, target, &outcome, None));
        self.report.add(module, Some(target), outcome);
        Ok(())
    }

    /// A module that cannot be removed stays, and does not prevent what concerns others. If its removal has begun, the next run
    /// completes it.
    pub(super) fn stuck(&mut self, removal: &Removal, why: &anyhow::Error) {
        let Removal { module, target, .. } = removal;
        let begun = self.intent.withdraw.contains(&Placement::of(module, target));
        let (what, remaining) = match begun {
            true => ("removed in part", "the next run of dkms completes the removal".to_owned()),
            false => ("not removed", format!("{module} remains in the DKMS tree")),
        };
        let failing = Failing::new(Fault::Dkms, Exit::ERROR, format!("{what}: {why:#}"));
        let outcome = Outcome::Failed(Failing { remaining, ..failing });
        self.session.screen.progress(&crate::report::text::progress(module, target, &outcome, None));
        self.report.add(module, Some(target), outcome);
        self.failed.insert(Placement::of(module, target));
        self.kept_in_tree.insert(module.clone());
    }

    /// Runs a module's POST_REMOVE, and records that it has ended.
    pub(super) fn post_remove(
        &mut self,
        module: &ModuleId,
        target: &Target,
        command: Option<&str>,
    ) -> Result<()> {
        let Some(command) = command else { return Ok(()) };
        self.forget_module_files();
        if let Some(trouble) = script::run(self.session, module, Some(target), "post_remove", command)? {
            self.report.remarks.push(format!("{module}: {}", trouble.why));
        }
        self.intend(|intent| {
            intent.post_remove.remove(&Placement::of(module, target));
        })
    }

    /// Whether a recorded file is no longer ours because another module of the DKMS tree, or the admin, replaced it. A
    /// file that was only signed or compressed again is still ours.
    pub(super) fn foreign(&self, id: &ModuleId, target: &Target, file: &Installed) -> Result<bool> {
        let Ok(content) = file::content(&file.path) else { return Ok(false) };
        let sha256 = hash::hex(&content);
        if file.sha256.is_empty() || sha256 == file.sha256 {
            return Ok(false);
        }
        // Rare, so the other modules are read only now.
        let all = self.tree.snapshot()?;
        let others = all.modules.iter().filter(|(other, _)| other.name != id.name);
        let builds = others.filter_map(|(_, entry)| entry.builds.get(target)).filter(|build| build.active);
        let mut theirs =
            builds.filter_map(|build| build.record.as_ref()).flat_map(|record| &record.installed);
        if theirs.any(|their| their.path == file.path && their.sha256 == sha256) {
            return Ok(true);
        }
        let says = |path: &Path| {
            let info = kernel::read_module(path).and_then(|content| Ok(Module::read(&content)?));
            info.ok().map(|info| (info.version, info.srcversion))
        };
        let built =
            self.tree.layout.built_modules(id, target).join(file.path.file_name().unwrap_or_default());
        let (there, ours) = (says(&file.path), says(&built));
        Ok(there.is_some() && ours.is_some() && there != ours)
    }

    /// Deletes files in the kernel's module directory that equal those of a build that is not marked as installed: they
    /// remain from an interrupted installation that could not be completed. Once the build is deleted, their owner
    /// cannot be determined.
    fn strays(&mut self, id: &ModuleId, target: &Target) -> Result<()> {
        let mut changed = Changed::default();
        let built = self.tree.layout.built_modules(id, target);
        for file in self.published_files(id, target)? {
            let name = file.path.file_name().unwrap_or_default();
            let same = file::content(&file.path)
                .ok()
                .is_some_and(|content| file::content(built.join(name)).is_ok_and(|built| built == content));
            // Rare, so the other modules are read only now.
            let claimed = same && self.all_claims()?.get(&file.path).is_some_and(|owners| !owners.is_empty());
            let packaged = same && {
                let markers = marker::markers(&self.tree.layout, target);
                markers.values().any(|marker| marker.owns(&self.tree.layout, &file.path))
            };
            if same && !claimed && !packaged {
                changed.remove(&file.path)?;
                let kernel = self.tree.layout.kernel(&target.kernel);
                file::remove_empty_up_to(file.path.parent().unwrap_or(&kernel), &kernel);
                self.published.entry(target.clone()).or_default();
            }
        }
        changed.sync()
    }
}
