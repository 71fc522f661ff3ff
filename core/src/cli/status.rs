//! `dkms status`: only reads. The lines on standard output are an interface; problems are reported on standard error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::args::Args;
use super::invocation::Invocation;
use super::matrix::{Cell, Matrix};
use super::pattern::Pattern;
use super::prometheus::Metrics;
use crate::exit::Exit;
use crate::inventory::all_targets;
use crate::loaded::{self, Replaced};
use crate::marker::{self, Marker};
use crate::report::{picture, text};
use crate::session::Session;
use crate::sys::{file, parallel};
use crate::tree::{Build, Entry, Snapshot, stale};
use crate::types::{ModuleId, ModuleName, Placement, Target};

/// The width of the table in a picture.
const WIDE: usize = 160;

/// A module, for the kernel if it is built for one.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct StatusEntry {
    module: ModuleId,
    #[serde(flatten)]
    target: Option<Target>,
    state: State,
    /// The notes in parentheses of the plain output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'static str>,
    /// The URL of the store that the build is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// The native package that has installed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<String>,
}

/// The state of a module for a kernel, in the words of shell DKMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum State {
    Added,
    Built,
    Installed,
    Broken,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Built => "built",
            Self::Installed => "installed",
            Self::Broken => "broken",
        }
    }
}

/// What `dkms status --json` prints.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Document {
    #[cfg_attr(test, schemars(extend("const" = 2)))]
    format: u32,
    modules: Vec<StatusEntry>,
    /// Builds that failed and have not succeeded since.
    failures: Vec<Failed>,
    /// Loaded modules that are not the installed ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<Replaced>,
    /// Kernels whose initramfs does not contain the installed modules, because updating it failed.
    stale_initramfs: Vec<Outdated>,
}

/// A build that failed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Failed {
    module: ModuleId,
    #[serde(flatten)]
    target: Target,
    why: String,
    errors: Vec<String>,
    log: PathBuf,
}

/// A kernel with an outdated initramfs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Outdated {
    #[serde(flatten)]
    target: Target,
    modules: BTreeSet<ModuleName>,
    why: String,
}

