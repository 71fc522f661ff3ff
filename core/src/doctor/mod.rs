//! `dkms doctor`: what is wrong with this machine's modules, and what helps. [`inspect`] gathers facts with what exists for
//! other commands, [`findings`] decides what they mean, [`Finding::advice`] is the one table of sentences, remedies and
//! repairs, and [`mend`] carries the repairs out as an ordinary transaction.

mod advice;
mod facts;
mod inspect;
mod mend;

pub use advice::{Advice, Repair};
pub use facts::{Facts, KeptLong, Keys, Leftover, LostOriginal, Misplaced, Prospects, Space, Stray};
pub use inspect::inspect;
pub use mend::mend;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::apply::Prospect;
use crate::check::Rejection;
use crate::exit::Exit;
use crate::kernel::HeadersPackage;
use crate::loaded::Replaced;
use crate::report::{Outcome, Waits};
use crate::sys::file::Unwritable;
use crate::tree::Source;
use crate::types::{ModuleId, ModuleName, Target, version};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// policy.toml is invalid.
    BadPolicy {
        /// The file, the line and the reason.
        why: String,
    },
    /// framework.conf is invalid.
    BadFramework {
        /// The reason.
        why: String,
        /// The file and its drop-ins.
        files: Vec<PathBuf>,
    },
    /// Options of framework.conf that have no meaning.
    UnknownOptions {
        /// The options.
        options: Vec<String>,
        /// The file and its drop-ins.
        files: Vec<PathBuf>,
    },
    /// Where dkms needs a file, a directory or a link, there is something else.
    Misplaced(Misplaced),
    /// A directory cannot be changed.
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        why: Unwritable,
    },
    /// A file system is almost full.
    LowSpace {
        /// A directory on it.
        dir: PathBuf,
        /// What is free, in MiB.
        free: u64,
        /// What is needed, in MiB.
        needed: u64,
    },
    /// One half of the key pair for signing is missing.
    HalfKeyPair {
        /// The existing half.
        there: PathBuf,
        /// The missing half.
        missing: PathBuf,
    },
    /// One half of the key pair for signing has no valid content.
    DamagedKey {
        /// What is wrong.
        why: String,
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
    /// Other users can read the private key.
    ExposedKey {
        /// The key.
        key: PathBuf,
    },
    /// The kernel will reject modules for their signature.
    Rejected(Rejection),
    /// A transaction was interrupted.
    Unfinished {
        /// How many.
        number: usize,
    },
    /// Temporary files of killed runs.
    Temporary {
        /// The files and directories.
        paths: Vec<PathBuf>,
    },
    /// Builds for a kernel that was removed.
    RemovedKernel {
        /// The kernel.
        target: Target,
        /// The modules.
        modules: BTreeSet<ModuleId>,
    },
    /// A module file in the directory of dkms that belongs to no module of the DKMS tree.
    Unowned {
        /// The kernel.
        target: Target,
        /// The file.
        file: PathBuf,
    },
    /// Files with the names of a build's modules are in the directory of dkms, and no version is recorded as installed, or they are
    /// others than the installed ones.
    Unrecorded {
        /// The kernel.
        target: Target,
        /// The module whose installation makes this right.
        module: ModuleId,
        /// The files.
        files: Vec<PathBuf>,
        /// Their content is not that of the build, so that only a forced installation replaces them.
        force: bool,
    },
    /// Files of an installed module are missing or were changed, and no automatic run installs it again.
    Damaged {
        /// The kernel.
        target: Target,
        /// The module.
        module: ModuleId,
        /// The version to install: an automatic run might want another one than is recorded as installed.
        wanted: ModuleId,
    },
    /// Files of a module that a native package has installed are missing or were changed.
    DamagedPackage {
        /// The kernel.
        target: Target,
        /// The module.
        module: ModuleId,
        /// The package.
        package: String,
    },
    /// A module of the kernel that one of ours replaced was not restored.
    Unrestored {
        /// The kernel.
        target: Target,
        /// Its copy.
        kept: PathBuf,
        /// Its path.
        place: PathBuf,
    },
    /// The copy of a module of the kernel that one of ours replaced is missing or damaged.
    LostOriginal(LostOriginal),
    /// The source of a module, or the link to it, is missing.
    Broken {
        /// The module.
        module: ModuleId,
        /// What is known of its source.
        source: Source,
    },
    /// The initramfs of a kernel lacks installed modules.
    OutdatedInitramfs {
        /// The kernel.
        target: Target,
        /// The modules.
        modules: BTreeSet<ModuleName>,
        /// Why it could not be regenerated.
        why: String,
    },
    /// A change of the boot default was not made.
    BootDefault {
        /// The change.
        what: String,
    },
    /// modules.dep of a kernel lacks installed modules.
    OutdatedIndex {
        /// The kernel.
        target: Target,
    },
    /// Another version of a module is loaded than is installed.
    Loaded(Replaced),
    /// Modules are not built because the kernel's headers are missing.
    NoHeaders {
        /// The kernel.
        target: Target,
        /// The modules.
        modules: BTreeSet<ModuleId>,
        /// What installs them.
        package: HeadersPackage,
    },
    /// Modules are not built because build tools are missing.
    NoTools {
        /// The kernel.
        target: Target,
        /// The modules.
        modules: BTreeSet<ModuleId>,
        /// The tools.
        tools: Vec<String>,
    },
    /// Modules that the next automatic run would build or install.
    Missing {
        /// The kernel.
        target: Target,
        /// The modules.
        modules: BTreeSet<ModuleId>,
    },
    /// A module does not build.
    Failed {
        /// The kernel.
        target: Target,
        /// The module.
        module: ModuleId,
        /// The reason.
        why: String,
    },
    /// A module cannot be built for another reason.
    Hindered {
        /// The kernel.
        target: Target,
        /// The module.
        module: ModuleId,
        /// An older build of it is installed.
        installed: bool,
        /// The reason.
        why: String,
    },
    /// A module does not build for a kernel that the package manager would install.
    Upcoming {
        /// The module, the kernel and the reason.
        what: String,
    },
    /// Packages have not been upgraded for a long time because of a module.
    KeptBack {
        /// The packages and the reason.
        what: String,
        /// For how many days.
        days: u64,
    },
    /// The package manager keeps back other packages than those that were recorded.
    HoldDiffers,
    /// The command `dkms` is not this program.
    OtherProgram {
        /// The program that a shell finds.
        program: PathBuf,
    },
    /// Files that start dkms in a package transaction are missing.
    MissingHooks {
        /// The files.
        files: Vec<PathBuf>,
    },
}

