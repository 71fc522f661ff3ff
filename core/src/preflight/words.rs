//! A finding in words.

use super::Finding;
use crate::policy::ALLOW;
use crate::report::{Outcome, Report, text};
use crate::session::Session;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A package manager, with a transaction that has not begun.
    Transaction,
    /// A person who wonders what an installation would come to.
    ByHand,
}

/// What there is to say; `None` when nothing came that concerns modules.
pub fn finding(finding: &Finding, session: &Session, asked: Asked) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    if let Some(proven) = &finding.proven {
        let report = Report { remarks: Vec::new(), ..proven.report.clone() };
        lines.extend(text::summary(&report, &session.policy.admin, proven.number));
    }
    lines.extend(finding.untried.iter().map(|why| format!("dkms: not tried before it is installed: {why}")));
    let failed =
        |line: &crate::report::Line| matches!(line.outcome, Outcome::Failed(_) | Outcome::Refused { .. });
    let fails = finding.proven.as_ref().is_some_and(|proven| proven.report.lines.iter().any(failed));
    if !finding.held.is_empty() {
        lines.extend(held(finding, session, asked));
    } else if fails {
        let goes_on = match asked {
            Asked::Transaction => "nothing is installed yet; the transaction goes on",
            Asked::ByHand => "nothing is installed yet; a package manager would go on",
        };
        lines.push(format!("dkms: {goes_on} (on_unbuildable in policy.toml)"));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Why the transaction must not begin, and how it can.
fn held(finding: &Finding, session: &Session, asked: Asked) -> Vec<String> {
    let names: Vec<String> = finding.held_names().iter().map(ToString::to_string).collect();
    let mut lines = Vec::new();
    for line in &finding.held {
        if let (Outcome::Excluded { why }, Some(target)) = (&line.outcome, &line.target) {
            lines.push(format!("dkms: {} is not meant for {}: {why}", line.module, target.kernel));
        }
    }
    let plural = if names.len() == 1 { "" } else { "s" };
    let (what, command) = match asked {
        Asked::Transaction => ("STOPPED before anything was changed", "the same command"),
        Asked::ByHand => ("installing this would be STOPPED before anything is changed", "that command"),
    };
    lines.push(format!("dkms: {what}: this machine would lose the module{plural} {}", names.join(", ")));
    lines.push(format!(
        "      to go on without: {command} with {ALLOW}={} in front of it (after sudo, where that is used)",
        names.join(",")
    ));
    if !finding.packages.is_empty() {
        let packages: Vec<&str> = finding.packages.iter().map(String::as_str).collect();
        let command = session.policy.row.keep_back.replace("{packages}", &packages.join(" "));
        lines.push(format!("      to stay with the kernels that are there: {command}"));
    }
    lines
}
