//! `dkms status`: reads, and nothing else. The lines on standard output are an interface; what went wrong is
//! said beside them on standard error.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::args::{Args, Words};
use crate::session::Session;
use crate::tree::{Build, Entry, Snapshot};
use crate::types::{KernelRelease, ModuleId, ModuleName, ModuleVersion, Target};

#[derive(Serialize)]
struct Row {
    name: ModuleName,
    version: ModuleVersion,
    #[serde(flatten)]
    target: Option<Target>,
    state: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'static str>,
}

#[derive(Serialize)]
struct Document {
    format: u32,
    modules: Vec<Row>,
    failures: Vec<Failed>,
}

#[derive(Serialize)]
struct Failed {
    module: ModuleId,
    #[serde(flatten)]
    target: Target,
    why: String,
    errors: Vec<String>,
    log: PathBuf,
}

pub(super) fn show(session: &Session, args: &Args, words: &Words) -> Result<i32> {
    let (name, version) = args.module_words(words);
    let name: Option<ModuleName> = name.filter(|name| !name.is_empty()).map(str::parse).transpose()?;
    let version: Option<ModuleVersion> =
        version.filter(|version| !version.is_empty()).map(str::parse).transpose()?;
    let kernels: Vec<KernelRelease> = args
        .kernelver
        .iter()
        .map(|word| word.split_once('/').map_or(word.as_str(), |(kernel, _)| kernel).parse())
        .collect::<std::result::Result<_, _>>()?;
    let snapshot = crate::apply::status_of(session, name.as_ref())?;
    let wanted_target = |target: &Target| {
        (kernels.is_empty() || kernels.contains(&target.kernel))
            && (args.arch.is_empty() || args.arch.iter().any(|arch| arch == target.arch.as_str()))
    };
    let wanted = |id: &ModuleId| version.as_ref().is_none_or(|version| *version == id.version);
    let mut document = Document { format: 1, modules: Vec::new(), failures: Vec::new() };
    for (id, entry) in snapshot.modules.iter().filter(|(id, _)| wanted(id)) {
        rows(session, &snapshot, id, entry, &wanted_target, &mut document.modules);
        if entry.stands_in() && !args.json {
            session
                .screen
                .alert(&format!("dkms: {id} stays installed without its source until a successor is built"));
        }
    }
    for ((id, target), failure) in
        snapshot.failures.iter().filter(|((id, target), _)| wanted(id) && wanted_target(target))
    {
        document.failures.push(Failed {
            module: id.clone(),
            target: target.clone(),
            why: failure.why.clone(),
            errors: failure.errors.clone(),
            log: failure.log.clone(),
        });
    }
    if args.json {
        session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(&document)?));
        return Ok(0);
    }
    for row in &document.modules {
        session.screen.answer(&row.line());
        if row.state == "broken" {
            session.screen.alert(&format!(
                "dkms: {}/{}: its source, or the link to it, is gone: reinstall its package",
                row.name, row.version
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
            failed.log.display()
        ));
    }
    for line in crate::check::foreseen(session, wanted_target)? {
        session.screen.alert(&format!("dkms: {line}"));
    }
    Ok(0)
}

impl Row {
    fn line(&self) -> String {
        let place = match &self.target {
            Some(target) => format!(", {}, {}", target.kernel, target.arch),
            None => String::new(),
        };
        let notes: String = self.notes.iter().map(|note| format!(" ({note})")).collect();
        format!("{}/{}{place}: {}{notes}\n", self.name, self.version, self.state)
    }
}

fn rows(
    session: &Session,
    snapshot: &Snapshot,
    id: &ModuleId,
    entry: &Entry,
    wanted: &dyn Fn(&Target) -> bool,
    rows: &mut Vec<Row>,
) {
    let mut row = |target: Option<&Target>, state: &'static str, notes: Vec<&'static str>| {
        rows.push(Row {
            name: id.name.clone(),
            version: id.version.clone(),
            target: target.cloned(),
            state,
            notes,
        });
    };
    if entry.broken() {
        return row(None, "broken", Vec::new());
    }
    let mut any = false;
    for (target, build) in entry.builds.iter().filter(|(target, _)| wanted(target)) {
        any = true;
        let mut notes = Vec::new();
        if snapshot.originals.contains(&(id.name.clone(), target.clone())) {
            notes.push("Original modules exist");
        }
        notes.extend(difference(session, id, target, build));
        row(Some(target), if build.active { "installed" } else { "built" }, notes);
    }
    if !any && !entry.stands_in() {
        row(None, "added", Vec::new());
    }
}

/// Whether the kernel's tree has what was built.
fn difference(session: &Session, id: &ModuleId, target: &Target, build: &Build) -> Option<&'static str> {
    let built = session.layout.built_modules(id, target);
    if build.files.is_empty() {
        return Some("Built modules are missing in the kernel modules folder");
    }
    if !build.active {
        return None;
    }
    let places = build.places(&session.layout.kernel(&target.kernel), session.policy.row.destination);
    let differs = |place: &PathBuf| {
        let name = place.file_name().map(Path::new).unwrap_or(Path::new(""));
        match (std::fs::read(place), std::fs::read(built.join(name))) {
            (Ok(published), Ok(built)) => published != built,
            _ => true,
        }
    };
    places.iter().any(differs).then_some("Differences between built and installed modules")
}
