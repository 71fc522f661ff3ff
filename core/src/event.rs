//! What happened, or what a user requested: the one vocabulary of all front doors.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::types::{ModuleId, ModuleName, Target};

/// An input of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A kernel was installed or upgraded. Its installer generates the initramfs after dkms.
    KernelAdded(Target),
    /// A kernel's headers were installed or upgraded; the kernel may be installed before or after them.
    HeadersAdded(Target),
    /// All modules should be up to date for this kernel.
    Autoinstall(Target),
    /// A kernel is about to be installed: its headers are readable, and nothing has been changed yet. Modules are built
    /// for it, and the builds cached.
    KernelIncoming(Target),
    /// A kernel is about to be removed.
    KernelRemoved(Target),
    /// A module's source was installed or upgraded: add it to the DKMS tree and build it for these kernels.
    SourceAdded {
        /// The module.
        module: ModuleId,
        /// The kernels to bring up to date.
        targets: Vec<Target>,
    },
    /// A module's source is about to be installed: it is readable, and nothing has been changed yet. It is built for
    /// these kernels, and the builds cached.
    SourceIncoming {
        /// The module.
        module: ModuleId,
        /// The kernels to build for.
        targets: Vec<Target>,
    },
    /// A module's source is being replaced by another version: unregister it, but keep its installed files until the
    /// successor is verified.
    SourceReplaced(ModuleId),
    /// A module's source is being removed, or was removed. If the same events add another version of the module, the
    /// installed files are kept until that one is verified; else everything is removed.
    SourceGone(ModuleId),
    /// Install for one kernel what is installed for another: the same versions of the same modules.
    Matched {
        /// The kernel whose modules are the template.
        template: Target,
        /// The kernel to install for.
        target: Target,
        /// Only this module.
        only: Option<ModuleName>,
        /// Force, overriding checks.
        force: bool,
    },
    /// A user imports a module from a tarball. Its source is in the source tree; its builds are not in the DKMS tree.
    Loaded(Load),
    /// A user requests one action.
    Requested(Request),
}

/// A module from a tarball.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The module.
    pub module: ModuleId,
    /// The kernel for which its dkms.conf is evaluated.
    pub target: Target,
    /// Its builds, unpacked and checked.
    pub builds: BTreeMap<Target, PathBuf>,
    /// Replace existing builds.
    pub force: bool,
}

/// One action of the command line on one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The action.
    pub verb: Verb,
    /// The module.
    pub module: ModuleId,
    /// The kernels. Empty for `Add`; for `Remove`, empty means every kernel that has a build.
    pub targets: Vec<Target>,
    /// Force, overriding checks.
    pub force: bool,
}

/// The actions of the command line on one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Add to the DKMS tree.
    Add,
    /// Build; add first if needed.
    Build,
    /// Install; build first if needed.
    Install,
    /// Remove from the kernel's module directory.
    Uninstall,
    /// Uninstall and delete the build.
    Unbuild,
    /// Unbuild and remove from the DKMS tree.
    Remove,
}

impl Event {
    /// The module whose source was installed, if the event is this.
    pub fn source_added(&self) -> Option<&ModuleId> {
        if let Self::SourceAdded { module, .. } = self { Some(module) } else { None }
    }

    /// The module whose source was installed or is about to be.
    pub fn source_brought(&self) -> Option<&ModuleId> {
        if let Self::SourceIncoming { module, .. } = self { Some(module) } else { self.source_added() }
    }

    /// Nothing has been changed yet, and nothing may be changed.
    pub fn incoming(&self) -> bool {
        matches!(self, Self::KernelIncoming(_) | Self::SourceIncoming { .. })
    }

    /// The module whose source is removed, if the event is this.
    pub fn source_gone(&self) -> Option<&ModuleId> {
        if let Self::SourceGone(module) = self { Some(module) } else { None }
    }

    /// Something is removed, and nothing is built for it.
    pub fn leaves(&self) -> bool {
        matches!(self, Self::KernelRemoved(_) | Self::SourceGone(_) | Self::SourceReplaced(_))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelAdded(target) => write!(f, "kernel {} installed", target.kernel),
            Self::HeadersAdded(target) => write!(f, "headers of {} installed", target.kernel),
            Self::Autoinstall(target) => write!(f, "autoinstall for {}", target.kernel),
            Self::KernelIncoming(target) => write!(f, "kernel {} about to be installed", target.kernel),
            Self::KernelRemoved(target) => write!(f, "kernel {} removed", target.kernel),
            Self::SourceAdded { module, .. } => write!(f, "package of {module} installed"),
            Self::SourceIncoming { module, .. } => write!(f, "package of {module} about to be installed"),
            Self::SourceReplaced(module) => write!(f, "package of {module} being replaced"),
            Self::SourceGone(module) => write!(f, "package of {module} removed"),
            Self::Matched { template, target, .. } => {
                write!(f, "dkms match of {} to {}", target.kernel, template.kernel)
            }
            Self::Loaded(load) => write!(f, "tarball of {}", load.module),
            Self::Requested(request) => {
                let verb = format!("{:?}", request.verb).to_lowercase();
                write!(f, "dkms {verb} {}", request.module)
            }
        }
    }
}
