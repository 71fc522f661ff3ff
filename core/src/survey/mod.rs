//! Reads the facts that the plan needs: kernels, evaluated recipes, fingerprints. Changes nothing but caches.

mod below;
mod damage;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub use below::{PART, answer, below, serve};
pub use damage::{damaged, unusable};
pub use wire::Wire;

use crate::cache;
use crate::conf::{ConfError, Context, Recipe, evaluate};
use crate::kernel::{Headers, Kernel, Lack, is_rust_module};
use crate::layout::Layout;
use crate::marker;
use crate::plan::{Case, Scope, Survey};
use crate::session::Session;
use crate::step::sign;
use crate::sys::file;
use crate::sys::hash::{self, Watch};
use crate::sys::parallel::{self, ItemCost};
use crate::sys::run;
use crate::tree::{Snapshot, Verdict};
use crate::types::{Attempt, Fingerprint, ModuleId, ModuleName, Placement, Target};
use crate::unpacked::Overlay;

/// Increased when the inputs of a fingerprint change: all modules are then rebuilt once.
const FORMAT: &str = "1";

/// Surveys everything in scope.
pub fn survey(session: &Session, scope: &Scope, snapshot: &Snapshot) -> Result<Survey> {
    let mut survey = facts(session, scope, snapshot)?;
    signers(session, snapshot, &mut survey);
    memories(session, snapshot, &mut survey, Now { proving: false, view: None });
    Ok(survey)
}

/// The same for a pre-build, with facts from the confined process: cached builds and recorded failures count only if
/// they were made under this view.
pub fn incoming(session: &Session, snapshot: &Snapshot, facts: Survey, overlay: Option<&Overlay>) -> Survey {
    let mut survey = Survey { source_tree: session.layout.source_tree.clone(), ..facts };
    for headers in survey.kernels.values_mut().filter_map(|kernel| kernel.headers.as_mut()) {
        overlay.iter().for_each(|overlay| headers.seen_through(&overlay.layers));
    }
    let view = overlay.map(|overlay| overlay.view.as_str());
    survey.sources = survey
        .cases
        .keys()
        .map(|place| (place.module.clone(), place_of(session, snapshot, &place.module)))
        .collect();
    for (place, case) in &mut survey.cases {
        case.unconfined = session.policy.admin.unconfined(&place.module.name);
    }
    memories(session, snapshot, &mut survey, Now { proving: true, view });
    survey
}

/// Adds the expected signers: this machine's, or the fleet's if what is built or cached is from a store and has its signature.
fn signers(session: &Session, snapshot: &Snapshot, survey: &mut Survey) {
    let kernels = survey.kernels.iter();
    let signers: BTreeMap<&Target, Option<String>> = kernels
        .map(|(target, kernel)| {
            let headers = kernel.headers.as_ref();
            (target, headers.and_then(|headers| sign::expected(session, target, headers)))
        })
        .collect();
    for (place, case) in &mut survey.cases {
        case.signer = signers.get(&place.target).cloned().flatten();
    }
    // If it cannot be read, nothing has its signature; what fetches from a store reports this.
    let Ok(Some(fleet)) = session.fleet_key() else { return };
    for (place, case) in &mut survey.cases {
        let Some(fingerprint) = &case.fingerprint else { continue };
        let identity = Some(fleet.identity.as_str());
        let theirs = match snapshot.build(&place.module, &place.target).map(|build| build.record.as_ref()) {
            Some(Some(record)) => {
                record.signer.as_deref() == identity && record.fingerprint.same_inputs(fingerprint)
            }
            Some(None) => false,
            None => session.cache().holds(&cache::key(fingerprint, identity)),
        };
        if theirs {
            case.signer = Some(fleet.identity.clone());
        }
    }
}

/// When something remembered is looked up.
#[derive(Debug, Clone, Copy)]
struct Now<'a> {
    /// Before a transaction.
    proving: bool,
    /// What is laid over the system.
    view: Option<&'a str>,
}

