//! Exit codes. DKMS documents a number for most ends of a command, and scripts test them: they are an interface. This
//! is the only place that writes them as numbers.
//!
//! DKMS uses some numbers with several meanings, which depend on the action. Each meaning has its own name here.

use std::fmt;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// The exit code of a command: one of the table, a script's own status, or 128 plus the number of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Exit(i32);

macro_rules! table {
    ($($name:ident = $number:literal: $meaning:literal,)*) => {
        impl Exit {
            $(#[doc = $meaning] pub const $name: Self = Self($number);)*

            /// The whole table: each code with its meaning.
            pub const TABLE: &'static [(Self, &'static str)] = &[$((Self::$name, $meaning),)*];
        }
    };
}

table! {
    SUCCESS = 0: "Everything that was asked for was done, or had been done before.",
    ERROR = 1: "The command is wrong, or an error that the message explains.",
    NO_ACTION = 2: "No action is given, or what follows it means nothing.",
    NO_SOURCE = 2: "The source directory or the tarball is not there.",
    ALL_AND_KERNEL = 2: "--all and a kernel exclude each other.",
    SAME_KERNEL = 2: "A kernel cannot be its own template.",
    ALREADY_ADDED = 3: "The module is already in the DKMS tree.",
    NOT_ADDED = 3: "The module is not in the DKMS tree.",
    ALL_AND_ARCH = 3: "--all and an architecture exclude each other.",
    BAD_TARBALL = 3: "The tarball is damaged, or not one of a DKMS module.",
    HELD = 3: "A hook: the transaction must not begin.",
    BROKEN = 4: "The source of the module, the link to it or its dkms.conf is gone.",
    MANY_ACTIONS = 4: "More than one action is given.",
    ONE_KERNEL = 4: "The action needs exactly one kernel.",
    NO_ALL = 5: "The action does not support --all.",
    NO_PATCH = 5: "A patch is missing.",
    NO_KERNEL = 6: "The kernel is not installed.",
    NEWER_IN_KERNEL = 6: "The kernel has the module itself, in this version or a newer one.",
    NOT_INSTALLED = 6: "The module could not be installed.",
    PATCH_FAILED = 6: "A patch does not apply.",
    NOT_BUILT = 6: "The module is not built for the kernel that the tarball is to have it for.",
    TARBALL_FAILED = 6: "The tarball's compression is not known, or it could not be written.",
    WOULD_NOT_LOAD = 7: "The kernel would not load what was built, or the build did not make the module.",
    OTHER_MODULE = 7: "The tarball holds another module than its name says.",
    BAD_CONF = 8: "The dkms.conf cannot be used.",
    TARBALL_OF_ADDED = 8: "The module in the tarball is already in the DKMS tree.",
    CONTRADICTION = 8: "Two options exclude each other.",
    NO_TARBALL = 9: "The file is a package and not a tarball.",
    UNWRITABLE = 9: "The directory of the tarball cannot be written to.",
    BUILD_FAILED = 10: "The build failed, or a tool that it needs is missing.",
    AUTOINSTALL_FAILED = 11: "autoinstall, preflight or a hook: at least one module is not there.",
    NO_RUNNING_KERNEL = 12: "The running kernel or the machine architecture has an invalid name.",
    NEEDS_OTHER = 13: "A module that this one depends on is missing or failed.",
    EMPTY_VALUE = 16: "An option that names a kernel or an architecture has no value.",
    FOUND = 20: "doctor: something is wrong that was not repaired.",
    NO_HEADERS = 21: "The kernel's headers are not installed.",
    EXCLUDED = 77: "The dkms.conf excludes this kernel.",
    PRE_INSTALL = 101: "The PRE_INSTALL script failed.",
}

impl Exit {
    /// The number.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The command succeeded.
    pub const fn is_success(self) -> bool {
        self.0 == Self::SUCCESS.0
    }

    /// The exit code of a command that ends with the status of a module's script.
    pub const fn of_script(status: i32) -> Self {
        Self(status)
    }

    /// The exit code of a command that was ended by a signal.
    pub fn of_signal(signal: usize) -> Self {
        Self(i32::try_from(signal).map_or(Self::ERROR.0, |signal| 128 + signal))
    }

    /// 1 if `wrong`, for commands that answer a question.
    pub fn error_if(wrong: bool) -> Self {
        if wrong { Self::ERROR } else { Self::SUCCESS }
    }
}

impl From<Exit> for ExitCode {
    /// A value that no process can exit with is an error, never a success.
    fn from(exit: Exit) -> Self {
        u8::try_from(exit.0).map_or(Self::FAILURE, Self::from)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_too_large_for_a_process_is_no_success() {
        let shown = |exit: Exit| format!("{:?}", ExitCode::from(exit));
        assert_eq!(shown(Exit::of_script(256)), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(shown(Exit::of_signal(15)), format!("{:?}", ExitCode::from(143)));
        assert_eq!(shown(Exit::SUCCESS), format!("{:?}", ExitCode::SUCCESS));
    }

    #[test]
    fn the_table_is_in_the_order_of_its_numbers_and_has_a_sentence_for_each() {
        assert!(Exit::TABLE.is_sorted_by_key(|(exit, _)| *exit), "{:?}", Exit::TABLE);
        assert!(Exit::TABLE.iter().all(|(_, meaning)| meaning.ends_with('.')));
    }
}
