//! `dkms timeline [ID]`: when each step of a transaction ran.

use anyhow::Result;

use super::args::Args;
use super::{picture, refuse};
use crate::exit::Exit;
use crate::report::history::Kept;
use crate::report::{drawing, history};
use crate::session::Session;

/// The width without a terminal.
const WIDTH: usize = 100;

pub(super) fn show(session: &Session, args: &Args, words: &[String]) -> Result<Exit> {
    let drawn = |kept: &Kept| !kept.report.timeline.is_empty();
    let (kept, wanted) = match words {
        [] => (history::all(&session.layout).into_iter().rfind(drawn), String::new()),
        [id] => (id.parse().ok().and_then(|id| history::one(&session.layout, id)), format!(" {id}")),
        _ => return refuse(Exit::NO_ACTION, "usage: dkms timeline [ID]"),
    };
    let Some(kept) = kept else {
        return refuse(
            Exit::ERROR,
            format!("transaction{wanted} not found; to list all transactions: dkms history"),
        );
    };
    let spans = &kept.report.timeline;
    if spans.is_empty() {
        return refuse(Exit::ERROR, format!("transaction {} has built nothing", kept.id));
    }
    let title = format!("{}, {}", kept.report.cause, history::date(kept.time));
    if let Some(path) = &args.svg {
        return picture::write(session, path, &drawing::svg(&title, spans, &[]));
    }
    session.screen.answer(&format!("{title}\n"));
    session.screen.painted(&drawing::chart(spans, session.screen.terminal().unwrap_or(WIDTH)));
    Ok(Exit::SUCCESS)
}
