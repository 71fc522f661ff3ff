//! Package managers, as far as a program that their scripts start has to tell them apart. One row each.

/// One package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manager {
    /// Variables in the environment of its scripts, when it or a front end of it may read their standard output.
    pub variables: &'static [&'static str],
    /// How it calls a script that removes a version of a package to make room for another one.
    pub replacing: Option<Script>,
    /// Its triggers at the end of a transaction, where they report what still waits for kernel headers.
    pub triggers: Option<Triggers>,
}

/// A script of a package, recognised by how it is called: `INTERPRETER SCRIPT ARGUMENT…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    /// A variable of its environment, with its value.
    pub variable: Option<(&'static str, &'static str)>,
    /// Only our parent counts, not the processes above it.
    pub parent_only: bool,
    /// The script's file name is this one, or ends with a dot and this, or begins with this.
    pub name: FileName,
    /// What the argument after it means.
    pub argument: Argument,
}

/// What the name of a script's file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileName {
    /// `prerm`, `PACKAGE.prerm`
    Suffix(&'static str),
    /// `rpm-tmp.7IYq0N`
    Prefix(&'static str),
}

/// What the first argument of a script says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// One of these words.
    Word(&'static [&'static str]),
    /// How many versions of the package will remain: more than none.
    VersionsRemaining,
}

/// Triggers that run at the end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Triggers {
    /// Programs that run them.
    pub programs: &'static [&'static str],
    /// The option that turns them off.
    pub off: &'static str,
}

/// All rows.
pub const MANAGERS: &[Manager] = &[
    // dpkg, with debconf.
    Manager {
        variables: &["DPKG_MAINTSCRIPT_NAME", "DEBIAN_HAS_FRONTEND", "DEBCONF_REDIR", "DEB_MAINT_PARAMS"],
        replacing: Some(Script {
            variable: Some(("DPKG_MAINTSCRIPT_NAME", "prerm")),
            parent_only: false,
            name: FileName::Suffix("prerm"),
            argument: Argument::Word(&["upgrade", "failed-upgrade", "deconfigure"]),
        }),
        triggers: None,
    },
    // A `%post` that removes what an earlier installation left matches, too, which does no harm: it adds again at once.
    Manager {
        variables: &[],
        replacing: Some(Script {
            variable: None,
            parent_only: true,
            name: FileName::Prefix("rpm-tmp."),
            argument: Argument::VersionsRemaining,
        }),
        triggers: Some(Triggers {
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
            off: "--notriggers",
        }),
    },
];

/// Where pacman has its database, unless it was called with another one.
pub const PACMAN_DATABASE: &str = "/var/lib/pacman";