/// Adds the cached builds and the recorded failures that are valid.
fn memories(session: &Session, snapshot: &Snapshot, survey: &mut Survey, now: Now<'_>) {
    let kept = session.cache();
    let mut views = Views { cache: &kept, now: now.view, known: BTreeMap::new() };
    let Survey { kernels, cases, doubtful, .. } = survey;
    for (key, case) in cases {
        let headers = kernels.get(&key.target).and_then(|kernel| kernel.headers.as_ref());
        let (Some(headers), Some(fingerprint)) = (headers, &case.fingerprint) else { continue };
        let finished = cache::key(fingerprint, case.signer.as_deref());
        let unfinished = cache::unfinished(fingerprint, &headers.environment);
        // What came from a store and was not judged yet proves nothing before a transaction.
        case.cached = !now.proving && kept.holds(&finished)
            || kept.view(&unfinished).is_ok_and(|view| views.hold(view.as_deref()))
                && (!now.proving || kept.unproven(&unfinished).is_none());
        if let Some(failure) = snapshot.failures.get(key) {
            let boot =
                failure.boot.as_ref().is_none_or(|boot| Some(boot) == session.layout.boot_id().as_ref());
            let same = boot && (failure.view.is_none() || failure.environment == headers.environment);
            if !(same && views.hold(failure.view.as_deref())) {
                doubtful.insert(key.clone());
            }
        }
    }
}

/// The valid views: each of their files is in the current overlay, or else is installed.
struct Views<'a> {
    cache: &'a cache::Cache,
    /// The view of what is laid over the system now.
    now: Option<&'a str>,
    known: BTreeMap<String, bool>,
}

impl Views<'_> {
    fn hold(&mut self, view: Option<&str>) -> bool {
        let Some(view) = view.filter(|view| Some(*view) != self.now) else { return true };
        if let Some(known) = self.known.get(view) {
            return *known;
        }
        let holds = || -> Result<bool> {
            let laid = self.now.map(|now| self.cache.read_view(now)).transpose()?;
            Ok(self.cache.read_view(view)?.holds(&laid.unwrap_or_default()))
        };
        let holds = holds().unwrap_or(false);
        self.known.insert(view.to_owned(), holds);
        holds
    }
}

/// The facts about everything in scope, without those that only root can read.
pub fn facts(session: &Session, scope: &Scope, snapshot: &Snapshot) -> Result<Survey> {
    let mut survey = Survey {
        source_tree: session.layout.source_tree.clone(),
        fetch_headers: session.policy.admin.fetch_headers(),
        ..Survey::default()
    };
    for target in &scope.kernels {
        let kernel = session.kernel(target).with_context(|| format!("examining kernel {target}"))?;
        survey.kernels.insert(target.clone(), kernel);
        let markers = marker::markers(&session.layout, target).into_iter();
        survey.packaged.extend(markers.map(|(name, marker)| ((name, target.clone()), marker)));
        let damaged = marker::damaged_of(&session.layout, target).into_iter();
        survey.damaged_packages.extend(damaged.map(|(name, marker)| ((name, target.clone()), marker)));
    }
    let mut bases: BTreeMap<Placement, String> = BTreeMap::new();
    let cases: Vec<Placement> = scope.cases.iter().cloned().collect();
    examine(session, snapshot, &mut survey, &mut bases, &cases)?;
    for (newest, older) in &scope.older {
        fall_back(session, snapshot, &mut survey, &mut bases, newest, older)?;
    }
    let followers = followers(session, snapshot, &survey)?;
    examine(session, snapshot, &mut survey, &mut bases, &followers)?;
    // `dkms add` names no kernel, and needs the source.
    for event in &session.requested {
        if !survey.sources.contains_key(event) {
            let source = source_of(session, snapshot, event);
            survey.sources.extend(source.map(|source| (event.clone(), source)));
        }
    }
    let depends = dependencies(session, snapshot, &survey, &mut bases)?;
    let environment = environment(session);
    for (key, case) in &mut survey.cases {
        let fingerprint = bases.contains_key(key).then(|| fingerprint(key, &bases, &depends));
        case.fingerprint = match &environment {
            Some(hash) => fingerprint.map(|inputs| inputs.with_environment(hash)),
            None => fingerprint,
        };
    }
    Ok(survey)
}

