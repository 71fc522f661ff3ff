//! The words for what is not done.

use std::collections::BTreeSet;

use crate::conf::ConfError;
use crate::report::Outcome;
use crate::tree::{Snapshot, Source};
use crate::types::{ModuleId, Target};

/// What serves this kernel now, and which other kernels have the module. Those that leave do not count.
pub fn remaining(snapshot: &Snapshot, gone: &BTreeSet<Target>, id: &ModuleId, target: &Target) -> String {
    let mut parts = Vec::new();
    if let Some(active) = snapshot.active(&id.name, target) {
        parts.push(format!("{active} stays installed for this kernel"));
    }
    let mut others: Vec<String> = snapshot
        .targets()
        .into_iter()
        .filter(|other| {
            other != target && !gone.contains(other) && snapshot.active(&id.name, other).is_some()
        })
        .map(|other| other.kernel.to_string())
        .collect();
    others.sort_by(|a, b| crate::conf::version::compare(b, a));
    match others.as_slice() {
        [] => {}
        [one] => parts.push(format!("{one} still has the module")),
        many => parts.push(format!("{} still have the module", many.join(", "))),
    }
    if parts.is_empty() { "no installed kernel has this module".into() } else { parts.join("; ") }
}

pub(super) fn needs(missing: &str) -> Outcome {
    Outcome::Deferred {
        why: format!("it needs {missing} (BUILD_DEPENDS), which is not installed for this kernel"),
        advice: "install that first; --force builds without it".into(),
        code: 13,
    }
}

/// What nobody has registered may be registered later, in the same run of the package manager even.
pub(super) fn awaits(missing: &str) -> Outcome {
    Outcome::Deferred {
        why: format!("it needs {missing} (BUILD_DEPENDS), which is not registered"),
        advice: "install the package that brings that: this one is then built by itself".into(),
        code: 0,
    }
}

pub(super) fn refused(code: i32, why: String, advice: &str) -> Outcome {
    Outcome::Refused { why, advice: advice.into(), code }
}

pub(super) fn registered(code: i32) -> Outcome {
    refused(code, "it is registered already".into(), "dkms remove it first, or give another version")
}

pub(super) fn bad_conf(error: &ConfError) -> Outcome {
    let code = match error {
        ConfError::Unreadable { .. } => 4,
        ConfError::Bad { .. } => 8,
    };
    refused(code, error.to_string(), "correct the file, or reinstall the package that brought it")
}

pub(super) fn broken(source: &Source) -> Outcome {
    let why = match source {
        Source::Dangling(to) => format!("its source {} is gone", to.display()),
        _ => "the link to its source is gone".to_owned(),
    };
    refused(
        4,
        format!("it is broken: {why}"),
        "reinstall the package that brought it, or delete its directory in the registry",
    )
}
