//! One task of a plan: building a module for a kernel, and installing it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};

use super::Work;
use crate::cache;
use crate::conf::Recipe;
use crate::exit::Exit;
use crate::kernel::Kernel;
use crate::plan::{Case, Task};
use crate::report::{Failing, Fault, Outcome};
use crate::step::build::{Built, Job, Unbuilt};
use crate::step::{publish, script, sign, verify, weak_modules};
use crate::sys::jobs::Jobs;
use crate::sys::{confine, file, signal};
use crate::tree::{Failure, Pending, Record, unsigned};
use crate::types::{Attempt, Placement, Target};

/// The inputs of a build, which are known before any build begins.
pub(super) fn job<'a>(
    work: &Work<'a>,
    make: &'a Task,
    signing: &'a BTreeMap<Target, sign::Signing>,
    (jobs, builds): (&'a Jobs, usize),
    stop: &'a Arc<AtomicBool>,
) -> Result<Job<'a>> {
    let (case, recipe, kernel) = known(work, make)?;
    let recipe = recipe.map_err(|why| anyhow::anyhow!("{why}"))?;
    let Some(headers) = &kernel.headers else { bail!("the plan contains a build without kernel headers") };
    let Some(source) = work.survey.sources.get(&make.module) else {
        bail!("the plan contains a build without a source directory")
    };
    Ok(Job {
        module: &make.module,
        kernel,
        headers,
        recipe,
        source,
        signing: signing.get(&make.target).unwrap_or(&sign::Signing::Unknown),
        signer: case.signer.as_deref(),
        fingerprint: &make.fingerprint,
        layers: work.proof.and_then(|proof| proof.layers.as_ref()),
        unfinished: work.proof.is_some(),
        symvers: symvers(work, make),
        jobs,
        builds,
        stop,
    })
}

pub(super) type Surveyed<'a> = (&'a Case, std::result::Result<&'a Recipe, String>, &'a Kernel);

pub(super) fn known<'a>(work: &Work<'a>, make: &Task) -> Result<Surveyed<'a>> {
    let survey = work.survey;
    let key = Placement::of(&make.module, &make.target);
    let (Some(case), Some(kernel)) = (survey.cases.get(&key), survey.kernels.get(&make.target)) else {
        bail!("the plan contains {} for {}, which was not examined", make.module, make.target);
    };
    Ok((case, case.recipe.as_ref().map_err(ToString::to_string), kernel))
}

/// The result of a build.
pub(super) type Ended = Attempt<Built, Unbuilt>;

/// Moves a build into the DKMS tree, and installs it if the plan requests this.
pub(super) fn finish(work: &mut Work<'_>, make: &Task, attempt: Option<Ended>) -> Result<Outcome> {
    let (case, recipe, kernel) = known(work, make)?;
    let recipe = match recipe {
        Ok(recipe) => recipe,
        Err(why) => return Ok(work.failed(make, Failing::new(Fault::Module, Exit::BAD_CONF, why))),
    };
    let mut notes = Vec::new();
    let mut seconds = 0.0;
    let mut compiled = false;
    if let Some(attempt) = attempt {
        match settle(work, make, case, recipe, attempt)? {
            Ok(made) => (seconds, notes, compiled) = (made.seconds, made.notes, !made.cached),
            Err(outcome) => return Ok(outcome),
        }
        notes.extend(recipe.left_out.iter().cloned());
    }
    if !make.install {
        let remarks =
            notes.into_iter().map(|note| format!("{} for {}: {note}", make.module, make.target.kernel));
        work.report.remarks.extend(remarks);
        return Ok(Outcome::Built { seconds });
    }
    fail::fail_point!("make:before-publish");
    Ok(match publish(work, make, recipe, kernel)? {
        Ok(more) => {
            notes.extend(more);
            Outcome::Installed { built: compiled, seconds, notes }
        }
        Err(outcome) => outcome,
    })
}

