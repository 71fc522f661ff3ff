//! The text that reports a finding to the administrator.

use std::collections::BTreeSet;

use super::Finding;
use crate::kept_back::KeptBack;
use crate::policy::ALLOW;
use crate::report::{Outcome, Report, Severity, text};
use crate::session::Session;
use crate::types::ModuleName;

/// Who requested the pre-build: the two readers need different advice.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestedBy {
    /// A package manager, for a transaction that has not begun. What is kept back from now on, if the transaction is aborted.
    Transaction(Option<KeptBack>),
    /// A user, with `dkms preflight`: no transaction is waiting.
    User,
    /// `dkms preflight --upcoming`, and what it keeps back.
    Ahead(Option<KeptBack>),
}

/// The summary of a finding; `None` if the packages do not concern any module.
pub fn summary(finding: &Finding, session: &Session, requested_by: &RequestedBy) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    if let Some(proven) = &finding.proven {
        let report = Report { remarks: Vec::new(), ..proven.report.clone() };
        lines.extend(text::summary(&report, &session.policy.admin, proven.number, &proven.reported));
    }
    lines.extend(finding.untried.iter().map(|why| format!("dkms: pre-build skipped: {why}")));
    let failed: BTreeSet<&ModuleName> = finding
        .proven
        .iter()
        .flat_map(|proven| proven.report.worse_than(Severity::Waiting))
        .map(|line| &line.module.name)
        .collect();
    let admin = &session.policy.admin;
    let allowed: Vec<&str> =
        failed.iter().filter(|name| admin.allows(name)).map(|name| name.as_str()).collect();
    if !finding.held.is_empty() {
        lines.extend(held(finding, session, requested_by));
    } else if !allowed.is_empty() {
        let goes_on = match requested_by {
            RequestedBy::Transaction(_) => "continuing",
            RequestedBy::User | RequestedBy::Ahead(_) => "a package manager would continue",
        };
        lines.push(format!("dkms: {goes_on} without {} ({ALLOW})", allowed.join(", ")));
    } else if !failed.is_empty() {
        let goes_on = match requested_by {
            RequestedBy::Transaction(_) => "continuing; failed modules do not block this transaction",
            RequestedBy::User | RequestedBy::Ahead(_) => {
                "a package manager would continue; failed modules do not block a transaction"
            }
        };
        lines.push(format!("dkms: {goes_on} (on_unbuildable in policy.toml)"));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Why the transaction is aborted, and the commands that avoid it.
fn held(finding: &Finding, session: &Session, requested_by: &RequestedBy) -> Vec<String> {
    let names: Vec<String> = finding.held_names().iter().map(ToString::to_string).collect();
    let mut lines = Vec::new();
    for line in &finding.held {
        if let (Outcome::Excluded { why }, Some(target)) = (&line.outcome, &line.target) {
            lines.push(format!("dkms: {} is excluded for {}: {why}", line.module, target.kernel));
        }
    }
    let kernels: BTreeSet<&str> =
        finding.held.iter().filter_map(|line| Some(line.target.as_ref()?.kernel.as_str())).collect();
    let kernels: Vec<&str> = kernels.into_iter().collect();
    let does = if names.len() == 1 { "does" } else { "do" };
    let (what, command, kept) = match requested_by {
        RequestedBy::Transaction(kept) => {
            ("transaction aborted, nothing changed", "run the same command", kept)
        }
        RequestedBy::User => ("the transaction would be aborted before anything is changed", "run it", &None),
        RequestedBy::Ahead(None) => {
            ("an upgrade would be aborted before anything is changed", "run it", &None)
        }
        RequestedBy::Ahead(Some(kept)) => {
            lines.push(format!("dkms: {}", kept.sentence()));
            lines.push("      upgrades install everything else, and these as soon as the module builds or is removed".into());
            lines.push(install_anyway(&names.join(", "), session));
            return lines;
        }
    };
    lines.push(format!("dkms: {what}: {} {does} not build for {}", names.join(", "), kernels.join(", ")));
    if let Some(kept) = kept {
        lines.push(format!(
            "      to install the rest: run the same command again, without a kernel that it names (kept back: {})",
            kept.names()
        ));
        lines.push(install_anyway(&names.join(", "), session));
        return lines;
    }
    lines.push(format!(
        "      to continue without: {command} with {ALLOW}={} in front of it (after sudo)",
        names.join(",")
    ));
    if !finding.packages.is_empty() {
        let packages: Vec<&str> = finding.packages.iter().map(String::as_str).collect();
        let command = session.policy.distribution.keep_back;
        let command =
            command.replace("{packages}", &packages.join(" ")).replace("{packages,}", &packages.join(","));
        lines.push(format!("      to keep the current kernel: {command}"));
    }
    lines
}

/// How to install what is kept back nevertheless.
fn install_anyway(names: &str, session: &Session) -> String {
    format!(
        "      to install them without {names}: set on_unbuildable = \"warn\" for it in {}, run dkms preflight --upcoming, and upgrade",
        session.layout.policy().display()
    )
}
