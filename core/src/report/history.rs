//! The reports of past transactions.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Report;
use crate::layout::Layout;
use crate::sys::file;

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

/// Stores a report, and returns its number.
pub fn store(layout: &Layout, report: &Report) -> Result<u64> {
    let files = files(layout);
    let id = files.last().map_or(0, |(id, _)| *id) + 1;
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let kept = Kept { format: 1, id, time, report: report.clone() };
    let path = layout.history().join(format!("{id:06}.json"));
    let mut kept = serde_json::to_value(&kept)?;
    crate::sys::plain::json(&mut kept);
    file::write_atomic(&path, &serde_json::to_vec_pretty(&kept)?, 0o644).context("keeping the report")?;
    for (_, old) in files.iter().rev().skip(KEPT - 1) {
        file::remove_all(old)?;
    }
    Ok(id)
}

/// All stored reports, oldest first. Unreadable ones are skipped.
pub fn all(layout: &Layout) -> Vec<Kept> {
    files(layout)
        .iter()
        .filter_map(|(_, path)| serde_json::from_slice(&std::fs::read(path).ok()?).ok())
        .collect()
}

/// One stored report.
pub fn one(layout: &Layout, id: u64) -> Option<Kept> {
    let path = layout.history().join(format!("{id:06}.json"));
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn files(layout: &Layout) -> Vec<(u64, PathBuf)> {
    file::sorted_entries(&layout.history())
        .into_iter()
        .filter_map(|path| Some((path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?, path)))
        .collect()
}

/// Seconds since 1970 as `2026-11-22 23:51 UTC`. The proleptic Gregorian calendar, counted from March so that
/// the leap day comes last.
pub fn date(time: u64) -> String {
    let (days, minutes) = (time / 86_400, time / 60 % 1440);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (time, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_795_391_460, "2026-11-22 23:51 UTC"),
        ] {
            assert_eq!(date(time), text);
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
