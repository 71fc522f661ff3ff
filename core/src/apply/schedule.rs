//! Runs builds in parallel under one job budget. Everything that changes the DKMS tree or a kernel's modules runs in
//! this one thread, as builds end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, Scope};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Work;
use super::prove;
use super::queue::{Node, Queue};
use super::task::{self, BuildResult};
use crate::exit::Exit;
use crate::plan::{Plan, Task};
use crate::report::live::Live;
use crate::report::progress::Progress;
use crate::report::timeline::{Phases, Span};
use crate::report::{Failing, Fault, KernelStep, Outcome, Severity, Waits, text};
use crate::session::Session;
use crate::step::{build, depmod, sign};
use crate::sys::confine::Wall;
use crate::sys::jobs::{Jobs, Token};
use crate::sys::{confine, file, signal};
use crate::types::{Attempt, ModuleId, Placement, Target};

/// Estimate for a module of unknown cost: bytes of source per second.
const BYTES_PER_SECOND: f64 = 60_000.0;
/// Estimate for one run of depmod, in seconds.
const DEPMOD_SECONDS: f64 = 3.0;
/// The longest delay until a signal is noticed.
const POLL_IDLE: Duration = Duration::from_millis(100);
/// The longest delay until a free job is noticed.
const POLL_FOR_JOB: Duration = Duration::from_millis(5);

/// Up to this number of builds, each successful one gets a line in a package manager's output.
const FEW: usize = 4;

/// What a node of the queue stands for.
#[derive(Debug, Clone)]
enum Step<'p> {
    /// The task with this index in the plan.
    Task(usize, &'p Task),
    /// All withdrawals of a kernel.
    Removal(&'p Target),
    /// depmod for a kernel.
    Index(&'p Target),
}

enum Message {
    Built(usize, Option<BuildResult>, Option<String>, Vec<Span>, Token),
    Indexed(usize, Result<bool>, Vec<Span>, Token),
}

/// The expected seconds of all builds that are not cached, if all were built before.
pub(super) fn foreseen(work: &Work<'_>, plan: &Plan) -> Option<f64> {
    let compiled = plan.tasks.iter().filter(|task| task.build && !work.ready(task));
    let seconds = compiled.map(|task| remembered(work, task)).collect::<Option<Vec<f64>>>()?;
    (!seconds.is_empty()).then(|| seconds.iter().sum())
}

/// Executes the tasks and removals of the plan, and depmod for their kernels.
pub(super) fn carry_out<'a>(work: &mut Work<'a>, plan: &'a Plan) -> Result<()> {
    let (steps, items) = steps(work, plan);
    if steps.is_empty() {
        return Ok(());
    }
    let costs: BTreeMap<usize, f64> = std::iter::zip(&steps, &items)
        .enumerate()
        .filter_map(|(node, (step, item))| match step {
            Step::Task(_, task) if task.build && !work.ready(task) => Some((node, item.seconds?)),
            Step::Task(..) | Step::Removal(_) | Step::Index(_) => None,
        })
        .collect();
    let remembered = foreseen(work, plan).is_some();
    let signing = task::signing(work, &plan.tasks)?;
    let jobs = Jobs::new(work.session.jobs())?;
    let stop = Arc::new(AtomicBool::new(false));
    let first = work.report.lines.len();
    let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
    let builds = plan.tasks.iter().filter(|task| task.build).count();
    let expected = costs.values().sum();
    let result = thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let mut executor = Executor {
            scope,
            steps: &steps,
            queue: Queue::new(items),
            signing: &signing,
            jobs: &jobs,
            stop: &stop,
            send,
            token: None,
            lanes: BTreeMap::new(),
            builds,
            live: Live::new(work.session.screen, costs.len(), (expected, remembered)),
            costs,
            done: 0,
            announced: false,
            outcomes: &mut outcomes,
            plan,
        };
        let result = executor.run(work, &receive);
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        result
    });
    // In the order of the plan, whichever ended first: two runs of the same plan report the same.
    let lines = outcomes.into_iter().filter_map(|(index, outcome)| {
        let task = plan.tasks.get(index)?;
        Some(crate::report::Line { module: task.module.clone(), target: Some(task.target.clone()), outcome })
    });
    let lines: Vec<_> = lines.collect();
    work.report.lines.splice(first..first, lines);
    result
}

