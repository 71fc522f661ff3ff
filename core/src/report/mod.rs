//! What happened: outcomes, the closing summary, JSON, history, exit codes. Has no effect on modules.

pub mod compiler;
mod error;
pub mod history;
mod screen;
pub mod text;
#[cfg(test)]
mod text_tests;
pub mod timeline;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use error::broke;
pub use screen::Screen;

use crate::exit::Exit;
use crate::policy::Admin;
use crate::types::{ModuleId, Target};

/// Marks an error that the user has been told of.
#[derive(Debug, Clone, Copy)]
pub struct AlreadyReported;

impl std::fmt::Display for AlreadyReported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("dkms did not come to its end")
    }
}

/// How it ended for one module. Expected ends are values, not errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It is in the registry now.
    Registered,
    /// It is no longer in the registry.
    Unregistered,
    /// It was built, and that was all that was wanted.
    Built {
        /// How long the build took.
        seconds: f64,
    },
    /// Its build came in a tarball, and is in the registry now.
    Loaded,
    /// Its build came in a tarball, and the one that was there stays.
    Present,
    /// It was put into the kernel's tree.
    Installed {
        /// Whether it was built for that; otherwise a finished build was used.
        built: bool,
        /// How long the build took.
        seconds: f64,
        /// Remarks: that it is not signed, that a script failed.
        notes: Vec<String>,
    },
    /// It was as it should be already.
    UpToDate,
    /// It was taken out of the kernel's tree.
    Uninstalled,
    /// Its build was deleted.
    Unbuilt,
    /// It stays installed without a source until its successor is proven.
    Kept,
    /// It is not meant for this kernel.
    Excluded {
        /// The rule, as a sentence.
        why: String,
    },
    /// The kernel has it itself, in this version or a newer one.
    Native {
        /// Which, as a sentence.
        why: String,
    },
    /// It will be possible later.
    Deferred {
        /// What is missing.
        why: String,
        /// What to do.
        advice: String,
        /// The exit code for it; success when nothing has gone wrong.
        code: Exit,
    },
    /// What was asked for cannot be done.
    Refused {
        /// Why.
        why: String,
        /// What to do.
        advice: String,
        /// The exit code for it.
        code: Exit,
    },
    /// It was tried and failed.
    Failed(Failing),
}

/// A failure, with what a person needs at two in the morning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failing {
    /// What failed, as one line.
    pub why: String,
    /// The first errors of the compiler: `file:line: message`.
    pub errors: Vec<String>,
    /// The whole log, where there is one.
    pub log: Option<String>,
    /// The same inputs failed before; nothing was tried again.
    pub remembered: bool,
    /// What serves this kernel now, and the others.
    pub remaining: String,
    /// The exit code for it.
    pub code: Exit,
}

impl Outcome {
    /// The exit code of a command whose only outcome this is.
    pub fn code(&self) -> Exit {
        match self {
            Self::Excluded { .. } => Exit::EXCLUDED,
            Self::Native { .. } => Exit::NEWER_IN_KERNEL,
            Self::Deferred { code, .. } | Self::Refused { code, .. } | Self::Failed(Failing { code, .. }) => {
                *code
            }
            _ => Exit::SUCCESS,
        }
    }
    /// Something went wrong.
    pub fn failed(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Refused { .. })
    }
    /// Nothing was done, and nothing had to be.
    pub fn quiet(&self) -> bool {
        matches!(
            self,
            Self::UpToDate
                | Self::Excluded { .. }
                | Self::Native { .. }
                | Self::Failed(Failing { remembered: true, .. })
        )
    }
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The module.
    pub module: ModuleId,
    /// The kernel, where one is concerned.
    #[serde(flatten)]
    pub target: Option<Target>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A whole transaction's end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What started it, e.g. `kernel-postinst 6.12.117+deb13-amd64`.
    pub cause: String,
    /// Per module.
    pub lines: Vec<Line>,
    /// Kernels for which depmod ran.
    #[serde(default)]
    pub depmod: Vec<Target>,
    /// Kernels whose initramfs was remade.
    #[serde(default)]
    pub initramfs: Vec<Target>,
    /// What else must be known, without being anybody's failure: a script that ended badly.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// What else went wrong: the index or the initramfs could not be made.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What an earlier, interrupted transaction left and this one put right.
    #[serde(default)]
    pub repaired: Vec<String>,
    /// How long it took.
    #[serde(default)]
    pub seconds: f64,
    /// What was done when.
    #[serde(default)]
    pub timeline: Vec<timeline::Span>,
}

impl Report {
    /// Adds a line.
    pub fn add(&mut self, module: &ModuleId, target: Option<&Target>, outcome: Outcome) {
        self.lines.push(Line { module: module.clone(), target: target.cloned(), outcome });
    }

    /// Something was changed, tried, put off or refused: worth a place in the history.
    pub fn memorable(&self) -> bool {
        self.lines.iter().any(|line| !line.outcome.quiet())
            || !self.repaired.is_empty()
            || !self.problems.is_empty()
            || !self.depmod.is_empty()
    }

    /// The exit code of a command that a person gave: the first thing that went wrong.
    pub fn code(&self) -> Exit {
        let failed = self.lines.iter().find(|line| line.outcome.failed()).map(|line| line.outcome.code());
        let other = self.lines.iter().map(|line| line.outcome.code()).find(|code| !code.is_success());
        failed.or(other).unwrap_or(Exit::error_if(!self.problems.is_empty()))
    }

    /// The exit code of `autoinstall`: one for all that failed.
    pub fn autoinstall_code(&self) -> Exit {
        let failed = |line: &Line| {
            line.outcome.failed() || matches!(line.outcome, Outcome::Deferred { code: Exit::NEEDS_OTHER, .. })
        };
        if self.lines.iter().any(failed) {
            return Exit::AUTOINSTALL_FAILED;
        }
        let waits =
            |line: &Line| matches!(line.outcome, Outcome::Deferred { code, .. } if !code.is_success());
        let deferred = self.lines.iter().any(waits);
        if deferred { Exit::NO_HEADERS } else { Exit::error_if(!self.problems.is_empty()) }
    }

    /// The exit code of a package manager's hook: only critical modules, and problems of our own, count.
    pub fn hook_code(&self, admin: &Admin) -> Exit {
        let critical = self.critical_failures(admin);
        if critical.is_empty() && self.problems.is_empty() { Exit::SUCCESS } else { Exit::AUTOINSTALL_FAILED }
    }

    /// Modules that the admin cannot do without and that this kernel does not get. Missing headers do not count:
    /// they may come later in the same run.
    pub fn critical_failures(&self, admin: &Admin) -> BTreeSet<&ModuleId> {
        let lacking = |outcome: &Outcome| match outcome {
            Outcome::Excluded { .. } => true,
            Outcome::Deferred { code, .. } => *code != Exit::NO_HEADERS,
            other => other.failed(),
        };
        self.lines
            .iter()
            .filter(|line| lacking(&line.outcome) && admin.critical(&line.module.name))
            .map(|line| &line.module)
            .collect()
    }
}
