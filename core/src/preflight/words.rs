//! A finding in words.

use super::Finding;
use crate::policy::ALLOW;
use crate::report::{Outcome, Report, text};
use crate::session::Session;

/// What there is to say; `None` when nothing came that concerns modules.
pub fn finding(finding: &Finding, session: &Session) -> Option<String> {
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
        lines.extend(held(finding, session));
    } else if fails {
        lines.push(
            "dkms: nothing is installed yet; the transaction goes on (on_unbuildable in policy.toml)".into(),
        );
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Why the transaction must not begin, and how it can.
fn held(finding: &Finding, session: &Session) -> Vec<String> {
    let names: Vec<String> = finding.held_names().iter().map(ToString::to_string).collect();
    let mut lines = Vec::new();
    for line in &finding.held {
        if let (Outcome::Excluded { why }, Some(target)) = (&line.outcome, &line.target) {
            lines.push(format!("dkms: {} is not meant for {}: {why}", line.module, target.kernel));
        }
    }
    let plural = if names.len() == 1 { "" } else { "s" };
    lines.push(format!(
        "dkms: STOPPED before anything was changed: this machine would lose the module{plural} {}",
        names.join(", ")
    ));
    lines.push(format!(
        "      to go on without: the same command with {ALLOW}={} in front of it (after sudo, where that is used)",
        names.join(",")
    ));
    if !finding.packages.is_empty() {
        let packages: Vec<&str> = finding.packages.iter().map(String::as_str).collect();
        let command = session.policy.row.keep_back.replace("{packages}", &packages.join(" "));
        lines.push(format!("      to stay with the kernels that are there: {command}"));
    }
    lines
}
