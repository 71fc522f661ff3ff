//! What is known about a machine, as a value: [`findings`](super::findings) needs nothing else.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::apply::Prospect;
use crate::check::Rejection;
use crate::kernel::HeadersPackage;
use crate::loaded::Replaced;
use crate::sys::file::Unwritable;
use crate::tree::{Source, Stale};
use crate::types::{ModuleId, ModuleName, Target, version};

/// The facts.
#[derive(Debug, Default)]
pub struct Facts {
    /// Why policy.toml is invalid.
    pub policy: Option<String>,
    /// Why framework.conf is invalid.
    pub framework: Option<String>,
    /// framework.conf and its drop-ins.
    pub framework_files: Vec<PathBuf>,
    /// Options of framework.conf that have no meaning.
    pub unknown_options: Vec<String>,
    /// Paths at which there is something else than dkms needs there.
    pub misplaced: Vec<Misplaced>,
    /// Directories that cannot be changed, with the reason.
    pub unwritable: Vec<(PathBuf, Unwritable)>,
    /// The file systems that dkms writes to.
    pub space: Vec<Space>,
    /// The key pair for signing, if modules are signed here.
    pub keys: Option<Keys>,
    /// Modules that a kernel will reject for their signature.
    pub rejected: Vec<Rejection>,
    /// The process id of another dkms that is running.
    pub running: Option<String>,
    /// The number of transactions that have not ended.
    pub unfinished: usize,
    /// Temporary files of dead processes.
    pub temporary: Vec<PathBuf>,
    /// Kernels that were removed, with builds.
    pub removed_kernels: Vec<Leftover>,
    /// Module files in the directory of dkms that no build has published.
    pub unowned: Vec<Stray>,
    /// Installed modules whose files are missing or were changed.
    pub damaged: Vec<(Target, ModuleId)>,
    /// Modules that native packages have installed, whose files are missing or were changed: with the package.
    pub damaged_packages: Vec<(Target, ModuleId, String)>,
    /// Copies of the kernel's originals whose module is not installed any more, and where they belong.
    pub unrestored: Vec<(Target, PathBuf, PathBuf)>,
    /// Copies of the kernel's originals that could not be restored.
    pub lost_originals: Vec<LostOriginal>,
    /// A change of the boot default that was not made.
    pub boot_default: Option<String>,
    /// Modules without a source, with what is known of it.
    pub broken: Vec<(ModuleId, Source)>,
    /// Kernels whose initramfs is out of date.
    pub stale: Vec<(Target, Stale)>,
    /// Loaded modules that are not the installed ones.
    pub loaded: Vec<Replaced>,
    /// What the next automatic run would do, by kernel.
    pub prospects: Vec<Prospects>,
    /// A sentence for each module that does not build for packages that the package manager would install.
    pub upcoming: Vec<String>,
    /// Packages that upgrades leave as they are.
    pub kept_back: Option<KeptLong>,
    /// The package manager's settings are not those that were recorded.
    pub hold_differs: bool,
    /// The admin has not disabled automatic runs.
    pub automatic: bool,
    /// A program of this name that a shell finds instead of this one.
    pub other_program: Option<PathBuf>,
    /// Files of the package that start dkms in transactions, and are not there.
    pub missing_hooks: Vec<PathBuf>,
}

/// A module file that no build has published, as far as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The kernel.
    pub target: Target,
    /// The file.
    pub file: PathBuf,
    /// The builds for this kernel that have a module of its name: whether its content is theirs, and whether they are installed.
    pub builds: Vec<(ModuleId, bool, bool)>,
}

/// The copy of a module of the kernel that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostOriginal {
    /// The kernel.
    pub target: Target,
    /// The path of the module.
    pub place: PathBuf,
    /// What is wrong with its copy, as a sentence.
    pub why: String,
    /// The package that has the module, if one has.
    pub package: Option<String>,
}

/// Packages that upgrades leave as they are because of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLong {
    /// The packages and the reason.
    pub what: String,
    /// For how many days.
    pub days: u64,
}

/// Of a link to a directory whose content is needed.
pub const OUTSIDE: &str = "a symbolic link to a directory outside of the modules directory";

/// A path at which there is something else than dkms needs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misplaced {
    /// The path.
    pub path: PathBuf,
    /// What is there: `a fifo`.
    pub is: &'static str,
    /// What must be there: `a directory`.
    pub needed: &'static str,
}

/// The room on a file system, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// A directory on it.
    pub dir: PathBuf,
    /// What is free.
    pub free: u64,
    /// What a typical transaction needs.
    pub needed: u64,
}

/// The key pair for signing modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The private key.
    pub key: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// The key is there.
    pub has_key: bool,
    /// The certificate is there.
    pub has_certificate: bool,
    /// Other users can read the key.
    pub exposed: bool,
    /// What is wrong with the content of one of them.
    pub damaged: Option<String>,
}

/// Builds for a kernel that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The kernel.
    pub target: Target,
    /// The modules that are built for it.
    pub modules: BTreeSet<ModuleId>,
}

/// What the next automatic run would do for one kernel.
#[derive(Debug)]
pub struct Prospects {
    /// The kernel.
    pub target: Target,
    /// Every version of every module.
    pub modules: Vec<(ModuleId, Prospect)>,
    /// What installs the kernel's headers.
    pub package: HeadersPackage,
    /// Build tools that are not installed.
    pub tools: Vec<String>,
    /// modules.dep lacks installed modules.
    pub index_outdated: bool,
    /// The versions that are installed.
    pub installed: BTreeSet<ModuleId>,
    /// What cannot be installed before another finding is dealt with: something has the name of a directory or file.
    pub blocked: BTreeSet<ModuleId>,
    /// The same for modules.dep.
    pub index_blocked: bool,
}

impl Prospects {
    /// The version of a module that the next automatic run would install.
    pub fn coming(&self, name: &ModuleName) -> Option<&ModuleId> {
        let planned = |prospect: &Prospect| matches!(prospect, Prospect::Build(_) | Prospect::Install(_));
        let versions = self.modules.iter().filter(|(id, prospect)| id.name == *name && planned(prospect));
        let versions = versions.map(|(id, _)| id);
        versions.max_by(|a, b| version::compare(a.version.as_str(), b.version.as_str()))
    }
}
