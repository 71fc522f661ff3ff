//! One transaction: lock, repair, survey, plan, apply, report.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use super::hold::hold;
use super::prove::MountPoints;
use super::recover::{self, Recovery};
use super::{Completion, Decided, apply, boot};
use crate::borrowed::{self, Kept, When};
use crate::caller;
use crate::event::{Event, Request, Verb};
use crate::kept_back;
use crate::layout::Layout;
use crate::plan::{Plan, Skip, Survey, concerned, plan, scope, select};
use crate::report::progress::Progress;
use crate::report::{
    AlreadyReported, Class, History, Line, Outcome, Report, Reported, Severity, Waits, history, text,
};
use crate::session::Session;
use crate::step::on_failure;
use crate::survey::{self, survey};
use crate::sys::signal;
use crate::tree::{Intent, LockedTree, Snapshot, Verdict};
use crate::types::{ModuleId, ModuleName, Placement, Target};
use crate::unpacked::Overlay;

/// Handles the events. When this returns, the summary has been printed and stored. Without events, only interrupted runs
/// are completed.
pub fn run(session: &mut Session, events: Vec<Event>) -> Result<Report> {
    let began = Instant::now();
    let (events, left_out) = select(events, &session.policy.admin);
    for kernel in left_out {
        let setting = session.policy.admin.leaves_out(&kernel).unwrap_or_default();
        session.screen.progress(&format!("dkms: nothing is built for {kernel}: {setting} in policy.toml"));
    }
    let cause = match events.as_slice() {
        [] => "repair".to_owned(),
        events => events.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let screen = session.screen;
    if session.options.dry_run {
        let snapshot = load_snapshot(&session.layout, concerned(&events))?;
        let (_, plan) = decide(session, &snapshot, &events, &Recovery::default())?;
        screen.answer(&format!("{}\n", serde_json::to_string_pretty(&plan)?));
        return Ok(Report::default());
    }
    let tree = hold(session)?;
    let mut report = Report { cause, ..Report::default() };
    let mut removed = BTreeSet::new();
    // A dkms above this process is in the middle of a transaction; only that process can complete it.
    if !tree.nested() {
        removed = repair(session, &tree, &mut report).map_err(|error| {
            // All other errors are reported by the caller.
            if !error.is::<signal::Interrupted>() {
                return error;
            }
            screen.alert(&format!("dkms: {}", stopped(&error, &tree)));
            error.context(AlreadyReported)
        })?;
    }
    let snapshot = load_snapshot(&session.layout, concerned(&events))?;
    let (mut survey, mut plan) = decide(session, &snapshot, &events, &Recovery::default())?;
    let mut borrowed = borrowed::borrow(session, &plan, &survey, when(session, &events))?;
    if let Some(overlay) = &borrowed.overlay {
        let kernels = (&scope(&events, &snapshot), &borrowed.kernels);
        match survey::below(session, &snapshot, &mut survey, kernels, overlay) {
            Ok(()) => plan = crate::plan::plan(&events, &snapshot, &survey, &session.policy.distribution),
            Err(error) if error.is::<signal::Interrupted>() => return Err(error),
            // The survey is as it was: the others are built.
            Err(error) => {
                borrowed.remarks.push(format!("downloaded headers were not used: {error:#}"));
                borrowed.overlay = None;
            }
        }
    }
    let again = |id: &ModuleId| {
        let removal = |request: &Request| request.verb == Verb::Remove && request.module == *id;
        events.iter().any(|event| matches!(event, Event::Requested(request) if removal(request)))
    };
    plan.completed(&removed.into_iter().filter(again).collect());
    explain_exclusions(session, &events, &plan);
    let decided = Decided {
        snapshot: &snapshot,
        survey: &survey,
        plan: &plan,
        proving: false,
        overlay: borrowed.overlay.as_ref(),
    };
    let (mut report, mut result) = apply(session, &tree, decided, report, began);
    report.remarks.extend(borrowed.remarks);
    // Without it, the next automatic run downloads the headers again.
    if let Err(error) = judge(&tree, &survey, &report, &borrowed.kernels) {
        report.remarks.push(format!("the result was not recorded: {error:#}"));
    }
    if let Some(Err(error)) = Kept::now(&session.layout).map(|kept| kept.handled(&events)) {
        report.remarks.push(format!("downloaded headers were not deleted: {error:#}"));
    }
    if result.is_ok() && !tree.nested() {
        if let Err(error) = boot::settle(session, &tree, &events, &mut report) {
            result = Err(error);
        }
        report.remarks.extend(reviewed(session, &tree));
        report.remarks.extend(promised(&report, &tree));
    }
    if let Err(error) = &result {
        report.problems.push(stopped(error, &tree));
    }
    report.seconds = began.elapsed().as_secs_f64();
    let mut told = told(session, &events, &report);
    let mut number = None;
    if told.memorable() && !trivial(&plan, &told) {
        match history::store(&session.layout, &told) {
            Ok(kept) => number = Some(kept),
            Err(error) => told.to_mut().remarks.push(format!("{error:#}")),
        }
    }
    let reported = Reported::load(&session.layout, caller::manager()).recap(session.options.recap);
    let quiet = screen.is_quiet() && !wrong(&told);
    if let Some(summary) = text::summary(&told, &session.policy.admin, number, &reported).filter(|_| !quiet) {
        session.screen.alert(&summary);
        reported.record(&session.layout, &told, number);
    }
    session.screen.event(&Progress::End { transaction: number, report: &told });
    // Programs of the administrator may call dkms.
    drop(tree);
    tell(session, &snapshot, &told, number);
    drop(told);
    match result {
        Err(error) if error.is::<signal::Interrupted>() => Err(error.context(AlreadyReported)),
        result => result.map(|_| report),
    }
}

/// That the next run completes what this one could not, unless the report has it already.
fn promised(report: &Report, tree: &LockedTree) -> Option<String> {
    let promises = |line: &Line| match &line.outcome {
        Outcome::Failed(failing) => failing.remaining.contains(NEXT_RUN),
        _ => false,
    };
    let said = !report.unfinished.is_empty() || report.lines.iter().any(promises);
    (!said && tree.owes()).then(|| format!("{NEXT_RUN} completes this"))
}

/// The beginning of what a report promises.
const NEXT_RUN: &str = "the next run";

/// What is no longer kept back now, as a remark.
fn reviewed(session: &Session, tree: &LockedTree) -> Option<String> {
    match kept_back::review(session, tree) {
        Ok(kept) => kept.map(|kept| format!("no longer kept back: {}", kept.names())),
        Err(error) => Some(format!("what is kept back was not examined: {error:#}")),
    }
}

/// The result of a pre-build.
#[derive(Debug)]
pub struct Proven {
    /// The outcome of each module.
    pub report: Report,
    /// The DKMS tree.
    pub snapshot: Snapshot,
    /// The modules and kernels.
    pub survey: Survey,
    /// Its number in the history, if something failed.
    pub number: Option<u64>,
    /// What the transaction had reported before.
    pub reported: Reported,
}

/// Runs a pre-build. `look` returns the events, and facts about everything that they concern; without events nothing is
/// built.
pub fn prove(
    session: &mut Session,
    overlay: Option<&Overlay>,
    look: impl FnOnce(&Session, &Snapshot) -> Result<(Vec<Event>, Survey)>,
) -> Result<Option<Proven>> {
    let began = Instant::now();
    let tree = hold(session)?;
    let snapshot = tree.snapshot()?;
    let (events, facts) = look(session, &snapshot)?;
    if events.is_empty() {
        return Ok(None);
    }
    let survey = survey::incoming(session, &snapshot, facts, overlay);
    let plan = plan(&events, &snapshot, &survey, &session.policy.distribution);
    // Builds for kernels, and of modules, that were not installed after all are not needed.
    for Placement { module: id, target } in snapshot.failures.keys() {
        let kernel = survey.kernels.contains_key(target) || session.layout.kernel(&target.kernel).exists();
        let concerned = survey.cases.keys().any(|place| place.module == *id);
        if !kernel || !snapshot.modules.contains_key(id) && !concerned {
            tree.forget_failure(id, target)?;
        }
    }
    let places = MountPoints::new(session, &plan.tasks)?;
    let cause = events.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let report = Report { cause, ..Report::default() };
    let decided = Decided { snapshot: &snapshot, survey: &survey, plan: &plan, proving: true, overlay };
    let (mut report, result) = apply(session, &tree, decided, report, began);
    result?;
    report.seconds = began.elapsed().as_secs_f64();
    for line in &mut report.lines {
        let kernel =
            line.target.as_ref().is_some_and(|target| session.layout.kernel(&target.kernel).exists());
        if let Outcome::Failed(failing) = &mut line.outcome {
            failing.absent = !kernel || !snapshot.modules.contains_key(&line.module);
        }
    }
    let failed = report.failures() > 0;
    let number = failed.then(|| history::store(&session.layout, &report).ok()).flatten();
    let reported = Reported::load(&session.layout, caller::manager());
    reported.clone().record(&session.layout, &report, number);
    session.screen.event(&Progress::End { transaction: number, report: &report });
    drop(places);
    drop(tree);
    tell(session, &snapshot, &report, number);
    Ok(Some(Proven { report, snapshot, survey, number, reported }))
}

/// Surveys and plans.
pub(super) fn decide(
    session: &mut Session,
    snapshot: &Snapshot,
    events: &[Event],
    recovery: &Recovery,
) -> Result<(Survey, Plan)> {
    session.requested = requested(events);
    let mut survey = survey(session, &scope(events, snapshot), snapshot)?;
    survey.damaged.extend(recovery.damaged.iter().cloned());
    let mut plan = plan(events, snapshot, &survey, &session.policy.distribution);
    plan.depmod.extend(recovery.depmod.iter().cloned());
    plan.post_remove.extend(recovery.post_remove.iter().cloned());
    Ok((survey, plan))
}

/// Completes interrupted runs, as a transaction of its own, before the state for this one is read. Returns the modules that it
/// has removed.
fn repair(session: &mut Session, tree: &LockedTree, report: &mut Report) -> Result<BTreeSet<ModuleId>> {
    let left = tree.unfulfilled();
    if left.is_empty() {
        return Ok(BTreeSet::new());
    }
    let leaving: BTreeSet<ModuleId> =
        left.iter().flat_map(|(_, intent)| intent.unregister.iter().cloned()).collect();
    let snapshot = tree.snapshot()?;
    complete(session, tree, &snapshot, left, report)?;
    let remaining = tree.snapshot()?;
    Ok(leaving.into_iter().filter(|id| !remaining.modules.contains_key(id)).collect())
}

fn complete(
    session: &mut Session,
    tree: &LockedTree,
    snapshot: &Snapshot,
    left: Vec<(PathBuf, Intent)>,
    report: &mut Report,
) -> Result<()> {
    let recovery = recover::examine(tree, snapshot, left)?;
    let (survey, plan) = decide(session, snapshot, &recovery.events, &recovery)?;
    let decided = Decided { snapshot, survey: &survey, plan: &plan, proving: false, overlay: None };
    let (repaired, result) = apply(session, tree, decided, Report::default(), Instant::now());
    let place = |line: &Line| Some(Placement::of(&line.module, line.target.as_ref()?));
    let failures: BTreeSet<Placement> = repaired.worse_than(Severity::LeftOut).filter_map(place).collect();
    let failed = repaired.worse_than(Severity::LeftOut).next().is_some();
    for (found, end) in &recovery.found {
        let end = if failed { "attempted" } else { end };
        report.repaired.push(format!("{found}: {end}"));
    }
    // The outcome of a repair is reported, but does not determine the exit code of the current command.
    for line in repaired.worse_than(Severity::LeftOut) {
        report.remarks.push(format!("repair of {} failed: {}", line.module, text::why(&line.outcome)));
    }
    report.remarks.extend(repaired.remarks);
    report.problems.extend(repaired.problems);
    report.unfinished.extend(repaired.unfinished);
    report.depmod.extend(repaired.depmod);
    let mut completion = match result {
        Ok(completion) => completion,
        Err(error) if error.is::<signal::Interrupted>() => return Err(error),
        // It does not prevent what this run is for. The next one tries again.
        Err(error) => {
            report.problems.push(format!("an interrupted transaction could not be completed: {error:#}"));
            Completion::Part
        }
    };
    // What cannot be finished is rolled back.
    let back = recovery.back(&failures);
    if let (Completion::Whole, false) = (&completion, back.events.is_empty()) {
        let snapshot = tree.snapshot()?;
        let (survey, plan) = decide(session, &snapshot, &back.events, &back)?;
        let decided =
            Decided { snapshot: &snapshot, survey: &survey, plan: &plan, proving: false, overlay: None };
        let (put_back, result) = apply(session, tree, decided, Report::default(), Instant::now());
        completion = result?;
        let failed: Vec<&Line> = put_back.worse_than(Severity::LeftOut).collect();
        for line in &failed {
            report.problems.push(format!("{} was not restored: {}", line.module, text::why(&line.outcome)));
        }
        if failed.is_empty() {
            let restored = put_back.lines.iter().map(|line| line.module.to_string()).collect::<Vec<_>>();
            report.remarks.push(format!("restored: {}", restored.join(", ")));
        } else {
            // The next run tries again.
            return tree.fulfilled();
        }
    }
    match completion {
        Completion::Whole => recovery.done(),
        // The intents that were found say all that is left.
        Completion::Part => tree.fulfilled(),
    }
}

/// The part of a report that is printed and stored. If triggers run at the end of the transaction, the headers may
/// still be installed, and those triggers report modules that wait for them, once.
fn told<'r>(session: &Session, events: &[Event], report: &'r Report) -> Cow<'r, Report> {
    let waits = |line: &Line| line.outcome.class() == Class::Deferred(Waits::Headers);
    if !report.lines.iter().any(waits) || !seen_again(session, events) {
        return Cow::Borrowed(report);
    }
    let mut told = report.clone();
    told.lines.retain(|line| !waits(line));
    Cow::Owned(told)
}

