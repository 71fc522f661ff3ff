//! The result of a transaction: outcomes, summary, JSON, history, exit codes. Does not change modules.

pub mod compiler;
pub mod drawing;
mod error;
pub mod history;
pub mod live;
mod outcome;
mod paint;
pub mod picture;
pub mod progress;
pub mod refused;
mod reported;
mod screen;
pub mod text;
#[cfg(test)]
mod text_tests;
pub mod timeline;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use crate::sys::plain::plain;
pub use error::broke;
pub use outcome::{Class, Count, Failing, Fault, Follows, History, Outcome, Severity, Waits};
pub use paint::{Painted, Tone};
pub use reported::Reported;
pub use screen::Screen;

use crate::exit::Exit;
use crate::policy::Admin;
use crate::types::{ModuleId, ModuleName, Target};

/// Marks an error that was already reported to the user.
#[derive(Debug, Clone, Copy)]
pub struct AlreadyReported;

impl std::fmt::Display for AlreadyReported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dkms did not come to its end")
    }
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Line {
    /// The module.
    pub module: ModuleId,
    /// The kernel, if the outcome concerns one.
    #[serde(flatten)]
    pub target: Option<Target>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A step for a whole kernel that failed after its modules were installed. The next run repeats it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unfinished {
    /// The step.
    pub step: KernelStep,
    /// The kernel.
    #[serde(flatten)]
    pub target: Target,
    /// The packages whose modules need it.
    pub modules: BTreeSet<ModuleName>,
    /// What failed.
    pub why: String,
    /// An earlier run left it: this one does not fail because of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub earlier: bool,
}

/// The steps for a whole kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum KernelStep {
    /// Updating modules.dep.
    Depmod,
    /// Regenerating the initramfs.
    Initramfs,
}

/// The result of a transaction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// What started it, for example `kernel-postinst 6.12.117+deb13-amd64`.
    pub cause: String,
    /// One line per module and kernel.
    pub lines: Vec<Line>,
    /// Kernels for which depmod ran.
    #[serde(default)]
    pub depmod: Vec<Target>,
    /// Kernels whose initramfs was regenerated.
    #[serde(default)]
    pub initramfs: Vec<Target>,
    /// Remarks that are not failures, such as a script that failed.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// Other failures of dkms.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Steps after the installation that failed. The next run repeats them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<Unfinished>,
    /// What this transaction repaired after an interrupted one.
    #[serde(default)]
    pub repaired: Vec<String>,
    /// How long it took.
    #[serde(default)]
    pub seconds: f64,
    /// When each step ran.
    #[serde(default)]
    pub timeline: Vec<timeline::Span>,
}

impl Report {
    /// Adds a line.
    pub fn add(&mut self, module: &ModuleId, target: Option<&Target>, outcome: Outcome) {
        self.lines.push(Line { module: module.clone(), target: target.cloned(), outcome });
    }

    /// Whether anything was changed, built, deferred or refused, so that the report is stored in the history.
    pub fn memorable(&self) -> bool {
        self.lines.iter().any(|line| line.outcome.follows().history > History::No)
            || !self.repaired.is_empty()
            || !self.problems.is_empty()
            || self.unfinished.iter().any(|step| !step.earlier)
            || !self.depmod.is_empty()
    }

    /// The number of failed modules.
    pub fn failures(&self) -> usize {
        self.lines.iter().filter(|line| line.outcome.follows().count == Some(Count::Failed)).count()
    }

    /// Modules whose outcome is worse than this.
    pub fn worse_than(&self, severity: Severity) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.outcome.follows().severity > severity)
    }

    /// The exit code of a user's command: that of the first failure.
    pub fn code(&self) -> Exit {
        let failed = self.worse_than(Severity::Waiting).map(|line| line.outcome.follows().command).next();
        let mut all = self.lines.iter().map(|line| line.outcome.follows().command);
        let other = || all.find(|code| !code.is_success());
        failed.or_else(other).unwrap_or(self.problem_code(Exit::ERROR))
    }

    /// The exit code of `autoinstall`: the same for all failures.
    pub fn autoinstall_code(&self) -> Exit {
        let codes: Vec<Exit> = self.lines.iter().map(|line| line.outcome.follows().autoinstall).collect();
        let failed = codes.contains(&Exit::AUTOINSTALL_FAILED).then_some(Exit::AUTOINSTALL_FAILED);
        let later = codes.into_iter().find(|code| !code.is_success());
        failed.or(later).unwrap_or(self.problem_code(Exit::ERROR))
    }

    /// The exit code of a package manager's hook: only critical modules, and failures of dkms, count.
    pub fn hook_code(&self, admin: &Admin) -> Exit {
        let needed = |step: &Unfinished| step.modules.iter().any(|module| admin.critical(module));
        let failed = !self.critical_failures(admin).is_empty()
            || !self.problems.is_empty()
            || self.unfinished.iter().any(needed);
        if failed { Exit::AUTOINSTALL_FAILED } else { Exit::SUCCESS }
    }

    fn problem_code(&self, code: Exit) -> Exit {
        let done = self.unfinished.iter().all(|step| step.earlier);
        if self.problems.is_empty() && done { Exit::SUCCESS } else { code }
    }

    /// Critical modules that this kernel does not get.
    pub fn critical_failures(&self, admin: &Admin) -> BTreeSet<&ModuleId> {
        self.lines
            .iter()
            .filter(|line| !line.outcome.follows().critical.is_success() && admin.critical(&line.module.name))
            .map(|line| &line.module)
            .collect()
    }
}
