//! One run of dkms: paths, policy, options and output.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::kernel::{self, FleetKey, Kernel};
use crate::layout::Layout;
use crate::policy::framework::ADDON_MODULES;
use crate::policy::{ALLOW, Framework, Policy, TrySign};
use crate::report::Screen;
use crate::sys::jobs::Machine;
use crate::sys::root::ENTERED;
use crate::sys::{environment, file};
use crate::types::{KernelRelease, ModuleId, ModuleName, Target};

/// Options of one run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Options {
    /// Parallel jobs; `None`: from framework.conf, else the number of available processors.
    pub jobs: Option<usize>,
    /// Do not run depmod.
    pub no_depmod: bool,
    /// The directory of the headers, instead of the kernel's own.
    pub headers: Option<PathBuf>,
    /// The kernel's configuration, instead of the one in its headers.
    pub config: Option<PathBuf>,
    /// Variables of dkms.conf that are set after it was read.
    pub directives: Vec<(String, String)>,
    /// Install links instead of copies.
    pub symlink_modules: bool,
    /// Load modules for this machine's devices after installing for the running kernel.
    pub modprobe: bool,
    /// Print the commands of the build.
    pub verbose: bool,
    /// The dkms.conf to use instead of the source's own.
    pub conf: Option<PathBuf>,
    /// Install over a newer module of the kernel.
    pub force_version: bool,
    /// Override the checks of an installation for all modules: `autoinstall --force` names none.
    pub force: bool,
    /// Compare the content of installed files with what was installed, not only their sizes.
    pub exact: bool,
    /// Print the plan, and change nothing.
    pub dry_run: bool,
    /// Work that can wait: it does not wait for another transaction, and ends when another one waits for it.
    pub gives_way: bool,
    /// Download nothing: the machine starts, and its network may need a module.
    pub offline: bool,
    /// Also count failures that this transaction has already reported: no other output follows.
    pub recap: bool,
    /// Variables of the user's environment for builds and for dkms.conf; never for programs that run as root.
    pub environment: Vec<(String, String)>,
}

/// The context of a run.
#[derive(Debug)]
pub struct Session {
    /// All paths.
    pub layout: Layout,
    /// The settings of the distribution and the admin.
    pub policy: Policy,
    /// Options.
    pub options: Options,
    /// The output.
    pub screen: Screen,
    /// This system is in a chroot or container.
    guest: bool,
    /// Modules that were requested by name.
    pub requested: Vec<ModuleId>,
    /// The names in the admin's directory: each module looks up several, and most machines have none of them.
    admin_names: OnceLock<BTreeSet<OsString>>,
}

/// A tree on a read-only file system.
#[derive(Debug)]
pub struct ReadOnly {
    tree: PathBuf,
    /// It is that of the kernels' modules.
    modules: bool,
    /// This is a system whose `/usr` is an image.
    image: bool,
}

impl ReadOnly {
    /// What is wrong, and what follows.
    pub fn what(&self) -> String {
        let follows =
            if self.modules { "no module can be installed" } else { "nothing can be registered or built" };
        format!("{} is read-only: {follows}", self.tree.display())
    }

    /// What to do.
    pub fn advice(&self) -> &'static str {
        match self.image {
            true => {
                "modules are part of this system's image: install their packages and the kernel headers where the image is \
                 built; for a trial until the next restart, run `ostree admin unlock` first"
            }
            false => "mount its file system writable, then run dkms again",
        }
    }
}

impl Session {
    /// The key of policy.toml whose signatures are kept.
    pub fn fleet_key(&self) -> Result<Option<FleetKey>> {
        self.policy.admin.store().signed_by.as_deref().map(FleetKey::load).transpose()
    }

    /// Starts a run. `place` may move the trees after framework.conf did.
    pub fn start(screen: Screen, options: Options, place: impl FnOnce(&mut Layout)) -> Result<Self> {
        // Files that dkms creates must be readable for all and writable only for root, whatever the caller's umask is:
        // sandboxed builds read our directories, and status does not need root.
        file::set_umask();
        let mut layout = Layout::default();
        let framework = Framework::load(&mut layout)?;
        let framework = framework.with_addon_modules(environment::variable(ADDON_MODULES).as_deref());
        place(&mut layout);
        let policy = Policy::load(&layout, framework, &environment::variable(ALLOW).unwrap_or_default());
        let guest = environment::is_set(ENTERED) || layout.guest_signs().is_guest();
        let session = Self { guest, ..Self::new(layout, policy, options, screen) };
        for broken in [&session.policy.framework.broken, &session.policy.admin.broken].into_iter().flatten() {
            session.screen.alert(&format!("dkms: {broken}"));
        }
        Ok(session)
    }

