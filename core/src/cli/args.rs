//! What can stand on the command line: shell DKMS's options, and a few of ours.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Parser;

use super::{refuse, running};
use crate::kernel;
use crate::types::{Arch, ModuleId, Target};

/// Builds and installs kernel modules that are not part of the kernel, for every kernel.
#[derive(Debug, Parser)]
#[command(name = "dkms", disable_version_flag = true, args_override_self = true)]
#[command(
    after_help = "Actions: add, build, install, uninstall, unbuild, remove, status, check, autoinstall, \
    kernel_preinst, kernel_postinst, kernel_prerm, generate_mok, history [show ID]"
)]
pub struct Args {
    /// Action, and module/version, source directory or dkms.conf
    #[arg(value_name = "ACTION|MODULE")]
    words: Vec<String>,
    /// Module, or module/version
    #[arg(short = 'm', long = "module", value_name = "MODULE")]
    module: Option<String>,
    /// Module version
    #[arg(short = 'v', value_name = "VERSION")]
    module_version: Option<String>,
    /// Kernel release, or release/architecture; may be given several times
    #[arg(short = 'k', long = "kernelver", value_name = "KERNEL", action = clap::ArgAction::Append)]
    pub kernelver: Vec<String>,
    /// Architecture
    #[arg(short = 'a', long = "arch", value_name = "ARCH", action = clap::ArgAction::Append)]
    pub arch: Vec<String>,
    /// Another dkms.conf
    #[arg(short = 'c', value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// Say only what went wrong
    #[arg(short = 'q', long = "quiet")]
    pub quiet: bool,
    /// Parallel jobs
    #[arg(short = 'j', value_name = "NUMBER")]
    pub jobs: Option<usize>,
    /// Every kernel
    #[arg(long)]
    pub all: bool,
    /// Do it again, or against advice
    #[arg(long)]
    pub force: bool,
    /// Install over a newer module of the kernel
    #[arg(long)]
    pub force_version_override: bool,
    /// Leave the kernel's module index alone
    #[arg(long)]
    pub no_depmod: bool,
    /// Where the kernel's headers are
    #[arg(long, value_name = "DIR")]
    pub kernelsourcedir: Option<PathBuf>,
    /// The registry
    #[arg(long, value_name = "DIR")]
    pub dkmstree: Option<PathBuf>,
    /// Module sources
    #[arg(long, value_name = "DIR")]
    pub sourcetree: Option<PathBuf>,
    /// Kernel modules
    #[arg(long, value_name = "DIR")]
    pub installtree: Option<PathBuf>,
    /// Keep the new version in place when the old package is removed after it
    #[arg(long = "rpm_safe_upgrade")]
    pub rpm_safe_upgrade: bool,
    /// Print the plan as JSON, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
    /// Check as if these certificates were the enrolled ones; may be given several times
    #[arg(long, value_name = "FILE")]
    pub enrolled: Vec<PathBuf>,
    /// Check as if Secure Boot were on, or off
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"], hide_possible_values = true)]
    pub secure_boot: Option<String>,
    /// Print the version
    #[arg(short = 'V', long)]
    pub version: bool,
    /// Not available yet
    #[arg(long, hide = true)]
    directive: Vec<String>,
    /// Not available yet
    #[arg(long, hide = true)]
    config: Option<PathBuf>,
    /// Not available yet
    #[arg(long, hide = true)]
    templatekernel: Option<String>,
    /// Not available yet
    #[arg(long, hide = true)]
    archive: Option<PathBuf>,
    /// Not available yet
    #[arg(long, hide = true)]
    binaries_only: bool,
    /// Not available yet
    #[arg(long, hide = true)]
    source_only: bool,
    /// Not available yet
    #[arg(long, hide = true)]
    symlink_modules: bool,
    /// Not available yet
    #[arg(long, hide = true)]
    modprobe_on_install: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    debug: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    verbose: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    no_initrd: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    no_clean_kernel: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    no_prepare_kernel: bool,
}

pub(super) const ACTIONS: &[&str] = &[
    "add",
    "build",
    "install",
    "uninstall",
    "unbuild",
    "remove",
    "status",
    "autoinstall",
    "check",
    "kernel_preinst",
    "kernel_postinst",
    "kernel_prerm",
    "generate_mok",
    "history",
    "match",
    "mktarball",
    "ldtarball",
];

/// The words that are no options.
#[derive(Debug)]
pub struct Words {
    /// The action.
    pub action: String,
    /// The others.
    pub rest: Vec<String>,
}

