//! One task of a plan: the inputs of its build, and what is done with the result.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};

use super::{Work, install};
use crate::cache;
use crate::conf::Recipe;
use crate::exit::Exit;
use crate::kernel::Kernel;
use crate::plan::{Case, Task};
use crate::report::{Failing, Fault, Outcome};
use crate::step::build::{Built, Job, Unbuilt};
use crate::step::{sign, verify};
use crate::sys::jobs::Jobs;
use crate::sys::{confine, file, signal};
use crate::tree::{Failure, Record, unsigned};
use crate::types::{Attempt, ModuleId, Placement, Target};

/// The inputs of a build, which are known before any build begins.
pub(super) fn job<'a>(
    work: &Work<'a>,
    task: &'a Task,
    signing: &'a BTreeMap<Target, sign::Signing>,
    (jobs, builds): (&'a Jobs, usize),
    stop: &'a Arc<AtomicBool>,
) -> Result<Job<'a>> {
    let (case, recipe, kernel) = known(work, task)?;
    let recipe = recipe.map_err(|why| anyhow::anyhow!("{why}"))?;
    let Some(headers) = &kernel.headers else { bail!("the plan contains a build without kernel headers") };
    let Some(source) = work.survey.sources.get(&task.module) else {
        bail!("the plan contains a build without a source directory")
    };
    Ok(Job {
        module: &task.module,
        kernel,
        headers,
        recipe,
        source,
        signing: signing.get(&task.target).unwrap_or(&sign::Signing::Unknown),
        signer: case.signer.as_deref(),
        fingerprint: &task.fingerprint,
        layers: work.overlay.map(|overlay| &overlay.layers),
        unfinished: work.proving,
        symvers: symvers(work, task),
        jobs,
        builds,
        stop,
    })
}

pub(super) type Surveyed<'a> = (&'a Case, std::result::Result<&'a Recipe, String>, &'a Kernel);

pub(super) fn known<'a>(work: &Work<'a>, task: &Task) -> Result<Surveyed<'a>> {
    let survey = work.survey;
    let key = Placement::of(&task.module, &task.target);
    let (Some(case), Some(kernel)) = (survey.cases.get(&key), survey.kernels.get(&task.target)) else {
        bail!("the plan contains {} for {}, which was not examined", task.module, task.target);
    };
    Ok((case, case.recipe.as_ref().map_err(ToString::to_string), kernel))
}

/// The result of a build.
pub(super) type BuildResult = Attempt<Built, Unbuilt>;

/// Moves a build into the DKMS tree, and installs it if the plan requests this.
pub(super) fn finish(work: &mut Work<'_>, task: &Task, attempt: Option<BuildResult>) -> Result<Outcome> {
    let (case, recipe, kernel) = known(work, task)?;
    let recipe = match recipe {
        Ok(recipe) => recipe,
        Err(why) => return Ok(work.failed(task, Failing::new(Fault::Module, Exit::BAD_CONF, why))),
    };
    let mut notes = passed_over(work, task);
    let mut seconds = 0.0;
    let mut compiled = false;
    let mut store = None;
    if let Some(attempt) = attempt {
        match settle(work, task, case, recipe, attempt)? {
            Ok(made) => {
                (seconds, compiled) = (made.seconds, !made.cached);
                store = made.origin;
                notes.extend(made.notes);
                if compiled {
                    notes.extend(recipe.deprecated());
                }
            }
            Err(outcome) => return Ok(outcome),
        }
        notes.extend(recipe.left_out.iter().cloned());
    }
    if !task.install {
        let remarks =
            notes.into_iter().map(|note| format!("{} for {}: {note}", task.module, task.target.kernel));
        work.report.remarks.extend(remarks);
        return Ok(Outcome::Built { seconds });
    }
    fail::fail_point!("make:before-publish");
    Ok(match install::install(work, task, recipe, kernel)? {
        Ok(more) => {
            notes.extend(more);
            Outcome::Installed { built: compiled, seconds, notes, store }
        }
        Err(outcome) => outcome,
    })
}

/// The remark that a newer version is not installed.
fn passed_over(work: &Work<'_>, task: &Task) -> Vec<String> {
    let why = |newer: &ModuleId| {
        let case = work.survey.cases.get(&Placement::of(newer, &task.target))?;
        let why = case.recipe.as_ref().ok()?.excluded.as_ref()?;
        Some(format!("used instead of {newer}, which is excluded by its dkms.conf: {why}"))
    };
    task.passed_over.as_ref().and_then(why).into_iter().collect()
}

