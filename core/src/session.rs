//! One run of dkms: paths, policy, options and somebody who reads along.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::kernel::Kernel;
use crate::layout::Layout;
use crate::policy::{ALLOW, Framework, Policy};
use crate::report::Screen;
use crate::sys::jobs::Machine;
use crate::sys::{environment, file};
use crate::types::{ModuleId, ModuleName, Target};

/// Options of one run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Options {
    /// Parallel jobs; `None`: as framework.conf says, else as many as there are processors for us.
    pub jobs: Option<usize>,
    /// Do not run depmod.
    pub no_depmod: bool,
    /// Where the headers are, in place of the kernel's own directory.
    pub headers: Option<PathBuf>,
    /// The kernel's configuration, in place of the one in its headers.
    pub config: Option<PathBuf>,
    /// Variables of dkms.conf that are set after it was read.
    pub directives: Vec<(String, String)>,
    /// Put links into the kernel's tree, not copies.
    pub symlink_modules: bool,
    /// Load modules for this machine's devices after installing for the running kernel.
    pub modprobe: bool,
    /// Show the commands that build.
    pub verbose: bool,
    /// The dkms.conf to use in place of the source's own.
    pub conf: Option<PathBuf>,
    /// Install over a newer module of the kernel.
    pub force_version: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// What a run works with.
#[derive(Debug)]
pub struct Session {
    /// All paths.
    pub layout: Layout,
    /// What distribution and admin decided.
    pub policy: Policy,
    /// Options.
    pub options: Options,
    /// Where words go.
    pub screen: Screen,
    /// Modules that were asked for by name.
    pub asked: Vec<ModuleId>,
    /// What is in the admin's directory: each module asks for half a dozen names, and most machines have none of them.
    admin_names: OnceLock<BTreeSet<OsString>>,
}

impl Session {
    /// Starts a run. `place` may move the trees after framework.conf has.
    pub fn start(screen: Screen, options: Options, place: impl FnOnce(&mut Layout)) -> Result<Self> {
        // What we make must be readable for others, and writable for nobody else, whoever calls us: confined builds
        // walk through our directories, and status needs no root.
        file::set_umask();
        let mut layout = Layout::default();
        let framework = Framework::load(&mut layout)?;
        place(&mut layout);
        let policy = Policy::load(&layout, framework, &environment::variable(ALLOW).unwrap_or_default());
        let session = Self::new(layout, policy, options, screen);
        for broken in [&session.policy.framework.broken, &session.policy.admin.broken].into_iter().flatten() {
            session.screen.alert(&format!("dkms: {broken}"));
        }
        Ok(session)
    }

    /// A run with these, where nothing has to be read from the system first.
    pub fn new(layout: Layout, policy: Policy, options: Options, screen: Screen) -> Self {
        Self { layout, policy, options, screen, asked: Vec::new(), admin_names: OnceLock::new() }
    }

    /// Looks at a kernel, headers and configuration where the options say.
    pub fn kernel(&self, target: &Target) -> Result<Kernel> {
        let Options { headers, config, .. } = &self.options;
        Kernel::load(&self.layout, &self.policy.row, target, headers.as_deref(), config.as_deref())
    }

    /// Whether the admin's directory has something of that name.
    pub fn admin_has(&self, name: &str) -> bool {
        let read = || {
            let entries = std::fs::read_dir(self.layout.config()).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).collect()
        };
        self.admin_names.get_or_init(read).contains(OsStr::new(name))
    }

    /// Whether the admin has turned automatic builds off; tells the user when that is so.
    pub fn autoinstall_off(&self) -> bool {
        let switch = self.layout.no_autoinstall();
        let off = switch.exists();
        if off {
            self.screen
                .progress(&format!("dkms: automatic builds are disabled ({} exists)", switch.display()));
        }
        off
    }

    /// Whether links to the built modules are installed in place of copies.
    pub fn symlink_modules(&self) -> bool {
        self.options.symlink_modules || self.policy.framework.symlink_modules
    }

    /// Whether modules for this machine's devices are loaded after installing for the running kernel.
    pub fn modprobe(&self) -> bool {
        self.options.modprobe || self.policy.framework.modprobe_on_install
    }

    /// How many jobs may run at once: as asked for, and no more than the machine bears.
    pub fn jobs(&self) -> usize {
        Machine::look().budget(self.options.jobs.or(self.policy.framework.parallel_jobs))
    }

    /// Files that no build may read: the private keys that modules of this kernel are signed with.
    pub fn secrets(&self, target: &Target) -> Vec<PathBuf> {
        let (own, _) = self.policy.row.mok;
        let configured = self.policy.framework.signing_key(target).map(PathBuf::from);
        configured.into_iter().chain([self.layout.keys.join(own)]).collect()
    }

    /// Finished builds that are kept for later.
    pub fn cache(&self) -> Cache {
        Cache::new(self.layout.cache(), self.policy.admin.cache_bytes())
    }

    /// How long one step of a module's build may take.
    pub fn build_limit(&self, module: &ModuleName) -> Duration {
        Duration::from_secs(60 * self.policy.admin.build_minutes(module))
    }
}
