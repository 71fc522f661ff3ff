//! The actions of `dkms`, defined once: parser, dispatch, permission check, help, completion and the test of the manual
//! page all use this definition. A new action does not compile until each of them handles it.

use std::fmt;

use clap::ValueEnum;

use crate::exit::Exit;

/// The actions of `dkms`. The help prints these comments, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Action {
    /// Add a module to the DKMS tree
    Add,
    /// Build a module for a kernel
    Build,
    /// Install a module for a kernel
    Install,
    /// Remove a module from a kernel; keep its build
    Uninstall,
    /// Remove a module from a kernel, and its build
    Unbuild,
    /// Remove a module's builds, and the module from the DKMS tree
    Remove,
    /// List modules and their state
    Status,
    /// Build and install all modules for a kernel
    Autoinstall,
    /// Check whether a kernel would load installed modules or module files
    Check,
    /// Check whether modules build for kernels or packages that are not installed yet
    Preflight,
    /// Show whether modules build for kernels that the package manager would install
    Upcoming,
    /// Called before a kernel is installed
    KernelPreinst,
    /// Called after a kernel was installed
    KernelPostinst,
    /// Called before a kernel is removed
    KernelPrerm,
    /// Generate a module signing key (MOK)
    GenerateMok,
    /// List past transactions, or show the last one or another: history show [ID]
    History,
    /// Draw the schedule of the last transaction or another: timeline [ID]
    Timeline,
    /// Print the log of a module's last build
    Log,
    /// Explain the state of a module for each kernel, and what the next run does
    Why,
    /// Find what is wrong with this machine's modules, and repair it with --fix
    Doctor,
    /// Install for one kernel what is installed for another
    Match,
    /// Share builds between machines: store key, push, verify, gc, report
    Store,
    /// Pack a module into a tarball
    Mktarball,
    /// Add a module from a tarball
    Ldtarball,
    /// Pack a build into a native package, for machines without a compiler
    Mkpackage,
    /// The same as a Debian package
    #[value(alias = "mkbmdeb")]
    Mkdeb,
    /// The same as an rpm package
    Mkrpm,
}

/// The kind of words that can follow an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// Nothing: all modules.
    None,
    /// A module or source that is not in the DKMS tree yet, its directory, or a tarball.
    Source,
    /// Any module, in the DKMS tree or not, or a tarball.
    Module,
    /// A module in the DKMS tree.
    Added,
    /// Installed modules, or module files.
    AddedOrFiles,
    /// Kernels, or package files.
    KernelsOrFiles,
    /// A tarball.
    Tarball,
    /// `show` and a number.
    Show,
    /// The number of a transaction.
    Number,
    /// What to do with a store of builds, and its place.
    Store,
}

/// What an action changes, so that missing permissions are detected before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    /// Nothing in the DKMS tree, or the action checks permissions later.
    Nothing,
    /// Nothing in the DKMS tree, but it requires root.
    AsRoot,
    /// The DKMS tree.
    Tree,
    /// The DKMS tree and the kernels' modules.
    Kernels,
}

/// The properties of an action, apart from its implementation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// What can follow it.
    pub(super) operand: Operand,
    /// What it changes.
    pub(super) writes: Writes,
    /// It removes a part of a module.
    pub(super) withdraws: bool,
    /// Whether it supports `--dry-run`.
    pub(super) plans: bool,
    /// What a version that a user leaves out means.
    pub(super) version: Version,
    /// Whether the named kernels should be installed, or have builds. Else a name is a pattern, that of a kernel that is
    /// being installed or removed, or has no effect.
    pub(super) installed: bool,
}

/// What a version that a user leaves out means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// All versions, or the action needs none.
    All,
    /// The only one in the DKMS tree. If there are several, the error lists them.
    Only,
    /// An error that lists the versions of which there is a source.
    Required,
}

