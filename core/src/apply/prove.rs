//! The pre-build: the builds of the transaction, without changes of the DKMS tree or of a kernel's modules. Successful
//! builds are cached for the transaction; failures are recorded, so that the transaction does not repeat them.

use std::path::PathBuf;

use anyhow::Result;

use super::Work;
use super::task::{self, BuildResult};
use crate::cache;
use crate::exit::Exit;
use crate::plan::Task;
use crate::report::{Failing, Fault, Outcome, Waits};
use crate::session::Session;
use crate::sys::file;

/// Mount points for builds of modules that are not in the DKMS tree yet; deleted when this is dropped. Without a source
/// and a build they do not count as modules for a concurrent reader.
pub(super) struct MountPoints(Vec<PathBuf>, PathBuf);

impl MountPoints {
    pub(super) fn new(session: &Session, tasks: &[Task]) -> Result<Self> {
        let layout = &session.layout;
        let mut places = Self(Vec::new(), layout.dkms_tree.clone());
        for place in tasks.iter().map(|task| layout.version(&task.module)) {
            if !place.exists() {
                file::make_dirs(&place)?;
                places.0.push(place);
            }
        }
        Ok(places)
    }
}

impl Drop for MountPoints {
    fn drop(&mut self) {
        self.0.iter().for_each(|place| file::remove_empty_up_to(place, &self.1));
    }
}

/// Caches a build, or records its failure.
pub(super) fn finish(work: &mut Work<'_>, task: &Task, ended: BuildResult) -> Result<Outcome> {
    let (_, recipe, _) = task::known(work, task)?;
    if let Err(why) = recipe {
        return Ok(work.failed(task, Failing::new(Fault::Module, Exit::BAD_CONF, why)));
    }
    let built = match task::result(ended)? {
        Ok(built) => built,
        // A failure caused by the machine proves nothing about the module.
        Err(unbuilt) if unbuilt.fault == Fault::Machine => {
            let cause = unbuilt.cause.map_or(String::new(), |cause| format!(": {cause}"));
            return Ok(Outcome::Deferred {
                why: format!("the pre-build could not run: {}{cause}", unbuilt.why),
                advice: "the module will be built during installation".into(),
                waits: Waits::Machine(unbuilt.code),
            });
        }
        Err(unbuilt) => return task::record_failure(work, task, unbuilt),
    };
    let cache = work.session.cache();
    let key = cache::unfinished(&task.fingerprint, &task::environment(work, &task.target));
    let manifest = cache::Manifest::new(&task.module, &task.target, None, built.seconds, built.notes)
        .within(work.overlay.map(|overlay| overlay.view.clone()))
        .with_origin(built.origin.clone())
        .compiled_with(built.outside.clone());
    // An entry that was built under another overlay is not usable now.
    cache.forget(&key)?;
    work.kept |= cache.store(&key, &built.staged, manifest).is_ok();
    work.tree.forget_failure(&task.module, &task.target)?;
    work.tree.judge(&task.module, &task.target, None)?;
    // From a store, and judged now.
    Ok(if built.cached { Outcome::UpToDate } else { Outcome::Built { seconds: built.seconds } })
}
