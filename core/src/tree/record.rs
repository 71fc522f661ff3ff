//! Our records of builds, which are kept next to shell DKMS's tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::sys::hash::Digests;
use crate::types::{Fingerprint, ModuleName};

/// The record of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The hash of all its inputs.
    pub fingerprint: Fingerprint,
    /// Its published files; empty while it is only built.
    #[serde(default)]
    pub installed: Vec<Installed>,
    /// Its modules that are not installed, because the kernel has one of this name that must not be replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
    /// Other packages that have installed one of its modules as well.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shares: BTreeSet<ModuleName>,
    /// The signer of its modules; `None` if they are unsigned; [`unsigned`] with the expected signer if signing failed.
    #[serde(default)]
    pub signer: Option<String>,
    /// How long the build took, in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// It is from a tarball: its inputs are unknown, and it has not been verified that the kernel loads it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loaded: bool,
    /// The URL of the store of builds that it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Modules that a Makefile gave another file name than their own: by the name of the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub renamed: BTreeMap<String, String>,
    /// Files with which it was compiled, and which are no part of its source: they are no part of the fingerprint.
    #[serde(default, skip_serializing_if = "Digests::is_empty")]
    pub outside: Digests,
}

const DID_NOT: &str = " (did not sign)";

impl Record {
    /// The record of a build with unknown inputs.
    pub fn unknown(installed: Vec<Installed>) -> Self {
        Self {
            fingerprint: Fingerprint(String::new()),
            installed,
            withheld: Vec::new(),
            shares: BTreeSet::new(),
            signer: None,
            seconds: 0.0,
            loaded: false,
            store: None,
            renamed: BTreeMap::new(),
            outside: Digests::default(),
        }
    }
}

/// The recorded value if a signer could not sign: signing is not retried automatically, but on request.
pub fn unsigned(signer: &str) -> String {
    format!("{signer}{DID_NOT}")
}

/// Whether a recorded value is [`unsigned`].
pub fn is_unsigned(signer: &str) -> bool {
    signer.ends_with(DID_NOT)
}

/// One published module file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Its path.
    pub path: PathBuf,
    /// The SHA-256 of the file that was published; empty if it is not the current build.
    pub sha256: String,
}

/// The record of a failed build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The hash of all its inputs.
    pub fingerprint: Fingerprint,
    /// What failed, as one line.
    pub why: String,
    /// The first errors of the compiler.
    #[serde(default)]
    pub errors: Vec<String>,
    /// The full log.
    pub log: PathBuf,
    /// The exit code that shell DKMS documents for it.
    pub code: Exit,
    /// Hash of the programs that ran, except for those in the fingerprint.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment: String,
    /// The overlay of the pre-build: the record is valid only if all of it is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// The boot in which it failed, if the module may not be the cause: it is retried after another boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

/// How a module ended with headers that were only borrowed: what it will end with again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The hash of everything but the headers.
    pub inputs: String,
    /// Why its dkms.conf excludes it from the kernel; `None`: its failure is recorded.
    pub excluded: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_the_released_program_remembered_is_read_and_written_as_it_was() {
        // Written by version 0.1.0. Never change it: add another one.
        let frozen = r#"{"fingerprint":"f","why":"compiling failed (exit code 2)","errors":["a.c:1: x"],"log":"/log","code":10}"#;
        let failure: Failure = serde_json::from_str(frozen).unwrap();
        assert_eq!(failure.code, Exit::BUILD_FAILED);
        assert_eq!(serde_json::to_string(&failure).unwrap(), frozen);
    }
}