impl Action {
    /// The action of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::from_str(word, false).ok()
    }

    /// All actions, with their names and help texts.
    pub fn all() -> impl Iterator<Item = (String, String)> {
        Self::value_variants().iter().filter_map(Self::to_possible_value).map(|value| {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            (value.get_name().to_owned(), help)
        })
    }

    /// The list of actions for `--help`.
    pub fn help() -> String {
        let actions: Vec<(String, String)> = Self::all().collect();
        let width = actions.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines = actions.iter().map(|(name, help)| format!("\n  {name:width$}  {help}"));
        format!("Actions:{}", lines.collect::<String>())
    }

    /// The table of properties.
    #[rustfmt::skip] // one row an action
    pub(super) fn rules(self) -> Rules {
        use {Operand as O, Version as V, Writes as W};
        let row = |operand, writes, withdraws, plans, version, installed| {
            Rules { operand, writes, withdraws, plans, version, installed }
        };
        match self {
            //                         operand            writes     withdraws, --dry-run, version, kernels installed
            Self::Add            => row(O::Source,         W::Tree,    false, true,  V::Required, false),
            Self::Build          => row(O::Module,         W::Tree,    false, true,  V::Only,     true),
            Self::Install        => row(O::Module,         W::Kernels, false, true,  V::Only,     true),
            Self::Uninstall      => row(O::Added,          W::Kernels, true,  true,  V::Only,     true),
            Self::Unbuild        => row(O::Added,          W::Tree,    true,  true,  V::Only,     true),
            Self::Remove         => row(O::Added,          W::Tree,    true,  true,  V::Only,     true),
            Self::Status         => row(O::Added,          W::Nothing, false, true,  V::All,      false),
            Self::Autoinstall    => row(O::None,           W::Kernels, false, true,  V::All,      true),
            Self::Check          => row(O::AddedOrFiles,   W::Nothing, false, true,  V::All,      true),
            Self::Preflight      => row(O::KernelsOrFiles, W::AsRoot,  false, true,  V::All,      false),
            Self::Upcoming       => row(O::None,           W::Nothing, false, false, V::All,      false),
            Self::KernelPreinst  => row(O::None,           W::Kernels, false, true,  V::All,      false),
            Self::KernelPostinst => row(O::None,           W::Kernels, false, true,  V::All,      false),
            Self::KernelPrerm    => row(O::None,           W::Kernels, false, true,  V::All,      false),
            Self::GenerateMok    => row(O::None,           W::Nothing, false, false, V::All,      false),
            Self::History        => row(O::Show,           W::Nothing, false, true,  V::All,      false),
            Self::Timeline       => row(O::Number,         W::Nothing, false, false, V::All,      false),
            Self::Log            => row(O::Added,          W::Nothing, false, false, V::All,      true),
            Self::Why            => row(O::Added,          W::Nothing, false, false, V::All,      true),
            Self::Doctor         => row(O::None,           W::Nothing, false, false, V::All,      false),
            Self::Match          => row(O::Added,          W::Kernels, false, true,  V::All,      true),
            Self::Store          => row(O::Store,          W::Nothing, false, true,  V::All,      false),
            Self::Mktarball      => row(O::Added,          W::Nothing, false, false, V::Only,     true),
            Self::Ldtarball      => row(O::Tarball,        W::Nothing, false, true,  V::All,      false),
            Self::Mkpackage | Self::Mkdeb | Self::Mkrpm
                                 => row(O::Added,          W::Nothing, false, false, V::Only,     true),
        }
    }
}