pub(super) fn show(session: &Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    let name = invocation.name.as_deref().map(Pattern::new);
    let version = invocation.version.as_deref().map(Pattern::new);
    let only = name.as_ref().and_then(Pattern::name).map(str::parse::<ModuleName>);
    let snapshot = match only {
        // An invalid name cannot be that of a module in the DKMS tree.
        Some(Err(_)) => Snapshot::default(),
        only => crate::apply::status_of(session, only.and_then(Result::ok).as_ref())?,
    };
    let pairs: Vec<(Option<Pattern>, Option<Pattern>)> =
        args.pairs.words().map(|(kernel, arch)| (kernel.map(Pattern::new), arch.map(Pattern::new))).collect();
    let matches =
        |pattern: &Option<Pattern>, name: &str| pattern.as_ref().is_none_or(|pattern| pattern.matches(name));
    let fits = |(kernel, arch): &(Option<Pattern>, Option<Pattern>), target: &Target| {
        matches(kernel, target.kernel.as_str()) && matches(arch, target.arch.as_str())
    };
    let wanted = |id: &ModuleId| matches(&name, id.name.as_str()) && matches(&version, id.version.as_str());
    let mut document = Document {
        format: 2,
        modules: Vec::new(),
        failures: Vec::new(),
        replaced: Vec::new(),
        stale_initramfs: outdated(session, |target| pairs.iter().any(|pair| fits(pair, target))),
    };
    let differences = differences(session, &snapshot, |id, target| {
        wanted(id) && pairs.iter().any(|pair| fits(pair, target))
    });
    // Each named kernel has its own output, even if nothing is built for it.
    for pair in &pairs {
        for (id, entry) in snapshot.modules.iter().filter(|(id, _)| wanted(id)) {
            rows(&snapshot, &differences, id, entry, &|target| fits(pair, target), &mut document.modules);
        }
    }
    packaged(session, &mut document.modules, |id, target| {
        wanted(id) && pairs.iter().any(|pair| fits(pair, target))
    });
    for (id, entry) in snapshot.modules.iter().filter(|(id, _)| wanted(id)) {
        let installed = entry.builds.values().any(|build| build.active);
        if entry.stands_in() && installed && !args.json {
            session.screen.alert(&format!(
                "dkms: {id} remains installed without its source until another version is built"
            ));
        }
    }
    // Failures of a pre-build for a kernel, or of a module, that was never installed are not reported.
    let there = |module: &ModuleId, target: &Target| {
        session.layout.kernel(&target.kernel).exists() && snapshot.modules.contains_key(module)
    };
    let failed = |Placement { module, target }: &Placement| {
        wanted(module) && pairs.iter().any(|pair| fits(pair, target)) && there(module, target)
    };
    for (Placement { module, target }, failure) in snapshot.failures.iter().filter(|(key, _)| failed(key)) {
        document.failures.push(Failed {
            module: module.clone(),
            target: target.clone(),
            why: failure.why.clone(),
            errors: failure.errors.clone(),
            log: failure.log.clone(),
        });
    }
    let shown: BTreeSet<Target> = document.modules.iter().filter_map(|row| row.target.clone()).collect();
    document.replaced = loaded::replaced(session, &snapshot, &shown);
    if args.json {
        session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(&document)?));
        return Ok(Exit::SUCCESS);
    }
    if args.prometheus {
        session.screen.answer(&metrics(&document).text());
        return Ok(Exit::SUCCESS);
    }
    if let Some(path) = &args.svg {
        return super::picture::write(
            session,
            path,
            &picture::terminal(&matrix(session, &document)?.draw(WIDE)),
        );
    }
    match session.screen.terminal().filter(|_| !args.asks_for_part(invocation)) {
        Some(width) if !document.modules.is_empty() => {
            session.screen.painted(&matrix(session, &document)?.draw(width));
            for row in document.modules.iter().filter(|row| !row.notes.is_empty() || row.package.is_some()) {
                let kernel =
                    row.target.as_ref().map_or(String::new(), |target| format!(" for {}", target.kernel));
                if let Some(package) = &row.package {
                    session.screen.answer(&format!("{}{kernel}: package {package}\n", row.module));
                    continue;
                }
                session.screen.answer(&format!("{}{kernel}: {}\n", row.module, row.notes.join(", ")));
            }
        }
        _ => session.screen.answer(&document.modules.iter().map(StatusEntry::line).collect::<String>()),
    }
    if let Some(found) = session.read_only(true).filter(|_| !document.modules.is_empty()) {
        session.screen.alert(&format!("dkms: {}; {}", found.what(), found.advice()));
    }
    for row in &document.modules {
        if row.state == State::Broken {
            session.screen.alert(&format!(
                "dkms: {}: source directory or source link is missing; reinstall its package",
                row.module
            ));
        }
    }
    for failed in &document.failures {
        let first = failed.errors.first().map_or(String::new(), |error| format!(": {error}"));
        session.screen.alert(&format!(
            "dkms: {} FAILED for {}: {}{first} (log: {})",
            failed.module,
            failed.target.kernel,
            failed.why,
            text::log_of(&failed.module, Some(&failed.target), &failed.log.to_string_lossy())
        ));
    }
    for replaced in &document.replaced {
        session.screen.alert(&format!("dkms: {}", replaced.line()));
    }
    for Outdated { target, modules, why } in &document.stale_initramfs {
        session.screen.alert(&format!(
            "dkms: {}: {why}; to retry: dkms autoinstall -k {}",
            text::outdated(&target.kernel, modules),
            target.kernel
        ));
    }
    for line in crate::check::foreseen(session, &shown, || Ok(snapshot))? {
        session.screen.alert(&format!("dkms: {line}"));
    }
    let shown = |name: &ModuleName| document.modules.iter().any(|row| row.module.name == *name);
    for line in super::upcoming::warnings(&session.layout, shown) {
        session.screen.alert(&line);
    }
    Ok(Exit::SUCCESS)
}

/// The same as time series.
fn metrics(document: &Document) -> Metrics {
    let mut metrics = Metrics::default();
    for row in &document.modules {
        metrics.state(&row.module, row.target.as_ref(), row.state.word());
    }
    for row in document.modules.iter().filter(|row| row.store.is_some()) {
        metrics.stored(&row.module, row.target.as_ref());
    }
    for failed in &document.failures {
        metrics.failed(&failed.module, &failed.target);
    }
    for replaced in &document.replaced {
        metrics.replaced(&replaced.id);
    }
    for outdated in &document.stale_initramfs {
        metrics.outdated(&outdated.target);
    }
    metrics
}

