//! Carries out a plan and fills the report. Decides nothing.

mod make;
mod recover;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

pub use transaction::{run, status_of};

use crate::kernel::Kernel;
use crate::plan::{Clear, Make, Plan, Settled, Survey};
use crate::report::{Failing, Outcome, Report};
use crate::session::Session;
use crate::step::{depmod, initramfs, publish, script, sign, withdraw};
use crate::survey;
use crate::sys::signal;
use crate::tree::{Intent, LockedTree, Record, Snapshot};
use crate::types::{ModuleId, Target};

/// A plan being carried out.
struct Work<'a> {
    session: &'a Session,
    tree: &'a LockedTree,
    snapshot: &'a Snapshot,
    survey: &'a Survey,
    report: Report,
    intent: Intent,
    /// A publication broke in the middle: the next run must look at it.
    unfinished: bool,
    /// It has been said that builds run unconfined.
    unconfined: bool,
    /// Modules published, by kernel.
    published: BTreeMap<Target, BTreeSet<String>>,
    /// What a module's installation in this plan came to.
    failed: BTreeSet<(ModuleId, Target)>,
    signing: BTreeMap<Target, sign::Signing>,
    /// Kernels that were looked at for modules outside of the plan's scope.
    kernels: BTreeMap<Target, Kernel>,
}

/// How a plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// All of it is as it was meant.
    Whole,
    /// Something could not be finished; it stays written down.
    Part,
}

/// Does what the plan says. `Err` means that we broke or were interrupted; what was intended is then still
/// written down, and the next run completes it.
fn apply(
    session: &Session,
    tree: &LockedTree,
    snapshot: &Snapshot,
    survey: &Survey,
    plan: &Plan,
    report: Report,
) -> (Report, Result<Done>) {
    let mut work = Work {
        session,
        tree,
        snapshot,
        survey,
        report,
        intent: Intent::default(),
        unfinished: false,
        unconfined: !rustix::process::geteuid().is_root(),
        published: BTreeMap::new(),
        failed: BTreeSet::new(),
        signing: BTreeMap::new(),
        kernels: BTreeMap::new(),
    };
    let result = work.all(plan);
    (work.report, result)
}

