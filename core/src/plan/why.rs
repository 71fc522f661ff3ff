//! The reasons for modules without an action.

use std::collections::BTreeSet;

use crate::conf::ConfError;
use crate::exit::Exit;
use crate::report::{Outcome, Waits};
use crate::tree::{Snapshot, Source};
use crate::types::{ModuleId, Target};

/// The version that remains installed for this kernel, and other kernels that have the module, without those that are
/// being removed.
pub fn remaining(snapshot: &Snapshot, gone: &BTreeSet<Target>, id: &ModuleId, target: &Target) -> String {
    let mut parts = Vec::new();
    if let Some(active) = snapshot.active(&id.name, target) {
        parts.push(format!("{active} remains installed for this kernel"));
    }
    let mut others: Vec<String> = snapshot
        .targets()
        .into_iter()
        .filter(|other| {
            other != target && !gone.contains(other) && snapshot.active(&id.name, other).is_some()
        })
        .map(|other| other.kernel.to_string())
        .collect();
    others.sort_by(|a, b| crate::types::version::compare(b, a));
    match others.as_slice() {
        [] => {}
        [one] => parts.push(format!("still installed for {one}")),
        many => parts.push(format!("still installed for {}", many.join(", "))),
    }
    if parts.is_empty() { "not installed for any kernel".into() } else { parts.join("; ") }
}

pub(super) fn needs(missing: &str) -> Outcome {
    Outcome::Deferred {
        why: format!("requires {missing} (BUILD_DEPENDS), which is not installed for this kernel"),
        advice: format!("install {missing} first, or use --force to build without it"),
        waits: Waits::Dependency,
    }
}

/// A module that is not registered may be registered later, even in the same run of the package manager.
pub(super) fn awaits(missing: &str) -> Outcome {
    Outcome::Deferred {
        why: format!("requires {missing} (BUILD_DEPENDS), which is not in the DKMS tree"),
        advice: "install the package that provides it; this module will then be built automatically".into(),
        waits: Waits::Turn,
    }
}

pub(super) fn refused(code: Exit, why: String, advice: &str) -> Outcome {
    Outcome::Refused { why, advice: advice.into(), code }
}

pub(super) fn registered(code: Exit, id: &ModuleId) -> Outcome {
    let advice = format!("use another version, or run `dkms remove {id} --all` first");
    refused(code, "already in the DKMS tree".into(), &advice)
}

pub(super) fn bad_conf(error: &ConfError) -> Outcome {
    let code = match error {
        ConfError::Unreadable { .. } => Exit::BROKEN,
        ConfError::Bad { .. } => Exit::BAD_CONF,
    };
    refused(code, error.to_string(), "fix the file, or reinstall the package that provides it")
}

pub(super) fn broken(id: &ModuleId, source: &Source) -> Outcome {
    broken_as(Exit::BROKEN, id, source)
}

pub(super) fn broken_as(code: Exit, id: &ModuleId, source: &Source) -> Outcome {
    let advice = format!("reinstall its package, or remove the module: dkms remove {id} --all");
    refused(code, format!("broken: {}", source.missing()), &advice)
}
