//! Ahead of an upgrade: builds modules for what the package manager would install now, and keeps the result.
//!
//! It changes nothing that is installed. The packages are downloaded to a private directory, go through the pre-build of
//! a transaction ([`preflight`]), and are deleted. The builds stay in the cache, where that transaction finds them.

mod record;

pub use record::{Expected, Upcoming};

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::apply;
use crate::borrowed::{self, When};
use crate::kept_back::{self, KeptBack, Reason};
use crate::kernel::HeadersPackage;
use crate::manager::{self, Manager, Offer};
use crate::policy::admin::glob;
use crate::preflight::{Finding, Question, preflight, settings_and_sources};
use crate::session::Session;
use crate::sys::private::Private;
use crate::sys::signal::Interrupted;
use crate::sys::time::now;
use crate::tree::Snapshot;
use crate::types::KernelRelease;

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
    // What the last run should have kept back is, and by these settings.
    let kept = KeptBack::load(&session.layout).map_or(0, |kept| kept.packages.len());
    let settled = kept_back::is_in_force(&session.layout, &manager)?;
    let before = before.filter(|before| settled && before.kept == Some(kept));
    if let Some(before) = before.as_ref().filter(|before| before.state == state) {
        if before.still_holds(&before.packages, &inputs, &session.cache()) {
            return unchanged(session, before.clone(), state);
        }
    }
    let mut offers = manager.list()?;
    let lacking = without_headers(session, &offers);
    let no_headers: BTreeSet<KernelRelease> = lacking.keys().cloned().collect();
    // Their headers are downloaded, and not the kernels.
    let mut borrowed = Vec::new();
    let images: Vec<Offer> =
        if borrowed::wanted(session) { lacking.values().cloned().collect() } else { Vec::new() };
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
    offers.extend(images.iter().cloned());
    offers.sort();
    offers.dedup();
    if let Some(before) = before.filter(|before| before.still_holds(&offers, &inputs, &session.cache())) {
        let no_headers = if images.is_empty() { no_headers } else { before.no_headers.clone() };
        let mut prepared = unchanged(session, Upcoming { no_headers, ..before }, state)?;
        if kept > 0 {
            // The package manager has other settings, which may have priority over what keeps packages back.
            prepared.kept = keep(session, BTreeSet::new(), &BTreeSet::new(), &mut prepared.upcoming)?;
        }
        return Ok(prepared);
    }
    let mut upcoming = Upcoming { packages: offers, inputs, state, no_headers, ..Upcoming::now() };
    if upcoming.packages.is_empty() {
        return nothing(session, upcoming);
    }
    let wanted: Vec<Offer> =
        upcoming.packages.iter().filter(|offer| !images.contains(offer)).cloned().collect();
    let mut files = if wanted.is_empty() { Vec::new() } else { manager.fetch(&wanted)? };
    for (kernel, image) in lacking.iter().filter(|_| !images.is_empty()) {
        let headers = session.policy.distribution.headers_of(&image.name, &image.version);
        let Some(names) = headers.as_ref().and_then(HeadersPackage::exact) else { continue };
        match borrowed::described(session, kernel, &names, When::Now) {
            Ok((downloaded, _)) => {
                files.extend(downloaded.files.iter().cloned());
                upcoming.no_headers.remove(kernel);
                borrowed.push(downloaded);
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => upcoming.untried.push(borrowed::undelivered(kernel, &error)),
        }
    }
    let replaces = session.policy.distribution.kernel_replaced;
    let finding = preflight(session, &Question { replaces, in_full: true, ..Question::of(files) })?;
    upcoming.learn(&finding);
    upcoming.store(&session.layout)?;
    // What could not be checked may still have its reasons.
    let targets = upcoming.modules.iter().filter_map(|one| one.line.target.as_ref());
    let examined =
        targets.filter(|_| finding.untried.is_empty()).map(|target| target.kernel.clone()).collect();
    let kept = keep(session, finding.reasons().unwrap_or_default(), &examined, &mut upcoming)?;
    Ok(Prepared { upcoming, finding: Some(finding), kept })
}

/// The available kernels whose headers neither are available nor installed.
fn without_headers(session: &Session, offers: &[Offer]) -> BTreeMap<KernelRelease, Offer> {
    let distribution = &session.policy.distribution;
    let Some(images) = distribution.image_package.strip_suffix("{kernel}") else { return BTreeMap::new() };
    let kernels = offers.iter().filter_map(|offer| {
        let release = offer.name.strip_prefix(images)?;
        // The names of meta packages begin with a letter.
        let release =
            release.starts_with(|first: char| first.is_ascii_digit()).then(|| release.parse().ok())?;
        Some((release?, offer.clone()))
    });
    let lacks = |(kernel, _): &(KernelRelease, Offer)| {
        let headers = distribution.headers_package.replace("{kernel}", kernel.as_str());
        !offers.iter().any(|offer| offer.name == headers) && !session.layout.headers(kernel).exists()
    };
    kernels.filter(lacks).collect()
}

/// No available package concerns a module.
fn nothing(session: &Session, upcoming: Upcoming) -> Result<Prepared> {
    let mut upcoming = upcoming;
    upcoming.store(&session.layout)?;
    // A kernel whose headers are no longer available is offered nevertheless.
    let kept = keep(session, BTreeSet::new(), &BTreeSet::new(), &mut upcoming)?;
    Ok(Prepared { upcoming, finding: None, kept })
}

/// The last run had the same input.
fn unchanged(session: &Session, before: Upcoming, state: String) -> Result<Prepared> {
    let upcoming = Upcoming { checked: now(), problem: None, state, ..before };
    upcoming.store(&session.layout)?;
    Ok(Prepared { upcoming, finding: None, kept: KeptBack::load(&session.layout) })
}

/// Keeps packages back, and records that this was done.
fn keep(
    session: &Session,
    reasons: BTreeSet<Reason>,
    examined: &BTreeSet<KernelRelease>,
    upcoming: &mut Upcoming,
) -> Result<Option<KeptBack>> {
    let nothing = reasons.is_empty()
        && !kept_back::is_any_in_force(session)?
        && KeptBack::load(&session.layout).is_none();
    let kept =
        if nothing { None } else { kept_back::keep(session, &apply::hold(session)?, reasons, examined)? };
    upcoming.kept = Some(kept.as_ref().map_or(0, |kept| kept.packages.len()));
    upcoming.store(&session.layout)?;
    Ok(kept)
}

/// Lets go of what the administrator does not want to be kept back any more, and of what nothing is recorded of.
pub fn review(session: &Session) -> Result<()> {
    let recorded = session.layout.kept_back().exists();
    if recorded {
        kept_back::review(session, &apply::hold(session)?)?;
    } else if kept_back::is_any_in_force(session)? {
        kept_back::lift(session, &apply::hold(session)?)?;
    }
    Ok(())
}

/// The sources of all modules.
fn sources(snapshot: &Snapshot) -> Vec<PathBuf> {
    snapshot.modules.values().filter_map(|entry| entry.source_dir()).map(Into::into).collect()
}
