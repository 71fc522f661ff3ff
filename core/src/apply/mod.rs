//! Executes a plan and fills the report. Makes no decisions.

pub mod boot;
mod claims;
mod dependents;
mod hold;
mod install;
mod leave;
mod module_files;
mod outlook;
mod prove;
mod queue;
mod recover;
mod removal;
mod schedule;
mod stores;
mod task;
mod transaction;
mod unfinished;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

pub use hold::{hold, tidy};
pub use leave::let_go;
pub use outlook::{Outlook, Prospect, outlook};
pub use transaction::{Proven, prove, run, status_of};

use dependents::Broken;

use crate::exit::Exit;
use crate::kernel::Kernel;
use crate::loaded::{self, Replaced};
use crate::plan::{Loading, Plan, Skip, Survey, Task, Unregister};
use crate::report::progress::Progress;
use crate::report::{Class, Failing, Fault, Outcome, Report};
use crate::session::Session;
use crate::step::script::Trouble;
use crate::step::{load, publish, script};
use crate::survey;
use crate::sys::run::{Cmd, Output};
use crate::sys::signal;
use crate::tree::{Installed, Intent, LockedTree, Record, Snapshot};
use crate::types::{ModuleId, ModuleName, Placement, Target};
use crate::unpacked::Overlay;

/// A plan during its execution.
struct Work<'a> {
    session: &'a Session,
    tree: &'a LockedTree,
    snapshot: &'a Snapshot,
    survey: &'a Survey,
    /// Pre-build: only the cache and the recorded failures are changed.
    proving: bool,
    /// What builds see over the system.
    overlay: Option<&'a Overlay>,
    /// Kernels that are being removed.
    gone: &'a BTreeSet<Target>,
    /// Modules that could not be removed: their registration stays.
    kept_in_tree: BTreeSet<ModuleId>,
    /// Modules that leave the DKMS tree.
    unregister: &'a [Unregister],
    report: Report,
    intent: Intent,
    /// A publication was interrupted: the next run must examine it.
    unfinished: bool,
    /// The warning about builds without a sandbox has been printed.
    unconfined: bool,
    /// Installed modules that do not fit to what was published.
    broken: Vec<Broken>,
    /// Modules published, by kernel.
    published: BTreeMap<Target, Published>,
    /// Kernels whose initramfs dkms must regenerate.
    initramfs: &'a BTreeSet<Target>,
    /// Modules whose installation failed in this plan.
    failed: BTreeSet<Placement>,
    /// A build was added to the cache.
    kept: bool,
    /// Builds that came from a store for this plan, with its URL.
    fetched: BTreeMap<Placement, String>,
    /// When the transaction began.
    began: Instant,
    /// The files of all installed modules, read when they are first needed.
    claims: Option<publish::Claims>,
    /// Kernels that were read for modules outside of the plan's scope.
    kernels: BTreeMap<Target, Kernel>,
    /// The files in the module directories of kernels, read when they are first needed.
    module_files: BTreeMap<Target, Arc<BTreeSet<PathBuf>>>,
}

/// The modules that were published for a kernel.
#[derive(Debug, Default)]
struct Published {
    /// The packages.
    modules: BTreeSet<ModuleName>,
    /// The kernel's names of the modules.
    names: BTreeSet<String>,
}

/// A plan, and the facts that it was decided from.
#[derive(Debug, Clone, Copy)]
struct Decided<'a> {
    snapshot: &'a Snapshot,
    survey: &'a Survey,
    plan: &'a Plan,
    /// A pre-build.
    proving: bool,
    /// What builds see over the system.
    overlay: Option<&'a Overlay>,
}

/// How a plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completion {
    /// Everything was done.
    Whole,
    /// A part could not be finished; its intent stays recorded for the next run.
    Part,
}

