//! How it ended for one module, and what follows from that: [`Outcome::class`] is the one place that tells the ends
//! apart, and [`Class::follows`] the one table of what each of them means.

use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// How it ended for one module. Expected ends are values, not errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It is in the DKMS tree now.
    Registered,
    /// It is no longer in the DKMS tree.
    Unregistered,
    /// It was built, and that was all that was wanted.
    Built {
        /// How long the build took.
        seconds: f64,
    },
    /// Its build came in a tarball, and is in the DKMS tree now.
    Loaded,
    /// Its build came in a tarball, and the one that was there stays.
    Present,
    /// It was put into the kernel's tree.
    Installed {
        /// Whether it was built for that; otherwise a finished build was used.
        built: bool,
        /// How long the build took.
        seconds: f64,
        /// Remarks: that it is not signed, that a script failed.
        notes: Vec<String>,
    },
    /// It was as it should be already.
    UpToDate,
    /// It was taken out of the kernel's tree.
    Uninstalled,
    /// Its build was deleted.
    Unbuilt,
    /// It stays installed without a source until its successor is proven.
    Kept,
    /// Its dkms.conf excludes this kernel.
    Excluded {
        /// The rule, as a sentence.
        why: String,
    },
    /// The kernel has it itself, in this version or a newer one.
    Native {
        /// Which, as a sentence.
        why: String,
    },
    /// It will be possible later.
    Deferred {
        /// What is missing.
        why: String,
        /// What to do.
        advice: String,
        /// The same for programs. It is stored as the exit code that it stands for.
        #[serde(rename = "code")]
        waits: Waits,
    },
    /// What was asked for cannot be done.
    Refused {
        /// Why.
        why: String,
        /// What to do.
        advice: String,
        /// What kind of refusal it is.
        code: Exit,
    },
    /// It was tried and failed.
    Failed(Failing),
}

/// What a deferred module waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Exit", into = "Exit")]
pub enum Waits {
    /// The kernel's headers, which may be installed later in the same transaction.
    Headers,
    /// Another module, which is missing or failed.
    Dependency,
    /// Another module, which may just not have had its turn yet: nothing has gone wrong.
    Turn,
    /// Tools that builds for this kernel need.
    Tools,
    /// What this machine could not do for now: memory, space. A command ends with the code of the step that failed.
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
    /// As it was stored. A machine's trouble whose code is that of another reason is read as that reason.
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

/// A failure, with what a person needs at two in the morning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failing {
    /// What failed, as one line.
    pub why: String,
    /// What to do; empty when the errors say it.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub advice: Box<str>,
    /// The first errors of the compiler: `file:line: message`.
    pub errors: Vec<String>,
    /// The full log, where there is one.
    pub log: Option<String>,
    /// The same inputs failed before; nothing was tried again.
    pub remembered: bool,
    /// What serves this kernel now, and the others.
    pub remaining: String,
    /// Whose fault it is. Not stored: what was stored was the module's, or is over.
    #[serde(skip)]
    pub fault: Fault,
    /// The exit code for it.
    pub code: Exit,
}

impl Failing {
    /// A failure of which nothing else is known.
    pub fn new(fault: Fault, code: Exit, why: String) -> Self {
        Self {
            why,
            advice: "".into(),
            errors: Vec::new(),
            log: None,
            remembered: false,
            remaining: String::new(),
            fault,
            code,
        }
    }

    /// With what to do.
    pub fn advice(self, advice: impl Into<Box<str>>) -> Self {
        Self { advice: advice.into(), ..self }
    }
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// The module's: its source, its dkms.conf or its scripts. With the same inputs it fails again.
    #[default]
    Module,
    /// The machine's, for now: no space, no memory, a missing program, a limit that was reached.
    Machine,
    /// That cannot be told: it is tried again after the next start of the machine, or when a person asks.
    Unknown,
    /// Ours: what was built could not be put in place.
    Dkms,
}

impl Fault {
    /// It is remembered, and not tried again until an input changes.
    pub fn lasts(self) -> bool {
        match self {
            Self::Module | Self::Unknown => true,
            Self::Machine | Self::Dkms => false,
        }
    }
}

/// The kinds of ends, with what decides about their consequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Only the DKMS tree changed.
    Registry,
    /// A build was made.
    Built,
    /// The module is in the kernel's tree.
    Installed,
    /// The module is no longer in the kernel's tree.
    Removed,
    /// There was nothing to do.
    UpToDate,
    /// The dkms.conf excludes this kernel.
    Excluded,
    /// The kernel has the module itself.
    ProvidedByKernel,
    /// It will be possible later.
    Deferred(Waits),
    /// It cannot be done.
    Refused(Exit),
    /// It was tried now.
    Failed(Fault, Exit),
    /// It failed before with the same inputs, and was not tried again.
    KnownToFail(Exit),
}

/// What follows from a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follows {
    /// The exit code of a command whose only outcome this is.
    pub command: Exit,
    /// The exit code of `autoinstall`, and of hooks after which the package manager goes on.
    pub autoinstall: Exit,
    /// The exit code of a hook that can stop the package manager, for a module that the admin cannot do without.
    pub critical: Exit,
    /// What the kernel, or the command, is left without.
    pub severity: Severity,
    /// Under which word the summary counts it.
    pub count: Option<Count>,
    /// Whether it earns its transaction a place in the history.
    pub history: History,
}

/// How bad an end is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All is as it should be.
    Fine,
    /// The kernel does not get the module, on purpose.
    LeftOut,
    /// The kernel does not have the module yet.
    Waiting,
    /// What was wanted did not happen.
    Wrong,
}

/// A place in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum History {
    /// Nothing was done, and nothing had to be.
    No,
    /// When something else was changed.
    WithChanges,
    /// In any case.
    Yes,
}

/// The words of the summary, in its order.
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
    /// The kernel's own.
    Provided,
    /// Excluded.
    Excluded,
    /// Waiting.
    Deferred,
    /// Failed.
    Failed,
}

impl Count {
    /// What the summary says.
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

    /// A kernel with nothing else has no line in the summary.
    pub fn quiet(self) -> bool {
        match self {
            Self::UpToDate | Self::Provided | Self::Excluded => true,
            Self::Installed | Self::Built | Self::Removed | Self::Deferred | Self::Failed => false,
        }
    }
}

impl Outcome {
    /// Which kind of end it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Registered | Self::Unregistered | Self::Kept | Self::Loaded | Self::Present => {
                Class::Registry
            }
            Self::Built { .. } => Class::Built,
            Self::Installed { .. } => Class::Installed,
            Self::Uninstalled | Self::Unbuilt => Class::Removed,
            Self::UpToDate => Class::UpToDate,
            Self::Excluded { .. } => Class::Excluded,
            Self::Native { .. } => Class::ProvidedByKernel,
            Self::Deferred { waits, .. } => Class::Deferred(*waits),
            Self::Refused { code, .. } => Class::Refused(*code),
            Self::Failed(Failing { remembered: true, code, .. }) => Class::KnownToFail(*code),
            Self::Failed(Failing { remembered: false, fault, code, .. }) => Class::Failed(*fault, *code),
        }
    }

    /// What follows from it.
    pub fn follows(&self) -> Follows {
        self.class().follows()
    }

    /// Something went wrong.
    pub fn failed(&self) -> bool {
        self.follows().severity == Severity::Wrong
    }
}

impl Class {
    /// The table.
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