/// Whether anything is built. Detecting what the machine allows to builds costs processes, so it is done only then.
fn builds(plan: &Plan) -> bool {
    plan.tasks.iter().any(|task| task.build)
}

/// The plan as nodes with dependencies.
fn steps<'p>(work: &Work<'_>, plan: &'p Plan) -> (Vec<Step<'p>>, Vec<Node>) {
    let mut steps: Vec<Step<'p>> = Vec::new();
    let mut items: Vec<Node> = Vec::new();
    let place = |id: &ModuleId, target: &Target| {
        plan.tasks.iter().position(|task| task.module == *id && task.target == *target)
    };
    // Without private directories, two builds of one module would use the same one.
    let shared = builds(plan) && !confine::available();
    let mut owners: BTreeMap<(&Target, &str), usize> = BTreeMap::new();
    for (index, task) in plan.tasks.iter().enumerate() {
        let group = plan.tasks.iter().position(|other| other.module == task.module);
        let mut after: BTreeSet<usize> = task.after.iter().filter_map(|id| place(id, &task.target)).collect();
        // Of two packages that contain the same module, the first one of the plan is installed first, however long it takes.
        let case = work.survey.cases.get(&Placement::of(&task.module, &task.target));
        for module in
            case.and_then(|case| case.recipe.as_ref().ok()).iter().flat_map(|recipe| &recipe.modules)
        {
            after.extend(owners.insert((&task.target, module.dest_name.as_str()), index));
        }
        items.push(Node {
            after,
            seconds: task.build.then(|| if work.ready(task) { 0.1 } else { expected(work, task) }),
            group: group.filter(|_| shared && task.build),
        });
        steps.push(Step::Task(index, task));
    }
    let made = plan.tasks.iter().map(|task| &task.target);
    let cleared = plan.removals.iter().map(|removal| &removal.target);
    let targets: BTreeSet<&Target> = made.chain(cleared).chain(&plan.depmod).collect();
    for target in targets {
        let tasks = plan.tasks.iter().enumerate().filter(|(_, task)| task.target == *target);
        let mut after: BTreeSet<usize> = tasks.map(|(index, _)| index).collect();
        // A kernel that is replaced loses its modules last, when its successor has them.
        if plan.gone.contains(target) {
            after.extend(0..plan.tasks.len());
        }
        if plan.removals.iter().any(|removal| removal.target == *target) {
            items.push(Node { after: std::mem::take(&mut after), ..Node::default() });
            steps.push(Step::Removal(target));
            after.insert(items.len() - 1);
        }
        items.push(Node { after, seconds: Some(DEPMOD_SECONDS), group: None });
        steps.push(Step::Index(target));
    }
    (steps, items)
}

/// The duration of a build for another kernel or of another version.
fn remembered(work: &Work<'_>, task: &Task) -> Option<f64> {
    let records = work.snapshot.versions(&task.module.name).flat_map(|(_, entry)| entry.builds.values());
    let known = records.filter_map(|build| Some(build.record.as_ref()?.seconds)).fold(0.0, f64::max);
    (known > 0.0).then_some(known)
}

/// The expected duration of a build: the remembered one, else an estimate from the size of the source.
fn expected(work: &Work<'_>, task: &Task) -> f64 {
    remembered(work, task).unwrap_or_else(|| {
        let source = work.survey.sources.get(&task.module);
        source.map_or(0.0, |source| file::tree_size(source) as f64 / BYTES_PER_SECOND)
    })
}

/// Executes the nodes.
struct Executor<'scope, 'env, 'p> {
    scope: &'scope Scope<'scope, 'env>,
    steps: &'p [Step<'p>],
    queue: Queue,
    signing: &'scope BTreeMap<Target, sign::Signing>,
    jobs: &'scope Jobs,
    stop: &'scope Arc<AtomicBool>,
    send: Sender<Message>,
    /// The job of a build that has ended, for the next one.
    token: Option<Token>,
    lanes: BTreeMap<usize, usize>,
    builds: usize,
    /// The builds that are not cached, by node, with their expected seconds.
    costs: BTreeMap<usize, f64>,
    live: Live,
    done: usize,
    /// The start of the build was reported.
    announced: bool,
    outcomes: &'p mut BTreeMap<usize, Outcome>,
    plan: &'scope Plan,
}

