//! The schedule of a transaction, stored with its report, so that idle time is visible.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::types::{ModuleId, Target};

/// A step of the schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Span {
    /// The lane; 0 is the transaction itself, each parallel build has its own.
    pub lane: usize,
    /// The module, if it concerns one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<ModuleId>,
    /// The kernel, if it concerns one.
    #[serde(flatten)]
    pub target: Option<Target>,
    /// The step: `look`, `copy`, `prepare`, `compile`, `check`, `publish`, `depmod`, `initramfs`.
    pub phase: String,
    /// Start, in seconds since the transaction began.
    pub from: f64,
    /// End, in seconds since the transaction began.
    pub to: f64,
}

/// The phases of one running build.
#[derive(Debug, Default)]
pub struct Phases {
    over: Vec<(&'static str, Instant, Instant)>,
    open: Option<(&'static str, Instant)>,
}

impl Phases {
    /// Begins a phase, and ends the one before.
    pub fn begin(&mut self, name: &'static str) {
        self.end();
        self.open = Some((name, Instant::now()));
    }

    /// Ends the last phase.
    pub fn end(&mut self) {
        let now = Instant::now();
        self.over.extend(self.open.take().map(|(name, from)| (name, from, now)));
    }

    /// The phases as spans of a transaction that began at `origin`.
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