/// Surveys modules, each for one kernel, in parallel.
fn examine(
    session: &Session,
    snapshot: &Snapshot,
    survey: &mut Survey,
    bases: &mut BTreeMap<Placement, String>,
    cases: &[Placement],
) -> Result<()> {
    let kernels = &survey.kernels;
    let parts = parallel::parts(cases, ItemCost::Slow, |part| -> Result<Vec<Option<Examined>>> {
        part.iter()
            .map(|placement| see(session, snapshot, kernels.get(&placement.target), &placement.module))
            .collect()
    });
    let mut all = Vec::new();
    for part in parts {
        all.extend(part?);
    }
    for (placement, seen) in cases.iter().zip(all) {
        let Some(Examined { source, recipe, base, without_headers, lack, damaged, unusable }) = seen else {
            continue;
        };
        bases.extend(base.map(|base| (placement.clone(), base)));
        survey.sources.entry(placement.module.clone()).or_insert(source);
        if damaged {
            survey.damaged.insert(placement.clone());
        }
        if unusable {
            survey.unusable.insert(placement.clone());
        }
        let unconfined = session.policy.admin.unconfined(&placement.module.name);
        let verdict = without_headers.as_ref().and_then(|inputs| {
            let known: Verdict = file::record(&session.layout.verdict(&placement.module, &placement.target))?;
            (known.inputs == *inputs).then_some(known)
        });
        let case = Case {
            recipe,
            fingerprint: None,
            signer: None,
            cached: false,
            lack,
            without_headers,
            verdict,
            unconfined,
        };
        survey.cases.insert(placement.clone(), case);
    }
    Ok(())
}

/// Surveys older versions of a module, as long as the newer ones are excluded from the kernel.
fn fall_back(
    session: &Session,
    snapshot: &Snapshot,
    survey: &mut Survey,
    bases: &mut BTreeMap<Placement, String>,
    newest: &Placement,
    older: &[ModuleId],
) -> Result<()> {
    let mut newer = newest.clone();
    for id in older {
        if !survey.cases.get(&newer).is_some_and(Case::passed_over) {
            break;
        }
        let next = Placement::of(id, &newest.target);
        examine(session, snapshot, survey, bases, std::slice::from_ref(&next))?;
        if survey.cases.contains_key(&next) {
            // What depends on the module is built with this version.
            bases.remove(&newer);
        }
        newer = next;
    }
    Ok(())
}

/// The facts about one module for one kernel.
struct Examined {
    source: PathBuf,
    recipe: Result<Recipe, ConfError>,
    base: Option<String>,
    without_headers: Option<String>,
    lack: Option<Lack>,
    damaged: bool,
    unusable: bool,
}

fn see(
    session: &Session,
    snapshot: &Snapshot,
    kernel: Option<&Kernel>,
    id: &ModuleId,
) -> Result<Option<Examined>> {
    let (Some(kernel), Some(source)) = (kernel, source_of(session, snapshot, id)) else { return Ok(None) };
    let recipe = recipe(session, id, kernel, &source)?;
    let mut lack = None;
    let base = match (&recipe, &kernel.headers) {
        (Ok(recipe), Some(headers)) => {
            let rust = Rust::of(recipe, headers, &kernel.target, &source);
            let inputs = all_inputs(session, id, recipe, kernel, (&headers.identity, rust.as_ref()), &source);
            lack = rust.and_then(|rust| rust.lack);
            Some(base(&inputs.with_context(|| format!("examining the source of {id}"))?))
        }
        _ => None,
    };
    let without_headers = without_headers(session, id, recipe.as_ref().ok(), kernel, &source)?;
    let target = &kernel.target;
    let build = snapshot.build(id, target);
    let damaged = build.is_some_and(|build| damaged(session, snapshot, id, target, build));
    let unusable = build.is_some_and(|build| unusable(session, id, target, build));
    Ok(Some(Examined { source, recipe, base, without_headers, lack, damaged, unusable }))
}

/// The hash of the inputs of a build whose headers are missing, if they may be borrowed.
fn without_headers(
    session: &Session,
    id: &ModuleId,
    recipe: Option<&Recipe>,
    kernel: &Kernel,
    source: &Path,
) -> Result<Option<String>> {
    let lacking = kernel.headers.is_none() && session.policy.admin.fetch_headers();
    let Some(recipe) = recipe.filter(|_| lacking) else { return Ok(None) };
    let inputs = all_inputs(session, id, recipe, kernel, ("", None), source);
    Ok(Some(base(&inputs.with_context(|| format!("examining the source of {id}"))?)))
}

