//! Decides. Pure: from events and surveyed facts to a plan, without reading anything.
//!
//! `dkms --dry-run` prints exactly this value; the tests are tables.

mod decide;
mod finish;
mod order;
mod proof;
mod scope;
mod selection;
#[cfg(test)]
mod tests;
mod wanted;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

pub use decide::plan;
pub use proof::{Stakes, at_stake};
pub use scope::{Scope, Versions, concerned, followers, meant, newest, scope, versions};
pub use selection::select;
pub use why::remaining;

use crate::conf::{ConfError, Recipe};
use crate::distro::Distribution;
use crate::exit::Exit;
use crate::kernel::{HeadersPackage, Kernel, Lack};
use crate::marker::Marker;
use crate::report::{Outcome, Waits};
use crate::tree::Verdict;
use crate::types::{Fingerprint, ModuleId, ModuleName, Placement, Target};

/// The facts about the modules and kernels that the events concern.
#[derive(Debug, Default)]
pub struct Survey {
    /// The kernels.
    pub kernels: BTreeMap<Target, Kernel>,
    /// Every module for every kernel in scope.
    pub cases: BTreeMap<Placement, Case>,
    /// The source tree: `NAME-VERSION` below it.
    pub source_tree: PathBuf,
    /// The newest registered version of each module in scope, with the directory of its source.
    pub sources: BTreeMap<ModuleId, PathBuf>,
    /// Installed builds (by module and kernel) whose files are missing or changed.
    pub damaged: BTreeSet<Placement>,
    /// Builds whose own files in the DKMS tree were changed, so that nothing can be installed from them.
    pub unusable: BTreeSet<Placement>,
    /// Recorded failures that prove nothing now, because the programs or the overlay were different.
    pub doubtful: BTreeSet<Placement>,
    /// Modules that a native package has installed for a kernel.
    pub packaged: BTreeMap<(ModuleName, Target), Marker>,
    /// The same for packages whose files are missing or were changed since.
    pub damaged_packages: BTreeMap<(ModuleName, Target), Marker>,
    /// Missing kernel headers are downloaded for a build.
    pub fetch_headers: bool,
}

impl Survey {
    /// What installs a kernel's headers.
    pub fn headers_package(&self, distribution: &Distribution, target: &Target) -> HeadersPackage {
        let kernel = self.kernels.get(target);
        kernel.and_then(|kernel| kernel.headers_package.clone()).unwrap_or_else(|| {
            let pkgbase = kernel.and_then(|kernel| kernel.pkgbase.as_deref());
            distribution.headers_package(target, pkgbase)
        })
    }
}

/// One module for one kernel.
#[derive(Debug)]
pub struct Case {
    /// Its recipe, or why it has none.
    pub recipe: Result<Recipe, ConfError>,
    /// The hash of everything that can change its build; `None` without headers.
    pub fingerprint: Option<Fingerprint>,
    /// The expected signer; `None` if it does not matter.
    pub signer: Option<String>,
    /// A build with this fingerprint is cached.
    pub cached: bool,
    /// What it needs for building that this kernel or machine does not have.
    pub lack: Option<Lack>,
    /// The hash of what its build depends on, but for the headers: if these are missing, and may be borrowed.
    pub without_headers: Option<String>,
    /// How it has ended with these inputs and borrowed headers.
    pub verdict: Option<Verdict>,
    /// It is built with all privileges of the caller, as configured by the admin.
    pub unconfined: bool,
}

impl Case {
    /// An older version of the module is installed for this kernel instead, if one is registered that supports it.
    pub fn passed_over(&self) -> bool {
        self.recipe.as_ref().is_ok_and(|recipe| recipe.autoinstall && recipe.excluded.is_some())
    }
}

