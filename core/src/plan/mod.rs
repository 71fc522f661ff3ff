//! Decides. Pure: from events and what is known to a plan, without looking at anything.
//!
//! `dkms --dry-run` prints exactly this value; the tests are tables.

mod decide;
mod finish;
mod order;
mod proof;
mod scope;
#[cfg(test)]
mod tests;
mod wanted;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

pub use decide::plan;
pub use proof::{Stakes, at_stake};
pub use scope::{Scope, concerned, followers, newest, scope};
pub use why::remaining;

use crate::conf::{ConfError, Recipe};
use crate::kernel::Kernel;
use crate::report::Outcome;
use crate::types::{Fingerprint, ModuleId, Placement, Target};

/// What has been found out about the modules and kernels that the events concern.
#[derive(Debug, Default)]
pub struct Survey {
    /// The kernels.
    pub kernels: BTreeMap<Target, Kernel>,
    /// The modules, for each kernel.
    pub cases: BTreeMap<Placement, Case>,
    /// Where sources are looked for: `NAME-VERSION` below it.
    pub source_tree: PathBuf,
    /// The newest of each concerned module's registered versions, and its source's directory.
    pub sources: BTreeMap<ModuleId, PathBuf>,
    /// Installed builds (by module and kernel) whose files are not, or not as they were put there.
    pub damaged: BTreeSet<Placement>,
    /// Remembered failures that prove nothing now: something else ran, or lay over the system, when they happened.
    pub doubtful: BTreeSet<Placement>,
}

/// One module for one kernel.
#[derive(Debug)]
pub struct Case {
    /// Its recipe, or why there is none.
    pub recipe: Result<Recipe, ConfError>,
    /// Everything that can change its build; `None` without headers.
    pub fingerprint: Option<Fingerprint>,
    /// Who should have signed it; `None` when it does not matter.
    pub signer: Option<String>,
    /// The very same has been built before, and the result is kept.
    pub cached: bool,
    /// It is built with all rights of the caller, as the admin wants it.
    pub unconfined: bool,
}

/// What will be done, in this order.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Nothing is to be changed: finished builds are kept for when they are needed, failures are remembered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proof: bool,
    /// Modules that an earlier run took out without coming to their POST_REMOVE.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub post_remove: BTreeSet<Placement>,
    /// Registrations.
    pub register: Vec<Registration>,
    /// Builds that came in a tarball.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<Loading>,
    /// Builds and installations, dependencies first.
    pub make: Vec<Task>,
    /// Withdrawals.
    pub clear: Vec<Removal>,
    /// Modules to unregister after that.
    pub unregister: Vec<Unregister>,
    /// What needs nothing to be done.
    pub settled: Vec<Skip>,
    /// Installed builds of shell DKMS whose inputs are noted from now on.
    pub adopt: Vec<(ModuleId, Target, Fingerprint)>,
    /// Kernels that are leaving.
    pub gone: BTreeSet<Target>,
    /// Failures to forget.
    pub forget: Vec<Placement>,
    /// Kernels whose index is stale already.
    pub depmod: BTreeSet<Target>,
    /// Kernels whose initramfs is ours to look after: nobody makes it after us.
    pub initramfs: BTreeSet<Target>,
}

/// A module to register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// The module.
    pub module: ModuleId,
    /// Its source.
    pub source: PathBuf,
}

/// A build that came in a tarball, to be put into the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loading {
    /// The module.
    pub module: ModuleId,
    /// The kernel.
    pub target: Target,
    /// Where it was unpacked.
    pub dir: PathBuf,
}

/// A module to build, install, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Task {
    /// The module.
    pub module: ModuleId,
    /// The kernel.
    pub target: Target,
    /// Build it; otherwise the finished build is used.
    pub build: bool,
    /// The result of the very same build is kept: no compiler is needed.
    pub cached: bool,
    /// Install it.
    pub install: bool,
    /// What goes into it.
    pub fingerprint: Fingerprint,
    /// Modules whose installation must have succeeded before.
    pub after: Vec<ModuleId>,
    /// Even when the kernel has a newer module of the same name.
    pub force: bool,
    /// The version that is installed now.
    pub replaces: Option<ModuleId>,
}

/// A module to take out of a kernel's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// The module.
    pub module: ModuleId,
    /// The kernel.
    pub target: Target,
    /// It is installed: delete its files there.
    pub withdraw: bool,
    /// Delete its build, too.
    pub unbuild: bool,
    /// The kernel itself is leaving: its index needs no repair, and nothing is put back.
    pub kernel_leaves: bool,
}

/// A module to unregister.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unregister {
    /// The module.
    pub module: ModuleId,
    /// Leave its builds in place until a successor is proven.
    pub keep_builds: bool,
}

/// A module for which nothing is to be done, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Skip {
    /// The module.
    pub module: ModuleId,
    /// The kernel, where one is concerned.
    pub target: Option<Target>,
    /// Why.
    pub outcome: Outcome,
}

impl Eq for Skip {}

impl Plan {
    /// Nothing will be changed.
    pub fn is_empty(&self) -> bool {
        self.register.is_empty()
            && self.post_remove.is_empty()
            && self.load.is_empty()
            && self.make.is_empty()
            && self.clear.is_empty()
            && self.unregister.is_empty()
            && self.adopt.is_empty()
            && self.forget.is_empty()
            && self.gone.is_empty()
            && self.depmod.is_empty()
    }
}