/// Modules outside of the scope that have a build and are rebuilt when a module in scope is installed.
fn followers(session: &Session, snapshot: &Snapshot, survey: &Survey) -> Result<Vec<Placement>> {
    let mut candidates = Vec::new();
    for (id, entry) in &snapshot.modules {
        let Some(source) = entry.source_dir() else { continue };
        for target in entry.builds.keys() {
            let Some(kernel) = survey.kernels.get(target) else { continue };
            let key = Placement::of(id, target);
            if survey.cases.contains_key(&key) {
                continue;
            }
            if let Some(recipe) = recipe(session, id, kernel, source)?.ok().filter(|recipe| recipe.follows) {
                candidates.push((key, recipe.build_depends));
            }
        }
    }
    let cases = survey.cases.keys().map(Placement::by_name);
    Ok(crate::plan::followers(cases, candidates))
}

/// The direct dependencies of each module.
type Depends = BTreeMap<Placement, Vec<ModuleName>>;

/// Surveys the dependencies of all cases, including those that are not built now: a module's fingerprint must not
/// depend on what else is in the plan. Adds the results to the bases.
fn dependencies(
    session: &Session,
    snapshot: &Snapshot,
    survey: &Survey,
    bases: &mut BTreeMap<Placement, String>,
) -> Result<Depends> {
    let mut depends: Depends = survey
        .cases
        .iter()
        .filter_map(|(key, case)| Some((key.clone(), case.recipe.as_ref().ok()?.build_depends.clone())))
        .collect();
    let versions = crate::plan::versions(snapshot);
    let mut open: Vec<(ModuleName, Target)> = Vec::new();
    let wanted = |depends: &Depends, open: &mut Vec<(ModuleName, Target)>| {
        for (placement, names) in depends {
            open.extend(names.iter().map(|name| (name.clone(), placement.target.clone())));
        }
    };
    wanted(&depends, &mut open);
    while let Some((name, target)) = open.pop() {
        // The version that the plan will install, else the installed one.
        let known = versions.get(&name);
        let Some(id) = known.and_then(|ids| crate::plan::meant(ids, &survey.cases, &target)) else {
            continue;
        };
        let planned = survey.cases.contains_key(&Placement::of(id, &target));
        let id = if planned { id } else { snapshot.active(&name, &target).unwrap_or(id) };
        let key = Placement { module: id.clone(), target };
        let (Some(kernel), Some(source)) =
            (survey.kernels.get(&key.target), source_of(session, snapshot, id))
        else {
            continue;
        };
        if depends.contains_key(&key) {
            continue;
        }
        if let (Ok(recipe), Some(headers)) = (recipe(session, id, kernel, &source)?, &kernel.headers) {
            let rust = Rust::of(&recipe, headers, &key.target, &source);
            let base =
                base(&all_inputs(session, id, &recipe, kernel, (&headers.identity, rust.as_ref()), &source)?);
            bases.insert(key.clone(), base);
            open.extend(recipe.build_depends.iter().map(|name| (name.clone(), key.target.clone())));
            depends.insert(key, recipe.build_depends);
        }
    }
    Ok(depends)
}

/// The directory of a module's source: the target of its link, or the path in the source tree.
fn source_of(session: &Session, snapshot: &Snapshot, id: &ModuleId) -> Option<PathBuf> {
    let linked = snapshot.modules.get(id).is_some_and(|entry| entry.source_dir().is_some());
    Some(place_of(session, snapshot, id)).filter(|dir| linked || dir.is_dir())
}

/// The same, whether it exists or not.
fn place_of(session: &Session, snapshot: &Snapshot, id: &ModuleId) -> PathBuf {
    let linked = snapshot.modules.get(id).and_then(|entry| entry.source_dir()).cloned();
    linked.unwrap_or_else(|| session.layout.source(id))
}

