//! dkms.conf: text → [`RawConf`] (bash's result for one kernel; computed [`native`]ly if that is certain) → [`Recipe`]
//! (checked, ready to build).

pub mod bash;
pub mod evaluate;
pub mod exclusive;
pub mod native;
mod recipe;
#[cfg(test)]
mod recipe_tests;
pub mod script_dir;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use recipe::{ModuleSpec, Recipe, Scripts};

use crate::layout::Layout;
use crate::types::{ModuleId, Target};

/// Why a dkms.conf cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ConfError {
    /// The file does not exist or cannot be read.
    #[error("{}: {why}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        why: String,
    },
    /// The file violates one or more rules.
    #[error("{}: {}", file.display(), problems.join("; "))]
    Bad {
        /// The file.
        file: PathBuf,
        /// Every violated rule.
        problems: Vec<String>,
    },
}

/// The values that a dkms.conf gives for one kernel: variable → index → value. A plain variable has index 0;
/// arrays may have gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawConf {
    /// The values.
    pub values: BTreeMap<String, BTreeMap<usize, String>>,
    /// Indices of `MAKE_MATCH` that match the kernel release, as bash's regular expressions.
    pub make_matches: Vec<usize>,
    /// Indices of `PATCH_MATCH` that match.
    pub patch_matches: Vec<usize>,
    /// Whether `BUILD_EXCLUSIVE_KERNEL` matches; true when it is not set.
    pub kernel_matches: bool,
    /// Whether `BUILD_EXCLUSIVE_ARCH` matches; true when it is not set.
    pub arch_matches: bool,
    /// Indices above 0 of `BUILD_EXCLUSIVE_KERNEL` that are set and do not match: rules for single modules.
    #[serde(default)]
    pub kernel_misses: Vec<usize>,
    /// The same of `BUILD_EXCLUSIVE_ARCH`.
    #[serde(default)]
    pub arch_misses: Vec<usize>,
    /// Error messages of the commands that the file runs.
    #[serde(default)]
    pub said: Vec<String>,
}

impl RawConf {
    /// A plain variable, or an array's first element; empty when unset.
    pub fn get(&self, name: &str) -> &str {
        self.at(name, 0)
    }
    /// An array's element; empty when unset.
    pub fn at(&self, name: &str, index: usize) -> &str {
        self.values.get(name).and_then(|values| values.get(&index)).map_or("", String::as_str)
    }
    /// An array's set elements with their indices.
    pub fn all(&self, name: &str) -> impl Iterator<Item = (usize, &str)> {
        self.values.get(name).into_iter().flatten().map(|(index, value)| (*index, value.as_str()))
    }
    /// The values with white space replaced by single spaces, as shell DKMS passes them on: `PRE_BUILD` of zfs is a
    /// command with each option on a separate line, which a shell would read as several commands.
    pub fn single_lines(&self) -> Self {
        let mut single = self.clone();
        for value in single.values.values_mut().flat_map(BTreeMap::values_mut) {
            *value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        }
        single
    }
}

/// The environment of an evaluation: a dkms.conf may use all of it.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// All paths.
    pub layout: &'a Layout,
    /// The module as named in the DKMS tree.
    pub module: &'a ModuleId,
    /// The kernel.
    pub target: &'a Target,
    /// The headers' directory, whether it exists or not.
    pub headers: &'a Path,
    /// Identity of the headers, so that a stored evaluation is not used for others.
    pub identity: &'a str,
    /// The directory of all modules below a kernel's directory, if it is not that of their dkms.conf.
    pub destination: Option<&'a str>,
    /// The admin's override files, read after it in this order.
    pub overrides: &'a [PathBuf],
    /// Variables that are set after the files were read.
    pub directives: &'a [(String, String)],
    /// Variables of the user's environment.
    pub environment: &'a [(String, String)],
}
