//! `dkms history` and `dkms history show ID`.

use anyhow::Result;

use super::refuse;
use crate::exit::Exit;
use crate::report::{Reported, history, text};
use crate::session::Session;

pub(super) fn show(session: &Session, words: &[String], json: bool) -> Result<Exit> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {
            let all = history::all(&session.layout);
            if json {
                session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(&all)?));
                return Ok(Exit::SUCCESS);
            }
            // The newest first: a terminal shows the beginning of a long list with head, and most people want the last run.
            for kept in all.iter().rev() {
                let failed = kept.report.lines.iter().filter(|line| line.outcome.failed()).count();
                let end = match failed {
                    0 => String::new(),
                    count => format!(", {count} FAILED"),
                };
                let modules = kept.report.lines.len();
                let plural = if modules == 1 { "" } else { "s" };
                session.screen.answer(&format!(
                    "{:>4}  {}  {}: {modules} module{plural}{end}\n",
                    kept.id,
                    history::date(kept.time),
                    kept.report.cause,
                ));
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
            if json {
                session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(&kept)?));
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
