//! The outcome for one module, and its consequences: [`Outcome::class`] is the one place that distinguishes outcomes,
//! and [`Class::follows`] the one table of their consequences.

use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// The outcome for one module. Expected results are values, not errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was added to the DKMS tree.
    Registered,
    /// It was removed from the DKMS tree.
    Unregistered,
    /// It was built, as requested.
    Built {
        /// How long the build took.
        seconds: f64,
    },
    /// Its build was imported from a tarball.
    Loaded,
    /// Its build is in a tarball, and the existing one was kept.
    Present,
    /// It was installed for the kernel.
    Installed {
        /// Whether it was built for this; otherwise an existing build was used.
        built: bool,
        /// How long the build took.
        seconds: f64,
        /// Remarks, for example that it is unsigned or that a script failed.
        notes: Vec<String>,
        /// The URL of the store that the build is from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        store: Option<String>,
    },
    /// It was up to date.
    UpToDate,
    /// A native package has installed it for the kernel.
    Packaged {
        /// The package, as a sentence.
        why: String,
    },
    /// It was removed from the kernel's module directory.
    Uninstalled,
    /// Its build was deleted.
    Unbuilt,
    /// It remains installed without a source until its successor is verified.
    Kept,
    /// Its dkms.conf excludes this kernel.
    Excluded {
        /// The rule, as a sentence.
        why: String,
    },
    /// The kernel provides it in this or a newer version.
    Native {
        /// The version, as a sentence.
        why: String,
    },
    /// It can be done later.
    Deferred {
        /// What is missing.
        why: String,
        /// What to do.
        advice: String,
        /// The same in typed form. Stored as the corresponding exit code.
        #[serde(rename = "code")]
        waits: Waits,
    },
    /// The request cannot be carried out.
    Refused {
        /// Why.
        why: String,
        /// What to do.
        advice: String,
        /// The kind of refusal.
        code: Exit,
    },
    /// It failed.
    Failed(Failing),
}

/// What a deferred module waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(from = "Exit", into = "Exit")]
pub enum Waits {
    /// The kernel's headers, which may be installed later in the same transaction.
    Headers,
    /// Another module, which is missing or failed.
    Dependency,
    /// Another module, which may be configured later in this run: nothing has failed.
    Turn,
    /// Tools for building for this kernel.
    Tools,
    /// A temporary failure of the machine: memory, space. The command exits with the code of the step that failed.
    Machine(Exit),
}

impl From<Waits> for Exit {
    fn from(waits: Waits) -> Self {
        match waits {
            Waits::Headers => Self::NO_HEADERS,
            Waits::Dependency => Self::NEEDS_OTHER,
            Waits::Turn => Self::SUCCESS,
            Waits::Tools => Self::BUILD_FAILED,
            Waits::Machine(exit) => exit,
        }
    }
}

impl From<Exit> for Waits {
    /// From the stored form. A failure of the machine whose code is that of another reason is read as that reason.
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::NO_HEADERS => Self::Headers,
            Exit::NEEDS_OTHER => Self::Dependency,
            Exit::SUCCESS => Self::Turn,
            Exit::BUILD_FAILED => Self::Tools,
            other => Self::Machine(other),
        }
    }
}

/// A failure, with everything that is needed to diagnose it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failing {
    /// What failed, as one line.
    pub why: String,
    /// What to do; empty if the errors are sufficient.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub advice: Box<str>,
    /// The first errors of the compiler: `file:line: message`.
    pub errors: Vec<String>,
    /// The full log, if there is one.
    pub log: Option<String>,
    /// The same inputs failed before; it was not retried.
    pub remembered: bool,
    /// Its kernel or its module is not installed: no command of a user retries it. Not stored: they may be installed later.
    #[serde(skip)]
    pub absent: bool,
    /// What remains installed for this kernel, and for others.
    pub remaining: String,
    /// The cause of the failure. Not stored: a stored failure is the module's, or no longer relevant.
    #[serde(skip)]
    pub fault: Fault,
    /// The exit code for it.
    pub code: Exit,
}

