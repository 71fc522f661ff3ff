//! Installs the build of a task: verifies it, runs PRE_INSTALL, publishes, replaces other versions, runs POST_INSTALL.

use std::path::Path;

use anyhow::Result;

use super::task::symvers;
use super::{Work, dependents};
use crate::conf::Recipe;
use crate::exit::Exit;
use crate::kernel::{Kernel, elf, read_module};
use crate::marker;
use crate::plan::Task;
use crate::report::{Failing, Fault, Outcome};
use crate::step::{publish, script, sign, verify, weak_modules};
use crate::sys::file;
use crate::tree::{Installed, Pending, Record};
use crate::types::{Attempt, ModuleId, Placement, Target};

/// Installs a build for the kernel.
pub(super) fn install(
    work: &mut Work<'_>,
    task: &Task,
    recipe: &Recipe,
    kernel: &Kernel,
) -> Attempt<Vec<String>, Outcome> {
    let (session, tree) = (work.session, work.tree);
    let (module, target) = (&task.module, &task.target);
    let force = task.force || session.options.force;
    let active = work.snapshot.active(&module.name, target).cloned();
    let mut published = match &active {
        Some(active) => work.published_files(active, target)?,
        None => Vec::new(),
    };
    published.dedup();
    let claims = work.claims(target)?;
    let before = active.as_ref().and_then(|active| work.snapshot.build(active, target)?.record.as_ref());
    let withheld_before = before.map(|record| record.withheld.clone()).unwrap_or_default();
    let mut notes = Vec::new();
    // Also what was verified when it was built: its files may have been damaged since.
    if !task.build {
        let record = work.snapshot.build(module, target).and_then(|build| build.record.as_ref());
        let renamed = record.map(|record| record.renamed.clone()).unwrap_or_default();
        match verify::finished(&session.layout, module, kernel, recipe, &symvers(work, task), &renamed) {
            // The remarks on a build that was verified have been made.
            Ok(remarks) if unproven(work, task) => notes.extend(remarks),
            Ok(_) => {}
            Err(why) => {
                let rebuild = format!("dkms build {module} -k {} --force", target.kernel);
                let why = format!("the existing build is unusable: {why}");
                let failing = Failing::new(Fault::Module, Exit::WOULD_NOT_LOAD, why);
                return Ok(Err(work.failed(task, failing.advice(format!("to rebuild: {rebuild}")))));
            }
        }
    }
    let pre_install = &recipe.scripts.pre_install;
    let trouble = script::run(session, module, Some(target), "pre_install", pre_install)?;
    if !pre_install.is_empty() {
        work.forget_module_files();
    }
    if let Some(trouble) = trouble {
        if trouble.status.is_some() && !force && !session.policy.forces(&module.name) {
            let failing = Failing::new(Fault::Module, Exit::PRE_INSTALL, trouble.why);
            return Ok(Err(work.failed(task, failing.advice("use --force to install anyway"))));
        }
        notes.push(trouble.why);
    }
    if let Some(why) = loses_signature(work, (module, target), &published)?.filter(|_| !force) {
        let failing = Failing::new(Fault::Machine, Exit::NOT_INSTALLED, why);
        return Ok(Err(
            work.failed(task, failing.advice("restore the key, or use --force to install it unsigned"))
        ));
    }
    let present = work.module_files(target);
    let markers = marker::markers(&session.layout, target);
    let order = publish::Order {
        module,
        kernel,
        recipe,
        force: force || session.options.force_version || session.policy.overrides_versions(&module.name),
        active: active.is_some(),
        published: &published,
        claims: &claims,
        markers: &markers,
        present: &present,
        withheld: &withheld_before,
    };
    work.broken.extend(dependents::broken_by(work, task, &published));
    work.intend(|intent| intent.touched.extend(publish::destinations(session, &order)))?;
    let publication = match publish::stage(session, &order) {
        Ok(publication) => publication,
        Err(error) => {
            let why = format!("installation failed: {error:#}");
            return Ok(Err(work.failed(task, Failing::new(Fault::Dkms, Exit::NOT_INSTALLED, why))));
        }
    };
    fail::fail_point!("publish:staged");
    if let Some(why) = publication.nothing() {
        // The kernel provides it, or another package does.
        let theirs = publication.skipped.iter().find_map(|skipped| skipped.owner.as_ref());
        let package = publication.skipped.iter().find_map(|skipped| skipped.package.as_ref());
        return Ok(Err(match theirs {
            None if package.is_some() => Outcome::Refused {
                why,
                advice: format!("remove the package of {module}, or {}", package.map_or("", String::as_str)),
                code: Exit::NEWER_IN_KERNEL,
            },
            None => Outcome::Native { why },
            Some(other) => Outcome::Refused {
                why,
                advice: format!("remove the package of {module} or of {other}"),
                code: Exit::NEWER_IN_KERNEL,
            },
        }));
    }
    work.intend(|intent| {
        intent.left.extend(publication.left());
        intent.publish.push(Pending { module: module.clone(), target: target.clone(), force });
        intent.depmod.insert(target.clone());
        if !recipe.scripts.post_install.is_empty() {
            intent.post_install.insert(Placement::of(module, target));
        }
    })?;
    fail::fail_point!("publish:intended");
    notes.extend(keep_foreign(work, active.as_ref(), target, (&published, &claims))?);
    notes.extend(publication.skipped.iter().map(|skipped| skipped.why.clone()));
    notes.extend(publication.conflicts());
    let withheld = publication.skipped.iter().map(|skipped| skipped.name.clone()).collect();
    let shares = publication.conflicts.iter().map(|(_, other)| other.name.clone()).collect();
    let names = publication.names.clone();
    work.outdates(&module.name, target, &names)?;
    let installed = match publication.commit(&order)? {
        Ok(installed) => installed,
        Err(error) => {
            let kernel = session.layout.kernel(&target.kernel);
            for dir in publish::destinations(session, &order) {
                file::remove_empty_up_to(&dir, &kernel);
            }
            work.intend(|intent| {
                intent.publish.retain(|pending| !pending.is(module, target));
                intent.post_install.remove(&Placement::of(module, target));
            })?;
            let why = format!("installation failed: {error:#}");
            return Ok(Err(work.failed(task, Failing::new(Fault::Dkms, Exit::NOT_INSTALLED, why))));
        }
    };
    fail::fail_point!("publish:before-activate");
    tree.activate(module, target)?;
    fail::fail_point!("publish:activated");
    tree.note_installed(module, target, &task.fingerprint, installed.clone(), withheld, shares)?;
    work.claim(module, &installed);
    work.note_published(target, &installed);
    fail::fail_point!("publish:noted");
    let mut others = work.snapshot.superseded(module, target);
    others.extend(active.iter().filter(|old| *old != module));
    for old in others {
        retire(work, old, target)?;
    }
    let known = work.published.entry(target.clone()).or_default();
    known.modules.insert(module.name.clone());
    known.names.extend(names);
    // It was rebuilt after what it imports from.
    work.broken.retain(|broken| broken.placement() != Placement::of(module, target));
    if recipe.weak_modules {
        notes.extend(weak_modules::notify(session, target, true, &installed)?);
    }
    if !recipe.scripts.post_install.is_empty() {
        let post_install = &recipe.scripts.post_install;
        let trouble = script::run(session, module, Some(target), "post_install", post_install)?;
        work.forget_module_files();
        notes.extend(trouble.map(|trouble| trouble.why));
        work.intend(|intent| {
            intent.post_install.remove(&Placement::of(module, target));
        })?;
    }
    Ok(Ok(notes))
}