/// After so many days without a kernel's security updates, the administrator should decide.
const LONG: u64 = 7;

/// What these facts mean.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    settings(facts, &mut found);
    machine(facts, &mut found);
    leftovers(facts, &mut found);
    for prospects in &facts.prospects {
        kernel(prospects, facts, &mut found);
    }
    strays(facts, &mut found);
    damages(facts, &mut found);
    found.extend(facts.upcoming.iter().map(|what| Finding::Upcoming { what: what.clone() }));
    let long = facts.kept_back.iter().filter(|kept| kept.days >= LONG);
    found.extend(long.map(|kept| Finding::KeptBack { what: kept.what.clone(), days: kept.days }));
    found.extend(facts.hold_differs.then_some(Finding::HoldDiffers));
    let stale = facts.stale.iter().filter(|(_, stale)| facts.running.is_none() || !stale.why.is_empty());
    found.extend(stale.map(|(target, stale)| Finding::OutdatedInitramfs {
        target: target.clone(),
        modules: stale.modules.clone(),
        why: stale.why.clone(),
    }));
    found.extend(facts.boot_default.clone().map(|what| Finding::BootDefault { what }));
    found.extend(facts.loaded.iter().cloned().map(Finding::Loaded));
    found
}

fn settings(facts: &Facts, found: &mut Vec<Finding>) {
    found.extend(facts.policy.clone().map(|why| Finding::BadPolicy { why }));
    let files = || facts.framework_files.clone();
    found.extend(facts.framework.clone().map(|why| Finding::BadFramework { why, files: files() }));
    if !facts.unknown_options.is_empty() {
        found.push(Finding::UnknownOptions { options: facts.unknown_options.clone(), files: files() });
    }
}