/// The signer for each kernel that something is built for.
pub(super) fn signing(work: &mut Work<'_>, makes: &[Task]) -> Result<BTreeMap<Target, sign::Signing>> {
    let mut all = BTreeMap::new();
    // A pre-build neither signs nor generates a key.
    let makes = if work.proof.is_some() { &[] } else { makes };
    for target in makes.iter().filter(|make| make.build).map(|make| &make.target) {
        let headers = work.survey.kernels.get(target).and_then(|kernel| kernel.headers.as_ref());
        let Some(headers) = headers.filter(|_| !all.contains_key(target)) else { continue };
        let signing = match sign::prepare(work.session, target, headers) {
            Err(error) if error.is::<signal::Interrupted>() => return Err(error),
            other => other.unwrap_or_else(|error| sign::Signing::Not(format!("{error:#}"))),
        };
        all.insert(target.clone(), signing);
    }
    Ok(all)
}

/// The build of this task in the DKMS tree.
struct StoredBuild {
    seconds: f64,
    notes: Vec<String>,
    cached: bool,
}

/// The result of a build, in which an I/O error such as a full disk or a deleted source counts as a failure of this
/// module, and not of the transaction.
pub(super) fn result(ended: Ended) -> Ended {
    match ended {
        Ok(result) => Ok(result),
        Err(error) if error.is::<signal::Interrupted>() => Err(error),
        Err(error) => Ok(Err(Unbuilt {
            why: format!("{error:#}"),
            code: Exit::BUILD_FAILED,
            errors: Vec::new(),
            log: Vec::new(),
            fault: Fault::Machine,
            cause: Some("dkms could not continue".into()),
        })),
    }
}

/// Moves a successful build into the DKMS tree, or records its failure.
fn settle(
    work: &mut Work<'_>,
    make: &Task,
    case: &Case,
    recipe: &Recipe,
    ended: Ended,
) -> Attempt<StoredBuild, Outcome> {
    let built = match result(ended)? {
        Ok(built) => built,
        Err(unbuilt) => return Ok(Err(remember(work, make, unbuilt)?)),
    };
    if recipe.follows && !make.force {
        // Shell DKMS detects changes of a dependency by these files.
        for needed in &make.after {
            let mark = built.staged.join(format!(".dep_{}", needed.name));
            file::write_atomic(&mark, format!("{}\n", needed.version).as_bytes(), 0o644)?;
        }
    }
    fail::fail_point!("make:before-adopt");
    let before = work.snapshot.build(&make.module, &make.target).and_then(|build| build.record.clone());
    // The installed files differ from the new build: until it is installed, they count as damaged.
    let mut installed = before.map(|record| record.installed).unwrap_or_default();
    installed.iter_mut().for_each(|file| file.sha256.clear());
    work.tree.adopt_build(&make.module, &make.target, &built.staged, installed.clone())?;
    fail::fail_point!("make:adopted");
    // Signed as expected, or no signer is available.
    let good = built.signer.is_some() || case.signer.is_none();
    let record = Record {
        fingerprint: make.fingerprint.clone(),
        installed,
        signer: built.signer.or_else(|| case.signer.as_deref().map(unsigned)),
        seconds: built.seconds,
        loaded: false,
    };
    work.tree.record(&make.module, &make.target, &record)?;
    work.tree.forget_failure(&make.module, &make.target)?;
    let place = work.session.layout.build(&make.module);
    // As shell DKMS leaves it, this also deletes the files of a killed build of shell DKMS. Without a sandbox, builds
    // run in this directory, and the next one may have begun.
    file::remove_all(&if confine::available() { place } else { place.join("make.log") })?;
    if !built.kept && good {
        let from = work.session.layout.built(&make.module, &make.target);
        keep(work, make, &from, &record, &built.notes);
    }
    Ok(Ok(StoredBuild { seconds: built.seconds, notes: built.notes, cached: built.cached }))
}

