//! The sentence for a user whose command had nothing to do. Package managers and scripts get none.

use std::collections::BTreeSet;

use anyhow::Result;

use super::unknown;
use crate::event::{Request, Verb};
use crate::exit::Exit;
use crate::report::{Outcome, Report};
use crate::session::Session;
use crate::types::Target;

/// Prints one sentence to a user.
pub(super) fn say(session: &Session, sentence: &str) {
    // A program that reads progress has the report.
    if session.screen.is_person() && session.screen.talks() && !session.options.dry_run {
        session.screen.progress(&format!("dkms: {sentence}"));
    }
}

/// After a command for one module.
pub(super) fn requested(session: &Session, report: &Report, request: &Request) -> Result<()> {
    if !session.screen.is_person() || session.options.dry_run {
        return Ok(());
    }
    let module = &request.module;
    if unknown_module(report) {
        let sources = matches!(request.verb, Verb::Add | Verb::Build | Verb::Install);
        if let Some(advice) = unknown::advice(session, module, sources)? {
            session.screen.alert(&format!("      {advice}"));
        }
        return Ok(());
    }
    let done = match request.verb {
        Verb::Build => "built",
        Verb::Install => "installed",
        Verb::Add => return Ok(()),
        Verb::Uninstall | Verb::Unbuild | Verb::Remove => {
            if idle(report) {
                let there = kernels(session, request)?;
                let place = match request.targets.as_slice() {
                    [] => String::new(),
                    targets => format!(" for {}", names(targets)),
                };
                say(session, &format!("nothing to remove{place}: {module} is {there}"));
            }
            return Ok(());
        }
    };
    for line in report.lines.iter().filter(|line| line.module == *module) {
        let Some(target) = &line.target else { continue };
        match &line.outcome {
            Outcome::UpToDate => {
                say(session, &format!("{module} is already {done} for {}", target.kernel));
            }
            Outcome::Packaged { why } => say(session, &format!("{module} for {}: {why}", target.kernel)),
            _ => {}
        }
    }
    Ok(())
}

/// After `autoinstall`.
pub(super) fn automatic(session: &Session, report: &Report, targets: &[Target]) {
    // Of those that policy.toml leaves out, that has been said.
    let kept = |target: &&Target| session.policy.admin.leaves_out(&target.kernel).is_none();
    let targets: Vec<Target> = targets.iter().filter(kept).cloned().collect();
    if idle(report) && !targets.is_empty() {
        let what = match report.lines.len() {
            0 => "no module has to be built".to_owned(),
            1 => "1 module is up to date".to_owned(),
            many => format!("{many} modules are up to date"),
        };
        say(session, &format!("{what} for {}", names(&targets)));
    }
}

/// After `kernel_prerm`.
pub(super) fn removed(session: &Session, report: &Report, target: &Target) {
    if idle(report) {
        let kernel = &target.kernel;
        say(session, &format!("nothing to remove for {kernel}: no module is built for it"));
    }
}

/// Nothing was done, and nothing failed.
fn idle(report: &Report) -> bool {
    let done = |outcome: &Outcome| matches!(outcome, Outcome::UpToDate | Outcome::Packaged { .. });
    report.lines.iter().all(|line| done(&line.outcome)) && report.problems.is_empty()
}

/// The module is neither in the DKMS tree, nor is there a source for it.
fn unknown_module(report: &Report) -> bool {
    report.lines.iter().any(|line| match line.outcome {
        Outcome::Refused { code, .. } => code == Exit::NOT_ADDED || code == Exit::NO_SOURCE,
        _ => false,
    })
}

/// The kernels for which the module is built or installed, as the end of a sentence.
fn kernels(session: &Session, request: &Request) -> Result<String> {
    let snapshot = crate::apply::status_of(session, Some(&request.module.name))?;
    let entry = snapshot.modules.get(&request.module);
    let mut installed = Vec::new();
    let mut built = Vec::new();
    for (target, build) in entry.iter().flat_map(|entry| &entry.builds) {
        if build.active { installed.push(target.clone()) } else { built.push(target.clone()) }
    }
    Ok(match (installed.is_empty(), built.is_empty()) {
        (true, true) => "not built for any kernel".to_owned(),
        (false, true) => format!("installed for {}", names(&installed)),
        (true, false) => format!("built for {}", names(&built)),
        (false, false) => format!("installed for {} and built for {}", names(&installed), names(&built)),
    })
}

fn names(targets: &[Target]) -> String {
    let kernels: BTreeSet<&str> = targets.iter().map(|target| target.kernel.as_str()).collect();
    kernels.into_iter().collect::<Vec<_>>().join(", ")
}
