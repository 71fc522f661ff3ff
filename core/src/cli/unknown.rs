//! Sentences about what is named and does not exist: a module, a version, a kernel, a directory.

use std::path::Path;

use anyhow::Result;

use super::action::{Action, Operand};
use super::args::Args;
use super::complete;
use super::invocation::Invocation;
use super::refuse;
use crate::exit::Exit;
use crate::kernel;
use crate::session::Session;
use crate::tree::Snapshot;
use crate::types::{KernelRelease, ModuleId, ModuleName};

/// The word that is most similar to this one, if any is.
pub(super) fn similar<W: AsRef<str>>(word: &str, known: impl Iterator<Item = W>) -> Option<W> {
    let likeness = |other: &W| strsim::jaro_winkler(word, other.as_ref());
    let close = known.filter(|other| likeness(other) > 0.85);
    close.max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
}

/// The sentence about an unknown action.
pub(super) fn command(word: &str) -> String {
    match similar(word, Action::all().map(|(name, _)| name)) {
        Some(action) => format!("unknown command {word:?}; did you mean {action}?"),
        None => format!("unknown command {word:?}; see dkms --help"),
    }
}

/// The sentence about a module, or a version of one, that is not in the DKMS tree.
pub(super) fn module(snapshot: &Snapshot, name: &str, version: Option<&str>) -> String {
    let version = version.map_or(String::new(), |version| format!("/{version}"));
    let names = || snapshot.modules.keys().map(|id| id.name.as_str());
    let versions: Vec<String> =
        snapshot.modules.keys().filter(|id| id.name.as_str() == name).map(ToString::to_string).collect();
    let advice = match (versions.as_slice(), similar(name, names())) {
        ([], Some(similar)) => format!("did you mean {similar}?"),
        ([], None) => "to list all modules: dkms status".to_owned(),
        (versions, _) => format!("its versions there: {}", versions.join(", ")),
    };
    format!("{name}{version} is not in the DKMS tree; {advice}")
}

/// What was probably meant by the name or the version of a module that does not exist; with `sources`, it need not be in
/// the DKMS tree.
pub(super) fn advice(session: &Session, wanted: &ModuleId, sources: bool) -> Result<Option<String>> {
    let snapshot = crate::apply::status_of(session, None)?;
    if snapshot.modules.contains_key(wanted) {
        return Ok(None);
    }
    let sources = if sources { complete::sources(&session.layout, &snapshot) } else { Vec::new() };
    let known: Vec<&ModuleId> = snapshot.modules.keys().chain(&sources).collect();
    let versions: Vec<String> =
        known.iter().filter(|id| id.name == wanted.name).map(ToString::to_string).collect();
    if !versions.is_empty() {
        return Ok(Some(format!("other versions of {}: {}", wanted.name, versions.join(", "))));
    }
    let close = similar(&wanted.to_string(), known.iter().map(ToString::to_string));
    Ok(close.map(|close| format!("did you mean {close}?")))
}

/// Whether a word can only be a path: one with a slash inside can also be a module with its version.
pub(super) fn like_path(word: &str) -> bool {
    [".", ".."].contains(&word) || ["/", "./", "../"].iter().any(|start| word.starts_with(start))
}

/// A source directory that was named instead of a module and cannot be used.
pub(super) fn directory(invocation: &Invocation) -> Result<()> {
    let operand = invocation.action.rules().operand;
    let first =
        invocation.named_by_word().filter(|word| like_path(word)).filter(|word| !Path::new(word).is_file());
    let Some(word) = first.filter(|_| matches!(operand, Operand::Source | Operand::Module)) else {
        return Ok(());
    };
    let why = match Path::new(word).is_dir() {
        true => format!("no dkms.conf in {word}"),
        false => format!("{word} not found"),
    };
    refuse(if invocation.name.is_none() { Exit::ERROR } else { Exit::NO_SOURCE }, why)
}

/// Reports kernels that were named, are not installed, and have no builds. The command continues: their headers can be
/// elsewhere, or come later.
pub(super) fn kernels(session: &Session, args: &Args, invocation: &Invocation) -> Result<()> {
    if !invocation.action.rules().installed || !session.screen.is_person() || args.kernelsourcedir.is_some() {
        return Ok(());
    }
    let template = args.templatekernel.iter().map(|word| word.split('/').next().unwrap_or_default());
    let named = args.pairs.kernels().chain(template).filter_map(|word| word.parse::<KernelRelease>().ok());
    let installed = kernel::installed(&session.layout);
    let unknown: Vec<KernelRelease> = named.filter(|kernel| !installed.contains(kernel)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    // A command about one module reads no other.
    let only = invocation.name.as_deref().and_then(|name| name.parse::<ModuleName>().ok());
    let built = crate::apply::status_of(session, only.as_ref())?.targets();
    let list = installed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for kernel in unknown.iter().filter(|kernel| built.iter().all(|target| target.kernel != **kernel)) {
        let list = if list.is_empty() { "none" } else { &list };
        session.screen.alert(&format!("dkms: unknown kernel {kernel}; installed: {list}"));
    }
    Ok(())
}
