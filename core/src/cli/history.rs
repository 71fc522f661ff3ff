//! `dkms history` and `dkms history show ID`.

use std::collections::BTreeSet;

use anyhow::Result;

use super::args::Args;
use super::refuse;
use crate::exit::Exit;
use crate::report::history::{Document, Kept};
use crate::report::{Outcome, Report, Reported, history, text};
use crate::session::Session;

pub(super) fn show(session: &Session, args: &Args, words: &[String]) -> Result<Exit> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {
            let all = history::all(&session.layout);
            if args.json {
                // The oldest first, as they happened.
                let from = all.len().saturating_sub(args.number.unwrap_or(usize::MAX));
                let all = all.get(from..).unwrap_or_default();
                session.screen.answer(&format!(
                    "{}\n",
                    serde_json::to_string_pretty(&all.iter().map(Document::of).collect::<Vec<_>>())?
                ));
                return Ok(Exit::SUCCESS);
            }
            // The newest first: a terminal shows the beginning of a long list with head, and most people want the last run.
            for kept in all.iter().rev().take(args.number.unwrap_or(usize::MAX)) {
                session.screen.answer(&line(kept));
            }
            Ok(Exit::SUCCESS)
        }
        ["show", rest @ ..] if rest.len() <= 1 => {
            let kept = match rest.first() {
                Some(number) => number.parse().ok().and_then(|id| history::one(&session.layout, id)),
                None => history::all(&session.layout).pop(),
            };
            let Some(kept) = kept else {
                let number = rest.first().map_or(String::new(), |number| format!(" {number}"));
                return refuse(
                    Exit::ERROR,
                    format!("transaction{number} not found; to list all transactions: dkms history"),
                );
            };
            if args.json {
                session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(&Document::of(&kept))?));
                return Ok(Exit::SUCCESS);
            }
            let summary = text::summary(&kept.report, &session.policy.admin, None, &Reported::default());
            session.screen.answer(&format!(
                "{}, {} ({:.0} s)\n{}\n",
                kept.report.cause,
                history::date(kept.time),
                kept.report.seconds,
                summary.unwrap_or_else(|| "dkms: no errors".into())
            ));
            Ok(Exit::SUCCESS)
        }
        _ => refuse(Exit::NO_ACTION, "usage: dkms history [show ID]"),
    }
}

/// `  12  2026-11-22 23:51  module-postinst a 1: 1 module for 6.12.118, 1 FAILED`
fn line(kept: &Kept) -> String {
    let Report { cause, lines, repaired, problems, .. } = &kept.report;
    let modules = lines.iter().map(|line| &line.module).collect::<BTreeSet<_>>().len();
    let kernels: BTreeSet<&str> =
        lines.iter().filter_map(|line| Some(line.target.as_ref()?.kernel.as_str())).collect();
    let place = match kernels.iter().collect::<Vec<_>>().as_slice() {
        // The cause names it already.
        [kernel] if cause.split(' ').any(|word| word == **kernel) => String::new(),
        [] => String::new(),
        [kernel] => format!(" for {kernel}"),
        many => format!(" for {} kernels", many.len()),
    };
    let plural = if modules == 1 { "" } else { "s" };
    let mut text =
        format!("{:>4}  {}  {cause}: {modules} module{plural}{place}", kept.id, history::date(kept.time));
    let count = |of: fn(&Outcome) -> bool| lines.iter().filter(|line| of(&line.outcome)).count();
    for (number, what) in [
        (count(Outcome::failed), "FAILED"),
        (count(|outcome| matches!(outcome, Outcome::Deferred { .. })), "deferred"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    if !problems.is_empty() {
        text.push_str(", not completed");
    }
    if !repaired.is_empty() {
        text.push_str(", after an interrupted run");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped;

    #[test]
    fn the_shipped_schemas_are_those_of_the_documents() {
        shipped::expect::<Document<'_>>("history-show");
        shipped::expect::<Vec<Document<'_>>>("history");
        shipped::expect::<crate::plan::Plan>("plan");
    }
}
