//! Finds out what the plan needs to know: kernels, evaluated recipes, fingerprints. Reads only, and remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::conf::{Context, Recipe, bash};
use crate::kernel::Kernel;
use crate::plan::{Case, Scope, Survey};
use crate::session::Session;
use crate::sys::hash::{self, Watch};
use crate::tree::{Build, Snapshot};
use crate::types::{Fingerprint, ModuleId, Target};

/// Raised when what goes into a fingerprint changes: all modules are then built again, once.
const FORMAT: &str = "1";

/// Looks at everything in the scope.
pub fn survey(session: &Session, scope: &Scope, snapshot: &Snapshot) -> Result<Survey> {
    let mut survey = Survey::default();
    for target in &scope.kernels {
        let headers = session.options.headers.as_deref();
        let kernel = Kernel::load(&session.layout, &session.policy.row, target, headers)
            .with_context(|| format!("looking at kernel {target}"))?;
        survey.kernels.insert(target.clone(), kernel);
    }
    let mut bases: BTreeMap<(ModuleId, Target), String> = BTreeMap::new();
    for (id, target) in &scope.cases {
        let Some(kernel) = survey.kernels.get(target) else { continue };
        let Some(source) = source_of(session, snapshot, id) else { continue };
        let recipe = recipe(session, id, kernel, &source)?;
        if let (Ok(recipe), Some(headers)) = (&recipe, &kernel.headers) {
            let base = base(session, id, recipe, kernel, &headers.identity, &source)
                .with_context(|| format!("looking at the source of {id}"))?;
            bases.insert((id.clone(), target.clone()), base);
        }
        survey.sources.entry(id.clone()).or_insert(source);
        survey.cases.insert((id.clone(), target.clone()), Case { recipe, fingerprint: None });
        if snapshot.build(id, target).is_some_and(|build| damaged(session, id, target, build)) {
            survey.damaged.insert((id.clone(), target.clone()));
        }
    }
    // `dkms add` names no kernel, and still must find the source.
    for event in &session.asked {
        if let std::collections::btree_map::Entry::Vacant(slot) = survey.sources.entry(event.clone())
            && let Some(source) = source_of(session, snapshot, event)
        {
            slot.insert(source);
        }
    }
    let fingerprints: Vec<_> =
        bases.keys().map(|key| (key.clone(), fingerprint(key, &bases, &survey.cases))).collect();
    for (key, fingerprint) in fingerprints {
        if let Some(case) = survey.cases.get_mut(&key) {
            case.fingerprint = Some(fingerprint);
        }
    }
    Ok(survey)
}

/// The directory of a module's source: where its link leads, or where a package would have put it.
fn source_of(session: &Session, snapshot: &Snapshot, id: &ModuleId) -> Option<PathBuf> {
    let linked = snapshot.modules.get(id).and_then(|entry| entry.source_dir()).cloned();
    linked.or_else(|| Some(session.layout.source(id)).filter(|dir| dir.is_dir()))
}

/// A module's recipe for one kernel.
pub fn recipe(
    session: &Session,
    id: &ModuleId,
    kernel: &Kernel,
    source: &std::path::Path,
) -> Result<Result<Recipe, crate::conf::ConfError>> {
    let default = session.layout.headers(&kernel.target.kernel);
    let headers = kernel.headers.as_ref().map_or(&default, |headers| &headers.dir);
    let identity = kernel.headers.as_ref().map_or("", |headers| &headers.identity);
    let context = Context { layout: &session.layout, module: id, target: &kernel.target, headers, identity };
    let conf = session.options.conf.clone().unwrap_or_else(|| source.join("dkms.conf"));
    bash::recipe(&conf, &context, kernel.headers.as_ref().map(|headers| &headers.config))
        .with_context(|| format!("reading the dkms.conf of {id}"))
}

/// Everything that can change a build, dependencies aside.
fn base(
    session: &Session,
    id: &ModuleId,
    recipe: &Recipe,
    kernel: &Kernel,
    identity: &str,
    source: &std::path::Path,
) -> Result<String> {
    let memory = session.layout.source_hash(id);
    let sources = hash::trees(&[source.to_owned()], Watch::Files, Some(&memory), &[])?;
    let all = serde_json::json!({
        "format": FORMAT,
        "sources": sources,
        "recipe": recipe,
        "headers": identity,
        "target": kernel.target,
        "compression": kernel.compression,
        "dkms_tree": session.layout.dkms_tree,
    });
    Ok(hash::hex(all.to_string().as_bytes()))
}

/// A module's fingerprint contains those of all that it depends on: a rebuilt dependency has new symbols.
fn fingerprint(
    key: &(ModuleId, Target),
    bases: &BTreeMap<(ModuleId, Target), String>,
    cases: &BTreeMap<(ModuleId, Target), Case>,
) -> Fingerprint {
    let mut reached = BTreeSet::from([key]);
    let mut open = vec![key];
    while let Some(next) = open.pop() {
        let depends =
            cases.get(next).and_then(|case| case.recipe.as_ref().ok()).map(|recipe| &recipe.build_depends);
        for name in depends.into_iter().flatten() {
            for other in bases.keys().filter(|(id, target)| id.name == *name && *target == key.1) {
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

/// An installed build whose files are missing in the kernel's tree, or of another size than they were built.
fn damaged(session: &Session, id: &ModuleId, target: &Target, build: &Build) -> bool {
    let Some(record) = build.record.as_ref().filter(|_| build.active) else { return false };
    let built = session.layout.built_modules(id, target);
    record.installed.iter().any(|file| {
        let name = file.path.file_name().unwrap_or_default();
        let size = |path: &std::path::Path| path.metadata().map(|meta| meta.len()).ok();
        let published = size(&file.path);
        published.is_none() || published != size(&built.join(name))
    })
}