/// Stores a build in the cache. A failure costs only time.
pub(super) fn keep(work: &mut Work<'_>, make: &Task, from: &Path, record: &Record, notes: &[String]) {
    let key = cache::key(&make.fingerprint, record.signer.as_deref());
    let manifest = cache::Manifest::new(
        &make.module,
        &make.target,
        record.signer.clone(),
        record.seconds,
        notes.to_owned(),
    );
    work.kept |= work.session.cache().keep(&key, from, manifest).is_ok();
}

/// The programs that run in a build for this kernel, apart from the compiler.
pub(super) fn environment(work: &Work<'_>, target: &Target) -> String {
    let headers = work.survey.kernels.get(target).and_then(|kernel| kernel.headers.as_ref());
    headers.map(|headers| headers.environment.clone()).unwrap_or_default()
}

/// Records a failure with its log, so that it is not repeated, and adds the path of the log.
pub(super) fn remember(work: &Work<'_>, make: &Task, unbuilt: Unbuilt) -> Result<Outcome> {
    let layout = &work.session.layout;
    let log = layout.failure_log(&make.module, &make.target);
    let keep = || -> Result<()> {
        file::write_atomic(&log, &unbuilt.log, 0o644)?;
        // The path where shell DKMS leaves it, for tools that read it.
        if work.proof.is_none() {
            file::write_atomic(&layout.build(&make.module).join("make.log"), &unbuilt.log, 0o644)?;
        }
        let failure = Failure {
            fingerprint: make.fingerprint.clone(),
            why: unbuilt.why.clone(),
            errors: unbuilt.errors.clone(),
            log: log.clone(),
            code: unbuilt.code,
            environment: environment(work, &make.target),
            view: work.proof.and_then(|proof| proof.view.clone()),
            boot: (unbuilt.fault == Fault::Unknown).then(|| layout.boot_id()).flatten(),
        };
        // A failure caused by the machine proves nothing about the module: it is retried.
        if unbuilt.fault.lasts() {
            work.tree.record_failure(&make.module, &make.target, &failure)
        } else {
            Ok(())
        }
    };
    let kept = keep().is_ok() && !unbuilt.log.is_empty();
    let why = match unbuilt.cause {
        Some(cause) => format!("{}: {cause}", unbuilt.why),
        None => unbuilt.why,
    };
    let failing = Failing::new(unbuilt.fault, unbuilt.code, why);
    let log = kept.then(|| log.display().to_string());
    Ok(work.failed(make, Failing { errors: unbuilt.errors, log, ..failing }))
}

/// Whether a build was not verified yet, because shell DKMS made it, or it is from a tarball.
fn unproven(work: &Work<'_>, make: &Task) -> bool {
    let build = work.snapshot.build(&make.module, &make.target);
    build.is_some_and(|build| build.record.as_ref().is_none_or(|record| record.loaded))
}

/// The symbol lists of the modules that this one depends on.
fn symvers(work: &Work<'_>, make: &Task) -> Vec<PathBuf> {
    let layout = &work.session.layout;
    make.after.iter().map(|id| layout.built_modules(id, &make.target).join("Module.symvers")).collect()
}

