//! `/etc/dkms/policy.toml`: the admin's settings.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::types::{KernelRelease, ModuleName};

/// What an invalid file means: an admin who wrote it wanted some modules to be critical.
const CONSEQUENCE: &str = "all modules count as critical until it is corrected";

/// The file's format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Modules whose failure makes the package manager fail.
    #[serde(default)]
    critical: Vec<String>,
    /// Modules whose build needs root, the network or access to the whole system.
    #[serde(default)]
    unconfined: Vec<String>,
    /// The time limit of one step of a build, in minutes.
    build_minutes: Option<NonZeroU32>,
    /// The size limit of cached builds, in MiB.
    cache_mib: Option<u32>,
    /// The effect of a module that does not build for packages that are about to be installed.
    on_unbuildable: Option<Unbuildable>,
    /// How many days a package may be kept back.
    hold_days: Option<u32>,
    /// Whether a kernel with all modules in use remains the boot default.
    keep_boot_default: Option<bool>,
    /// Whether modules are built before an upgrade, while the machine is idle.
    ahead: Option<bool>,
    /// Whether missing kernel headers are downloaded for a build.
    fetch_headers: Option<bool>,
    /// Kernels for which nothing is built automatically.
    #[serde(default)]
    skip_kernels: Vec<String>,
    /// If set, the only kernels for which modules are built automatically.
    only_kernels: Option<Vec<String>>,
    /// Where builds of other machines are.
    #[serde(default)]
    store: Store,
    /// Settings of single modules, by pattern.
    #[serde(default)]
    module: BTreeMap<String, Own>,
}

/// The settings that can be specific to modules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    build_minutes: Option<NonZeroU32>,
    on_unbuildable: Option<Unbuildable>,
}

/// The store of builds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Its URLs, in the order in which they are asked.
    #[serde(default)]
    pub url: Vec<String>,
    /// The public keys with which its builds are signed.
    #[serde(default)]
    pub trust: Vec<String>,
    /// The time limit of a run's search, in seconds.
    seconds: Option<NonZeroU32>,
    /// The URL of a proxy.
    pub proxy: Option<String>,
    /// A certificate that this machine has enrolled: modules that its key has signed keep their signature.
    pub signed_by: Option<PathBuf>,
}

impl Store {
    /// The time limit of a run's search, in seconds: 10 unless configured.
    pub fn seconds(&self) -> u64 {
        self.seconds.map_or(10, |seconds| u64::from(seconds.get()))
    }
}

/// The effect of a module that is proven not to build, before the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unbuildable {
    /// A warning is printed, and the transaction continues.
    Warn,
    /// The transaction is aborted before anything is changed.
    Hold,
}

/// The admin's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admin {
    file: File,
    /// Patterns of modules that may fail in this transaction, whatever the file says.
    allowed: Vec<String>,
    /// Why the file is invalid, with its name, line and column.
    pub broken: Option<String>,
}

impl Admin {
    /// Reads the file. It may be missing; an invalid one is recorded in `broken`.
    pub fn load(path: &Path) -> Self {
        match crate::sys::file::text(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => Self {
                broken: Some(format!("{}: {error}; {CONSEQUENCE}", path.display())),
                ..Self::default()
            },
        }
    }