/// A module's recipe for one kernel.
pub fn recipe(
    session: &Session,
    id: &ModuleId,
    kernel: &Kernel,
    source: &Path,
) -> Attempt<Recipe, ConfError> {
    let default = session.layout.headers(&kernel.target.kernel);
    let headers = kernel.headers.as_ref().map_or(&default, |headers| &headers.dir);
    let identity = kernel.headers.as_ref().map_or("", |headers| &headers.identity);
    let directives = &session.options.directives;
    let overrides = Layout::overrides(id, &kernel.target);
    let overrides = overrides.iter().filter(|name| session.admin_has(name));
    let overrides = overrides.map(|name| session.layout.config().join(name));
    // A dangling link is not an override.
    let overrides: Vec<PathBuf> = overrides.filter(|path| path.exists()).collect();
    let context = Context {
        layout: &session.layout,
        module: id,
        target: &kernel.target,
        headers,
        identity,
        destination: session.policy.destination(),
        overrides: &overrides,
        directives,
        environment: &session.options.environment,
    };
    let conf = session.options.conf.clone().unwrap_or_else(|| source.join("dkms.conf"));
    // Without a configuration, the kernel's options are unknown: rules about them exclude nothing.
    let config = kernel.headers.as_ref().map(|headers| &headers.config).filter(|config| !config.is_empty());
    evaluate::recipe(&conf, &context, config).with_context(|| format!("reading dkms.conf of {id}"))
}

/// How large a Rust source file may be, and how many of a directory are read: every survey reads them, and their owner may be
/// another user.
const RUST_LIMIT: (u64, usize) = (256 << 10, 32);

/// Whether one of the modules is written in Rust: its crate is beside the object that is linked.
fn written_in_rust(recipe: &Recipe, source: &Path) -> bool {
    let dirs: BTreeSet<&Path> =
        recipe.modules.iter().filter_map(|module| Path::new(module.in_source()).parent()).collect();
    let (size, number) = RUST_LIMIT;
    dirs.into_iter().any(|dir| {
        let files = file::sorted_entries(&source.join(dir)).into_iter();
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "rs"));
        files.take(number).any(|path| {
            let Some(name) = path.file_name() else { return false };
            file::read_untrusted(source, &dir.join(name), size).is_ok_and(|text| is_rust_module(&text))
        })
    })
}

/// What the installed compiler says of itself; `None` if there is none.
fn rustc_version() -> Option<String> {
    run::which("rustc")?;
    let done = run::Cmd::new("rustc").args(["--version"]).output(run::Output::Split).run().ok()?;
    let text = String::from_utf8_lossy(&done.output).trim().to_owned();
    (done.status.success() && !text.is_empty()).then_some(text)
}

/// What only modules in Rust need.
struct Rust {
    /// The version of the installed compiler.
    rustc: Option<String>,
    /// What the kernel or the machine lacks.
    lack: Option<Lack>,
}

impl Rust {
    /// `None` if the module is not written in Rust.
    fn of(recipe: &Recipe, headers: &Headers, target: &Target, source: &Path) -> Option<Self> {
        let rustc = written_in_rust(recipe, source).then(rustc_version)?;
        let lack = headers.rust.lacks(target.kernel.as_str(), rustc.as_deref());
        Some(Self { rustc, lack })
    }
}

/// The hash of everything that can change a build, except for dependencies.
fn base(inputs: &serde_json::Value) -> String {
    hash::hex(inputs.to_string().as_bytes())
}

/// The inputs of a build, except for dependencies: their hash is what [`Case::fingerprint`] begins with.
pub fn inputs(
    session: &Session,
    id: &ModuleId,
    recipe: &Recipe,
    kernel: &Kernel,
    source: &Path,
) -> Result<serde_json::Value> {
    let headers = kernel.headers.as_ref().context("there are no kernel headers")?;
    let rust = Rust::of(recipe, headers, &kernel.target, source);
    all_inputs(session, id, recipe, kernel, (&headers.identity, rust.as_ref()), source)
}