/// The same for all modules and kernels at once.
fn matrix(session: &Session, document: &Document) -> Result<Matrix> {
    let mut matrix = Matrix { running: session.running(), ..Matrix::default() };
    matrix.kernels.extend(all_targets(session)?);
    for row in &document.modules {
        matrix.modules.insert(row.module.clone());
        let cell = match row.state {
            State::Installed if row.notes.is_empty() => Cell::Installed,
            State::Installed => Cell::Remarked,
            State::Built => Cell::Built,
            State::Broken => Cell::Broken,
            State::Added => continue,
        };
        for target in row
            .target
            .as_ref()
            .map_or_else(|| matrix.kernels.iter().cloned().collect(), |one| vec![one.clone()])
        {
            matrix.cells.insert((row.module.clone(), target), cell);
        }
    }
    for failed in &document.failures {
        matrix.cells.entry((failed.module.clone(), failed.target.clone())).or_insert(Cell::Failed);
    }
    let named: Vec<Target> = matrix.cells.keys().map(|(_, target)| target.clone()).collect();
    matrix.kernels.extend(named);
    Ok(matrix)
}

impl StatusEntry {
    fn line(&self) -> String {
        let place = match &self.target {
            Some(target) => format!(", {}, {}", target.kernel, target.arch),
            None => String::new(),
        };
        let notes: String = self.notes.iter().map(|note| format!(" ({note})")).collect();
        let package = self.package.iter().map(|package| format!(" (package {package})"));
        let notes: String = std::iter::once(notes).chain(package).collect();
        format!("{}{place}: {}{notes}\n", self.module, self.state.word())
    }
}

/// Kernels whose initramfs could not be regenerated. While a run is about to do it, nothing is wrong.
fn outdated(session: &Session, wanted: impl Fn(&Target) -> bool) -> Vec<Outdated> {
    let found = stale(&session.layout).into_iter();
    found
        .filter(|(target, stale)| !stale.why.is_empty() && wanted(target))
        .map(|(target, stale)| Outdated { target, modules: stale.modules, why: stale.why })
        .collect()
}

/// Installed builds that differ from the files in the kernel's module directory, with the text for it.
type Differences<'a> = BTreeMap<(&'a ModuleId, &'a Target), &'static str>;

fn differences<'a>(
    session: &Session,
    snapshot: &'a Snapshot,
    wanted: impl Fn(&ModuleId, &Target) -> bool,
) -> Differences<'a> {
    let builds: Vec<(&ModuleId, &Target, &Build)> = snapshot
        .modules
        .iter()
        .flat_map(|(id, entry)| entry.builds.iter().map(move |(target, build)| (id, target, build)))
        .filter(|(id, target, _)| wanted(id, target))
        .collect();
    let differ = |(id, target, build): &(&'a ModuleId, &'a Target, &Build)| {
        Some(((*id, *target), difference(session, snapshot, (id, target), build)?))
    };
    let parts = parallel::parts(&builds, parallel::ItemCost::Quick, |builds| {
        builds.iter().filter_map(differ).collect::<Vec<_>>()
    });
    parts.into_iter().flatten().collect()
}

fn rows(
    snapshot: &Snapshot,
    differences: &Differences<'_>,
    id: &ModuleId,
    entry: &Entry,
    wanted: &dyn Fn(&Target) -> bool,
    rows: &mut Vec<StatusEntry>,
) {
    let mut row = |target: Option<&Target>, state: State, notes: Vec<&'static str>| {
        let record = target.and_then(|target| entry.builds.get(target)?.record.as_ref());
        let store = record.and_then(|record| record.store.clone());
        rows.push(StatusEntry {
            module: id.clone(),
            target: target.cloned(),
            state,
            notes,
            store,
            package: None,
        });
    };
    if entry.broken() {
        return row(None, State::Broken, Vec::new());
    }
    let mut any = false;
    for (target, build) in entry.builds.iter().filter(|(target, _)| wanted(target)) {
        any = true;
        let mut notes = Vec::new();
        if snapshot.originals.contains(&(id.name.clone(), target.clone())) {
            notes.push("Original modules exist");
        }
        notes.extend(differences.get(&(id, target)).copied());
        row(Some(target), if build.active { State::Installed } else { State::Built }, notes);
    }
    if !any && !entry.stands_in() {
        row(None, State::Added, Vec::new());
    }
}