impl Work<'_> {
    fn all(&mut self, plan: &Plan) -> Result<Done> {
        for Settled { module, target, outcome } in &plan.settled {
            self.report.add(module, target.as_ref(), outcome.clone());
        }
        for (id, target) in &plan.forget {
            self.tree.forget_failure(id, target)?;
        }
        for registration in &plan.register {
            self.register(&registration.module, &registration.source)?;
        }
        let builds = plan.make.iter().filter(|make| make.build).count();
        let mut number = 0;
        for make in &plan.make {
            signal::check()?;
            number += usize::from(make.build);
            let count = (builds > 1 && make.build).then_some((number, builds));
            self.one(make, count)?;
        }
        for clear in &plan.clear {
            signal::check()?;
            self.clear(clear)?;
        }
        for unregister in &plan.unregister {
            // What its successor has replaced in this very transaction need not be kept.
            let now = Snapshot::load_some(&self.tree.layout, Some(&unregister.module.name))?;
            let serves = |entry: &crate::tree::Entry| entry.builds.values().any(|build| build.active);
            if unregister.keep_builds && now.modules.get(&unregister.module).is_some_and(serves) {
                self.tree.unlink_source(&unregister.module)?;
                self.report.add(&unregister.module, None, Outcome::Kept);
            } else {
                self.tree.forget(&unregister.module)?;
                self.report.add(&unregister.module, None, Outcome::Unregistered);
            }
        }
        for target in &plan.gone {
            self.tree.forget_kernel(target)?;
        }
        for (id, target, fingerprint) in &plan.adopt {
            self.adopt(id, target, fingerprint)?;
        }
        self.finish(plan)
    }

    fn register(&mut self, id: &ModuleId, source: &std::path::Path) -> Result<()> {
        self.tree.register(id, source)?;
        let recipe = self.survey.cases.iter().find(|((module, _), _)| module == id);
        let post_add =
            recipe.and_then(|(_, case)| case.recipe.as_ref().ok()).map(|recipe| &recipe.scripts.post_add);
        if let Some(command) = post_add
            && let Some(why) = script::run(self.session, id, None, "post_add", command)?
        {
            self.report.remarks.push(format!("{id}: {why}"));
        }
        self.session.screen.progress(&format!("dkms: {id} is registered"));
        self.report.add(id, None, Outcome::Registered);
        Ok(())
    }

    /// Builds and installs one module, as far as the plan wants it.
    fn one(&mut self, make: &Make, count: Option<(usize, usize)>) -> Result<()> {
        let key = (make.module.clone(), make.target.clone());
        // A finished build goes on. A new one waits even when an older version of what it needs is installed: built
        // against that it would not fit what is meant to come.
        let missing = make
            .after
            .iter()
            .find(|id| make.build && self.failed.contains(&((*id).clone(), make.target.clone())));
        let outcome = match missing {
            Some(id) if !make.force => Outcome::Deferred {
                why: format!("it needs {id}, which failed just now"),
                advice: format!("correct {id} first"),
                code: 13,
            },
            _ => match make::make(self, make, count) {
                Err(error) if error.is::<signal::Interrupted>() => return Err(error),
                // One module's trouble with the disk is not the end of the others.
                Err(error) => {
                    self.unfinished = true;
                    self.failing(make, format!("it could not be finished: {error:#}"), 6)
                }
                Ok(outcome) => outcome,
            },
        };
        if !matches!(outcome, Outcome::Installed { .. } | Outcome::Built { .. } | Outcome::Native { .. }) {
            self.failed.insert(key);
        }
        if make.build && !crate::sys::confine::available() && !self.unconfined {
            self.unconfined = true;
            let why =
                "this system allows no namespaces: modules are built as the user that runs dkms, unconfined";
            self.report.remarks.push(why.to_owned());
        }
        self.session.screen.progress(&crate::report::text::progress(
            &make.module,
            &make.target,
            &outcome,
            count,
        ));
        self.report.add(&make.module, Some(&make.target), outcome);
        Ok(())
    }

    /// Writes down what is about to change in a kernel's tree, before it does.
    fn intend(&mut self, change: impl FnOnce(&mut Intent)) -> Result<()> {
        change(&mut self.intent);
        self.tree.intend(&self.intent)
    }

    fn clear(&mut self, clear: &Clear) -> Result<()> {
        let Clear { module, target, .. } = clear;
        if clear.withdraw {
            let published = self.published_files(module, target)?;
            if let Some(recipe) = self.recipe_of(module, target)? {
                withdraw::note_places(&self.tree.layout, module, target, &recipe.modules)?;
            }
            let leaves = clear.kernel_leaves;
            let touched = withdraw::destinations(&self.tree.layout, module, target, &published);
            self.intend(|intent| {
                intent.touched.extend(touched);
                intent.withdraw.push((module.clone(), target.clone()));
                if !leaves {
                    intent.depmod.insert(target.clone());
                }
            })?;
            fail::fail_point!("withdraw:intended");
            let notes = withdraw::withdraw(&self.tree.layout, module, target, &published)?;
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
            for note in notes {
                self.session.screen.progress(&format!("dkms: {module}: {note}"));
            }
            let command = self.recipe_of(module, target)?.map(|recipe| recipe.scripts.post_remove);
            if let Some(command) = command
                && let Some(why) = script::run(self.session, module, Some(target), "post_remove", &command)?
            {
                self.report.remarks.push(format!("{module}: {why}"));
            }
            self.published.entry(target.clone()).or_default();
        }
        if clear.unbuild {
            if !clear.withdraw && self.snapshot.active(&module.name, target).is_none() {
                self.strays(module, target)?;
            }
            fail::fail_point!("withdraw:before-unbuild");
            self.tree.delete_build(module, target)?;
        }
        if clear.kernel_leaves {
            self.published.remove(target);
            let kernel = self.tree.layout.kernel(&target.kernel);
            crate::sys::file::remove_empty_up_to(&kernel, &self.tree.layout.install_tree);
        }
        let outcome = if clear.unbuild { Outcome::Unbuilt } else { Outcome::Uninstalled };
        self.session.screen.progress(&crate::report::text::progress(module, target, &outcome, None));
        self.report.add(module, Some(target), outcome);
        Ok(())
    }

    /// Deletes files in the kernel's tree that are those of a build which does not count as installed: an installation
    /// that was cut short and could not be completed left them. Without their build nobody would know whose they are.
    fn strays(&mut self, id: &ModuleId, target: &Target) -> Result<()> {
        let built = self.tree.layout.built_modules(id, target);
        for file in self.published_files(id, target)? {
            let name = file.path.file_name().unwrap_or_default();
            let same = std::fs::read(&file.path)
                .ok()
                .is_some_and(|content| std::fs::read(built.join(name)).is_ok_and(|built| built == content));
            if same {
                crate::sys::file::remove_all(&file.path)?;
                let kernel = self.tree.layout.kernel(&target.kernel);
                crate::sys::file::remove_empty_up_to(file.path.parent().unwrap_or(&kernel), &kernel);
                self.published.entry(target.clone()).or_default();
            }
        }
        Ok(())
    }

    /// The files that an installed build has in the kernel's tree: as noted, else where they must be.
    fn published_files(&mut self, id: &ModuleId, target: &Target) -> Result<Vec<crate::tree::Installed>> {
        let Some(build) = self.snapshot.build(id, target) else { return Ok(Vec::new()) };
        if let Some(record) = build.record.as_ref().filter(|record| !record.installed.is_empty()) {
            return Ok(record.installed.clone());
        }
        let destination = self.session.policy.row.destination;
        let recipe = if destination.is_none() { self.recipe_of(id, target)? } else { None };
        Ok(publish::guess(&self.tree.layout, destination, recipe.as_ref(), &build.files, target))
    }

    /// The recipe of a module that is not in the plan's scope; `None` when its source is gone or bad.
    fn recipe_of(&mut self, id: &ModuleId, target: &Target) -> Result<Option<crate::conf::Recipe>> {
        if let Some(case) = self.survey.cases.get(&(id.clone(), target.clone())) {
            return Ok(case.recipe.as_ref().ok().cloned());
        }
        let Some(source) = self.snapshot.modules.get(id).and_then(|entry| entry.source_dir()) else {
            return Ok(None);
        };
        if !self.kernels.contains_key(target) {
            let headers = self.session.options.headers.as_deref();
            let kernel = Kernel::load(&self.session.layout, &self.session.policy.row, target, headers)?;
            self.kernels.insert(target.clone(), kernel);
        }
        let Some(kernel) = self.kernels.get(target) else { return Ok(None) };
        Ok(survey::recipe(self.session, id, kernel, source)?.ok())
    }

    fn adopt(
        &mut self,
        id: &ModuleId,
        target: &Target,
        fingerprint: &crate::types::Fingerprint,
    ) -> Result<()> {
        let installed = self.published_files(id, target)?;
        let with_hash = installed.into_iter().filter_map(|file| {
            let sha256 = crate::sys::hash::hex(&std::fs::read(&file.path).ok()?);
            Some(crate::tree::Installed { sha256, ..file })
        });
        // Shell DKMS signs with the same key.
        let case = self.survey.cases.get(&(id.clone(), target.clone()));
        let signer = case.and_then(|case| case.signer.clone());
        let record =
            Record { fingerprint: fingerprint.clone(), installed: with_hash.collect(), signer, seconds: 0.0 };
        self.tree.record(id, target, &record)
    }

    /// The index and the initramfs, once per kernel.
    fn finish(&mut self, plan: &Plan) -> Result<Done> {
        fail::fail_point!("finish:before-depmod");
        let mut stale: BTreeSet<Target> = plan.depmod.clone();
        stale.extend(self.published.keys().cloned());
        for target in stale {
            self.intend(|intent| {
                intent.depmod.insert(target.clone());
            })?;
            match depmod::depmod(self.session, &target) {
                Ok(true) => self.report.depmod.push(target),
                Ok(false) => {}
                Err(error) if error.is::<signal::Interrupted>() => return Err(error),
                Err(error) => self.report.problems.push(format!("{error:#}")),
            }
        }
        for target in &plan.initramfs {
            let names = self.published.get(target).cloned().unwrap_or_default();
            if self.session.options.no_depmod
                || self.session.layout.depmod_root() != Some(std::path::Path::new("/"))
            {
                continue;
            }
            match initramfs::refresh(self.session, target, &names) {
                Ok(true) => self.report.initramfs.push(target.clone()),
                Ok(false) => {}
                Err(error) if error.is::<signal::Interrupted>() => return Err(error),
                Err(error) => self.report.problems.push(format!("{error:#}")),
            }
        }
        self.post_transaction(&plan.make)?;
        if self.unfinished {
            return Ok(Done::Part);
        }
        fail::fail_point!("finish:before-fulfilled");
        self.tree.fulfilled()?;
        Ok(Done::Whole)
    }

    /// framework.conf's own hook at the end of a transaction that installed something.
    fn post_transaction(&mut self, makes: &[Make]) -> Result<()> {
        let command = &self.session.policy.framework.post_transaction;
        let Some(target) = self.published.keys().next().or_else(|| makes.first().map(|make| &make.target))
        else {
            return Ok(());
        };
        if command.is_empty() || self.published.is_empty() {
            return Ok(());
        }
        let command = command.replace("$kernelver", target.kernel.as_str());
        let done = crate::sys::run::Cmd::new("bash")
            .args(["--noprofile", "--norc", "-c", &command])
            .output(crate::sys::run::Output::Stderr)
            .run()?;
        if !done.status.success() {
            self.report.remarks.push(format!("post_transaction ended with status {}", done.code()));
        }
        Ok(())
    }

    fn failing(&self, make: &Make, why: String, code: i32) -> Outcome {
        Outcome::Failed(Failing {
            why,
            errors: Vec::new(),
            log: None,
            remembered: false,
            remaining: crate::plan::remaining(self.snapshot, &make.module, &make.target),
            code,
        })
    }
}