/// Installs a build for the kernel.
fn publish(
    work: &mut Work<'_>,
    make: &Task,
    recipe: &Recipe,
    kernel: &Kernel,
) -> Attempt<Vec<String>, Outcome> {
    let (session, tree) = (work.session, work.tree);
    let (module, target) = (&make.module, &make.target);
    let active = work.snapshot.active(&module.name, target).cloned();
    let mut published = match &active {
        Some(active) => work.published_files(active, target)?,
        None => Vec::new(),
    };
    published.dedup();
    let order = publish::Order {
        module,
        kernel,
        recipe,
        force: make.force || session.options.force_version || session.policy.overrides_versions(&module.name),
        active: active.is_some(),
        published: &published,
    };
    let mut notes = Vec::new();
    if !make.build && unproven(work, make) {
        match verify::finished(&session.layout, module, kernel, recipe, &symvers(work, make)) {
            Ok(remarks) => notes.extend(remarks),
            Err(why) => {
                let rebuild = format!("dkms build {module} -k {} --force", target.kernel);
                let why = format!("the existing build is unusable: {why}");
                let failing = Failing::new(Fault::Module, Exit::WOULD_NOT_LOAD, why);
                return Ok(Err(work.failed(make, failing.advice(format!("to rebuild: {rebuild}")))));
            }
        }
    }
    let pre_install = &recipe.scripts.pre_install;
    if let Some(trouble) = script::run(session, module, Some(target), "pre_install", pre_install)? {
        if trouble.status.is_some() && !make.force && !session.policy.forces(&module.name) {
            let failing = Failing::new(Fault::Module, Exit::PRE_INSTALL, trouble.why);
            return Ok(Err(work.failed(make, failing.advice("use --force to install anyway"))));
        }
        notes.push(trouble.why);
    }
    work.intend(|intent| intent.touched.extend(publish::destinations(session, &order)))?;
    let publication = match publish::stage(session, &order) {
        Ok(publication) => publication,
        Err(error) => {
            let why = format!("installation failed: {error:#}");
            return Ok(Err(work.failed(make, Failing::new(Fault::Dkms, Exit::NOT_INSTALLED, why))));
        }
    };
    fail::fail_point!("publish:staged");
    if let Some(why) = publication.native() {
        return Ok(Err(Outcome::Native { why }));
    }
    work.intend(|intent| {
        intent.publish.push(Pending { module: module.clone(), target: target.clone(), force: make.force });
        intent.depmod.insert(target.clone());
        if !recipe.scripts.post_install.is_empty() {
            intent.post_install.insert(Placement::of(module, target));
        }
    })?;
    fail::fail_point!("publish:intended");
    notes.extend(publication.skipped.iter().cloned());
    let names = publication.names.clone();
    let installed = publication.commit(&order)?;
    fail::fail_point!("publish:before-activate");
    tree.activate(module, target)?;
    fail::fail_point!("publish:activated");
    tree.note_installed(module, target, &make.fingerprint, installed.clone())?;
    fail::fail_point!("publish:noted");
    let mut others = work.snapshot.superseded(module, target);
    others.extend(active.iter().filter(|old| *old != module));
    for old in others {
        retire(work, old, target)?;
    }
    work.published.entry(target.clone()).or_default().extend(names);
    if recipe.weak_modules {
        notes.extend(weak_modules::tell(session, target, true, &installed)?);
    }
    if !recipe.scripts.post_install.is_empty() {
        let post_install = &recipe.scripts.post_install;
        let trouble = script::run(session, module, Some(target), "post_install", post_install)?;
        notes.extend(trouble.map(|trouble| trouble.why));
        work.intend(|intent| {
            intent.post_install.remove(&Placement::of(module, target));
        })?;
    }
    Ok(Ok(notes))
}

/// Clears the record of the previous version's installed files, and deletes a stand-in.
fn retire(work: &Work<'_>, old: &crate::types::ModuleId, target: &Target) -> Result<()> {
    let Some(entry) = work.snapshot.modules.get(old) else { return Ok(()) };
    if entry.stands_in() {
        // Together with its last build, because without builds its directory would not be found again.
        let gone = |other: &Target| other == target || !work.tree.layout.built(old, other).exists();
        if entry.builds.keys().all(gone) {
            work.tree.forget(old)?;
        } else {
            work.tree.delete_build(old, target)?;
        }
    } else if let Some(mut record) = entry.builds.get(target).and_then(|build| build.record.clone()) {
        record.installed.clear();
        work.tree.record(old, target, &record)?;
    }
    Ok(())
}
