//! Package managers, as far as a program that is started by their scripts must distinguish them. One row each.

/// One package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manager {
    /// Its programs, and front ends.
    pub programs: &'static [&'static str],
    /// Variables in the environment of its scripts if the manager, or a front end, may read their standard output.
    pub variables: &'static [&'static str],
    /// A variable with the root directory of its packages, if the scripts run outside of it.
    pub other_root: Option<&'static str>,
    /// How it calls a script that removes a version of a package because another version replaces it.
    pub replacing: Option<Script>,
    /// Its triggers at the end of a transaction, which report modules that wait for kernel headers.
    pub triggers: Option<Triggers>,
}

/// A script of a package, recognized by its command line: `INTERPRETER SCRIPT ARGUMENT…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    /// A variable in its environment, with its value.
    pub variable: Option<(&'static str, &'static str)>,
    /// Only the parent process is examined, not the processes above it.
    pub parent_only: bool,
    /// The pattern of the script's file name.
    pub name: FileName,
    /// The meaning of the next argument.
    pub argument: Argument,
}

/// A pattern of the file name of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileName {
    /// `prerm`, `PACKAGE.prerm`
    Suffix(&'static str),
    /// `rpm-tmp.7IYq0N`
    Prefix(&'static str),
}

/// The meaning of the first argument of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// One of these words.
    Word(&'static [&'static str]),
    /// The number of remaining versions of the package: more than zero.
    VersionsRemaining,
}

/// Triggers that run at the end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Triggers {
    /// The option that turns them off.
    pub off: &'static str,
}

/// All rows.
pub const MANAGERS: &[Manager] = &[
    // dpkg, with debconf.
    Manager {
        programs: &[
            "apt",
            "apt-get",
            "aptitude",
            "unattended-upgrade",
            "unattended-upgrades",
            "synaptic",
            "packagekitd",
            "dpkg",
        ],
        variables: &["DPKG_MAINTSCRIPT_NAME", "DEBIAN_HAS_FRONTEND", "DEBCONF_REDIR", "DEB_MAINT_PARAMS"],
        other_root: Some("DPKG_ROOT"),
        replacing: Some(Script {
            variable: Some(("DPKG_MAINTSCRIPT_NAME", "prerm")),
            parent_only: false,
            name: FileName::Suffix("prerm"),
            argument: Argument::Word(&["upgrade", "failed-upgrade", "deconfigure"]),
        }),
        triggers: None,
    },
    // A `%post` that removes leftovers of an earlier installation matches, too. This is harmless: it adds the module
    // again immediately.
    Manager {
        programs: &[
            "rpm",
            "dnf",
            "dnf-3",
            "dnf5",
            "dnf5daemon-server",
            "microdnf",
            "yum",
            "zypper",
            "zypp-rpm",
            "packagekitd",
        ],
        variables: &[],
        other_root: None,
        replacing: Some(Script {
            variable: None,
            parent_only: true,
            name: FileName::Prefix("rpm-tmp."),
            argument: Argument::VersionsRemaining,
        }),
        triggers: Some(Triggers { off: "--notriggers" }),
    },
    Manager { programs: &["pacman"], variables: &[], other_root: None, replacing: None, triggers: None },
    // Its scripts run in a sandbox, where the processes above are not visible. Builders of images set the variable, too.
    Manager {
        programs: &["rpm-ostree"],
        variables: &["SYSTEMD_OFFLINE"],
        other_root: None,
        replacing: None,
        triggers: None,
    },
];

/// The default path of pacman's database.
pub const PACMAN_DATABASE: &str = "/var/lib/pacman";
