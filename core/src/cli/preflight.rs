//! `dkms preflight KERNEL|PACKAGE-FILE…`: would the modules build for what is about to be installed?

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::args::Args;
use super::invocation::Invocation;
use super::refuse;
use crate::exit::Exit;
use crate::inventory::target;
use crate::preflight::{Finding, Question, RequestedBy, preflight, summary};
use crate::report::{Line, Severity};
use crate::session::Session;
use crate::types::Target;

/// What `dkms preflight --json` prints.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Document<'a> {
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    format: u32,
    /// Kernels that the packages would install.
    incoming: Vec<&'a Target>,
    modules: &'a [Line],
    /// Reasons why something could not be pre-built.
    untried: &'a [String],
    /// Names of the modules because of which a package manager would abort the transaction.
    held: Vec<String>,
}

pub(super) fn show(session: &mut Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    if args.dry_run {
        return refuse(
            Exit::ERROR,
            "dkms preflight installs nothing as it is: --dry-run has no meaning for it",
        );
    }
    if args.upcoming {
        return super::upcoming::prepare(session, args, invocation);
    }
    let question = question(session, args, invocation)?;
    if args.json {
        // Standard output has one document only.
        session.screen = session.screen.aside();
    }
    let finding = preflight(session, &question)?;
    let said = summary(&finding, session, &RequestedBy::User);
    if args.json {
        let document = Document {
            format: 1,
            incoming: finding.incoming.iter().collect(),
            modules: finding.proven.as_ref().map_or(&[], |proven| &proven.report.lines),
            untried: &finding.untried,
            held: finding.held_names().iter().map(ToString::to_string).collect(),
        };
        session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(&document)?));
    } else {
        let nothing = match question.files.is_empty() {
            true => "dkms: nothing to build: no module is in the DKMS tree",
            false => {
                "dkms: nothing to build for these packages: they contain no kernel headers and no module source"
            }
        };
        let otherwise = if finding.proven.is_some() { "dkms: all modules build" } else { nothing };
        session.screen.alert(said.as_deref().unwrap_or(otherwise));
    }
    Ok(code(&finding))
}

/// Operands that are files are packages; others, and `-k`, are kernels whose headers are installed.
fn question(session: &Session, args: &Args, invocation: &Invocation) -> Result<Question> {
    let (files, kernels): (Vec<&String>, Vec<&String>) =
        invocation.rest.iter().partition(|word| word.contains('/') || Path::new(word).exists());
    let mut question = Question { in_full: true, ..Question::default() };
    for file in files {
        let file = PathBuf::from(file);
        if !file.is_file() {
            return refuse(Exit::ERROR, format!("{}: file not found", file.display()));
        }
        question.files.push(file);
    }
    for kernel in kernels {
        question.kernels.push(target(kernel)?);
    }
    if args.pairs.one_kernel() {
        question.kernels.extend(args.targets(session)?);
    }
    if question.files.is_empty() && question.kernels.is_empty() {
        return refuse(
            Exit::ERROR,
            "preflight needs a kernel, the files of packages, or --upcoming: dkms preflight ./linux-headers-*.deb",
        );
    }
    Ok(question)
}

/// The exit code: whether a module would be lost, or not everything could be checked.
pub(super) fn code(finding: &Finding) -> Exit {
    let worse = |severity: Severity| {
        finding.proven.as_ref().is_some_and(|proven| proven.report.worse_than(severity).next().is_some())
    };
    if !finding.held.is_empty() || worse(Severity::Waiting) {
        Exit::AUTOINSTALL_FAILED
    } else if !finding.untried.is_empty() || worse(Severity::LeftOut) {
        Exit::NO_HEADERS
    } else {
        Exit::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{documented, fields};

    #[test]
    fn the_shipped_schema_is_that_of_the_document() {
        crate::shipped::expect::<Document<'_>>("preflight");
    }

    #[test]
    fn every_field_is_described() {
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let line = Line {
            module: "a/1".parse().unwrap(),
            target: Some(target.clone()),
            outcome: crate::report::Outcome::Excluded { why: "why".into() },
        };
        let document = Document {
            format: 1,
            incoming: vec![&target],
            modules: &[line],
            untried: &["why".into()],
            held: vec!["a".into()],
        };
        assert_eq!(documented(".SS preflight \\-\\-json"), fields(&serde_json::to_value(document).unwrap()));
    }
}