    pub(crate) fn parse(text: &str, path: &Path) -> Self {
        match toml::from_str(text) {
            Ok(file) => Self { file, ..Self::default() },
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start).min(text.len());
                let line = text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
                let why = error.message().replace("unknown field", "unknown key");
                let why = format!("{}:{line}: {why}; {CONSEQUENCE}", path.display());
                Self { broken: Some(why), ..Self::default() }
            }
        }
    }

    /// Whether a failure of this module must stop the package manager. If the file is invalid, every module counts: an
    /// admin who wrote it wanted some to.
    pub fn critical(&self, module: &ModuleName) -> bool {
        !self.allows(module) && (self.broken.is_some() || matches_any(&self.file.critical, module))
    }

    /// The same file, with modules that may fail in this transaction: patterns, separated by commas or spaces.
    #[must_use]
    pub fn allowing(self, patterns: &str) -> Self {
        let words = patterns.split([',', ' ']).filter(|word| !word.is_empty());
        Self { allowed: words.map(str::to_owned).collect(), ..self }
    }

    /// Whether this module may fail in this transaction, whatever the file says.
    pub fn allows(&self, module: &ModuleName) -> bool {
        matches_any(&self.allowed, module)
    }

    /// Whether any module can stop the package manager.
    pub fn has_critical(&self) -> bool {
        self.broken.is_some() || !self.file.critical.is_empty()
    }

    /// The time limit of one step of this module's build, in minutes: an hour unless configured. If several patterns
    /// match, the longest limit applies.
    pub fn build_minutes(&self, module: &ModuleName) -> u64 {
        let own = self.own(module, |own| own.build_minutes);
        own.or(self.file.build_minutes).map_or(60, |minutes| u64::from(minutes.get()))
    }

    /// The configured effect if this module does not build for packages that are about to be installed; `None`: the
    /// default. A module that would fail in the transaction should rather abort it before.
    pub fn on_unbuildable(&self, module: &ModuleName) -> Option<Unbuildable> {
        if self.allows(module) {
            return Some(Unbuildable::Warn);
        }
        let own = self.own(module, |own| own.on_unbuildable);
        let critical = self.critical(module).then_some(Unbuildable::Hold);
        own.or(critical).or(self.file.on_unbuildable)
    }

    /// The settings whose pattern matches this module.
    fn own<T>(&self, module: &ModuleName, value: impl Fn(&Own) -> Option<T>) -> Option<T> {
        let named = |pattern: &String| matches_any(std::slice::from_ref(pattern), module);
        let own = self.file.module.iter().filter(|(pattern, own)| value(own).is_some() && named(pattern));
        own.max_by_key(|(pattern, _)| pattern.len()).and_then(|(_, own)| value(own))
    }

    /// The size limit of cached builds, in bytes: 2 GiB unless configured.
    pub fn cache_bytes(&self) -> u64 {
        u64::from(self.file.cache_mib.unwrap_or(2048)) << 20
    }

    /// The store of builds.
    pub fn store(&self) -> &Store {
        &self.file.store
    }

    /// Whether a kernel remains the boot default while a newer one lacks a module in use.
    pub fn keep_boot_default(&self) -> bool {
        self.file.keep_boot_default.unwrap_or(true)
    }

    /// After how many days a module does not keep packages back any more; `None`: never.
    pub fn hold_days(&self) -> Option<u32> {
        self.file.hold_days
    }

    /// Whether dkms-ahead.timer builds modules for available upgrades.
    pub fn ahead(&self) -> bool {
        self.file.ahead.unwrap_or(true)
    }

    /// Whether missing kernel headers are downloaded for a build.
    pub fn fetch_headers(&self) -> bool {
        self.file.fetch_headers.unwrap_or(false)
    }

    /// Whether this module is built without a sandbox.
    pub fn unconfined(&self, module: &ModuleName) -> bool {
        matches_any(&self.file.unconfined, module)
    }

    /// The setting because of which nothing is built automatically for this kernel.
    pub fn leaves_out(&self, kernel: &KernelRelease) -> Option<&'static str> {
        let listed = |patterns: &[String]| matches(patterns, kernel.as_str());
        if listed(&self.file.skip_kernels) {
            return Some("skip_kernels");
        }
        self.file.only_kernels.as_deref().is_some_and(|only| !listed(only)).then_some("only_kernels")
    }
}

fn matches_any(patterns: &[String], module: &ModuleName) -> bool {
    matches(patterns, module.as_str())
}

fn matches(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| glob(pattern.as_bytes(), text.as_bytes()))
}