impl Failing {
    /// A failure without further details.
    pub fn new(fault: Fault, code: Exit, why: String) -> Self {
        Self {
            why,
            advice: "".into(),
            errors: Vec::new(),
            log: None,
            remembered: false,
            absent: false,
            remaining: String::new(),
            fault,
            code,
        }
    }

    /// Adds advice.
    pub fn advice(self, advice: impl Into<Box<str>>) -> Self {
        Self { advice: advice.into(), ..self }
    }
}

/// The cause of a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// The module: its source, dkms.conf or scripts. It will fail again with the same inputs.
    #[default]
    Module,
    /// The machine, temporarily: no space, no memory, a missing program, an exceeded limit.
    Machine,
    /// Unknown: retried after the next boot, or when a user requests it.
    Unknown,
    /// dkms: the build could not be installed.
    Dkms,
}

impl Fault {
    /// Whether it is recorded, and not retried until an input changes.
    pub fn lasts(self) -> bool {
        match self {
            Self::Module | Self::Unknown => true,
            Self::Machine | Self::Dkms => false,
        }
    }
}

/// The classes of outcomes, with the data that their consequences depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Only the DKMS tree changed.
    Registry,
    /// A module was built.
    Built,
    /// The module is installed for the kernel.
    Installed,
    /// The module is no longer installed for the kernel.
    Removed,
    /// Nothing had to be done.
    UpToDate,
    /// The dkms.conf excludes this kernel.
    Excluded,
    /// The kernel provides the module.
    ProvidedByKernel,
    /// It can be done later.
    Deferred(Waits),
    /// It cannot be done.
    Refused(Exit),
    /// It failed now.
    Failed(Fault, Exit),
    /// It failed before with the same inputs, and was not retried.
    KnownToFail(Exit),
}

/// The consequences of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follows {
    /// The exit code of a command with this as its only outcome.
    pub command: Exit,
    /// The exit code of `autoinstall`, and of hooks whose package manager continues.
    pub autoinstall: Exit,
    /// The exit code of a hook that can stop the package manager, for a critical module.
    pub critical: Exit,
    /// How serious the outcome is for the kernel, or the command.
    pub severity: Severity,
    /// The summary's counter, if it is counted.
    pub count: Option<Count>,
    /// Whether it causes an entry in the history.
    pub history: History,
}

/// How serious an outcome is, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The result is as intended.
    Fine,
    /// The kernel intentionally does not get the module.
    LeftOut,
    /// The kernel does not have the module yet.
    Waiting,
    /// The request failed.
    Wrong,
}

/// Whether an outcome causes an entry in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum History {
    /// No: nothing was done.
    No,
    /// Only together with other changes.
    WithChanges,
    /// Always.
    Yes,
}

/// The counters of the summary, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// Installed.
    Installed,
    /// Built.
    Built,
    /// Nothing to do.
    UpToDate,
    /// Uninstalled, or its build deleted.
    Removed,
    /// Provided by the kernel.
    Provided,
    /// Excluded.
    Excluded,
    /// Waiting.
    Deferred,
    /// Failed.
    Failed,
}

impl Count {
    /// The text in the summary.
    pub fn words(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Built => "built",
            Self::UpToDate => "up to date",
            Self::Removed => "removed",
            Self::Provided => "provided by the kernel",
            Self::Excluded => "excluded by dkms.conf",
            Self::Deferred => "deferred",
            Self::Failed => "FAILED",
        }
    }

    /// Whether a kernel with only this counter has no line in the summary.
    pub fn quiet(self) -> bool {
        match self {
            Self::UpToDate | Self::Provided | Self::Excluded => true,
            Self::Installed | Self::Built | Self::Removed | Self::Deferred | Self::Failed => false,
        }
    }
}

