//! What the last run found.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::kernel::installed;
use crate::layout::Layout;
use crate::manager::Offer;
use crate::policy::admin::glob;
use crate::preflight::{Finding, cached};
use crate::report::{Class, Line, Outcome, Severity, text};
use crate::session::Session;
use crate::sys::time::now;
use crate::sys::{file, plain};
use crate::types::{KernelRelease, ModuleId, ModuleName, Target};

/// The format version of the record. Others are ignored.
const FORMAT: u32 = 1;

/// What the package manager would install, and which modules build for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Upcoming {
    pub(super) format: u32,
    /// When the package manager was asked, in seconds since 1970. Zero: never with success.
    pub checked: u64,
    /// The packages that building needs.
    pub packages: Vec<Offer>,
    /// The hash of everything else that the result depends on.
    pub(super) inputs: String,
    /// The hash of what the package manager's answers depend on.
    #[serde(default)]
    pub(super) state: String,
    /// The modules, for each kernel.
    pub modules: Vec<Expected>,
    /// What could not be checked, and why.
    pub untried: Vec<String>,
    /// Modules because of which a transaction would be aborted.
    pub held: Vec<ModuleName>,
    /// Available kernels whose headers are not: nothing can be built for them.
    #[serde(default)]
    pub no_headers: BTreeSet<KernelRelease>,
    /// How many packages were kept back at the end of the run; `None` until that was done.
    #[serde(default)]
    pub(super) kept: Option<usize>,
    /// Why the last run did not come to an end.
    pub problem: Option<String>,
}

/// A module, for a kernel or with a source that is not installed yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// The result of its build.
    pub line: Line,
    /// The name of its build in the cache.
    pub(super) key: Option<String>,
}

impl Expected {
    /// Whether its build is there.
    pub fn is_ready(&self, session: &Session) -> bool {
        self.ready(&session.cache())
    }

    fn ready(&self, cache: &Cache) -> bool {
        self.key.as_deref().is_some_and(|key| cache.holds(key))
    }

    /// Whether it is known not to build.
    pub fn fails(&self) -> bool {
        self.line.outcome.follows().severity > Severity::Waiting
    }

    /// One sentence about a module that does not build.
    fn sentence(&self, there: &[KernelRelease]) -> String {
        let Line { module, target, outcome } = &self.line;
        let error = match outcome {
            Outcome::Failed(failing) => failing.errors.first().map(|error| format!(": {error}")),
            _ => None,
        };
        let why = format!("{}{}", text::why(outcome), error.unwrap_or_default());
        match target {
            Some(Target { kernel, .. }) if there.contains(kernel) => {
                format!("{module}, which is available, does not build for {kernel}: {why}")
            }
            Some(Target { kernel, .. }) => {
                format!("{module} does not build for {kernel}, which is available: {why}")
            }
            None => format!("{module}, which is available, does not build: {why}"),
        }
    }
}

impl Upcoming {
    /// An empty record with the current time.
    pub(super) fn now() -> Self {
        Self { format: FORMAT, checked: now(), ..Self::default() }
    }

    /// The record; `None` without a usable one. What has been installed meanwhile is left out.
    pub fn load(layout: &Layout) -> Option<Self> {
        let mut upcoming: Self = file::record(&layout.upcoming())?;
        if upcoming.format != FORMAT {
            return None;
        }
        let there = installed(layout);
        // A new version of a module is upcoming for kernels that are installed.
        let arrived = |line: &Line| {
            let kernel = line.target.as_ref().is_some_and(|target| there.contains(&target.kernel));
            kernel && layout.source_link(&line.module).symlink_metadata().is_ok()
        };
        upcoming.modules.retain(|expected| !arrived(&expected.line));
        Some(upcoming)
    }

    /// The packages with their versions: kernels and modules before the libraries that they need.
    pub fn named(&self, session: &Session) -> Vec<String> {
        let building = session.policy.distribution.building;
        let first =
            |offer: &&Offer| building.iter().any(|pattern| glob(pattern.as_bytes(), offer.name.as_bytes()));
        let (needed, others): (Vec<&Offer>, Vec<&Offer>) = self.packages.iter().partition(first);
        let all = needed.into_iter().chain(others);
        all.map(|offer| format!("{} {}", offer.name, offer.version)).collect()
    }

    /// One sentence for each module that does not build.
    pub fn failing(&self, layout: &Layout) -> Vec<(ModuleId, String)> {
        let there = installed(layout);
        let failing = self.modules.iter().filter(|expected| expected.fails());
        failing.map(|expected| (expected.line.module.clone(), expected.sentence(&there))).collect()
    }

    pub(super) fn store(&self, layout: &Layout) -> Result<()> {
        let content = plain::document(&Self { format: FORMAT, ..self.clone() })?;
        file::write_atomic(&layout.upcoming(), &content, 0o644).context("recording what is upcoming")
    }

    /// Whether a run with these packages and inputs would find the same.
    pub(super) fn still_holds(&self, packages: &[Offer], inputs: &str, cache: &Cache) -> bool {
        let named = |offer: &Offer| (offer.name.clone(), offer.version.clone());
        let machine = |expected: &Expected| {
            matches!(expected.line.outcome.class(), Class::Deferred(crate::report::Waits::Machine(_)))
        };
        let kept = |expected: &Expected| expected.key.is_none() || expected.ready(cache);
        self.checked > 0
            && self.inputs == inputs
            && self.packages.iter().map(named).eq(packages.iter().map(named))
            && self.untried.is_empty()
            && self.modules.iter().all(|expected| kept(expected) && !machine(expected))
    }

    /// Adds the result of a pre-build.
    pub(super) fn learn(&mut self, finding: &Finding) {
        self.untried.extend(finding.untried.iter().cloned());
        self.held = finding.held_names().into_iter().cloned().collect();
        let Some(proven) = &finding.proven else { return };
        let lines = proven.report.lines.iter();
        self.modules = lines.map(|line| Expected { line: line.clone(), key: cached(proven, line) }).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_arrived_is_not_upcoming() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        let layout = Layout { dkms_tree: place("dkms"), install_tree: place("modules"), ..Layout::default() };
        file::write_atomic(&place("modules/6.1/modules.dep"), b"", 0o644).unwrap();
        file::write_atomic(&place("dkms/a/1/source"), b"", 0o644).unwrap();
        let expected = |module: &str, kernel: &str| {
            let target = Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() };
            let (module, outcome) = (module.parse().unwrap(), Outcome::UpToDate);
            Expected { line: Line { module, target: Some(target), outcome }, key: None }
        };
        let modules = vec![expected("a/1", "6.1"), expected("a/2", "6.1"), expected("a/1", "6.2")];
        let left = modules[1..].to_vec();
        Upcoming { modules, ..Upcoming::now() }.store(&layout).unwrap();
        assert_eq!(Upcoming::load(&layout).unwrap().modules, left);
    }
}
