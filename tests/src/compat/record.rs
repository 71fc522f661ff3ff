//! What came of one trial, as it is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Side, packages::Package};
use crate::host;

/// Counts up when a trial does or notes something else: older records are then made again.
const FORMAT: u32 = 2;

/// One package on one side.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Binary package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Why it could not be tried at all: apt's own words.
    pub unavailable: Option<String>,
    /// Its modules, and before them those of packages that it depends on.
    pub modules: Vec<Module>,
    /// `dkms status`, sorted.
    pub status: Vec<String>,
    /// Module files that the kernel's tree has more than before, by path.
    pub files: BTreeMap<String, Modinfo>,
    /// Module files of the kernel's tree that are no longer at their places.
    pub gone: Vec<String>,
    /// The registry: type, path and link target of all that is neither the copy of a source nor our own.
    #[serde(default)]
    pub tree: Vec<String>,
    /// Seconds of all builds and installs.
    pub seconds: f64,
}

/// Among the fields: imported symbols with their CRCs.
pub const IMPORTS: &str = "(imports)";
/// Among the fields: SHA-256 of the file, decompressed and without signature.
pub const BYTES: &str = "(bytes)";

/// What `modinfo` says: a field may have several values, which are sorted.
pub type Modinfo = BTreeMap<String, Vec<String>>;

/// One source tree.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Module {
    /// Directory below `/usr/src`.
    pub source: String,
    /// `name/version`, when it could be added.
    pub id: String,
    /// Whether the package under trial brings it.
    pub own: bool,
    /// Exit codes of `dkms add`, `dkms build`, `dkms install`; none when it did not come to that.
    pub exits: [Option<i32>; 3],
    /// What the build printed.
    pub said: String,
    /// What the install printed.
    pub install_said: String,
    /// The build's log.
    pub log: String,
}

/// The fate of a module, as its exit codes tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Built and installed.
    Built,
    /// Not for this kernel, by its own dkms.conf.
    Excluded,
    /// The build, or adding or installing it, failed.
    Failed,
    /// The time limit struck.
    Endless,
}

impl Module {
    /// From the exit codes.
    pub fn verdict(&self) -> Verdict {
        match self.exits {
            [Some(0), Some(0), Some(0)] => Verdict::Built,
            [Some(0), Some(77), _] => Verdict::Excluded,
            exits if exits.contains(&Some(124)) => Verdict::Endless,
            _ => Verdict::Failed,
        }
    }
}

impl Record {
    /// The worst verdict of the package's own modules, in words.
    pub fn verdict(&self) -> String {
        if self.unavailable.is_some() {
            return "not there".to_owned();
        }
        let worst = self.modules.iter().filter(|m| m.own).map(Module::verdict).max();
        match worst {
            Some(Verdict::Built) => "built",
            Some(Verdict::Excluded) => "excluded",
            Some(Verdict::Failed) => "failed",
            Some(Verdict::Endless) => "endless",
            None => "no source",
        }
        .to_owned()
    }

    /// One line for who watches.
    pub fn line(&self) -> String {
        let (files, seconds) = (self.files.len(), self.seconds);
        format!("{} {}: {}, {files} files, {seconds:.0} s", self.package, self.version, self.verdict())
    }

    /// Reads a record that an earlier run left.
    pub fn load(file: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// Keeps it; a reader sees the whole of it or nothing.
    pub fn store(&self, file: &Path) {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let draft = file.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec_pretty(self).unwrap()).unwrap();
        std::fs::rename(draft, file).unwrap();
    }
}

/// Where the record of these inputs lies.
pub fn file(side: Side, package: &Package, kernel: &str, dkms: &str) -> PathBuf {
    let name = format!("{}_{}_{kernel}_{dkms}.{FORMAT}.json", package.name, package.version);
    host::roots_dir().join("compat").join(side.name()).join(name.replace('/', "-"))
}

#[cfg(test)]
mod tests {
    use super::{Module, Verdict};

    #[test]
    fn exit_codes_are_verdicts() {
        let verdict = |exits| Module { exits, ..Module::default() }.verdict();
        assert_eq!(verdict([Some(0), Some(0), Some(0)]), Verdict::Built);
        assert_eq!(verdict([Some(0), Some(77), Some(77)]), Verdict::Excluded);
        assert_eq!(verdict([Some(0), Some(10), None]), Verdict::Failed);
        assert_eq!(verdict([Some(0), Some(0), Some(6)]), Verdict::Failed);
        assert_eq!(verdict([Some(8), None, None]), Verdict::Failed);
        assert_eq!(verdict([Some(0), Some(124), None]), Verdict::Endless);
    }
}