/// Remembers how modules ended with borrowed headers, so that automatic runs do not download them for the same end.
fn judge(tree: &LockedTree, survey: &Survey, report: &Report, kernels: &BTreeSet<Target>) -> Result<()> {
    for line in &report.lines {
        let Some(target) = line.target.as_ref().filter(|target| kernels.contains(target)) else { continue };
        let case = survey.cases.get(&Placement::of(&line.module, target));
        let excluded = match &line.outcome {
            Outcome::Excluded { why } => Some(Some(why.clone())),
            Outcome::Failed(failing) if failing.fault.lasts() => Some(None),
            _ => None,
        };
        let inputs = case.and_then(|case| case.without_headers.clone());
        let verdict = excluded.zip(inputs).map(|(excluded, inputs)| Verdict { inputs, excluded });
        tree.judge(&line.module, target, verdict.as_ref())?;
    }
    Ok(())
}

/// When headers are downloaded.
fn when(session: &Session, events: &[Event]) -> When {
    if seen_again(session, events) { When::Later } else { When::Now }
}

/// Whether triggers at the end of the transaction handle the same.
fn seen_again(session: &Session, events: &[Event]) -> bool {
    let again = |event: &Event| match event {
        Event::KernelAdded(_) => true,
        Event::Requested(request) => session.layout.source(&request.module).exists(),
        _ => false,
    };
    events.iter().all(again) && caller::triggers_left()
}

