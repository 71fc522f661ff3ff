//! Ahead of an upgrade: builds modules for what the package manager would install now, and keeps the result.
//!
//! It changes nothing that is installed. The packages are downloaded to a private directory, go through the pre-build of
//! a transaction ([`preflight`]), and are deleted. The builds stay in the cache, where that transaction finds them.

mod manager;
mod record;

pub use manager::Offer;
pub use record::{Expected, Upcoming};

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::apply;
use crate::policy::admin::glob;
use crate::preflight::{Finding, Question, preflight};
use crate::session::Session;
use crate::sys::hash::{self, Watch};
use crate::sys::private::Private;
use crate::sys::signal::Interrupted;
use crate::tree::Snapshot;

use manager::Manager;

/// The result of a run.
#[derive(Debug)]
pub struct Prepared {
    /// What is known now.
    pub upcoming: Upcoming,
    /// The pre-build; `None` if nothing has changed since the last one.
    pub finding: Option<Finding>,
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
    let inputs = inputs(session, &snapshot)?;
    let before = Upcoming::load(&session.layout);
    if snapshot.modules.is_empty() {
        return done(session, Upcoming { inputs, ..Upcoming::now() }, None);
    }
    let private = Private::new(&session.layout.incoming())?;
    let Some(manager) = Manager::of(session, private.path()) else {
        bail!(
            "{} does not exist: no package manager can be asked",
            session.layout.upcoming_program().display()
        );
    };
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
        let upcoming = Upcoming { checked: Upcoming::now().checked, problem: None, ..before };
        return done(session, upcoming, None);
    }
    let mut upcoming = Upcoming { packages: offers, inputs, ..Upcoming::now() };
    if upcoming.packages.is_empty() {
        return done(session, upcoming, None);
    }
    let files = manager.fetch(&upcoming.packages)?;
    let replaces = session.policy.distribution.kernel_replaced;
    let finding = preflight(session, &Question { replaces, ..Question::of(files) })?;
    upcoming.learn(&finding);
    done(session, upcoming, Some(finding))
}

fn done(session: &Session, upcoming: Upcoming, finding: Option<Finding>) -> Result<Prepared> {
    upcoming.store(&session.layout)?;
    Ok(Prepared { upcoming, finding })
}

/// The sources of all modules.
fn sources(snapshot: &Snapshot) -> Vec<PathBuf> {
    snapshot.modules.values().filter_map(|entry| entry.source_dir()).map(Into::into).collect()
}

/// What a result depends on, apart from the packages: the sources of the modules, and the administrator's settings.
fn inputs(session: &Session, snapshot: &Snapshot) -> Result<String> {
    let mut roots = sources(snapshot);
    roots.push(session.layout.config());
    roots.retain(|root| root.exists());
    roots.sort();
    hash::trees(&roots, Watch::Files, Some(&session.layout.hashes().join("upcoming")), &[])
}