/// Only what can change a build: a machine's name, its users and the time are not among them, so that machines with the same
/// packages share builds. The DKMS tree is, because builds run below it and its path can get into a module; on all machines
/// that have it in the usual place it is the same word.
fn all_inputs(
    session: &Session,
    id: &ModuleId,
    recipe: &Recipe,
    kernel: &Kernel,
    (identity, rust): (&str, Option<&Rust>),
    source: &Path,
) -> Result<serde_json::Value> {
    let memory = session.layout.source_hash(id);
    let sources = hash::trees(&[source.to_owned()], Watch::Files, Some(&memory), &[])?;
    let mut own = own_files(session, id, recipe);
    own.extend(session.policy.framework.build_environment(&kernel.target));
    let own = if own.is_empty() { None } else { Some(hash::trees(&own, Watch::Files, None, &[])?) };
    let mut all = serde_json::json!({
        "format": FORMAT,
        "sources": sources,
        "recipe": Recipe { make: without_jobs(&recipe.make), ..recipe.clone() },
        "headers": identity,
        "target": kernel.target,
        "compression": kernel.compression,
        "unconfined": session.policy.admin.unconfined(&id.name),
        "dkms_tree": session.layout.dkms_tree,
    });
    if let Some(own) = own {
        all["own"] = own.into();
    }
    if let Some(rust) = rust {
        all["rustc"] = rust.rustc.clone().into();
    }
    Ok(all)
}

/// A make command without the number of jobs: `make -j$(nproc)` differs between machines, and builds the same.
fn without_jobs(make: &str) -> String {
    let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let mut words: Vec<&str> = Vec::new();
    for word in make.split(' ') {
        let of_option = words.last().is_some_and(|last| ["-j", "--jobs"].contains(last));
        match ["-j", "--jobs="].into_iter().find(|option| word.strip_prefix(option).is_some_and(number)) {
            Some(_) => words.push("-j"),
            None if of_option && number(word) => {}
            None => words.push(word),
        }
    }
    words.join(" ")
}

/// Files of the admin that replace the source's, or with which the build begins.
fn own_files(session: &Session, id: &ModuleId, recipe: &Recipe) -> Vec<PathBuf> {
    if !session.admin_has(id.name.as_str()) {
        return Vec::new();
    }
    let dir = session.layout.module_config(&id.name);
    let scripts = [&recipe.scripts.pre_build, &recipe.scripts.post_build];
    let scripts = scripts.into_iter().filter_map(|command| command.split_whitespace().next());
    let mut files = vec![dir.join("patches")];
    files.extend(scripts.map(|program| dir.join(program)));
    files.retain(|path| path.exists());
    files
}

/// The hash of the variables that builds get from the user's environment, if there are any.
fn environment(session: &Session) -> Option<String> {
    let variables = &session.options.environment;
    let text = || variables.iter().map(|(name, value)| format!("{name}={value}\0")).collect::<String>();
    (!variables.is_empty()).then(|| hash::hex(text().as_bytes()))
}

/// A module's fingerprint contains those of all dependencies: a rebuilt dependency has new symbols.
fn fingerprint(key: &Placement, bases: &BTreeMap<Placement, String>, depends: &Depends) -> Fingerprint {
    let mut reached = BTreeSet::from([key]);
    let mut open = vec![key];
    while let Some(next) = open.pop() {
        for name in depends.get(next).into_iter().flatten() {
            for other in bases.keys().filter(|other| other.module.name == *name && other.target == key.target)
            {
                if reached.insert(other) {
                    open.push(other);
                }
            }
        }
    }
    let mut parts: Vec<&str> = vec![bases.get(key).map_or("", String::as_str)];
    parts.extend(
        reached
            .iter()
            .filter(|other| **other != key)
            .filter_map(|other| bases.get(*other))
            .map(String::as_str),
    );
    Fingerprint(hash::hex(parts.join(" ").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_jobs_is_no_input() {
        for (make, without) in [
            ("make -C /lib/modules/6.1/build M=x modules", "make -C /lib/modules/6.1/build M=x modules"),
            ("make -j8 KERNEL=6.1", "make -j KERNEL=6.1"),
            ("make -j 16 all", "make -j all"),
            ("make --jobs=4 all", "make -j all"),
            ("'make' -j1", "'make' -j"),
            ("make -j all", "make -j all"),
            ("make -jobserver 8", "make -jobserver 8"),
            ("make X=-j8 8", "make X=-j8 8"),
            ("make  -j2  a", "make  -j  a"),
        ] {
            assert_eq!(without_jobs(make), without, "{make}");
        }
    }
}