    /// A run with these values, without reading anything from the system.
    pub fn new(layout: Layout, policy: Policy, options: Options, screen: Screen) -> Self {
        Self {
            layout,
            policy,
            options,
            screen,
            guest: false,
            requested: Vec::new(),
            admin_names: OnceLock::new(),
        }
    }

    /// Whether this system is in a chroot or container: the running kernel is another system's.
    pub fn guest(&self) -> bool {
        self.guest
    }

    /// The running kernel, if it is one of this system.
    pub fn running(&self) -> Option<KernelRelease> {
        if self.guest { None } else { kernel::running() }
    }

    /// The tree that is on a read-only file system, if one is: the DKMS tree, or also that of the kernels' modules.
    pub fn read_only(&self, kernels: bool) -> Option<ReadOnly> {
        let trees = [Some(&self.layout.dkms_tree), kernels.then_some(&self.layout.install_tree)];
        let tree = trees.into_iter().flatten().find(|tree| file::on_read_only(tree))?.clone();
        let modules = tree == self.layout.install_tree;
        Some(ReadOnly { tree, modules, image: self.layout.ostree().exists() })
    }

    /// Whether modules are signed here.
    pub fn signs(&self) -> bool {
        match self.policy.framework.signing {
            TrySign::Never => false,
            TrySign::NotInChroot => !self.guest(),
            TrySign::Always | TrySign::Unset => true,
        }
    }

    /// Whether a missing key pair is generated. Not in an image by default: all its clones would share the private key.
    pub fn makes_key(&self) -> bool {
        let here = || self.policy.framework.signing == TrySign::Always || !self.guest();
        self.policy.distribution.makes_key && here()
    }

    /// Reads the facts about a kernel, with the options' headers and configuration.
    pub fn kernel(&self, target: &Target) -> Result<Kernel> {
        let Options { headers, config, .. } = &self.options;
        Kernel::load(&self.layout, &self.policy.distribution, target, headers.as_deref(), config.as_deref())
    }

    /// Whether the admin's directory contains this name.
    pub fn admin_has(&self, name: &str) -> bool {
        let read = || {
            let entries = std::fs::read_dir(self.layout.config()).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).collect()
        };
        self.admin_names.get_or_init(read).contains(OsStr::new(name))
    }

    /// Whether the admin has disabled automatic builds; if so, prints a message.
    pub fn autoinstall_off(&self) -> bool {
        let switch = self.layout.no_autoinstall();
        let off = switch.exists();
        if off {
            self.screen
                .progress(&format!("dkms: automatic builds are disabled ({} exists)", switch.display()));
        }
        off
    }

    /// Whether links to the built modules are installed instead of copies.
    pub fn symlink_modules(&self) -> bool {
        self.options.symlink_modules || self.policy.framework.symlink_modules
    }

    /// Whether modules for this machine's devices are loaded after installing for the running kernel.
    pub fn modprobe(&self) -> bool {
        self.options.modprobe || self.policy.framework.modprobe_on_install
    }

    /// Whether the commands of builds are printed.
    pub fn verbose(&self) -> bool {
        self.options.verbose || self.policy.framework.verbose
    }

    /// The number of parallel jobs: as requested, limited by what the machine supports.
    pub fn jobs(&self) -> usize {
        Machine::read().budget(self.options.jobs.or(self.policy.framework.parallel_jobs))
    }

    /// Files that no build may read: the private keys for signing this kernel's modules.
    pub fn secrets(&self, target: &Target) -> Vec<PathBuf> {
        let (own, _) = self.policy.distribution.mok;
        vec![self.key_pair(target).0.into(), self.layout.keys.join(own)]
    }

    /// Private key (a path, or a `pkcs11:` URI) and certificate for modules of a kernel: the admin's, else the kernel's own
    /// where the distribution uses it, else the distribution's.
    pub fn key_pair(&self, target: &Target) -> (String, PathBuf) {
        let Policy { framework, distribution, .. } = &self.policy;
        let configured = framework.signing_key(target);
        let kernels = || {
            let key = kernel::signing_key(&self.layout, &target.kernel)?;
            distribution.kernels_key.then(|| (key.display().to_string(), key))
        };
        if let Some(pair) = configured.is_none().then(kernels).flatten() {
            return pair;
        }
        let own = |path: &str| self.layout.keys.join(path).display().to_string();
        let (key, certificate) = distribution.mok;
        let certificate = framework.certificate(target).unwrap_or_else(|| own(certificate));
        (configured.unwrap_or_else(|| own(key)), certificate.into())
    }

    /// The cache of builds.
    pub fn cache(&self) -> Cache {
        Cache::new(self.layout.cache(), self.policy.admin.cache_bytes())
    }

    /// The time limit of one step of a module's build.
    pub fn build_limit(&self, module: &ModuleName) -> Duration {
        Duration::from_secs(60 * self.policy.admin.build_minutes(module))
    }
}
