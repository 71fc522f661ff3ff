//! The stored result of one trial.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Side, packages::Package};
use crate::host;

/// Increased when a trial changes: older records are then repeated.
const FORMAT: u32 = 2;

/// One package on one side.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Binary package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Why it could not be installed: apt's error.
    pub unavailable: Option<String>,
    /// Its modules, after those of its dependencies.
    pub modules: Vec<Module>,
    /// `dkms status`, sorted.
    pub status: Vec<String>,
    /// Module files that were added to the kernel's directory, by path.
    pub files: BTreeMap<String, Modinfo>,
    /// Module files of the kernel's directory that were removed.
    pub gone: Vec<String>,
    /// The DKMS tree: type, path and link target of everything except for copies of sources and our own files.
    #[serde(default)]
    pub tree: Vec<String>,
    /// Seconds of all builds and installs.
    pub seconds: f64,
}

/// Among the fields: imported symbols with their CRCs.
pub const IMPORTS: &str = "(imports)";
/// Among the fields: SHA-256 of the file, decompressed and without signature.
pub const BYTES: &str = "(bytes)";

/// Exit codes of the test's time limit: after SIGTERM, and after SIGKILL.
const STRUCK: [i32; 2] = [124, 137];

/// The output of `modinfo`: a field may have several values, which are sorted.
pub type Modinfo = BTreeMap<String, Vec<String>>;

/// One source tree.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Module {
    /// Directory below `/usr/src`.
    pub source: String,
    /// `name/version`, when it could be added.
    pub id: String,
    /// Whether the package under test contains it.
    pub own: bool,
    /// Exit codes of `dkms add`, `dkms build`, `dkms install`; `None` if it was not run.
    pub exits: [Option<i32>; 3],
    /// What the build printed.
    pub said: String,
    /// What the install printed.
    pub install_said: String,
    /// The build's log.
    pub log: String,
}

/// The result for a module, from its exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Built and installed.
    Built,
    /// Excluded for this kernel by its dkms.conf.
    Excluded,
    /// The build, or adding or installing it, failed.
    Failed,
    /// The time limit was exceeded.
    Endless,
}

impl Module {
    /// From the exit codes.
    pub fn verdict(&self) -> Verdict {
        match self.exits {
            [Some(0), Some(0), Some(0)] => Verdict::Built,
            [Some(0), Some(77), _] => Verdict::Excluded,
            exits if exits.iter().flatten().any(|code| STRUCK.contains(code)) => Verdict::Endless,
            _ => Verdict::Failed,
        }
    }
}

impl Record {
    /// The worst result of the package's own modules, as text.
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

    /// Whether another attempt may have another result: an exceeded time limit depends on the machine.
    pub fn tells_nothing(&self) -> bool {
        self.modules.iter().any(|m| m.verdict() == Verdict::Endless)
    }

    /// One line of progress.
    pub fn line(&self) -> String {
        let (files, seconds) = (self.files.len(), self.seconds);
        format!("{} {}: {}, {files} files, {seconds:.0} s", self.package, self.version, self.verdict())
    }

    /// Reads a record that an earlier run left.
    pub fn load(file: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// Stores it atomically.
    pub fn store(&self, file: &Path) {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let draft = file.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec_pretty(self).unwrap()).unwrap();
        std::fs::rename(draft, file).unwrap();
    }
}

/// The path of the record for these inputs.
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
        assert_eq!(verdict([Some(0), Some(137), None]), Verdict::Endless);
    }
}
