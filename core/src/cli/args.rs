//! The options of the command line: shell DKMS's, and some of our own.

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};

use super::action::Action;
use super::invocation::{CliWord, Invocation};
use super::pairs::Pairs;
use super::refuse;
use crate::distro::PackageFormat;
use crate::exit::Exit;
use crate::inventory::default_kernels;
use crate::kernel;
use crate::report::Screen;
use crate::session::Session;
use crate::types::Target;

/// How progress is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs: one JSON document a line
    Json,
}

/// Builds and installs out-of-tree kernel modules.
#[derive(Debug, Parser)]
#[command(name = "dkms", disable_version_flag = true, disable_help_flag = true, args_override_self = true)]
#[command(after_help = Action::help())]
pub struct Args {
    /// Action, and module/version, source directory, dkms.conf or tarball
    #[arg(value_name = "ACTION|MODULE")]
    words: Vec<String>,
    /// Module, or module/version
    #[arg(short = 'm', long = "module", value_name = "MODULE", action = ArgAction::Append)]
    #[arg(num_args = 0..=1, default_missing_value = "")]
    module: Vec<String>,
    /// Module version
    #[arg(short = 'v', value_name = "VERSION", action = ArgAction::Append)]
    #[arg(num_args = 0..=1, default_missing_value = "")]
    module_version: Vec<String>,
    /// Kernel release, or release/architecture; can be repeated
    #[arg(short = 'k', long = "kernelver", value_name = "KERNEL", action = ArgAction::Append)]
    #[arg(num_args = 0..=1, default_missing_value = "")]
    kernelver: Vec<String>,
    /// Architecture, or one for each kernel
    #[arg(short = 'a', long = "arch", value_name = "ARCH", action = ArgAction::Append)]
    #[arg(num_args = 0..=1, default_missing_value = "")]
    arch: Vec<String>,
    /// The targets that result from -k and -a
    #[arg(skip)]
    pub pairs: Pairs,
    /// The arguments that name action and module, in their order
    #[arg(skip)]
    arguments: Vec<CliWord>,
    /// Use this dkms.conf
    #[arg(short = 'c', value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// Print errors only
    #[arg(short = 'q', long = "quiet")]
    pub quiet: bool,
    /// Number of parallel jobs
    #[arg(short = 'j', value_name = "NUMBER")]
    pub jobs: Option<usize>,
    /// All kernels
    #[arg(long)]
    pub all: bool,
    /// Force, overriding checks
    #[arg(long)]
    pub force: bool,
    /// Install over a newer module of the kernel
    #[arg(long)]
    pub force_version_override: bool,
    /// Do not run depmod
    #[arg(long)]
    pub no_depmod: bool,
    /// Directory of the kernel headers
    #[arg(long, value_name = "DIR")]
    pub kernelsourcedir: Option<PathBuf>,
    /// DKMS tree [/var/lib/dkms]
    #[arg(long, value_name = "DIR")]
    pub dkmstree: Option<PathBuf>,
    /// Source tree [/usr/src]
    #[arg(long, value_name = "DIR")]
    pub sourcetree: Option<PathBuf>,
    /// Install tree [/lib/modules]
    #[arg(long, value_name = "DIR")]
    pub installtree: Option<PathBuf>,
    /// Use the system in this directory, with its programs, as an image that is prepared here
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Keep the new version when rpm removes the old package after installing the new one
    #[arg(long = "rpm_safe_upgrade")]
    pub rpm_safe_upgrade: bool,
    /// Print the plan as JSON; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
    /// Print progress as text, or as json: one document a line
    #[arg(long, value_name = "FORMAT", conflicts_with = "json", hide_possible_values = true)]
    pub progress: Option<Format>,
    /// Write the table of `status`, or the schedule of `timeline`, as an SVG picture to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "prometheus"])]
    pub svg: Option<PathBuf>,
    /// Output for Prometheus, as a textfile of its node exporter
    #[arg(long, conflicts_with = "json")]
    pub prometheus: bool,
    /// Number of transactions that `history` lists
    #[arg(short = 'n', value_name = "NUMBER")]
    pub number: Option<usize>,
    /// Repair what `doctor` finds, if that is safe
    #[arg(long)]
    pub fix: bool,
    /// Ask the package manager what it would install, and pre-build for that
    #[arg(long)]
    pub upcoming: bool,
    /// Check as if this certificate were enrolled; can be repeated
    #[arg(long, value_name = "FILE")]
    pub enrolled: Vec<PathBuf>,
    /// Check as if Secure Boot were on, or off, or on with a kernel of this configuration
    #[arg(long, value_name = "on|off|CONFIG")]
    pub secure_boot: Option<String>,
    /// Key of a store of builds
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Age of the builds that `store gc` deletes
    #[arg(long, value_name = "DAYS")]
    pub older_than: Option<u32>,
    /// Print the version
    #[arg(short = 'V', long)]
    pub version: bool,
    /// Override a variable of dkms.conf; can be repeated
    #[arg(long, value_name = "NAME=VALUE", action = ArgAction::Append)]
    pub directive: Vec<String>,
    /// Kernel configuration file, if it is not in the headers
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Kernel whose modules `match` installs for another kernel
    #[arg(long, value_name = "KERNEL", num_args = 0..=1, default_missing_value = "")]
    pub templatekernel: Option<String>,
    /// Tarball to write or to load
    #[arg(long, value_name = "FILE")]
    pub archive: Option<PathBuf>,
    /// Format of the package: deb, rpm, pacman or sysext [that of this distribution]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub format: Option<PackageFormat>,
    /// Directory for the package [.]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Make the package that depends on the one for the newest kernel
    #[arg(long)]
    pub meta: bool,
    /// Pack the builds without the source
    #[arg(long)]
    pub binaries_only: bool,
    /// Pack the source without builds
    #[arg(long)]
    pub source_only: bool,
    /// Install symbolic links to the built modules instead of copies
    #[arg(long)]
    pub symlink_modules: bool,
    /// Load modules after installing them for the running kernel
    #[arg(long)]
    pub modprobe_on_install: bool,
    /// For the boot service: fail for critical modules only, and load what was missing
    #[arg(long)]
    pub at_boot: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    debug: bool,
    /// Print build commands
    #[arg(long)]
    pub verbose: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    no_initrd: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    no_clean_kernel: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    no_prepare_kernel: bool,
    /// Print help
    #[arg(short = 'h', long, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

/// The values of an option, each with its position on the command line.
fn placed(matches: &ArgMatches, option: &str, values: &[String]) -> Vec<(usize, String)> {
    matches.indices_of(option).into_iter().flatten().zip(values.iter().cloned()).collect()
}

impl Args {
    /// Parses the command line.
    pub fn read() -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches()?;
        let mut args = Self::from_arg_matches(&matches)?;
        let mut arguments = Vec::new();
        for (option, values, kind) in [
            ("module", &args.module, CliWord::Module as fn(String) -> CliWord),
            ("module_version", &args.module_version, CliWord::Version),
            ("words", &args.words, CliWord::Word),
        ] {
            let placed = placed(&matches, option, values).into_iter();
            arguments.extend(placed.map(|(at, word)| (at, kind(word.trim().to_owned()))));
        }
        arguments.sort_by_key(|(at, _)| *at);
        args.arguments = arguments.into_iter().map(|(_, argument)| argument).collect();
        args.pairs = Pairs::new(
            &placed(&matches, "kernelver", &args.kernelver),
            &placed(&matches, "arch", &args.arch),
        );
        Ok(args)
    }

