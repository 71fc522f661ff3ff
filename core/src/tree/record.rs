//! What we note beside shell DKMS's tree about builds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::types::Fingerprint;

/// A finished build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Everything that went into it.
    pub fingerprint: Fingerprint,
    /// Where its files were published; empty while it is only built.
    #[serde(default)]
    pub installed: Vec<Installed>,
    /// Who signed its modules; `None` when nobody did; [`unsigned`] of who should have, when that did not work.
    #[serde(default)]
    pub signer: Option<String>,
    /// How long the build took, in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// It came in a tarball: nobody here knows what went into it, and nothing has proven yet that the kernel takes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loaded: bool,
}

const DID_NOT: &str = " (did not sign)";

impl Record {
    /// Of a build of which nobody knows what went into it.
    pub fn unknown(installed: Vec<Installed>) -> Self {
        Self { fingerprint: Fingerprint(String::new()), installed, signer: None, seconds: 0.0, loaded: false }
    }
}

/// What is noted when a signer could not sign: nobody tries again by himself, but a person can.
pub fn unsigned(signer: &str) -> String {
    format!("{signer}{DID_NOT}")
}

/// Whether this note says so.
pub fn is_unsigned(signer: &str) -> bool {
    signer.ends_with(DID_NOT)
}

/// One published module file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Its path.
    pub path: PathBuf,
    /// The SHA-256 of what we put there; empty when that is not what is built now.
    pub sha256: String,
}

/// A failed build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Everything that went into it.
    pub fingerprint: Fingerprint,
    /// What failed, as one line.
    pub why: String,
    /// The first errors of the compiler.
    #[serde(default)]
    pub errors: Vec<String>,
    /// The whole log.
    pub log: PathBuf,
    /// The exit code that shell DKMS documents for it.
    pub code: Exit,
    /// Hash of the programs that ran, beside those that are part of the fingerprint.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment: String,
    /// What lay over the system when it was tried before a transaction: it is believed only where all of that is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// The boot in which it was tried, where it is not certain that the module is to blame: in another one it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_the_released_program_remembered_is_read_and_written_as_it_was() {
        // Version 0.1.0 wrote this. Never change it: add another one.
        let frozen = r#"{"fingerprint":"f","why":"compiling failed (exit code 2)","errors":["a.c:1: x"],"log":"/log","code":10}"#;
        let failure: Failure = serde_json::from_str(frozen).unwrap();
        assert_eq!(failure.code, Exit::BUILD_FAILED);
        assert_eq!(serde_json::to_string(&failure).unwrap(), frozen);
    }
}