/// The actions, in this order.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Plan {
    /// A pre-build: changes nothing but the cache and the recorded failures.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proof: bool,
    /// Modules that an interrupted run withdrew without running POST_REMOVE.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub post_remove: BTreeSet<Placement>,
    /// Registrations.
    pub register: Vec<Registration>,
    /// Builds from a tarball.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<Loading>,
    /// Builds and installations, dependencies first.
    #[serde(rename = "make")]
    pub tasks: Vec<Task>,
    /// Withdrawals.
    #[serde(rename = "clear")]
    pub removals: Vec<Removal>,
    /// Modules to unregister after that.
    pub unregister: Vec<Unregister>,
    /// Modules without an action, with the reason.
    pub settled: Vec<Skip>,
    /// Installed builds of shell DKMS whose inputs are recorded from now on.
    pub adopt: Vec<(ModuleId, Target, Fingerprint)>,
    /// Kernels that are being removed.
    pub gone: BTreeSet<Target>,
    /// Failures to forget.
    pub forget: Vec<Placement>,
    /// Kernels whose modules.dep is out of date already.
    pub depmod: BTreeSet<Target>,
    /// Kernels whose initramfs dkms must regenerate, because nothing else does so later.
    pub initramfs: BTreeSet<Target>,
}

/// A module to register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Registration {
    /// The module.
    pub module: ModuleId,
    /// Its source.
    pub source: PathBuf,
}

/// A build from a tarball, to be put into the DKMS tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Loading {
    /// The module.
    pub module: ModuleId,
    /// The kernel.
    #[serde(flatten)]
    pub target: Target,
    /// The directory that it was unpacked to.
    pub dir: PathBuf,
}

/// A module to build, install, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Task {
    /// The module.
    pub module: ModuleId,
    /// The kernel.
    #[serde(flatten)]
    pub target: Target,
    /// Build it; otherwise an existing build is used.
    pub build: bool,
    /// A cached build is used: no compiler is needed.
    pub cached: bool,
    /// Install it.
    pub install: bool,
    /// The hash of the build's inputs.
    pub fingerprint: Fingerprint,
    /// Modules whose installation must have succeeded before.
    pub after: Vec<ModuleId>,
    /// Install even if the kernel has a newer module of the same name.
    pub force: bool,
    /// The version that is currently installed.
    pub replaces: Option<ModuleId>,
    /// The newer version that is excluded from this kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<ModuleId>,
}

/// A module to remove from a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Removal {
    /// The module.
    pub module: ModuleId,
    /// The kernel.
    #[serde(flatten)]
    pub target: Target,
    /// It is installed: delete its files in the kernel's module directory.
    pub withdraw: bool,
    /// Delete its build, too.
    pub unbuild: bool,
    /// The kernel is being removed: depmod is not needed, and no original is restored.
    pub kernel_leaves: bool,
}

/// A module to unregister.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unregister {
    /// The module.
    pub module: ModuleId,
    /// Keep its builds until a successor is verified.
    pub keep_builds: bool,
}

/// A module without an action, and the reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Skip {
    /// The module.
    pub module: ModuleId,
    /// The kernel, if the outcome concerns one.
    #[serde(flatten)]
    pub target: Option<Target>,
    /// The reason.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Eq for Skip {}

impl Plan {
    /// These modules were removed just now, by the completion of an interrupted removal. Repeating the interrupted command is no
    /// error.
    pub fn completed(&mut self, removed: &BTreeSet<ModuleId>) {
        for skip in self.settled.iter_mut().filter(|skip| removed.contains(&skip.module)) {
            if matches!(skip.outcome, Outcome::Refused { code: Exit::NOT_ADDED, .. }) {
                skip.outcome = Outcome::UpToDate;
            }
        }
    }

    /// The kernels without whose headers a module is not built.
    pub fn without_headers(&self) -> BTreeSet<Target> {
        let waits = |skip: &&Skip| matches!(skip.outcome, Outcome::Deferred { waits: Waits::Headers, .. });
        self.settled.iter().filter(waits).filter_map(|skip| skip.target.clone()).collect()
    }

    /// Nothing will be changed.
    pub fn is_empty(&self) -> bool {
        self.register.is_empty()
            && self.post_remove.is_empty()
            && self.load.is_empty()
            && self.tasks.is_empty()
            && self.removals.is_empty()
            && self.unregister.is_empty()
            && self.adopt.is_empty()
            && self.forget.is_empty()
            && self.gone.is_empty()
            && self.depmod.is_empty()
    }
}
