//! One transaction: lock, repair, look, decide, act, remember.

use std::time::Instant;

use anyhow::Result;

use super::{apply, recover};
use crate::event::Event;
use crate::plan::{Plan, plan, scope};
use crate::report::{Report, history, text};
use crate::session::Session;
use crate::survey::survey;
use crate::sys::signal;
use crate::tree::{LockedTree, Snapshot};

/// Answers the events. The closing summary has been shown and kept when this returns.
pub fn run(session: &mut Session, mut events: Vec<Event>) -> Result<Report> {
    let began = Instant::now();
    let cause = events.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let screen = session.screen;
    let tree = LockedTree::lock(&session.layout, |holder| {
        let who = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
        screen.alert(&format!("dkms: another dkms{who} is at work: waiting for it"));
    })?;
    let snapshot = tree.snapshot()?;
    let recovery = recover::look(&tree, &snapshot)?;
    recover::sweep_work(&tree)?;
    let wanted = scope(&events, &snapshot).cases;
    events.splice(0..0, recovery.events(&wanted));
    session.asked = asked(&events);
    let survey = survey(session, &scope(&events, &snapshot), &snapshot)?;
    let mut plan = plan(&events, &snapshot, &survey, &session.policy.row);
    plan.depmod.extend(recovery.depmod.iter().cloned());
    if session.options.dry_run {
        session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(&plan)?));
        return Ok(Report::default());
    }
    let report = Report { cause, repaired: recovery.found.clone(), ..Report::default() };
    let (mut report, result) = apply(session, &tree, &snapshot, &survey, &plan, report);
    match &result {
        Ok(()) => recovery.done()?,
        Err(error) => report.problems.push(stopped(error)),
    }
    report.seconds = began.elapsed().as_secs_f64();
    let number = if report.memorable() && !trivial(&plan, &report) {
        history::keep(&session.layout, &report)
            .map_err(|error| report.problems.push(format!("{error:#}")))
            .ok()
    } else {
        None
    };
    if let Some(summary) = text::summary(&report, &session.policy.admin, number) {
        session.screen.alert(&summary);
    }
    result.map(|()| report)
}

/// Nothing but registering or looking: not worth a place in the history.
fn trivial(plan: &Plan, report: &Report) -> bool {
    plan.is_empty()
        && report.repaired.is_empty()
        && report.lines.iter().all(|line| {
            line.outcome.quiet() || matches!(line.outcome, crate::report::Outcome::Refused { .. })
        })
        && report.problems.is_empty()
}

fn stopped(error: &anyhow::Error) -> String {
    if error.is::<signal::Interrupted>() {
        format!(
            "{error}: what was installed before is in place, and the next run of dkms completes what was begun"
        )
    } else {
        format!("{error:#}; the next run of dkms completes what was begun")
    }
}

fn asked(events: &[Event]) -> Vec<crate::types::ModuleId> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::SourceAdded { module, .. } => Some(module.clone()),
            Event::Asked(request) => Some(request.module.clone()),
            _ => None,
        })
        .collect()
}

/// The registry as it is now, without the lock.
pub fn status_of(session: &Session, module: Option<&crate::types::ModuleName>) -> Result<Snapshot> {
    Snapshot::load_some(&session.layout, module)
}