impl Action {
    /// The options that have a meaning for the action, by their names in [`Args`](super::args::Args).
    pub(super) fn options(self) -> Vec<&'static str> {
        const MODULE: [&str; 2] = ["module", "module_version"];
        const KERNEL: [&str; 2] = ["kernelver", "arch"];
        const TREES: [&str; 4] = ["root", "dkmstree", "sourcetree", "installtree"];
        const BUILD: [&str; 8] =
            ["conf", "jobs", "force", "kernelsourcedir", "config", "directive", "verbose", "progress"];
        const INSTALL: [&str; 4] =
            ["no_depmod", "symlink_modules", "modprobe_on_install", "force_version_override"];
        let groups: &[&[&'static str]] = match self {
            Self::Add => &[&MODULE, &KERNEL, &["conf", "force", "archive", "rpm_safe_upgrade", "dry_run"]],
            Self::Build => &[&MODULE, &KERNEL, &BUILD, &["archive", "dry_run"]],
            Self::Install => {
                &[&MODULE, &KERNEL, &BUILD, &INSTALL, &["archive", "rpm_safe_upgrade", "dry_run"]]
            }
            Self::Uninstall | Self::Unbuild => &[&MODULE, &KERNEL, &["all", "no_depmod", "dry_run"]],
            Self::Remove => &[&MODULE, &KERNEL, &["all", "no_depmod", "rpm_safe_upgrade", "dry_run"]],
            Self::Status => &[&MODULE, &KERNEL, &["json", "prometheus", "svg"]],
            Self::Autoinstall => {
                &[&KERNEL, &["all", "jobs", "force", "verbose", "dry_run", "at_boot", "progress"], &INSTALL]
            }
            Self::Check => &[&MODULE, &KERNEL, &["enrolled", "secure_boot", "config", "json"]],
            Self::Preflight => &[&KERNEL, &["jobs", "verbose", "json", "progress", "upcoming"]],
            Self::Upcoming => &[&["json"]],
            Self::KernelPreinst | Self::KernelPostinst | Self::KernelPrerm => &[&KERNEL, &["dry_run"]],
            Self::GenerateMok => &[],
            Self::History => &[&["json", "number"]],
            Self::Timeline => &[&["svg"]],
            Self::Log => &[&MODULE, &KERNEL],
            Self::Why => &[&MODULE, &KERNEL, &["json"]],
            Self::Doctor => &[&["fix", "json"]],
            Self::Match => {
                &[&KERNEL, &["templatekernel", "jobs", "force", "verbose", "dry_run", "progress"], &INSTALL]
            }
            Self::Store => &[&["kernelver", "key", "older_than", "json", "dry_run"]],
            Self::Mktarball => {
                &[&MODULE, &KERNEL, &["all", "archive", "binaries_only", "source_only", "conf"]]
            }
            Self::Ldtarball => &[&["archive", "force", "dry_run"]],
            Self::Mkpackage | Self::Mkdeb | Self::Mkrpm => {
                &[&MODULE, &KERNEL, &["all", "format", "out", "meta", "binaries_only", "source_only"]]
            }
        };
        groups.iter().copied().flatten().chain(&TREES).chain(&["quiet", "help"]).copied().collect()
    }
}

impl Operand {
    /// What follows the action, in its usage.
    pub(super) fn usage(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Source => " MODULE/VERSION|DIRECTORY|TARBALL",
            Self::Module | Self::Added => " MODULE/VERSION",
            Self::AddedOrFiles => " [MODULE|FILE.ko]",
            Self::KernelsOrFiles => " KERNEL|PACKAGE-FILE...",
            Self::Tarball => " TARBALL",
            Self::Show => " [show [ID]]",
            Self::Number => " [ID]",
            Self::Store => " key|push|verify|gc|report DIRECTORY|URL",
        }
    }
    /// Whether a tarball can be given instead of a module.
    pub(super) fn takes_tarball(self) -> bool {
        match self {
            Self::Source | Self::Module | Self::Tarball => true,
            Self::None
            | Self::Added
            | Self::AddedOrFiles
            | Self::KernelsOrFiles
            | Self::Show
            | Self::Number
            | Self::Store => false,
        }
    }

    /// Whether more than one word can follow.
    pub(super) fn takes_many(self) -> bool {
        match self {
            Self::KernelsOrFiles | Self::Show | Self::Number | Self::Store => true,
            Self::None | Self::Source | Self::Module | Self::Added | Self::AddedOrFiles | Self::Tarball => {
                false
            }
        }
    }

    /// The exit code for a module that cannot exist.
    pub(super) fn unknown(self) -> Exit {
        match self {
            Self::Source | Self::Module => Exit::NO_SOURCE,
            Self::None
            | Self::Added
            | Self::AddedOrFiles
            | Self::KernelsOrFiles
            | Self::Tarball
            | Self::Show
            | Self::Number
            | Self::Store => Exit::NOT_ADDED,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_dkms_and_are_written_out() {
        let names: Vec<String> = Action::all().map(|(name, _)| name).collect();
        for name in ["add", "kernel_postinst", "generate_mok", "ldtarball"] {
            assert!(names.iter().any(|known| known == name), "{name}");
            assert_eq!(Action::named(name).unwrap().to_string(), name);
        }
        for word in ["", "Add", "ADD", "ad", "kernel-postinst", "complete"] {
            assert_eq!(Action::named(word), None, "{word}");
        }
    }

    #[test]
    fn the_help_has_a_line_for_each() {
        let help = Action::help();
        for (name, what) in Action::all() {
            assert!(!what.is_empty(), "{name} has no help");
            assert!(help.lines().any(|line| line.trim().starts_with(&format!("{name} "))), "{name}\n{help}");
        }
    }
}
