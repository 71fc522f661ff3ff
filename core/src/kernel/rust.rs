//! What a module in Rust needs beyond one in C: a kernel with Rust, its compiled interface among the headers, and exactly
//! the compiler that made it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Config;

/// The compiled crates that every module in Rust is compiled against, in the headers' `rust` directory.
const CRATES: [&str; 2] = ["rust/libcore.rmeta", "rust/libkernel.rmeta"];

/// A kernel's support for modules in Rust.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RustSupport {
    /// The kernel was built without Rust.
    #[default]
    Off,
    /// The kernel was built with Rust, but its headers lack this file.
    NoMetadata(String),
    /// Modules can be built with this compiler, as `rustc --version` prints it; empty if the configuration does not
    /// name it.
    On(String),
}

/// What prevents a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// What is missing.
    pub why: String,
    /// What to do.
    pub advice: String,
}

impl RustSupport {
    /// Reads a configuration and the names of files among the headers.
    pub fn of(config: &Config, headers: &Path) -> Self {
        if !config.on("CONFIG_RUST") {
            return Self::Off;
        }
        match CRATES.into_iter().find(|name| !headers.join(name).is_file()) {
            Some(name) => Self::NoMetadata(name.to_owned()),
            None => Self::On(config.get("CONFIG_RUSTC_VERSION_TEXT").unwrap_or_default().to_owned()),
        }
    }

    /// Why a module in Rust cannot be built for this kernel with the installed compiler.
    pub fn lacks(&self, kernel: &str, installed: Option<&str>) -> Option<Lack> {
        let (why, advice) = match (self, installed) {
            (Self::Off, _) => (
                format!(
                    "a module in Rust needs a kernel with Rust; {kernel} was built without (CONFIG_RUST)"
                ),
                "use a kernel that was built with CONFIG_RUST=y".to_owned(),
            ),
            (Self::NoMetadata(name), _) => (
                format!("a module in Rust needs {name}, which the headers of {kernel} do not contain"),
                "use a kernel whose headers contain the directory rust, or ask your distribution to add it"
                    .to_owned(),
            ),
            (Self::On(needed), None) => (
                "rustc is not installed, and the module is written in Rust".to_owned(),
                format!("install {}, then run `dkms autoinstall -k {kernel}`", named(needed)),
            ),
            // The compiler reads only metadata of its own version.
            (Self::On(needed), Some(installed)) if !needed.is_empty() && installed != needed => (
                format!("the kernel was built with {needed}; {installed} cannot read its Rust metadata"),
                format!("install {}, then run `dkms autoinstall -k {kernel}`", named(needed)),
            ),
            (Self::On(_), Some(_)) => return None,
        };
        Some(Lack { why, advice })
    }
}

/// `rustc 1.97.1` of `rustc 1.97.1 (8bab26f4f 2026-07-14)`.
fn named(version: &str) -> String {
    let words: Vec<&str> = version.split_whitespace().take(2).collect();
    if words.is_empty() { "rustc".to_owned() } else { words.join(" ") }
}

/// Whether a source file is the root of a module in Rust: all of them use the crate `kernel`.
pub fn is_module(content: &[u8]) -> bool {
    memchr::memmem::find(content, b"kernel::").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file;

    #[test]
    fn each_missing_prerequisite_is_named() {
        const OURS: &str = "rustc 1.97.1 (8bab26f4f 2026-07-14) (built from a source tarball)";
        let config = format!("CONFIG_RUST=y\nCONFIG_RUSTC_VERSION_TEXT=\"{OURS}\"\n");
        for (config, files, installed, expected) in [
            ("CONFIG_RUSTC_VERSION_TEXT=\"rustc 1.97.1\"\n", &CRATES[..], Some(OURS), Some("CONFIG_RUST)")),
            (config.as_str(), &[], Some(OURS), Some("rust/libcore.rmeta")),
            (&config, &CRATES[..1], Some(OURS), Some("rust/libkernel.rmeta")),
            (&config, &CRATES, None, Some("install rustc 1.97.1, then")),
            (&config, &CRATES, Some("rustc 1.85.0 (x)"), Some("rustc 1.85.0 (x) cannot read")),
            // The same version of another build has other metadata.
            (&config, &CRATES, Some("rustc 1.97.1 (8bab26f4f 2026-07-14)"), Some("cannot read")),
            (&config, &CRATES, Some(OURS), None),
            ("CONFIG_RUST=y\n", &CRATES, Some("rustc 1.85.0 (x)"), None),
            ("CONFIG_RUST=y\n", &CRATES, None, Some("install rustc, then")),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for name in files {
                std::fs::create_dir_all(dir.path().join("rust")).unwrap();
                file::write_atomic(&dir.path().join(name), b"", 0o644).unwrap();
            }
            let lack = RustSupport::of(&Config::new(config), dir.path()).lacks("7.2.0", installed);
            let said = lack.map(|lack| format!("{}\n{}", lack.why, lack.advice));
            assert_eq!(said.is_some(), expected.is_some(), "{config} {files:?} {installed:?}: {said:?}");
            assert!(said.clone().unwrap_or_default().contains(expected.unwrap_or_default()), "{said:?}");
        }
    }

    #[test]
    fn a_program_in_rust_beside_the_module_is_no_module() {
        assert!(is_module(b"// SPDX\nuse kernel::prelude::*;\n"));
        assert!(!is_module(b"use std::io;\nfn main() { println!(\"kernel\"); }\n"));
        assert!(!is_module(b""));
    }
}
