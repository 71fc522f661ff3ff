//! One module for one kernel: build, put into the registry, publish.

use anyhow::{Result, bail};

use super::Work;
use crate::conf::Recipe;
use crate::kernel::Kernel;
use crate::plan::{Case, Make};
use crate::report::{Failing, Outcome};
use crate::step::build::{self, Job, Unbuilt};
use crate::step::{publish, script, sign};
use crate::sys::{file, signal};
use crate::tree::{Failure, Pending, Record, unsigned};

pub(super) fn make(work: &mut Work<'_>, make: &Make, count: Option<(usize, usize)>) -> Result<Outcome> {
    let survey = work.survey;
    let key = (make.module.clone(), make.target.clone());
    let (Some(case), Some(kernel)) = (survey.cases.get(&key), survey.kernels.get(&make.target)) else {
        bail!("{} for {} is in the plan without having been looked at", make.module, make.target);
    };
    let recipe = match &case.recipe {
        Ok(recipe) => recipe,
        Err(error) => return Ok(work.failing(make, error.to_string(), 8)),
    };
    let mut notes = Vec::new();
    let mut seconds = 0.0;
    if make.build {
        match build(work, make, case, recipe, kernel, count)? {
            Ok((took, remarks)) => (seconds, notes) = (took, remarks),
            Err(outcome) => return Ok(outcome),
        }
    }
    if !make.install {
        return Ok(Outcome::Built { seconds });
    }
    fail::fail_point!("make:before-publish");
    Ok(match publish(work, make, recipe, kernel)? {
        Ok(more) => {
            notes.extend(more);
            Outcome::Installed { built: make.build, seconds, notes }
        }
        Err(outcome) => outcome,
    })
}

/// Builds, and puts the result into the registry.
fn build(
    work: &mut Work<'_>,
    make: &Make,
    case: &Case,
    recipe: &Recipe,
    kernel: &Kernel,
    count: Option<(usize, usize)>,
) -> Result<Result<(f64, Vec<String>), Outcome>> {
    let session = work.session;
    let Some(headers) = &kernel.headers else { bail!("a build without headers is in the plan") };
    let Some(source) = work.survey.sources.get(&make.module) else {
        bail!("a build without a source is in the plan")
    };
    if !work.signing.contains_key(&make.target) {
        let signing = match sign::prepare(session, &make.target, headers) {
            Err(error) if error.is::<signal::Interrupted>() => return Err(error),
            other => other.unwrap_or_else(|error| sign::Signing::Not(format!("{error:#}"))),
        };
        if let sign::Signing::Not(why) = &signing
            && headers.config.get("CONFIG_MODULE_SIG_FORCE").is_some_and(|value| value == "y")
        {
            let kernel = &make.target.kernel;
            work.report.remarks.push(format!("{kernel} refuses modules that are not signed, and {why}"));
        }
        work.signing.insert(make.target.clone(), signing);
    }
    let signing = work.signing.get(&make.target).unwrap_or(&sign::Signing::Unknown);
    if count.is_none_or(|(number, _)| number == 1) {
        let what = match count {
            Some((_, all)) => format!("{all} modules"),
            None => make.module.to_string(),
        };
        session.screen.progress(&format!("dkms: building {what} for {}", make.target.kernel));
    }
    let symvers = make
        .after
        .iter()
        .map(|id| session.layout.built_modules(id, &make.target).join("Module.symvers"))
        .collect();
    let job = Job { module: &make.module, kernel, headers, recipe, source, signing, symvers };
    let result = match build::build(session, &job) {
        Ok(result) => result,
        Err(error) if error.is::<signal::Interrupted>() => return Err(error),
        // A full disk, a source that vanished under our hands: this module's failure, not everybody's end.
        Err(error) => Err(Unbuilt {
            why: format!("{error:#}"),
            code: 10,
            errors: Vec::new(),
            log: Vec::new(),
            transient: true,
        }),
    };
    match result {
        Ok(built) => {
            fail::fail_point!("make:before-adopt");
            let before =
                work.snapshot.build(&make.module, &make.target).and_then(|build| build.record.clone());
            // What is installed now is no longer what is built: until it is, it counts as damaged.
            let mut installed = before.map(|record| record.installed).unwrap_or_default();
            installed.iter_mut().for_each(|file| file.sha256.clear());
            work.tree.adopt_build(&make.module, &make.target, &built.staged, installed.clone())?;
            fail::fail_point!("make:adopted");
            let record = Record {
                fingerprint: make.fingerprint.clone(),
                installed,
                signer: built.signer.or_else(|| case.signer.as_deref().map(unsigned)),
                seconds: built.seconds,
            };
            work.tree.record(&make.module, &make.target, &record)?;
            work.tree.forget_failure(&make.module, &make.target)?;
            // As shell DKMS leaves it; with it goes what a build of shell DKMS that was killed has left there.
            file::remove_all(&session.layout.build(&make.module))?;
            Ok(Ok((built.seconds, built.notes)))
        }
        Err(unbuilt) => Ok(Err(remember(work, make, unbuilt)?)),
    }
}