/// Whether a summary has errors.
fn wrong(report: &Report) -> bool {
    report.worse_than(Severity::LeftOut).next().is_some()
        || !report.problems.is_empty()
        || !report.unfinished.is_empty()
}

/// Prints why a module that the user named is not built. Of modules that were not named, this is expected.
fn explain_exclusions(session: &Session, events: &[Event], plan: &Plan) {
    let named = |module: &ModuleId| {
        events.iter().any(|event| matches!(event, Event::Requested(request) if request.module == *module))
    };
    for Skip { module, target, outcome } in plan.settled.iter().filter(|skip| named(&skip.module)) {
        if let (Some(target), Outcome::Excluded { .. }) = (target, outcome) {
            let why = text::progress(module, target, outcome, None);
            // The exit code is that of an error.
            if session.screen.is_quiet() { session.screen.alert(&why) } else { session.screen.progress(&why) }
        }
    }
}

/// Tells the administrator's programs of failures that are new: those of earlier transactions have been told. What a user
/// builds in a DKMS tree of their own does not concern the administrator.
fn tell(session: &Session, before: &Snapshot, report: &Report, number: Option<u64>) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A retry that ends like the last one.
    let told = |line: &Line| {
        let place = line.target.as_ref().map(|target| Placement::of(&line.module, target));
        let last = place.and_then(|place| before.failures.get(&place));
        let now = if let Outcome::Failed(failing) = &line.outcome { Some(failing) } else { None };
        last.zip(now).is_some_and(|(last, now)| last.why == now.why && last.errors == now.errors)
    };
    let new = |line: &Line| {
        let known = matches!(line.outcome.class(), Class::KnownToFail(_) | Class::Refused(_));
        line.outcome.failed() && !known && !told(line)
    };
    let unfinished = report.unfinished.iter().any(|step| !step.earlier);
    if !report.lines.iter().any(new) && report.problems.is_empty() && !unfinished {
        return;
    }
    // As it was stored: without control characters.
    let Some(kept) = number.and_then(|number| history::one(&session.layout, number)) else { return };
    let Ok(document) = serde_json::to_vec(&history::Document::of(&kept)) else { return };
    for wrong in on_failure::tell(session, &document) {
        session.screen.alert(&format!("dkms: {wrong}"));
    }
}

