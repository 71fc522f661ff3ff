//! Before a transaction: the same builds as in it, of which nothing reaches the registry or a kernel's tree. What was
//! built is kept, so that the transaction finds it; what failed is remembered, so that nobody compiles it again.

use std::path::PathBuf;

use anyhow::Result;

use super::Work;
use super::make::{self, Ended};
use crate::exit::Exit;
use crate::plan::Task;
use crate::report::{Failing, Fault, Outcome, Waits, compiler};
use crate::session::Session;
use crate::sys::file;
use crate::tree::{Record, unsigned};

/// Directories where builds of modules are mounted that are not registered yet; gone when this is dropped. Without a source
/// and without a build they are no modules, whoever looks meanwhile.
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

/// Keeps what was built, or remembers that it failed.
pub(super) fn finish(work: &mut Work<'_>, make: &Task, ended: Ended) -> Result<Outcome> {
    let (case, recipe, _) = make::known(work, make)?;
    if let Err(why) = recipe {
        return Ok(work.failed(make, Failing::new(Fault::Module, Exit::BAD_CONF, why)));
    }
    let built = match make::result(ended)? {
        Ok(built) => built,
        // What the machine could not do proves nothing.
        Err(unbuilt) if unbuilt.fault == Fault::Machine => {
            let log = String::from_utf8_lossy(&unbuilt.log);
            let cause = compiler::cause(&log).map_or(String::new(), |line| format!(": {line}"));
            return Ok(Outcome::Deferred {
                why: format!("the pre-build could not run: {}{cause}", unbuilt.why),
                advice: "the module will be built during installation".into(),
                waits: Waits::Machine(unbuilt.code),
            });
        }
        Err(unbuilt) => return make::remember(work, make, unbuilt),
    };
    if built.signer.is_some() || case.signer.is_none() {
        let record = Record {
            fingerprint: make.fingerprint.clone(),
            installed: Vec::new(),
            signer: built.signer.clone().or_else(|| case.signer.as_deref().map(unsigned)),
            seconds: built.seconds,
            loaded: false,
        };
        make::keep(work, make, &built.staged, &record, &built.notes);
    }
    work.tree.forget_failure(&make.module, &make.target)?;
    Ok(Outcome::Built { seconds: built.seconds })
}
