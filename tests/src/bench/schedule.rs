//! The schedule of a transaction, from the history.

use dkms_core::report::timeline::Span;
use serde::Deserialize;

use crate::Root;

#[derive(Deserialize)]
struct Entry {
    timeline: Vec<Span>,
}

/// The schedule of the newest transaction in a root.
pub fn newest(root: &Root) -> Vec<Span> {
    let files = root.find("/var/lib/dkms/.dkms-rs/history", "-name '*.json'");
    let text = root.read(files.last().expect("a transaction"));
    let entry: Entry = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    entry.timeline
}

/// When the build of the last module began.
pub fn last_start(spans: &[Span]) -> f64 {
    spans.iter().filter(|span| span.phase == "copy").map(|span| span.from).fold(0.0, f64::max)
}
