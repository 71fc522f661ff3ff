//! The reports of past transactions.

use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::Report;
use crate::layout::Layout;
use crate::sys::time::now;
use crate::sys::{file, plain};

/// The number of transactions that are kept.
const KEPT: usize = 500;

/// One transaction in the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The version of this format.
    pub format: u32,
    /// Its number, starting from one on this machine.
    pub id: u64,
    /// When it ended, in seconds since 1970.
    pub time: u64,
    /// The report.
    #[serde(flatten)]
    pub report: Report,
}

/// A transaction for programs: what `dkms history show ID --json` prints, and the programs in `/etc/dkms/on-failure.d`
/// read.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document<'a> {
    #[cfg_attr(test, schemars(extend("const" = 2)))]
    format: u32,
    /// The number of the run.
    id: u64,
    /// When it ended.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    time: String,
    #[serde(flatten)]
    report: &'a Report,
}

impl<'a> Document<'a> {
    /// Of a transaction.
    pub fn of(kept: &'a Kept) -> Self {
        Self { format: 2, id: kept.id, time: rfc3339(kept.time), report: &kept.report }
    }
}

/// Stores a report, and returns its number.
pub fn store(layout: &Layout, report: &Report) -> Result<u64> {
    let files = files(layout);
    let id = files.last().map_or(0, |(id, _)| *id) + 1;
    let kept = Kept { format: 1, id, time: now(), report: report.clone() };
    let path = layout.history().join(format!("{id:06}.json"));
    file::write_atomic(&path, &plain::document(&kept)?, 0o644).context("keeping the report")?;
    for (_, old) in files.iter().rev().skip(KEPT - 1) {
        file::remove_all(old)?;
    }
    Ok(id)
}

/// All stored reports, oldest first. Unreadable ones are skipped.
pub fn all(layout: &Layout) -> Vec<Kept> {
    files(layout)
        .iter()
        .filter_map(|(_, path)| serde_json::from_slice(&file::content(path).ok()?).ok())
        .collect()
}

/// One stored report.
pub fn one(layout: &Layout, id: u64) -> Option<Kept> {
    let path = layout.history().join(format!("{id:06}.json"));
    serde_json::from_slice(&file::content(path).ok()?).ok()
}

fn files(layout: &Layout) -> Vec<(u64, PathBuf)> {
    file::sorted_entries(&layout.history())
        .into_iter()
        .filter_map(|path| Some((path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?, path)))
        .collect()
}

/// Seconds since 1970 as a date of this machine's time zone: `2026-11-22 23:51`.
pub fn date(time: u64) -> String {
    timestamp(time).to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// The same for programs: `2026-11-22T23:51:00Z`.
pub fn rfc3339(time: u64) -> String {
    timestamp(time).to_string()
}

/// A time that no clock shows is the last one that can be written.
fn timestamp(time: u64) -> Timestamp {
    i64::try_from(time).ok().and_then(|time| Timestamp::from_second(time).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (time, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_391_460, "2026-11-22T23:51:00Z"),
            (u64::MAX, "9999-12-30T22:00:00.999999999Z"),
        ] {
            assert_eq!(rfc3339(time), text);
        }
    }

    #[test]
    fn reports_are_numbered_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout { dkms_tree: dir.path().into(), ..Layout::default() };
        let report = Report { cause: "a".into(), ..Report::default() };
        assert_eq!((store(&layout, &report).unwrap(), store(&layout, &report).unwrap()), (1, 2));
        assert_eq!(one(&layout, 2).unwrap().report, report);
        assert_eq!(all(&layout).len(), 2);
        assert!(one(&layout, 3).is_none());
    }
}