/// Keeps a failure with its log, so that nobody compiles the same again, and says where the log is.
fn remember(work: &Work<'_>, make: &Make, unbuilt: Unbuilt) -> Result<Outcome> {
    let layout = &work.session.layout;
    let log = layout.failure_log(&make.module, &make.target);
    let keep = || -> Result<()> {
        file::write_atomic(&log, &unbuilt.log, 0o644)?;
        // Where shell DKMS leaves it, for the tools that look there.
        file::write_atomic(&layout.build(&make.module).join("make.log"), &unbuilt.log, 0o644)?;
        let failure = Failure {
            fingerprint: make.fingerprint.clone(),
            why: unbuilt.why.clone(),
            errors: unbuilt.errors.clone(),
            log: log.clone(),
            code: unbuilt.code,
        };
        // What the machine could not do is no verdict on the module: it is tried again.
        if unbuilt.transient {
            Ok(())
        } else {
            work.tree.record_failure(&make.module, &make.target, &failure)
        }
    };
    let kept = keep().is_ok() && !unbuilt.log.is_empty();
    Ok(Outcome::Failed(Failing {
        why: unbuilt.why,
        errors: unbuilt.errors,
        log: kept.then(|| log.display().to_string()),
        remembered: false,
        remaining: crate::plan::remaining(work.snapshot, &make.module, &make.target),
        code: unbuilt.code,
    }))
}

/// Puts a finished build into the kernel's tree.
fn publish(
    work: &mut Work<'_>,
    make: &Make,
    recipe: &Recipe,
    kernel: &Kernel,
) -> Result<Result<Vec<String>, Outcome>> {
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
        force: make.force || session.options.force_version,
        active: active.is_some(),
        published: &published,
    };
    let mut notes = Vec::new();
    if let Some(why) = script::run(session, module, Some(target), "pre_install", &recipe.scripts.pre_install)?
    {
        if !make.force {
            return Ok(Err(work.failing(make, format!("{why}; --force installs it all the same"), 101)));
        }
        notes.push(why);
    }
    work.intend(|intent| intent.touched.extend(publish::destinations(session, &order)))?;
    let publication = match publish::stage(session, &order) {
        Ok(publication) => publication,
        Err(error) => return Ok(Err(work.failing(make, format!("it could not be installed: {error:#}"), 6))),
    };
    fail::fail_point!("publish:staged");
    if let Some(why) = publication.native() {
        return Ok(Err(Outcome::Native { why }));
    }
    work.intend(|intent| {
        intent.publish.push(Pending { module: module.clone(), target: target.clone(), force: make.force });
        intent.depmod.insert(target.clone());
    })?;
    fail::fail_point!("publish:intended");
    notes.extend(publication.skipped.iter().cloned());
    let names = publication.names.clone();
    let installed = publication.commit(&order)?;
    fail::fail_point!("publish:before-activate");
    tree.activate(module, target)?;
    fail::fail_point!("publish:activated");
    tree.note_installed(module, target, &make.fingerprint, installed)?;
    fail::fail_point!("publish:noted");
    let mut others = work.snapshot.superseded(module, target);
    others.extend(active.iter().filter(|old| *old != module));
    for old in others {
        retire(work, old, target)?;
    }
    work.published.entry(target.clone()).or_default().extend(names);
    notes.extend(script::run(session, module, Some(target), "post_install", &recipe.scripts.post_install)?);
    Ok(Ok(notes))
}

/// The version before: its record has nothing installed any more, and when only its build was left of it, that
/// has done its duty.
fn retire(work: &Work<'_>, old: &crate::types::ModuleId, target: &crate::types::Target) -> Result<()> {
    let Some(entry) = work.snapshot.modules.get(old) else { return Ok(()) };
    if entry.stands_in() {
        // In one step with its last build: without any, nobody would find its directory again.
        let gone =
            |other: &crate::types::Target| other == target || !work.tree.layout.built(old, other).exists();
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
