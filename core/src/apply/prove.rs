//! The pre-build: the builds of the transaction, without changes of the DKMS tree or of a kernel's modules. Successful
//! builds are cached for the transaction; failures are recorded, so that the transaction does not repeat them.

use std::path::PathBuf;

use anyhow::Result;

use super::Work;
use super::make::{self, Ended};
use crate::cache;
use crate::exit::Exit;
use crate::plan::Task;
use crate::report::{Failing, Fault, Outcome, Waits};
use crate::session::Session;
use crate::sys::file;
use crate::sys::overlay::Layers;

/// The environment of a pre-build.
#[derive(Debug, Default)]
pub struct Proof {
    /// The overlay that the builds see.
    pub layers: Option<Layers>,
    /// The name under which the overlay's content is recorded.
    pub view: Option<String>,
}

/// Mount points for builds of modules that are not in the DKMS tree yet; deleted when this is dropped. Without a source
/// and a build they do not count as modules for a concurrent reader.
pub(super) struct Places(Vec<PathBuf>, PathBuf);

impl Places {
    pub(super) fn new(session: &Session, makes: &[Task]) -> Result<Self> {
        let layout = &session.layout;
        let mut places = Self(Vec::new(), layout.dkms_tree.clone());
        for place in makes.iter().map(|make| layout.version(&make.module)) {
            if !place.exists() {
                file::make_dirs(&place)?;
                places.0.push(place);
            }
        }
        Ok(places)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.0.iter().for_each(|place| file::remove_empty_up_to(place, &self.1));
    }
}

/// Caches a build, or records its failure.
pub(super) fn finish(work: &mut Work<'_>, make: &Task, proof: &Proof, ended: Ended) -> Result<Outcome> {
    let (_, recipe, _) = make::known(work, make)?;
    if let Err(why) = recipe {
        return Ok(work.failed(make, Failing::new(Fault::Module, Exit::BAD_CONF, why)));
    }
    let built = match make::result(ended)? {
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
        Err(unbuilt) => return make::remember(work, make, unbuilt),
    };
    let cache = work.session.cache();
    let key = cache::unfinished(&make.fingerprint, &make::environment(work, &make.target));
    let manifest = cache::Manifest::new(&make.module, &make.target, None, built.seconds, built.notes)
        .within(proof.view.clone());
    // An entry that was built under another overlay is not usable now.
    cache.forget(&key)?;
    work.kept |= cache.keep(&key, &built.staged, manifest).is_ok();
    work.tree.forget_failure(&make.module, &make.target)?;
    Ok(Outcome::Built { seconds: built.seconds })
}