impl Outcome {
    /// The class of the outcome.
    pub fn class(&self) -> Class {
        match self {
            Self::Registered | Self::Unregistered | Self::Kept | Self::Loaded | Self::Present => {
                Class::Registry
            }
            Self::Built { .. } => Class::Built,
            Self::Installed { .. } => Class::Installed,
            Self::Uninstalled | Self::Unbuilt => Class::Removed,
            Self::UpToDate | Self::Packaged { .. } => Class::UpToDate,
            Self::Excluded { .. } => Class::Excluded,
            Self::Native { .. } => Class::ProvidedByKernel,
            Self::Deferred { waits, .. } => Class::Deferred(*waits),
            Self::Refused { code, .. } => Class::Refused(*code),
            Self::Failed(Failing { remembered: true, code, .. }) => Class::KnownToFail(*code),
            Self::Failed(Failing { remembered: false, fault, code, .. }) => Class::Failed(*fault, *code),
        }
    }

    /// The consequences of the outcome.
    pub fn follows(&self) -> Follows {
        self.class().follows()
    }

    /// Whether it is a failure.
    pub fn failed(&self) -> bool {
        self.follows().severity == Severity::Wrong
    }
}

impl Class {
    /// The table of consequences.
    #[rustfmt::skip] // one row a class
    pub fn follows(self) -> Follows {
        use {Count as C, History as H, Severity as S, Waits as W};
        const DONE: Exit = Exit::SUCCESS;
        const FAIL: Exit = Exit::AUTOINSTALL_FAILED;
        const LATER: Exit = Exit::NO_HEADERS;
        let row = |command, autoinstall, critical, severity, count, history| {
            Follows { command, autoinstall, critical, severity, count, history }
        };
        match self {
            //                                       a command              autoinstall  critical
            Self::Registry               => row(DONE,                  DONE,  DONE, S::Fine,    None,                H::Yes),
            Self::Built                  => row(DONE,                  DONE,  DONE, S::Fine,    Some(C::Built),      H::Yes),
            Self::Installed              => row(DONE,                  DONE,  DONE, S::Fine,    Some(C::Installed),  H::Yes),
            Self::Removed                => row(DONE,                  DONE,  DONE, S::Fine,    Some(C::Removed),    H::Yes),
            Self::UpToDate               => row(DONE,                  DONE,  DONE, S::Fine,    Some(C::UpToDate),   H::No),
            Self::ProvidedByKernel       => row(Exit::NEWER_IN_KERNEL, DONE,  DONE, S::Fine,    Some(C::Provided),   H::No),
            Self::Excluded               => row(Exit::EXCLUDED,        DONE,  FAIL, S::LeftOut, Some(C::Excluded),   H::No),
            // Headers may be installed later in the same transaction.
            Self::Deferred(W::Headers)   => row(W::Headers.into(),     LATER, DONE, S::Waiting, Some(C::Deferred),   H::Yes),
            Self::Deferred(W::Turn)      => row(W::Turn.into(),        DONE,  FAIL, S::Waiting, Some(C::Deferred),   H::Yes),
            Self::Deferred(W::Dependency)=> row(W::Dependency.into(),  FAIL,  FAIL, S::Waiting, Some(C::Deferred),   H::Yes),
            Self::Deferred(W::Tools)     => row(W::Tools.into(),       LATER, FAIL, S::Waiting, Some(C::Deferred),   H::Yes),
            Self::Deferred(W::Machine(exit)) => row(exit,              LATER, FAIL, S::Waiting, Some(C::Deferred),   H::Yes),
            Self::Refused(exit)          => row(exit,                  FAIL,  FAIL, S::Wrong,   None,                H::WithChanges),
            Self::Failed(Fault::Module | Fault::Machine | Fault::Unknown | Fault::Dkms, exit)
                                         => row(exit,                  FAIL,  FAIL, S::Wrong,   Some(C::Failed),     H::Yes),
            Self::KnownToFail(exit)      => row(exit,                  FAIL,  FAIL, S::Wrong,   Some(C::Failed),     H::No),
        }
    }
}
