//! What was already reported in a transaction. A package manager runs several hooks, and each failure is explained once.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Count, Line, Report, Severity};
use crate::layout::Layout;
use crate::sys::file;
use crate::sys::time::now;

/// A package manager that runs longer is a service: it runs several transactions, with a reader for each.
const TIME: u64 = 60 * 60;

/// The failures and deferred modules that the reader of this transaction knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// The process of the package manager; `None` if a user started this program, and knows nothing.
    transaction: Option<String>,
    /// The time of the first report, in seconds since 1970.
    time: u64,
    /// The number of that report in the history.
    number: Option<u64>,
    lines: BTreeSet<String>,
    /// What was reported is counted again.
    #[serde(skip)]
    recap: bool,
}

impl Reported {
    /// What this transaction has reported so far.
    pub fn load(layout: &Layout, transaction: Option<String>) -> Self {
        let new = Self { transaction, time: now(), ..Self::default() };
        if new.transaction.is_none() {
            return new;
        }
        let kept = file::content(layout.reported()).ok();
        let kept: Option<Self> = kept.and_then(|kept| serde_json::from_slice(&kept).ok());
        let same =
            |kept: &Self| kept.transaction == new.transaction && new.time.saturating_sub(kept.time) < TIME;
        kept.filter(same).unwrap_or(new)
    }

    /// Whether the summary counts what was reported even if there is nothing new.
    #[must_use]
    pub fn recap(self, recap: bool) -> Self {
        Self { recap, ..self }
    }

    /// Whether this was reported.
    pub fn contains(&self, line: &Line) -> bool {
        self.lines.contains(&key(line))
    }

    /// Whether a kernel with this line has a line in the summary.
    pub(super) fn is_news(&self, line: &Line, critical: bool) -> bool {
        self.recap || critical || !self.contains(line)
    }

    /// How a module is counted. In a recap, what an earlier hook of the transaction has installed is installed.
    pub(super) fn counted(&self, count: Count) -> Count {
        if self.recap && count == Count::UpToDate { Count::Installed } else { count }
    }

    /// The history's number of what was reported.
    pub fn number(&self) -> Option<u64> {
        self.number
    }

    /// Whether this transaction has not said this sentence yet; from now on, it has.
    pub fn is_first(mut self, layout: &Layout, sentence: &str) -> bool {
        let first = self.lines.insert(sentence.to_owned());
        if first {
            self.store(layout);
        }
        first
    }

    /// A failure to do so costs a repetition.
    fn store(&self, layout: &Layout) {
        if self.transaction.is_some() {
            let _ = serde_json::to_vec(self)
                .map(|content| file::write_atomic(&layout.reported(), &content, 0o644));
        }
    }

    /// Records that this report is printed.
    pub fn record(mut self, layout: &Layout, report: &Report, number: Option<u64>) {
        let known = self.lines.len();
        self.lines.extend(report.worse_than(Severity::LeftOut).map(key));
        self.number = self.number.or(number);
        if self.lines.len() > known {
            self.store(layout);
        }
    }
}

/// What makes two lines the same for the reader.
fn key(line: &Line) -> String {
    let kernel = line.target.as_ref().map_or(String::new(), ToString::to_string);
    format!("{} {kernel} {}", line.module, super::text::why(&line.outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::report::{Failing, Fault, Outcome};

    fn report(why: &str) -> Report {
        let mut report = Report::default();
        let failing = Failing::new(Fault::Module, Exit::BUILD_FAILED, why.into());
        report.add(&"a/1".parse().unwrap(), None, Outcome::Failed(failing));
        report.add(&"b/1".parse().unwrap(), None, Outcome::UpToDate);
        report
    }

    #[test]
    fn a_failure_is_new_once_in_each_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout { dkms_tree: dir.path().into(), ..Layout::default() };
        let load = |transaction: Option<&str>| Reported::load(&layout, transaction.map(str::to_owned));
        let (one, other) = (report("x"), report("y"));
        // A user who started this program twice asked twice.
        for _ in 0..2 {
            assert!(!load(None).contains(&one.lines[0]));
            load(None).record(&layout, &one, Some(3));
        }
        load(Some("apt")).record(&layout, &one, Some(4));
        let later = load(Some("apt"));
        assert!(later.contains(&one.lines[0]) && !later.contains(&other.lines[0]));
        assert!(!later.contains(&one.lines[1]));
        assert_eq!(later.number(), Some(4));
        later.record(&layout, &other, Some(5));
        assert!(load(Some("apt")).contains(&one.lines[0]) && load(Some("apt")).contains(&other.lines[0]));
        assert_eq!(load(Some("apt")).number(), Some(4), "the first report has the details");
        assert!(!load(Some("another apt")).contains(&one.lines[0]));
        let mut old = load(Some("apt"));
        old.time -= TIME;
        file::write_atomic(&layout.reported(), &serde_json::to_vec(&old).unwrap(), 0o644).unwrap();
        assert!(!load(Some("apt")).contains(&one.lines[0]), "a service: another transaction");
        file::write_atomic(&layout.reported(), b"{", 0o644).unwrap();
        assert!(!load(Some("apt")).contains(&one.lines[0]));
    }
}