/// `*` matches any text, `?` any byte.
pub(crate) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            glob(rest, text) || text.split_first().is_some_and(|(_, tail)| glob(pattern, tail))
        }
        (Some((b'?', rest)), Some((_, tail))) => glob(rest, tail),
        (Some((a, rest)), Some((b, tail))) if a == b => glob(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_modules() {
        let admin = Admin::parse("critical = [\"zfs\", \"nvidia*\"]\n", Path::new("p"));
        for (name, critical) in [("zfs", true), ("nvidia-current", true), ("zfs2", false), ("nvidi", false)] {
            assert_eq!(admin.critical(&name.parse().unwrap()), critical, "{name}");
        }
    }

    #[test]
    fn kernels_are_left_out_by_pattern() {
        for (text, built) in [
            ("", [true, true, true]),
            ("skip_kernels = [\"*-rt\", \"5.*\"]\n", [true, false, false]),
            ("only_kernels = [\"6.*\"]\n", [true, true, false]),
            ("only_kernels = [\"6.*\"]\nskip_kernels = [\"*-rt\"]\n", [true, false, false]),
            ("only_kernels = []\n", [false, false, false]),
            // An invalid file leaves nothing out.
            ("only_kernels = []\nsikp_kernels = []\n", [true, true, true]),
        ] {
            let admin = Admin::parse(text, Path::new("p"));
            let kernels = ["6.1.0-1-amd64", "6.1.0-1-rt", "5.10.0-1-amd64"].map(|k| k.parse().unwrap());
            assert_eq!(kernels.map(|kernel| admin.leaves_out(&kernel).is_none()), built, "{text}");
        }
    }

    #[test]
    fn the_longest_pattern_sets_the_limit() {
        let text = "build_minutes = 30\n[module.\"nvidia*\"]\nbuild_minutes = 90\n[module.\"nvidia-open*\"]\nbuild_minutes = 120\n";
        let admin = Admin::parse(text, Path::new("p"));
        for (name, minutes) in [("zfs", 30), ("nvidia-current", 90), ("nvidia-open", 120)] {
            assert_eq!(admin.build_minutes(&name.parse().unwrap()), minutes, "{name}");
        }
        assert_eq!(Admin::default().build_minutes(&"zfs".parse().unwrap()), 60);
        assert!(Admin::parse("build_minutes = 0\n", Path::new("p")).broken.is_some());
    }

    #[test]
    fn what_cannot_be_built_holds_the_transaction_where_the_admin_says_so() {
        let text = "critical = [\"zfs\"]\non_unbuildable = \"warn\"\n[module.\"nvidia*\"]\non_unbuildable = \"hold\"\n";
        let admin = Admin::parse(text, Path::new("p"));
        for (name, choice) in [
            ("zfs", Unbuildable::Hold),
            ("nvidia-current", Unbuildable::Hold),
            ("acpi-call", Unbuildable::Warn),
        ] {
            assert_eq!(admin.on_unbuildable(&name.parse().unwrap()), Some(choice), "{name}");
        }
        assert_eq!(Admin::default().on_unbuildable(&"zfs".parse().unwrap()), None);
        let admin = admin.allowing("acpi*, zfs");
        for (name, critical, choice) in [
            ("zfs", false, Unbuildable::Warn),
            ("nvidia-current", false, Unbuildable::Hold),
            ("acpi-call", false, Unbuildable::Warn),
        ] {
            let name = name.parse().unwrap();
            assert_eq!(
                (admin.critical(&name), admin.on_unbuildable(&name)),
                (critical, Some(choice)),
                "{name}"
            );
        }
        assert!(Admin::parse("on_unbuildable = \"stop\"\n", Path::new("p")).broken.is_some());
    }

    #[test]
    fn an_unknown_key_is_an_error_with_file_and_line_and_makes_all_critical() {
        let admin = Admin::parse("# mine\ncritcal = [\"zfs\"]\n", Path::new("/etc/dkms/policy.toml"));
        let broken = admin.broken.clone().unwrap();
        assert!(
            broken
                .starts_with("/etc/dkms/policy.toml:2: unknown key `critcal`, expected one of `critical`, "),
            "{broken}"
        );
        assert!(broken.ends_with("; all modules count as critical until it is corrected"), "{broken}");
        assert!(admin.critical(&"anything".parse().unwrap()));
    }
}