/// Nothing was changed: not worth an entry in the history.
fn trivial(plan: &Plan, report: &Report) -> bool {
    plan.is_empty()
        && report.repaired.is_empty()
        && report.problems.is_empty()
        && report.unfinished.is_empty()
        && report.lines.iter().all(|line| line.outcome.follows().history < History::Yes)
}

fn stopped(error: &anyhow::Error, tree: &LockedTree) -> String {
    match error.downcast_ref::<signal::Interrupted>() {
        // Without an intent, no module was about to be changed.
        Some(interrupted) if !tree.owes() => {
            format!("{interrupted}: installed modules are unchanged")
        }
        Some(interrupted) => format!("{interrupted}: the next run finishes or rolls back"),
        None if !tree.owes() => format!("{error:#}; installed modules are unchanged"),
        None => format!("{error:#}; the next run finishes or rolls back"),
    }
}

fn requested(events: &[Event]) -> Vec<ModuleId> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::SourceAdded { module, .. } => Some(module.clone()),
            Event::Requested(request) => Some(request.module.clone()),
            _ => None,
        })
        .collect()
}

/// The DKMS tree, or the part of it that is needed.
fn load_snapshot(layout: &Layout, names: Option<BTreeSet<ModuleName>>) -> Result<Snapshot> {
    match names {
        Some(names) => Snapshot::load_some(layout, names),
        None => Snapshot::load(layout),
    }
}

/// The current DKMS tree, read without the lock.
pub fn status_of(session: &Session, module: Option<&ModuleName>) -> Result<Snapshot> {
    load_snapshot(&session.layout, module.map(|name| BTreeSet::from([name.clone()])))
}