impl<'scope, 'a: 'scope> Executor<'scope, '_, '_> {
    fn run(&mut self, work: &mut Work<'a>, receive: &Receiver<Message>) -> Result<()> {
        loop {
            signal::check()?;
            self.live.tick();
            // Builds first, so that the processors are busy during light work.
            self.start_all(work)?;
            if let Some(next) = self.queue.light() {
                self.queue.started(next);
                self.light(work, next)?;
                self.queue.over(next);
                continue;
            }
            let waiting = self.queue.heavy().is_some();
            if !waiting {
                // A running make may use it.
                self.token = None;
                if self.queue.running() == 0 {
                    return Ok(());
                }
            }
            // Poll often while a node waits for a job: makes wait for it, too.
            match receive.recv_timeout(if waiting { POLL_FOR_JOB } else { POLL_IDLE }) {
                Ok(message) => self.hear(work, message)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the build threads exited unexpectedly"),
            }
        }
    }

    /// Starts every possible node for which there is a job.
    fn start_all(&mut self, work: &mut Work<'a>) -> Result<()> {
        while let Some(next) = self.queue.heavy() {
            if self.skip(work, next)? {
                continue;
            }
            let Some(token) = self.token.take().or_else(|| self.jobs.take()) else { break };
            self.start(work, next, token)?;
        }
        Ok(())
    }

    /// Whether a node turns out to need no job.
    fn skip(&mut self, work: &mut Work<'_>, next: usize) -> Result<bool> {
        match &self.steps[next] {
            Step::Task(index, task) => {
                let Some(outcome) = unmet(work, task) else { return Ok(false) };
                self.note(work, *index, task, outcome);
            }
            Step::Index(target) => {
                if work.published.contains_key(*target) || self.plan.depmod.contains(*target) {
                    return Ok(false);
                }
            }
            Step::Removal(_) => return Ok(false),
        }
        self.queue.over(next);
        Ok(true)
    }

    /// Starts a build or depmod with a job.
    fn start(&mut self, work: &mut Work<'a>, next: usize, token: Token) -> Result<()> {
        let taken: BTreeSet<usize> = self.lanes.values().copied().collect();
        let lane = (1..).find(|lane| !taken.contains(lane)).unwrap_or(1);
        self.queue.started(next);
        self.lanes.insert(next, lane);
        let (session, began, send) = (work.session, work.began, self.send.clone());
        match &self.steps[next] {
            Step::Task(index, _) => {
                let task = self.plan.tasks.get(*index).context("the plan does not contain this build")?;
                if !std::mem::replace(&mut self.announced, true) {
                    announce(work, self.plan);
                }
                let (cached, store) = (work.ready(task), work.store_of(task).cloned());
                let (module, target) = (&task.module, &task.target);
                session.screen.event(&Progress::Build { module, target, cached });
                if let Some(seconds) = self.costs.get(&next) {
                    self.live.started(next, task.module.to_string(), *seconds);
                }
                let job = task::job(
                    work,
                    task,
                    self.signing,
                    (self.jobs, self.builds.min(self.jobs.limit())),
                    self.stop,
                )?;
                self.worker(move || {
                    let mut phases = Phases::default();
                    let mut remark = None;
                    let reuse = Reuse { cached, store: store.as_deref(), remark: &mut remark };
                    let attempt = attempt(session, &job, reuse, &mut phases);
                    phases.end();
                    let spans = phases.spans(began, lane, Some(job.module), &job.kernel.target);
                    // The receiver is gone if the transaction has ended: the build was then stopped, too.
                    drop(send.send(Message::Built(next, Some(attempt), remark, spans, token)));
                })?;
            }
            Step::Index(target) => {
                fail::fail_point!("finish:before-depmod");
                let target = (*target).clone();
                session.screen.event(&Progress::Step { step: KernelStep::Depmod, target: &target });
                self.live.step(format!("depmod for {}", target.kernel));
                work.intend(|intent| {
                    intent.depmod.insert(target.clone());
                })?;
                self.worker(move || {
                    let mut phases = Phases::default();
                    phases.begin("depmod");
                    let result = depmod::depmod(session, &target);
                    phases.end();
                    let spans = phases.spans(began, lane, None, &target);
                    drop(send.send(Message::Indexed(next, result, spans, token)));
                })?;
            }
            Step::Removal(_) => bail!("a removal was scheduled as a job"),
        }
        Ok(())
    }

