//! Before a transaction: the same builds as in it, of which nothing reaches the registry or a kernel's tree. What was
//! built is kept, so that the transaction finds it; what failed is remembered, so that nobody compiles it again.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::make::{self, Ended};
use super::recover::Recovery;
use super::transaction::{decide, hold, load};
use super::{Work, apply};
use crate::event::Event;
use crate::plan::{Case, Make, Survey, concerned};
use crate::report::{Outcome, Report, compiler, history};
use crate::session::Session;
use crate::sys::file;
use crate::tree::{Record, Snapshot, unsigned};

/// What was found out.
#[derive(Debug)]
pub struct Proven {
    /// How it ended for each module.
    pub report: Report,
    /// The registry as it is.
    pub snapshot: Snapshot,
    /// The modules and kernels.
    pub survey: Survey,
    /// Its number in the history, when something failed.
    pub number: Option<u64>,
}

/// Tries what the events are about to bring.
pub fn prove(session: &mut Session, events: &[Event]) -> Result<Proven> {
    let began = Instant::now();
    let cause = events.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let tree = hold(session)?;
    let snapshot = load(&session.layout, concerned(events))?;
    let (survey, plan) = decide(session, &snapshot, events, &Recovery::default())?;
    // What was tried for kernels that never came is of no use to anybody.
    for (id, target) in snapshot.failures.keys() {
        if !survey.kernels.contains_key(target) && !session.layout.kernel(&target.kernel).exists() {
            tree.forget_failure(id, target)?;
        }
    }
    let _places = Places::new(session, &plan.make)?;
    let report = Report { cause, ..Report::default() };
    let (mut report, result) = apply(session, &tree, &snapshot, &survey, &plan, report, began);
    result?;
    report.seconds = began.elapsed().as_secs_f64();
    let failed = report.lines.iter().any(|line| matches!(line.outcome, Outcome::Failed(_)));
    let number = failed.then(|| history::keep(&session.layout, &report).ok()).flatten();
    Ok(Proven { report, snapshot, survey, number })
}

/// Directories where builds of modules are mounted that are not registered yet; gone when this is dropped. Without a source
/// and without a build they are no modules, whoever looks meanwhile.
struct Places(Vec<PathBuf>, PathBuf);

impl Places {
    fn new(session: &Session, makes: &[Make]) -> Result<Self> {
        let layout = &session.layout;
        let mut places = Self(Vec::new(), layout.dkms_tree.clone());
        for place in makes.iter().map(|make| layout.version(&make.module)) {
            if !place.exists() {
                std::fs::create_dir_all(&place).with_context(|| format!("creating {}", place.display()))?;
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
pub(super) fn finish(work: &mut Work<'_>, make: &Make, case: &Case, ended: Ended) -> Result<Outcome> {
    let built = match make::result(ended)? {
        Ok(built) => built,
        // What the machine could not do proves nothing.
        Err(unbuilt) if unbuilt.transient => {
            let log = String::from_utf8_lossy(&unbuilt.log);
            let cause = compiler::cause(&log).map_or(String::new(), |line| format!(": {line}"));
            return Ok(Outcome::Deferred {
                why: format!("the pre-build could not run: {}{cause}", unbuilt.why),
                advice: "the module will be built during installation".into(),
                code: unbuilt.code,
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