/// The signer for each kernel that something is built for.
pub(super) fn signing(work: &mut Work<'_>, tasks: &[Task]) -> Result<BTreeMap<Target, sign::Signing>> {
    let mut all = BTreeMap::new();
    // A pre-build neither signs nor generates a key.
    let tasks = if work.proving { &[] } else { tasks };
    for target in tasks.iter().filter(|task| task.build).map(|task| &task.target) {
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
    origin: Option<String>,
}

/// The result of a build, in which an I/O error such as a full disk or a deleted source counts as a failure of this
/// module, and not of the transaction.
pub(super) fn result(ended: BuildResult) -> BuildResult {
    match ended {
        Ok(result) => Ok(result),
        Err(error) if error.is::<signal::Interrupted>() => Err(error),
        Err(error) => Ok(Err(Unbuilt {
            why: format!("{error:#}"),
            code: Exit::BUILD_FAILED,
            errors: Vec::new(),
            log: Vec::new(),
            fault: Fault::Machine,
            // Without a sandbox, the error is the cause.
            cause: confine::hindrance().is_none().then(|| "dkms could not continue".into()),
        })),
    }
}

/// Moves a successful build into the DKMS tree, or records its failure.
fn settle(
    work: &mut Work<'_>,
    task: &Task,
    case: &Case,
    recipe: &Recipe,
    ended: BuildResult,
) -> Attempt<StoredBuild, Outcome> {
    let built = match result(ended)? {
        Ok(built) => built,
        Err(unbuilt) => return Ok(Err(record_failure(work, task, unbuilt)?)),
    };
    if recipe.follows && !task.force {
        // Shell DKMS detects changes of a dependency by these files.
        for needed in &task.after {
            let mark = built.staged.join(format!(".dep_{}", needed.name));
            file::write_atomic(&mark, format!("{}\n", needed.version).as_bytes(), 0o644)?;
        }
    }
    fail::fail_point!("make:before-adopt");
    let before = work.snapshot.build(&task.module, &task.target).and_then(|build| build.record.clone());
    // The installed files differ from the new build: until it is installed, they count as damaged.
    let mut installed = before.map(|record| record.installed).unwrap_or_default();
    installed.iter_mut().for_each(|file| file.sha256.clear());
    work.tree.adopt_build(&task.module, &task.target, &built.staged, installed.clone())?;
    fail::fail_point!("make:adopted");
    // Signed as expected, or no signer is available.
    let good = built.signer.is_some() || case.signer.is_none();
    let record = Record {
        fingerprint: task.fingerprint.clone(),
        installed,
        withheld: Vec::new(),
        shares: BTreeSet::new(),
        signer: built.signer.or_else(|| case.signer.as_deref().map(unsigned)),
        seconds: built.seconds,
        loaded: false,
        store: built.origin.clone(),
        renamed: verify::renamed(&work.session.layout.built_modules(&task.module, &task.target), recipe),
        outside: built.outside.clone(),
    };
    work.tree.record(&task.module, &task.target, &record)?;
    work.tree.forget_failure(&task.module, &task.target)?;
    let place = work.session.layout.build(&task.module);
    // As shell DKMS leaves it, this also deletes the files of a killed build of shell DKMS. Without a sandbox, builds
    // run in this directory, and the next one may have begun.
    file::remove_all(&if confine::available() { place } else { place.join("make.log") })?;
    if !built.kept && good {
        let from = work.session.layout.built(&task.module, &task.target);
        store_in_cache(work, task, &from, &record, &built.notes);
    }
    let Built { seconds, notes, cached, origin, .. } = built;
    Ok(Ok(StoredBuild { seconds, notes, cached, origin }))
}

/// Stores a build in the cache. A failure costs only time.
fn store_in_cache(work: &mut Work<'_>, task: &Task, from: &Path, record: &Record, notes: &[String]) {
    let key = cache::key(&task.fingerprint, record.signer.as_deref());
    let manifest = cache::Manifest::new(
        &task.module,
        &task.target,
        record.signer.clone(),
        record.seconds,
        notes.to_owned(),
    )
    .with_origin(record.store.clone())
    .compiled_with(record.outside.clone());
    work.kept |= work.session.cache().store(&key, from, manifest).is_ok();
}

/// The programs that run in a build for this kernel, apart from the compiler.
pub(super) fn environment(work: &Work<'_>, target: &Target) -> String {
    let headers = work.survey.kernels.get(target).and_then(|kernel| kernel.headers.as_ref());
    headers.map(|headers| headers.environment.clone()).unwrap_or_default()
}

/// Records a failure with its log, so that it is not repeated, and adds the path of the log.
pub(super) fn record_failure(work: &Work<'_>, task: &Task, unbuilt: Unbuilt) -> Result<Outcome> {
    let layout = &work.session.layout;
    let log = layout.failure_log(&task.module, &task.target);
    let keep = || -> Result<()> {
        file::write_atomic(&log, &unbuilt.log, 0o644)?;
        // The path where shell DKMS leaves it, for tools that read it.
        if !work.proving {
            file::write_atomic(&layout.build(&task.module).join("make.log"), &unbuilt.log, 0o644)?;
        }
        let failure = Failure {
            fingerprint: task.fingerprint.clone(),
            why: unbuilt.why.clone(),
            errors: unbuilt.errors.clone(),
            log: log.clone(),
            code: unbuilt.code,
            environment: environment(work, &task.target),
            view: work.overlay.map(|overlay| overlay.view.clone()),
            boot: (unbuilt.fault == Fault::Unknown).then(|| layout.boot_id()).flatten(),
        };
        // A failure caused by the machine proves nothing about the module: it is retried.
        if unbuilt.fault.lasts() {
            work.tree.record_failure(&task.module, &task.target, &failure)
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
    Ok(work.failed(task, Failing { errors: unbuilt.errors, log, ..failing }))
}

/// The symbol lists of the modules that this one depends on.
pub(super) fn symvers(work: &Work<'_>, task: &Task) -> Vec<PathBuf> {
    let layout = &work.session.layout;
    task.after.iter().map(|id| layout.built_modules(id, &task.target).join("Module.symvers")).collect()
}
