//! `dkms timeline [ID]`: when each step of a transaction ran.

use anyhow::{Context as _, Result};

use super::args::Args;
use super::refuse;
use crate::exit::Exit;
use crate::report::history::Kept;
use crate::report::{drawing, history};
use crate::session::Session;
use crate::sys::file;

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
        // `write_atomic` would create it.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
            return refuse(
                Exit::ERROR,
                format!("writing {}: there is no directory {}", path.display(), directory.display()),
            );
        }
        file::write_atomic(path, drawing::svg(&title, spans, &[]).as_bytes(), 0o644)
            .with_context(|| format!("writing {}", path.display()))?;
        session.screen.progress(&format!("dkms: {} written", path.display()));
        return Ok(Exit::SUCCESS);
    }
    session.screen.answer(&format!("{title}\n"));
    session.screen.painted(&drawing::chart(spans, session.screen.terminal().unwrap_or(WIDTH)));
    Ok(Exit::SUCCESS)
}
