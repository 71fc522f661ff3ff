//! What happened, or what a person asked for: the one vocabulary that all front doors speak.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::types::{ModuleId, ModuleName, Target};

/// Something that the plan answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A kernel has been installed or upgraded. Whoever installs it makes its initramfs after us.
    KernelAdded(Target),
    /// A kernel's headers have been installed or upgraded; the kernel may be there already, or come later.
    HeadersAdded(Target),
    /// Somebody wants every module to be up to date for this kernel.
    Autoinstall(Target),
    /// A kernel is about to be installed: its headers can be seen, and nothing has been changed yet. Whether modules build
    /// for it is found out, and what was built is kept.
    KernelIncoming(Target),
    /// A kernel is about to leave.
    KernelRemoved(Target),
    /// A module's source has been installed or upgraded: register it and build it for these kernels.
    SourceAdded {
        /// The module.
        module: ModuleId,
        /// The kernels to bring up to date.
        targets: Vec<Target>,
    },
    /// A module's source is about to be installed: it can be seen, and nothing has been changed yet. Whether it builds for
    /// these kernels is found out, and what was built is kept.
    SourceIncoming {
        /// The module.
        module: ModuleId,
        /// The kernels to try it with.
        targets: Vec<Target>,
    },
    /// A module's source is being replaced by another version: unregister it, but leave what is installed
    /// in place until its successor is proven.
    SourceReplaced(ModuleId),
    /// A module's source is leaving, or has left. When the same events bring another version of the module, what is
    /// installed stays until that one is proven; else all of it goes.
    SourceGone(ModuleId),
    /// A kernel is to have what another one has: the same versions of the same modules.
    Matched {
        /// The kernel that shows what is wanted.
        template: Target,
        /// The kernel that gets it.
        target: Target,
        /// Only this module.
        only: Option<ModuleName>,
        /// Do it again, or against advice.
        force: bool,
    },
    /// Somebody brought a module in a tarball. Its source is where sources are; its builds are not in the registry.
    Loaded(Load),
    /// Somebody asked for one thing.
    Asked(Request),
}

/// A module that came in a tarball.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The module.
    pub module: ModuleId,
    /// The kernel that its dkms.conf is tried with.
    pub target: Target,
    /// Its finished builds, unpacked and checked.
    pub builds: BTreeMap<Target, PathBuf>,
    /// Over what is there.
    pub force: bool,
}

/// One action of the command line on one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// With which module.
    pub module: ModuleId,
    /// For which kernels. Empty for `Add`; for `Remove` every kernel that has a build.
    pub targets: Vec<Target>,
    /// Do it again, or against advice.
    pub force: bool,
}

/// The verbs of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Register.
    Add,
    /// Build, registering first where needed.
    Build,
    /// Install, building first where needed.
    Install,
    /// Take out of the kernel's tree.
    Uninstall,
    /// Uninstall and delete the build.
    Unbuild,
    /// Unbuild and unregister.
    Remove,
}

impl Event {
    /// The module whose source has come, if that is what happened.
    pub fn source_added(&self) -> Option<&ModuleId> {
        if let Self::SourceAdded { module, .. } = self { Some(module) } else { None }
    }

    /// The module whose source has come or is about to.
    pub fn source_brought(&self) -> Option<&ModuleId> {
        if let Self::SourceIncoming { module, .. } = self { Some(module) } else { self.source_added() }
    }

    /// Nothing has been changed yet, and nothing is to be.
    pub fn incoming(&self) -> bool {
        matches!(self, Self::KernelIncoming(_) | Self::SourceIncoming { .. })
    }

    /// The module whose source leaves, if that is what happens.
    pub fn source_gone(&self) -> Option<&ModuleId> {
        if let Self::SourceGone(module) = self { Some(module) } else { None }
    }

    /// Something leaves, and nothing is built for it.
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
            Self::Asked(request) => {
                let verb = format!("{:?}", request.verb).to_lowercase();
                write!(f, "dkms {verb} {}", request.module)
            }
        }
    }
}