    /// Options that are accepted and have no effect.
    pub fn deprecated(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("--no-initrd", self.no_initrd),
            ("--no-clean-kernel", self.no_clean_kernel),
            ("--no-prepare-kernel", self.no_prepare_kernel),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(option, _)| option)
    }

    /// Options that do nothing for this action. A program that asked for JSON cannot read anything else.
    pub fn without_meaning(&self, screen: Screen, action: Action) -> Result<()> {
        let known = action.options();
        if self.json && !known.contains(&"json") {
            let instead = if known.contains(&"progress") { "; use --progress json" } else { "" };
            return refuse(Exit::ERROR, format!("--json is not supported by {action}{instead}"));
        }
        if self.progress_as_json() && !known.contains(&"progress") {
            return refuse(Exit::ERROR, format!("--progress is not supported by {action}"));
        }
        let given = [
            ("force", self.force),
            ("force_version_override", self.force_version_override),
            ("no_depmod", self.no_depmod),
            ("symlink_modules", self.symlink_modules),
            ("modprobe_on_install", self.modprobe_on_install),
            ("at_boot", self.at_boot),
            ("fix", self.fix),
            ("svg", self.svg.is_some()),
            ("prometheus", self.prometheus),
            ("number", self.number.is_some()),
            ("key", self.key.is_some()),
            ("older_than", self.older_than.is_some()),
            ("enrolled", !self.enrolled.is_empty()),
            ("secure_boot", self.secure_boot.is_some()),
            ("templatekernel", self.templatekernel.is_some()),
            ("archive", self.archive.is_some()),
            ("format", self.format.is_some()),
            ("out", self.out.is_some()),
            ("meta", self.meta),
            ("binaries_only", self.binaries_only),
            ("source_only", self.source_only),
        ];
        for (option, _) in given.iter().filter(|(option, given)| *given && !known.contains(option)) {
            // Scripts of packages pass options to actions that have ignored them for years.
            if screen.is_person() {
                let option = option.replace('_', "-");
                screen.alert(&format!("dkms: ignored: --{option} has no meaning for {action}"));
            }
        }
        Ok(())
    }

    /// A program reads progress.
    pub fn progress_as_json(&self) -> bool {
        self.progress == Some(Format::Json)
    }

    /// A module or kernels are named.
    pub fn asks_for_part(&self, invocation: &Invocation) -> bool {
        invocation.name.is_some() || invocation.version.is_some() || self.pairs.any()
    }

    /// The variables that `--directive` sets.
    pub fn directives(&self) -> Result<Vec<(String, String)>> {
        self.directive.iter().map(|word| directive(word)).collect()
    }

    /// Separates the action, which may be anywhere, from its operands.
    pub fn invocation(&self) -> Result<Invocation> {
        Invocation::new(&self.arguments)
    }

    /// The named kernels, else the running one; in a chroot or container, all installed ones.
    pub fn targets(&self, session: &Session) -> Result<Vec<Target>> {
        self.pairs.targets(|| default_kernels(session))
    }

    /// The same for an action that needs no kernel: in a chroot or container without a kernel, the running one.
    pub fn any_targets(&self, session: &Session) -> Result<Vec<Target>> {
        let default = || match default_kernels(session) {
            none if none.is_empty() => kernel::running().into_iter().collect(),
            some => some,
        };
        self.pairs.targets(default)
    }

    /// The kernel of an action that accepts only one.
    pub fn one_target(&self, session: &Session, action: Action) -> Result<Target> {
        if self.all {
            return refuse(Exit::NO_ALL, format!("--all is not supported by {action}"));
        }
        match self.targets(session)?.as_slice() {
            [target] => Ok(target.clone()),
            _ => refuse(Exit::ONE_KERNEL, format!("{action} accepts only one kernel: -k KERNEL")),
        }
    }

    /// The kernel of an action that requires one to be named.
    pub fn named_target(&self, session: &Session, action: Action) -> Result<Target> {
        if !self.all && !self.pairs.one_kernel() {
            return refuse(Exit::ONE_KERNEL, format!("{action} requires exactly one kernel: -k KERNEL"));
        }
        self.one_target(session, action)
    }

    /// The template kernel of `match`, with the architecture of the other kernel unless one is given.
    pub fn template(&self, target: &Target) -> Result<Target> {
        let word = self.templatekernel.as_deref().unwrap_or_default();
        if word.is_empty() {
            return refuse(
                Exit::ERROR,
                "match requires --templatekernel KERNEL, the kernel whose modules to install",
            );
        }
        let template = match word.split_once('/') {
            Some((kernel, arch)) => Target { kernel: kernel.parse()?, arch: arch.parse()? },
            None => Target { kernel: word.parse()?, arch: target.arch.clone() },
        };
        if template == *target {
            return refuse(
                Exit::SAME_KERNEL,
                format!("the template kernel and the kernel are the same: {}", target.kernel),
            );
        }
        Ok(template)
    }
}

/// One `NAME=VALUE`, or `NAME[INDEX]=VALUE`.
fn directive(word: &str) -> Result<(String, String)> {
    let name_and_value = word.split_once('=').filter(|(name, _)| {
        let (name, index) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((name, index)) => (name, index),
            None => (*name, "0"),
        };
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        name.starts_with(first)
            && name.chars().all(|c| first(c) || c.is_ascii_digit())
            && !index.is_empty()
            && index.chars().all(|c| c.is_ascii_digit())
    });
    match name_and_value {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => refuse(Exit::ERROR, format!("--directive {word:?} is not NAME=VALUE")),
    }
}