    fn worker(&self, work: impl FnOnce() + Send + 'scope) -> Result<()> {
        let thread = thread::Builder::new().spawn_scoped(self.scope, work);
        thread.map(drop).context("starting a build thread")
    }

    /// Does light work.
    fn light(&mut self, work: &mut Work<'_>, next: usize) -> Result<()> {
        match &self.steps[next] {
            Step::Task(index, task) => {
                let outcome = match unmet(work, task) {
                    Some(outcome) => outcome,
                    None => finished(work, task, None)?,
                };
                self.note(work, *index, task, outcome);
            }
            Step::Removal(target) => {
                for removal in self.plan.removals.iter().filter(|removal| removal.target == **target) {
                    signal::check()?;
                    match work.remove(removal) {
                        Err(error) if error.is::<signal::Interrupted>() => return Err(error),
                        // The next run continues it.
                        Err(error) => {
                            work.unfinished = true;
                            work.stuck(removal, &error);
                        }
                        Ok(()) => {}
                    }
                }
            }
            Step::Index(_) => bail!("depmod was not scheduled as a job"),
        }
        Ok(())
    }

    fn hear(&mut self, work: &mut Work<'a>, message: Message) -> Result<()> {
        match message {
            Message::Built(next, attempt, remark, spans, token) => {
                work.report.remarks.extend(remark);
                self.lanes.remove(&next);
                self.live.ended(next);
                // Its job goes to the next build before its result is installed.
                self.token = Some(token);
                self.start_all(work)?;
                work.report.timeline.extend(spans);
                if let Step::Task(index, task) = &self.steps[next] {
                    self.done += 1;
                    let mut phases = Phases::default();
                    phases.begin("publish");
                    let outcome = finished(work, task, attempt)?;
                    phases.end();
                    let spans = phases.spans(work.began, 0, Some(&task.module), &task.target);
                    work.report.timeline.extend(spans);
                    self.note(work, *index, task, outcome);
                }
                self.queue.over(next);
            }
            Message::Indexed(next, result, spans, token) => {
                self.lanes.remove(&next);
                self.token = Some(token);
                work.report.timeline.extend(spans);
                self.queue.over(next);
                match result {
                    Ok(true) => {
                        if let Step::Index(target) = &self.steps[next] {
                            work.report.depmod.push((*target).clone());
                        }
                    }
                    Ok(false) => {}
                    Err(error) if error.is::<signal::Interrupted>() => return Err(error),
                    Err(error) => {
                        if let Step::Index(target) = &self.steps[next] {
                            work.depmod_failed(target, format!("{error:#}"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Records how one module ended.
    fn note(&mut self, work: &mut Work<'_>, index: usize, task: &Task, outcome: Outcome) {
        if outcome.follows().severity > Severity::Fine {
            work.failed.insert(Placement::of(&task.module, &task.target));
        }
        if task.build && !work.unconfined {
            let limits = match confine::wall() {
                Wall::User(why) => Some(format!(
                    "namespaces are not available: builds run as an unprivileged user, not sandboxed: {why}"
                )),
                Wall::Bare(why) => {
                    Some(format!("builds are not sandboxed, but run as an unprivileged user: {why}"))
                }
                Wall::Whole | Wall::None | Wall::Alone(_) | Wall::Failed(_) => None,
            };
            work.unconfined |= limits.is_some();
            work.report.remarks.extend(limits);
        }
        let count = (self.builds > 1 && task.build).then_some((self.done, self.builds));
        let screen = work.session.screen;
        let (module, target) = (&task.module, &task.target);
        screen.event(&Progress::Outcome { module, target, outcome: &outcome, done: self.done });
        if screen.talks() && (screen.is_person() || told_now(&outcome, self.builds)) {
            screen.progress(&text::progress(module, target, &outcome, count));
        }
        self.outcomes.insert(index, outcome);
    }
}

/// Whether an outcome is reported at once in a package manager's output, which has the lines of many other programs. The
/// summary counts the others.
fn told_now(outcome: &Outcome, builds: usize) -> bool {
    match outcome {
        Outcome::Installed { built: false, .. } | Outcome::UpToDate | Outcome::Packaged { .. } => false,
        Outcome::Installed { built: true, .. } | Outcome::Built { .. } => builds <= FEW,
        Outcome::Registered
        | Outcome::Unregistered
        | Outcome::Loaded
        | Outcome::Present
        | Outcome::Uninstalled
        | Outcome::Unbuilt
        | Outcome::Kept
        | Outcome::Excluded { .. }
        | Outcome::Native { .. }
        | Outcome::Deferred { .. }
        | Outcome::Refused { .. }
        | Outcome::Failed(_) => true,
    }
}

/// What there is instead of a compilation.
struct Reuse<'a> {
    /// There is a build with the same inputs.
    cached: bool,
    /// The store that it has just come from.
    store: Option<&'a str>,
    /// Why it was not used, for the report.
    remark: &'a mut Option<String>,
}

/// Builds, unless a build with the same inputs is cached.
fn attempt(
    session: &Session,
    job: &build::Job<'_>,
    Reuse { cached, store, remark }: Reuse<'_>,
    phases: &mut Phases,
) -> Attempt<build::Built, build::Unbuilt> {
    if cached {
        phases.begin("reuse");
        match (build::again(session, job), store) {
            (Ok(built), _) => return Ok(Ok(built)),
            (Err(why), Some(store)) => {
                build::reject(session, job)?;
                *remark =
                    Some(format!("{}: the build from the store {store} was not used: {why:#}", job.module));
            }
            (Err(why), None) => session.screen.progress(&format!(
                "dkms: {}: the cached build is unusable, rebuilding: {why:#}",
                job.module
            )),
        }
    }
    build::build(session, job, phases)
}

fn announce(work: &Work<'_>, plan: &Plan) {
    let builds: Vec<&Task> = plan.tasks.iter().filter(|task| task.build && !work.ready(task)).collect();
    if builds.is_empty() || !work.session.screen.talks() {
        return;
    }
    let kernels: BTreeSet<&str> = builds.iter().map(|task| task.target.kernel.as_str()).collect();
    let what = match builds.as_slice() {
        [one] => one.module.to_string(),
        many => format!("{} modules", many.len()),
    };
    let kernels: Vec<&str> = kernels.into_iter().collect();
    work.session.screen.progress(&format!("dkms: building {what} for {}", kernels.join(", ")));
}

/// Why a task cannot run: a dependency failed in this plan. An existing build is still installed. A new build waits
/// even if an older version of the dependency is installed, because a build against that would not fit the new one.
fn unmet(work: &Work<'_>, task: &Task) -> Option<Outcome> {
    let failed = |id: &&ModuleId| work.failed.contains(&Placement::of(id, &task.target));
    let id = task.after.iter().find(failed).filter(|_| task.build && !task.force)?;
    Some(Outcome::Deferred {
        why: format!("requires {id}, which failed"),
        advice: format!("fix {id} first"),
        waits: Waits::Dependency,
    })
}

/// Ends the task of one module.
fn finished(work: &mut Work<'_>, task: &Task, attempt: Option<BuildResult>) -> Result<Outcome> {
    let end = match (work.proving, attempt) {
        (true, Some(ended)) => prove::finish(work, task, ended),
        (_, attempt) => task::finish(work, task, attempt),
    };
    match end {
        Err(error) if error.is::<signal::Interrupted>() => Err(error),
        // An I/O error for one module does not end the others.
        Err(error) => {
            work.unfinished = true;
            let why = format!("could not be completed: {error:#}");
            let failing = Failing::new(Fault::Dkms, Exit::NOT_INSTALLED, why);
            // From here on, some files may be new.
            if work.intent.publish.iter().any(|pending| pending.is(&task.module, &task.target)) {
                let remaining = "the next run completes this, or restores what was installed".into();
                return Ok(Outcome::Failed(Failing { remaining, ..failing }));
            }
            Ok(work.failed(task, failing))
        }
        Ok(outcome) => Ok(outcome),
    }
}