fn machine(facts: &Facts, found: &mut Vec<Finding>) {
    if let Some(program) = &facts.other_program {
        found.push(Finding::OtherProgram { program: program.clone() });
    }
    if !facts.missing_hooks.is_empty() {
        found.push(Finding::MissingHooks { files: facts.missing_hooks.clone() });
    }
    found.extend(facts.misplaced.iter().cloned().map(Finding::Misplaced));
    found.extend(
        facts.unwritable.iter().map(|(dir, why)| Finding::Unwritable { dir: dir.clone(), why: *why }),
    );
    for Space { dir, free, needed } in facts.space.iter().filter(|space| space.free < space.needed) {
        found.push(Finding::LowSpace { dir: dir.clone(), free: free >> 20, needed: needed >> 20 });
    }
    if let Some(Keys { key, certificate, has_key, has_certificate, exposed, damaged }) = &facts.keys {
        found.extend(damaged.clone().map(|why| Finding::DamagedKey {
            why,
            key: key.clone(),
            certificate: certificate.clone(),
        }));
        match (has_key, has_certificate) {
            (true, false) => {
                found.push(Finding::HalfKeyPair { there: key.clone(), missing: certificate.clone() });
            }
            (false, true) => {
                found.push(Finding::HalfKeyPair { there: certificate.clone(), missing: key.clone() });
            }
            (true, true) | (false, false) => {}
        }
        if *exposed {
            found.push(Finding::ExposedKey { key: key.clone() });
        }
    }
    found.extend(facts.rejected.iter().cloned().map(Finding::Rejected));
}

/// While another dkms is running, its transaction and its temporary files are none of these.
fn leftovers(facts: &Facts, found: &mut Vec<Finding>) {
    if facts.running.is_none() {
        if facts.unfinished > 0 {
            found.push(Finding::Unfinished { number: facts.unfinished });
        }
        if !facts.temporary.is_empty() {
            found.push(Finding::Temporary { paths: facts.temporary.clone() });
        }
    }
    for Leftover { target, modules } in &facts.removed_kernels {
        found.push(Finding::RemovedKernel { target: target.clone(), modules: modules.clone() });
    }
    for (target, module, package) in &facts.damaged_packages {
        let (target, module, package) = (target.clone(), module.clone(), package.clone());
        found.push(Finding::DamagedPackage { target, module, package });
    }
    for (target, kept, place) in &facts.unrestored {
        let (target, kept, place) = (target.clone(), kept.clone(), place.clone());
        found.push(Finding::Unrestored { target, kept, place });
    }
    found.extend(facts.lost_originals.iter().cloned().map(Finding::LostOriginal));
    for (module, source) in &facts.broken {
        found.push(Finding::Broken { module: module.clone(), source: source.clone() });
    }
}

/// Module files that are not those of an installed version. What has the name of a build's module is not deleted: it may be the
/// only one that the kernel has.
fn strays(facts: &Facts, found: &mut Vec<Finding>) {
    let mut unrecorded: BTreeMap<(&Target, &ModuleId), (Vec<PathBuf>, bool)> = BTreeMap::new();
    for Stray { target, file, builds } in &facts.unowned {
        if builds.is_empty() {
            found.push(Finding::Unowned { target: target.clone(), file: file.clone() });
            continue;
        }
        // The next run installs it.
        if builds.iter().any(|(id, ..)| found.iter().any(|one| one.installs(&id.name, target))) {
            continue;
        }
        let newest = |wanted: &dyn Fn(bool, bool) -> bool| {
            let fitting = builds.iter().filter(|(_, same, active)| wanted(*same, *active)).map(|(id, ..)| id);
            fitting.max_by(|a, b| version::compare(a.version.as_str(), b.version.as_str()))
        };
        let active = newest(&|_, active| active);
        let same = newest(&|same, _| same);
        let Some(module) = active.or(same).or_else(|| newest(&|_, _| true)) else { continue };
        let (files, force) = unrecorded.entry((target, module)).or_default();
        files.push(file.clone());
        // With the recorded version, there is nothing to do without it.
        *force |= active.is_some() || same.is_none();
    }
    found.extend(unrecorded.into_iter().map(|((target, module), (files, force))| Finding::Unrecorded {
        target: target.clone(),
        module: module.clone(),
        files,
        force,
    }));
}

/// Damaged files that no automatic run replaces. A recorded version never replaces one that is about to be installed.
fn damages(facts: &Facts, found: &mut Vec<Finding>) {
    let mut damaged = Vec::new();
    for (target, module) in &facts.damaged {
        let prospects = facts.prospects.iter().find(|one| one.target == *target);
        let coming = prospects.and_then(|prospects| prospects.coming(&module.name));
        let wanted = coming.unwrap_or(module);
        let blocked = |id| prospects.is_some_and(|prospects| prospects.blocked.contains(id));
        if blocked(module) || blocked(wanted) || found.iter().any(|one| one.installs(&module.name, target)) {
            continue;
        }
        let (target, module, wanted) = (target.clone(), module.clone(), wanted.clone());
        damaged.push(Finding::Damaged { target, module, wanted });
    }
    found.extend(damaged);
}

