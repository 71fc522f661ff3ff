//! The sentence for a user whose command had nothing to do. Package managers and scripts get none.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::event::{Request, Verb};
use crate::report::{Outcome, Report};
use crate::session::Session;
use crate::types::Target;

/// After a command for one module.
pub(super) fn requested(session: &Session, report: &Report, request: &Request) -> Result<()> {
    if !session.screen.is_person() || session.options.dry_run {
        return Ok(());
    }
    let module = &request.module;
    let done = match request.verb {
        Verb::Build => "built",
        Verb::Install => "installed",
        Verb::Add | Verb::Uninstall | Verb::Unbuild | Verb::Remove => {
            if report.lines.is_empty() && report.problems.is_empty() {
                let there = kernels(session, request)?;
                let place = match request.targets.as_slice() {
                    [] => String::new(),
                    targets => format!(" for {}", names(targets)),
                };
                session.screen.progress(&format!("dkms: nothing to do{place}: {module} is {there}"));
            }
            return Ok(());
        }
    };
    for line in report.lines.iter().filter(|line| line.module == *module) {
        if let (Outcome::UpToDate, Some(target)) = (&line.outcome, &line.target) {
            session.screen.progress(&format!("dkms: {module} is already {done} for {}", target.kernel));
        }
    }
    Ok(())
}

/// After `autoinstall`.
pub(super) fn automatic(session: &Session, report: &Report, targets: &[Target]) {
    let idle = report.lines.iter().all(|line| line.outcome == Outcome::UpToDate);
    if session.screen.is_person() && !session.options.dry_run && idle && report.problems.is_empty() {
        let what = match report.lines.len() {
            0 => "no module has to be built".to_owned(),
            1 => "1 module is up to date".to_owned(),
            many => format!("{many} modules are up to date"),
        };
        session.screen.progress(&format!("dkms: {what} for {}", names(targets)));
    }
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