/// Executes the plan. `Err` means that dkms failed or was interrupted; the intent is then still recorded, and the next
/// run completes it.
fn apply<'a>(
    session: &'a Session,
    tree: &'a LockedTree,
    decided: Decided<'a>,
    report: Report,
    began: Instant,
) -> (Report, Result<Completion>) {
    let Decided { snapshot, survey, plan, proving, overlay } = decided;
    let mut work = Work {
        session,
        tree,
        snapshot,
        survey,
        proving,
        overlay,
        gone: &plan.gone,
        kept_in_tree: BTreeSet::new(),
        unregister: &plan.unregister,
        report,
        intent: Intent::default(),
        unfinished: false,
        unconfined: !rustix::process::geteuid().is_root(),
        broken: Vec::new(),
        published: BTreeMap::new(),
        initramfs: &plan.initramfs,
        failed: BTreeSet::new(),
        kept: false,
        fetched: BTreeMap::new(),
        began,
        claims: None,
        kernels: BTreeMap::new(),
        module_files: BTreeMap::new(),
    };
    let result = stores::ask(&mut work, plan).and_then(|()| work.all(plan));
    (work.report, result)
}

impl<'a> Work<'a> {
    fn all(&mut self, plan: &'a Plan) -> Result<Completion> {
        let screen = self.session.screen;
        let builds = plan.tasks.iter().filter(|task| task.build).count();
        screen.event(&Progress::Begin { format: 1, builds, seconds: schedule::foreseen(self, plan) });
        for Skip { module, target, outcome } in &plan.settled {
            if let Some(target) = target {
                screen.event(&Progress::Outcome { module, target, outcome, done: 0 });
            }
            if let (Some(target), Outcome::Present) = (target, outcome) {
                self.session.screen.progress(&crate::report::text::progress(module, target, outcome, None));
            }
            self.report.add(module, target.as_ref(), outcome.clone());
        }
        for Placement { module: id, target } in &plan.forget {
            self.tree.forget_failure(id, target)?;
        }
        self.messages_of_confs(plan);
        for Placement { module: id, target } in &plan.post_remove {
            let command = self.recipe_of(id, target)?.map(|recipe| recipe.scripts.post_remove);
            self.post_remove(id, target, command.as_deref().filter(|command| !command.is_empty()))?;
        }
        for registration in &plan.register {
            self.register(&registration.module, &registration.source, plan.tasks.is_empty())?;
        }
        for loading in &plan.load {
            self.bring(loading)?;
        }
        let unknown = &self.session.policy.framework.compression.unknown;
        if plan.tasks.iter().any(|task| task.build) && !unknown.is_empty() {
            let options = unknown.join(", ");
            self.report.remarks.push(format!("framework.conf: ignored unknown options: {options}"));
        }
        schedule::carry_out(self, plan)?;
        for unregister in plan.unregister.iter().filter(|one| !self.kept_in_tree.contains(&one.module)) {
            // A version that was replaced in this transaction need not be kept.
            let now = Snapshot::load_some(&self.tree.layout, [unregister.module.name.clone()])?;
            let serves = |entry: &crate::tree::Entry| entry.builds.values().any(|build| build.active);
            if unregister.keep_builds && now.modules.get(&unregister.module).is_some_and(serves) {
                self.tree.unlink_source(&unregister.module)?;
                self.report.add(&unregister.module, None, Outcome::Kept);
            } else {
                self.tree.forget(&unregister.module)?;
                if screen.is_person() {
                    screen.progress(&format!("dkms: {} removed from the DKMS tree", unregister.module));
                }
                self.report.add(&unregister.module, None, Outcome::Unregistered);
            }
        }
        for target in &plan.gone {
            self.tree.forget_kernel(target)?;
        }
        for (id, target, fingerprint) in &plan.adopt {
            self.adopt(id, target, fingerprint)?;
        }
        self.report.remarks.extend(self.broken.iter().map(Broken::line));
        // Installed does not imply loadable if Secure Boot is on.
        let changed: BTreeSet<Target> = self.published.keys().cloned().collect();
        let foreseen = crate::check::foreseen(self.session, &changed, || self.tree.snapshot());
        match foreseen {
            Ok(rejections) => self.report.remarks.extend(rejections.iter().map(ToString::to_string)),
            Err(error) => self.report.remarks.push(format!("{error:#}")),
        }
        // Nor does it imply loaded.
        if self.session.running().is_some_and(|running| changed.iter().any(|target| target.kernel == running))
        {
            let replaced = loaded::replaced(self.session, &self.tree.snapshot()?, &changed);
            self.report.remarks.extend(replaced.iter().map(Replaced::line));
            if let Err(error) = loaded::request_restart(self.session, &replaced) {
                self.report.remarks.push(format!("requesting a restart failed: {error:#}"));
            }
        }
        self.finish()
    }