/// What the next automatic run would do for a kernel. If the admin has disabled these runs, what they would build is not
/// missing.
fn kernel(prospects: &Prospects, facts: &Facts, found: &mut Vec<Finding>) {
    let Prospects { target, modules, package, tools, index_outdated, installed, blocked, index_blocked } =
        prospects;
    let (mut headerless, mut toolless, mut missing) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut single = Vec::new();
    let hindered = |module: &ModuleId, why: &String| Finding::Hindered {
        target: target.clone(),
        module: module.clone(),
        installed: installed.contains(module),
        why: why.clone(),
    };
    let packaged = |id: &ModuleId| {
        facts.damaged_packages.iter().any(|(kernel, module, _)| kernel == target && module.name == id.name)
    };
    for (module, prospect) in modules {
        match prospect {
            // Its damage is a finding of its own.
            Prospect::Settled(_) if packaged(module) => {}
            // What is in the way is a finding of its own. No repair is promised before.
            Prospect::Build(_) | Prospect::Install(_) if blocked.contains(module) => {}
            Prospect::Build(_) | Prospect::Install(_) => {
                missing.insert(module.clone());
            }
            Prospect::Settled(Outcome::Deferred { waits: Waits::Headers, .. }) => {
                headerless.insert(module.clone());
            }
            // Without a tool that the kernel lacks, it is something that only this module needs.
            Prospect::Settled(Outcome::Deferred { waits: Waits::Tools, .. }) if !tools.is_empty() => {
                toolless.insert(module.clone());
            }
            Prospect::Settled(Outcome::Deferred { why, .. }) => {
                single.push(hindered(module, why));
            }
            Prospect::Settled(Outcome::Failed(failing)) => {
                let (target, module) = (target.clone(), module.clone());
                single.push(Finding::Failed { target, module, why: failing.why.clone() });
            }
            // A module without a source is broken for all kernels, and is found once. With an unreadable dkms.conf, it is not.
            Prospect::Settled(Outcome::Refused { why, code, .. })
                if *code != Exit::BROKEN || facts.broken.iter().all(|(broken, _)| broken != module) =>
            {
                single.push(hindered(module, why));
            }
            Prospect::Settled(_) | Prospect::Unchanged(_) => {}
        }
    }
    if !headerless.is_empty() {
        let (target, package) = (target.clone(), package.clone());
        found.push(Finding::NoHeaders { target, modules: headerless, package });
    }
    if !toolless.is_empty() {
        let (target, tools) = (target.clone(), tools.clone());
        found.push(Finding::NoTools { target, modules: toolless, tools });
    }
    if !missing.is_empty() && facts.automatic {
        found.push(Finding::Missing { target: target.clone(), modules: missing });
    }
    found.extend(single);
    if *index_outdated && !index_blocked {
        found.push(Finding::OutdatedIndex { target: target.clone() });
    }
}

/// What a repair has repaired: what is no longer found. Modules that were missing and do not build are not repaired.
pub fn repaired(before: &[Finding], left: &[Finding]) -> Vec<Finding> {
    let mut done = Vec::new();
    for finding in before.iter().filter(|finding| finding.repair().is_some()) {
        match finding {
            Finding::Missing { target, modules } => {
                let lacking = |id: &&ModuleId| left.iter().any(|other| other.concerns(id, target));
                let modules: BTreeSet<ModuleId> = modules.iter().filter(|id| !lacking(id)).cloned().collect();
                if !modules.is_empty() {
                    done.push(Finding::Missing { target: target.clone(), modules });
                }
            }
            // Each kind has a repair of its own.
            other if left.iter().any(|one| one.repair() == other.repair()) => {}
            other => done.push(other.clone()),
        }
    }
    done
}

impl Finding {
    /// Whether it says that the next run installs a version of this module.
    fn installs(&self, name: &ModuleName, kernel: &Target) -> bool {
        match self {
            Self::Missing { target, modules } => {
                target == kernel && modules.iter().any(|id| id.name == *name)
            }
            _ => false,
        }
    }

    /// Whether it is about a module that has no build for this kernel.
    fn concerns(&self, id: &ModuleId, kernel: &Target) -> bool {
        match self {
            Self::NoHeaders { target, modules, .. }
            | Self::NoTools { target, modules, .. }
            | Self::Missing { target, modules } => target == kernel && modules.contains(id),
            Self::Failed { target, module, .. } | Self::Hindered { target, module, .. } => {
                target == kernel && module == id
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
