//! Ahead of an upgrade: builds modules for what the package manager would install now, and keeps the result.
//!
//! It changes nothing that is installed. The packages are downloaded to a private directory, go through the pre-build of
//! a transaction ([`preflight`]), and are deleted. The builds stay in the cache, where that transaction finds them.

mod record;

pub use record::{Expected, Upcoming};

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::apply;
use crate::kept_back::{self, KeptBack, Looked, Reason};
use crate::manager::{self, Manager, Offer};
use crate::policy::admin::glob;
use crate::preflight::{Finding, Question, preflight, settings_and_sources};
use crate::session::Session;
use crate::sys::private::Private;
use crate::sys::signal::Interrupted;
use crate::sys::time::now;
use crate::tree::Snapshot;

/// The result of a run.
#[derive(Debug)]
pub struct Prepared {
    /// What is known now.
    pub upcoming: Upcoming,
    /// The pre-build; `None` if nothing has changed since the last one.
    pub finding: Option<Finding>,
    /// What is kept back.
    pub kept: Option<KeptBack>,
}

/// Asks the package manager, and builds. What was known before stays recorded if this fails.
pub fn prepare(session: &mut Session) -> Result<Prepared> {
    let result = ahead(session);
    if let Err(error) = &result {
        if !error.is::<Interrupted>() {
            let mut upcoming = Upcoming::load(&session.layout).unwrap_or_default();
            upcoming.problem = Some(format!("{error:#}"));
            upcoming.store(&session.layout)?;
        }
    }
    result
}

fn ahead(session: &mut Session) -> Result<Prepared> {
    let snapshot = apply::status_of(session, None)?;
    let inputs = settings_and_sources(session, &snapshot)?;
    let before = Upcoming::load(&session.layout);
    if snapshot.modules.is_empty() {
        return nothing(session, Upcoming { inputs, ..Upcoming::now() });
    }
    let private = Private::new(&session.layout.incoming())?;
    let Some(manager) = Manager::of(&session.layout, private.path()) else {
        bail!(
            "{} does not exist: no package manager can be asked",
            session.layout.upcoming_program().display()
        );
    };
    let state = manager.state()?;
    if let Some(before) = before.as_ref().filter(|before| before.state == state) {
        if before.still_holds(&before.packages, &inputs, &session.cache()) {
            return unchanged(session, before.clone(), state);
        }
    }
    let mut offers = manager.list()?;
    if !offers.is_empty() {
        let owners = manager.owners(&manager::files(&session.layout, sources(&snapshot)))?;
        let building = session.policy.distribution.building;
        let wanted = |offer: &Offer| {
            owners.contains(&offer.name)
                || building.iter().any(|pattern| glob(pattern.as_bytes(), offer.name.as_bytes()))
        };
        let (mut needed, others): (Vec<Offer>, Vec<Offer>) = offers.into_iter().partition(wanted);
        // The headers' programs may need libraries and programs that this machine does not have yet.
        if !needed.is_empty() && others.iter().any(|offer| offer.new) {
            let depends = manager.depends(&needed)?;
            needed.extend(others.into_iter().filter(|offer| offer.new && depends.contains(&offer.name)));
        }
        offers = needed;
    }
    offers.sort();
    offers.dedup();
    if let Some(before) = before.filter(|before| before.still_holds(&offers, &inputs, &session.cache())) {
        return unchanged(session, before, state);
    }
    let mut upcoming = Upcoming { packages: offers, inputs, state, ..Upcoming::now() };
    if upcoming.packages.is_empty() {
        return nothing(session, upcoming);
    }
    let files = manager.fetch(&upcoming.packages)?;
    let replaces = session.policy.distribution.kernel_replaced;
    let finding = preflight(session, &Question { replaces, in_full: true, ..Question::of(files) })?;
    upcoming.learn(&finding);
    upcoming.store(&session.layout)?;
    // What could not be checked may still have its reasons.
    let kept = match finding.reasons() {
        Some(reasons) if finding.untried.is_empty() => keep(session, reasons, Looked::Everywhere)?,
        reasons => keep(session, reasons.unwrap_or_default(), Looked::InTransaction)?,
    };
    Ok(Prepared { upcoming, finding: Some(finding), kept })
}

/// No available package concerns a module.
fn nothing(session: &Session, upcoming: Upcoming) -> Result<Prepared> {
    upcoming.store(&session.layout)?;
    let kept = keep(session, BTreeSet::new(), Looked::Everywhere)?;
    Ok(Prepared { upcoming, finding: None, kept })
}

/// The last run had the same input.
fn unchanged(session: &Session, before: Upcoming, state: String) -> Result<Prepared> {
    let upcoming = Upcoming { checked: now(), problem: None, state, ..before };
    upcoming.store(&session.layout)?;
    Ok(Prepared { upcoming, finding: None, kept: KeptBack::load(&session.layout) })
}

fn keep(session: &Session, reasons: BTreeSet<Reason>, looked: Looked) -> Result<Option<KeptBack>> {
    if reasons.is_empty() && KeptBack::load(&session.layout).is_none() {
        return Ok(None);
    }
    kept_back::keep(session, &apply::hold(session)?, reasons, looked)
}

/// Lets go of what the administrator does not want to be kept back any more.
pub fn review(session: &Session) -> Result<()> {
    if session.layout.kept_back().exists() {
        kept_back::review(session, &apply::hold(session)?)?;
    }
    Ok(())
}

/// The sources of all modules.
fn sources(snapshot: &Snapshot) -> Vec<PathBuf> {
    snapshot.modules.values().filter_map(|entry| entry.source_dir()).map(Into::into).collect()
}