    /// Reports what the dkms.conf of each module that is added or built wrote to standard error.
    fn messages_of_confs(&mut self, plan: &Plan) {
        let added = plan.register.iter().map(|registration| &registration.module);
        let concerned: BTreeSet<&ModuleId> =
            added.chain(plan.tasks.iter().map(|task| &task.module)).collect();
        let cases = self.survey.cases.iter().filter(|(place, _)| concerned.contains(&place.module));
        let recipes = cases.filter_map(|(place, case)| Some((&place.module, case.recipe.as_ref().ok()?)));
        for (id, recipe) in recipes {
            for message in recipe.said.iter().map(|line| format!("{id}: {line}")) {
                if !self.report.remarks.contains(&message) {
                    self.report.remarks.push(message);
                }
            }
        }
    }

    /// Imports a build from a tarball. The installed files then differ from the build, so they count as damaged.
    fn bring(&mut self, loading: &Loading) -> Result<()> {
        let Loading { module, target, dir } = loading;
        let before = self.snapshot.build(module, target).and_then(|build| build.record.clone());
        let mut installed = before.map(|record| record.installed).unwrap_or_default();
        installed.iter_mut().for_each(|file| file.sha256.clear());
        fail::fail_point!("load:before-adopt");
        self.tree.load_build(module, target, dir, installed)?;
        fail::fail_point!("load:adopted");
        self.session.screen.progress(&crate::report::text::progress(module, target, &Outcome::Loaded, None));
        self.report.add(module, Some(target), Outcome::Loaded);
        Ok(())
    }

    fn register(&mut self, id: &ModuleId, source: &Path, alone: bool) -> Result<()> {
        self.tree.register(id, source)?;
        let recipe = self.survey.cases.iter().find(|(placement, _)| placement.module == *id);
        let used = recipe.and_then(|(_, case)| case.recipe.as_ref().ok()).filter(|_| alone);
        let remarks = used.into_iter().flat_map(crate::conf::Recipe::deprecated);
        self.report.remarks.extend(remarks.map(|remark| format!("{id}: {remark}")));
        let post_add =
            recipe.and_then(|(_, case)| case.recipe.as_ref().ok()).map(|recipe| &recipe.scripts.post_add);
        let trouble = post_add.map(|command| script::run(self.session, id, None, "post_add", command));
        let trouble = trouble.transpose()?.flatten();
        self.session.screen.progress(&format!("dkms: {id} added to the DKMS tree"));
        self.report.add(id, None, Outcome::Registered);
        match trouble {
            // As in shell DKMS: the module is added, and the script's exit status is that of the command.
            Some(Trouble { why, status: Some(code) }) if alone => {
                let remaining = "the module was added to the DKMS tree".to_owned();
                let failing = Failing::new(Fault::Module, Exit::of_script(code), why);
                self.report.add(id, None, Outcome::Failed(Failing { remaining, ..failing }));
            }
            Some(trouble) => self.report.remarks.push(format!("{id}: {}", trouble.why)),
            None => {}
        }
        Ok(())
    }

    /// Records a change of a kernel's modules before it is made; writes nothing if it is recorded already.
    fn intend(&mut self, change: impl FnOnce(&mut Intent)) -> Result<()> {
        let recorded = self.intent.clone();
        change(&mut self.intent);
        if self.intent == recorded {
            return Ok(());
        }
        let written = self.tree.intend(&self.intent);
        if written.is_err() {
            // What is not on the disk is not completed by a later run.
            self.intent = recorded;
        }
        written
    }

    /// The files that an installed build has in the kernel's module directory: as recorded, else where they must be.
    fn published_files(&mut self, id: &ModuleId, target: &Target) -> Result<Vec<Installed>> {
        let Some(build) = self.snapshot.build(id, target) else { return Ok(Vec::new()) };
        if let Some(record) = build.record.as_ref().filter(|record| !record.installed.is_empty()) {
            return Ok(record.installed.clone());
        }
        let destination = self.session.policy.destination();
        let recipe = if destination.is_none() { self.recipe_of(id, target)? } else { None };
        Ok(publish::guess(&self.tree.layout, destination, recipe.as_ref(), &build.files, target))
    }