/// Adds the modules that native packages have installed, in the order of `rows`. Of such a module for this kernel, the build
/// in the DKMS tree, if there is one, is not the installed one.
fn packaged(session: &Session, rows: &mut Vec<StatusEntry>, wanted: impl Fn(&ModuleId, &Target) -> bool) {
    let markers = marker::all(&session.layout);
    if markers.is_empty() {
        return;
    }
    for Marker { module, target, package, .. } in markers {
        if !wanted(&module, &target) {
            continue;
        }
        let same_kernel = |row: &StatusEntry| row.target.as_ref() == Some(&target);
        for row in rows.iter_mut().filter(|row| row.module.name == module.name && same_kernel(row)) {
            if row.state == State::Installed {
                row.state = State::Built;
                row.notes.clear();
            }
        }
        rows.retain(|row| {
            row.module != module || !(same_kernel(row) || row.target.is_none() && row.state == State::Added)
        });
        rows.push(StatusEntry {
            module,
            target: Some(target),
            state: State::Installed,
            notes: Vec::new(),
            store: None,
            package: Some(package),
        });
    }
    rows.sort_by(|a, b| a.module.cmp(&b.module).then_with(|| a.target.cmp(&b.target)));
}

/// Whether the kernel's module directory has what was built.
fn difference(
    session: &Session,
    snapshot: &Snapshot,
    (id, target): (&ModuleId, &Target),
    build: &Build,
) -> Option<&'static str> {
    let built = session.layout.built_modules(id, target);
    if build.files.is_empty() && !without_modules(session, id, target, snapshot) {
        return Some("Built modules are missing in the kernel modules folder");
    }
    if !build.active {
        return None;
    }
    let places = build.places(&session.layout.kernel(&target.kernel), session.policy.destination());
    let differs = |place: &PathBuf| {
        let name = place.file_name().map(Path::new).unwrap_or(Path::new(""));
        !file::same_content(place, &built.join(name)).unwrap_or(false)
    };
    let withheld = build.record.as_ref().is_some_and(|record| !record.withheld.is_empty());
    (withheld || places.iter().any(differs)).then_some("Differences between built and installed modules")
}

/// Whether the dkms.conf names no modules for this kernel, so that a build without files is complete.
fn without_modules(session: &Session, id: &ModuleId, target: &Target, snapshot: &Snapshot) -> bool {
    let source = snapshot.modules.get(id).and_then(|entry| entry.source_dir());
    let recipe = source.and_then(|source| {
        let kernel = session.kernel(target).ok()?;
        crate::survey::recipe(session, id, &kernel, source).ok()?.ok()
    });
    recipe.is_some_and(|recipe| recipe.modules.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{documented, fields};

    #[test]
    fn the_shipped_schema_is_that_of_the_document() {
        crate::shipped::expect::<Document>("status");
    }

    #[test]
    fn every_field_is_described() {
        let target = || Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let row = StatusEntry {
            module: "a/1".parse().unwrap(),
            target: Some(target()),
            state: State::Installed,
            notes: vec!["note"],
            store: Some("https://store.example".into()),
            package: Some("a-modules-6.1".into()),
        };
        let failed = Failed {
            module: "a/1".parse().unwrap(),
            target: target(),
            why: "why".into(),
            errors: vec!["error".into()],
            log: "/log".into(),
        };
        let stale = Outdated { target: target(), modules: ["a".parse().unwrap()].into(), why: "why".into() };
        let document = Document {
            format: 2,
            modules: vec![row],
            failures: vec![failed],
            replaced: vec![Replaced {
                id: "a/1".parse().unwrap(),
                name: "a".into(),
                loaded: "1".into(),
                installed: "2".into(),
            }],
            stale_initramfs: vec![stale],
        };
        let document = serde_json::to_value(document).unwrap();
        assert_eq!(documented(".SS status \\-\\-json"), fields(&document));
    }
}
