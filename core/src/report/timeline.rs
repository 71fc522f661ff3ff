//! What was done when: the schedule of a transaction, kept with its history so that idle time can be seen.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::types::{ModuleId, Target};

/// One bar: something that took time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The lane; 0 is the transaction itself, each build that runs at the same time has another one.
    pub lane: usize,
    /// The module, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<ModuleId>,
    /// The kernel, where it is about one.
    #[serde(flatten)]
    pub target: Option<Target>,
    /// What: `look`, `copy`, `prepare`, `compile`, `check`, `publish`, `depmod`, `initramfs`.
    pub phase: String,
    /// Seconds since the transaction began.
    pub from: f64,
    /// The same.
    pub to: f64,
}

/// The phases of one build while they happen.
#[derive(Debug, Default)]
pub struct Phases {
    over: Vec<(&'static str, Instant, Instant)>,
    open: Option<(&'static str, Instant)>,
}

impl Phases {
    /// The next phase begins, and with that the one before ends.
    pub fn begin(&mut self, name: &'static str) {
        self.end();
        self.open = Some((name, Instant::now()));
    }

    /// The last phase ends.
    pub fn end(&mut self) {
        let now = Instant::now();
        self.over.extend(self.open.take().map(|(name, from)| (name, from, now)));
    }

    /// As spans of a transaction that began at `origin`.
    pub fn spans(
        &self,
        origin: Instant,
        lane: usize,
        module: Option<&ModuleId>,
        target: &Target,
    ) -> Vec<Span> {
        let seconds =
            |at: Instant| (at.saturating_duration_since(origin).as_secs_f64() * 1000.0).round() / 1000.0;
        self.over
            .iter()
            .map(|(name, from, to)| Span {
                lane,
                module: module.cloned(),
                target: Some(target.clone()),
                phase: (*name).to_owned(),
                from: seconds(*from),
                to: seconds(*to),
            })
            .collect()
    }
}