/// The reason, if this build is not signed because the key is damaged, and what is installed is signed: with Secure Boot, the
/// kernel would reject it.
fn loses_signature(
    work: &Work<'_>,
    (module, target): (&ModuleId, &Target),
    published: &[Installed],
) -> Result<Option<String>> {
    let session = work.session;
    let (key, certificate) = sign::pair(session, target);
    let Some(why) = sign::damaged(&key, &certificate).filter(|_| session.signs()) else { return Ok(None) };
    let signed = |path: &Path| read_module(path).is_ok_and(|content| elf::is_signed(&content));
    let built = file::sorted_entries(&session.layout.built_modules(module, target));
    let unsigned = built.iter().any(|path| path.to_string_lossy().contains(".ko") && !signed(path));
    let lost = unsigned && published.iter().any(|file| signed(&file.path));
    Ok(lost
        .then(|| format!("installation failed: {why}: the build is not signed, but the installed module is")))
}

/// Copies files that are about to be replaced, and that are not what dkms had installed: an administrator or a vendor's
/// installer has put another module there.
fn keep_foreign(
    work: &Work<'_>,
    active: Option<&ModuleId>,
    target: &Target,
    (published, claims): (&[Installed], &publish::Claims),
) -> Result<Vec<String>> {
    let Some(active) = active else { return Ok(Vec::new()) };
    let mut notes = Vec::new();
    for file in published {
        let foreign = work.foreign(active, target, file)?;
        let owned = foreign && claims.get(&file.path).is_some_and(|owners| owners.len() > 1);
        let name = file.path.file_name().unwrap_or_default();
        // An interrupted run has put it there.
        let ours = || {
            let versions = work.snapshot.versions(&active.name).map(|(id, _)| id);
            let mut built = versions.map(|id| work.session.layout.built_modules(id, target).join(name));
            built.any(|built| file::same_content(&built, &file.path).unwrap_or(false))
        };
        if foreign && !owned && !ours() {
            let kept = work.session.layout.replaced(target).join(name);
            file::copy_atomic(&file.path, &kept)?;
            let (path, kept) = (file.path.display(), kept.display());
            notes.push(format!("{path} was not the file that dkms had installed; a copy is in {kept}"));
        }
    }
    Ok(notes)
}

/// Clears the record of the previous version's installed files, and deletes a stand-in.
fn retire(work: &Work<'_>, old: &ModuleId, target: &Target) -> Result<()> {
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

/// Whether a build was not verified yet, because shell DKMS made it, or it is from a tarball; or it was verified for
/// other inputs.
fn unproven(work: &Work<'_>, task: &Task) -> bool {
    let build = work.snapshot.build(&task.module, &task.target);
    let proven = |record: &Record| !record.loaded && record.fingerprint.same_inputs(&task.fingerprint);
    build.is_some_and(|build| !build.record.as_ref().is_some_and(proven))
}