impl Words {
    /// A source directory among the words; a dkms.conf stands for its directory.
    pub fn source(&self, args: &Args) -> Option<PathBuf> {
        if args.module.is_some() {
            return None;
        }
        let path = Path::new(self.rest.first()?);
        if path.is_file() && path.ends_with("dkms.conf") {
            return Some(
                path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned(),
            );
        }
        (path.is_dir() && path.join("dkms.conf").is_file()).then(|| path.to_owned())
    }
}

impl Args {
    /// Refuses options that shell DKMS has and we do not have yet: to ignore one would be to do something else than
    /// was asked for.
    pub fn refuse_missing(&self) -> Result<()> {
        let missing = [
            ("--directive", !self.directive.is_empty()),
            ("--config", self.config.is_some()),
            ("--templatekernel", self.templatekernel.is_some()),
            ("--archive", self.archive.is_some()),
            ("--binaries-only", self.binaries_only),
            ("--source-only", self.source_only),
            ("--symlink-modules", self.symlink_modules),
            ("--modprobe-on-install", self.modprobe_on_install),
        ];
        match missing.iter().find(|(_, given)| *given) {
            Some((option, _)) => refuse(1, format!("{option} is not available yet in this version")),
            None => Ok(()),
        }
    }

    /// Tells the action from the other words: it may stand anywhere.
    pub fn words(&self) -> Result<Words> {
        let is_action = |word: &&String| ACTIONS.contains(&word.as_str());
        let actions: Vec<&String> = self.words.iter().filter(is_action).collect();
        match actions.as_slice() {
            [action] => Ok(Words {
                action: (*action).clone(),
                rest: self.words.iter().filter(|word| word != action).cloned().collect(),
            }),
            [] if self.words.is_empty() => refuse(2, "no action given: dkms --help lists them"),
            [] => refuse(2, format!("{:?} is no action: dkms --help lists them", self.words[0])),
            [one, two, ..] => refuse(4, format!("only one action at a time: {one} or {two}")),
        }
    }

    /// The module as given by `-m`, `-v` or a bare word: name and, perhaps, version.
    pub fn module_words<'a>(&'a self, words: &'a Words) -> (Option<&'a str>, Option<&'a str>) {
        let word = self.module.as_deref().or(words.rest.first().map(String::as_str));
        let (name, version) = match word.and_then(|word| word.split_once('/')) {
            Some((name, version)) => (Some(name), Some(version)),
            None => (word, None),
        };
        (name, self.module_version.as_deref().or(version))
    }

    /// The one module that an action is about.
    pub fn module_id(&self, words: &Words) -> Result<ModuleId> {
        match self.module_words(words) {
            (Some(name), Some(version)) => Ok(ModuleId { name: name.parse()?, version: version.parse()? }),
            _ => refuse(1, format!("dkms {} needs a module and its version: module/version", words.action)),
        }
    }

    /// The kernels that were named, else the running one.
    pub fn targets(&self) -> Result<Vec<Target>> {
        if self.arch.len() > 1 && self.arch.len() != self.kernelver.len() {
            return refuse(1, "several architectures need as many kernels: -k KERNEL -a ARCH for each pair");
        }
        if self.kernelver.is_empty() {
            let mut target = running()?;
            if let Some(arch) = self.arch.first() {
                target.arch = arch.parse()?;
            }
            return Ok(vec![target]);
        }
        let arch = |index: usize| -> Result<Arch> {
            match self.arch.get(index).or(self.arch.first()) {
                Some(arch) => Ok(arch.parse()?),
                None => match kernel::machine() {
                    Some(arch) => Ok(arch),
                    None => refuse(12, "this machine's architecture is no valid name: give -a"),
                },
            }
        };
        let mut targets = Vec::new();
        for (index, word) in self.kernelver.iter().enumerate() {
            targets.push(match word.split_once('/') {
                Some((kernel, arch)) => Target { kernel: kernel.parse()?, arch: arch.parse()? },
                None => Target { kernel: word.parse()?, arch: arch(index)? },
            });
        }
        Ok(targets)
    }

    /// The one kernel of an action that knows only one.
    pub fn one_target(&self, action: &str) -> Result<Target> {
        if self.all {
            return refuse(5, format!("{action} does not know --all"));
        }
        match self.targets()?.as_slice() {
            [target] => Ok(target.clone()),
            _ => refuse(4, format!("{action} is for one kernel at a time")),
        }
    }

    /// The one kernel of an action that does not guess.
    pub fn named_target(&self, action: &str) -> Result<Target> {
        if self.kernelver.len() != 1 {
            return refuse(4, format!("{action} needs exactly one kernel: -k KERNEL"));
        }
        self.one_target(action)
    }
}