    /// The recipe of a module that is not in the plan's scope; `None` if its source is missing or its dkms.conf is bad.
    fn recipe_of(&mut self, id: &ModuleId, target: &Target) -> Result<Option<crate::conf::Recipe>> {
        if let Some(case) = self.survey.cases.get(&Placement::of(id, target)) {
            return Ok(case.recipe.as_ref().ok().cloned());
        }
        let Some(source) = self.snapshot.modules.get(id).and_then(|entry| entry.source_dir()) else {
            return Ok(None);
        };
        if !self.kernels.contains_key(target) {
            self.kernels.insert(target.clone(), self.session.kernel(target)?);
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
            let sha256 = crate::sys::hash::hex(&crate::sys::file::content(&file.path).ok()?);
            Some(Installed { sha256, ..file })
        });
        // Shell DKMS signs with the same key.
        let case = self.survey.cases.get(&Placement::of(id, target));
        let signer = case.and_then(|case| case.signer.clone());
        let record = Record {
            fingerprint: fingerprint.clone(),
            installed: with_hash.collect(),
            withheld: Vec::new(),
            shares: BTreeSet::new(),
            signer,
            seconds: 0.0,
            loaded: false,
            store: None,
            renamed: BTreeMap::new(),
            outside: crate::sys::hash::Digests::default(),
        };
        self.tree.record(id, target, &record)
    }

    /// The steps after depmod has run for every kernel.
    fn finish(&mut self) -> Result<Completion> {
        self.refresh_initramfs()?;
        if self.kept {
            // A cache that is too large does not fail the transaction.
            drop(self.session.cache().trim());
        }
        self.load_modules()?;
        self.post_transaction()?;
        if self.unfinished {
            return Ok(Completion::Part);
        }
        fail::fail_point!("finish:before-fulfilled");
        self.tree.fulfilled()?;
        Ok(Completion::Whole)
    }

    /// Loads what was installed for the running kernel, if this was requested.
    fn load_modules(&mut self) -> Result<()> {
        let session = self.session;
        let running = session.running();
        let fresh = self.report.lines.iter().any(|line| {
            line.outcome.class() == Class::Installed
                && line.target.as_ref().is_some_and(|target| Some(&target.kernel) == running.as_ref())
        });
        let here = session.layout.depmod_root() == Some(Path::new("/"));
        if !(session.modprobe() && fresh && here) || session.guest() {
            return Ok(());
        }
        match load::probe_devices(session) {
            Ok(remark) => self.report.remarks.extend(remark),
            Err(error) if error.is::<signal::Interrupted>() => return Err(error),
            Err(error) => self.report.remarks.push(format!("loading modules failed: {error:#}")),
        }
        Ok(())
    }

    /// Runs framework.conf's `post_transaction` after a transaction that changed modules: once per kernel if the
    /// command mentions the kernel release, else once.
    fn post_transaction(&mut self) -> Result<()> {
        let command = &self.session.policy.framework.post_transaction;
        if command.trim().is_empty() {
            return Ok(());
        }
        let once = if command.contains("kernelver") { usize::MAX } else { 1 };
        for target in self.published.keys().take(once) {
            let done = Cmd::new("bash")
                .args(["--noprofile", "--norc", "-c", command])
                .env("kernelver", target.kernel.as_str())
                .output(Output::Stderr)
                .run()?;
            if !done.status.success() {
                let (kernel, code) = (&target.kernel, done.code());
                self.report.remarks.push(format!("post_transaction for {kernel} failed (exit code {code})"));
            }
        }
        Ok(())
    }

    /// Adds what remains installed for this kernel and others.
    fn failed(&self, task: &Task, failing: Failing) -> Outcome {
        let remaining = crate::plan::remaining(self.snapshot, self.gone, &task.module, &task.target);
        Outcome::Failed(Failing { remaining, ..failing })
    }
}
