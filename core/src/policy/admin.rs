//! `/etc/dkms/policy.toml`: what this machine cannot do without.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::types::ModuleName;

/// The file as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Modules whose failure makes the package manager's run fail.
    #[serde(default)]
    critical: Vec<String>,
    /// Modules whose build needs root, the network or the rest of the system.
    #[serde(default)]
    unconfined: Vec<String>,
    /// How long one step of a build may take.
    build_minutes: Option<NonZeroU32>,
    /// How much finished builds may take that are kept for later, in MiB.
    cache_mib: Option<u32>,
    /// A kernel that has what is in use stays the boot default.
    keep_boot_default: Option<bool>,
    /// Settings of single modules, by pattern.
    #[serde(default)]
    module: BTreeMap<String, Own>,
}

/// What can be set for some modules only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    build_minutes: Option<NonZeroU32>,
}

/// The admin's choices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admin {
    file: File,
    /// Why the file could not be used, with its name, line and column.
    pub broken: Option<String>,
}

impl Admin {
    /// Reads the file. None is fine; one that is broken is remembered as such.
    pub fn load(path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                Self { file: File::default(), broken: Some(format!("{}: {error}", path.display())) }
            }
        }
    }

    fn parse(text: &str, path: &Path) -> Self {
        match toml::from_str(text) {
            Ok(file) => Self { file, broken: None },
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start).min(text.len());
                let line = text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
                let why = error.message().to_owned();
                let place = PathBuf::from(path);
                Self { file: File::default(), broken: Some(format!("{}:{line}: {why}", place.display())) }
            }
        }
    }

    /// Whether a failure of this module must stop the package manager. When the file cannot be read nobody
    /// knows, so that every module counts: an admin who wrote it wanted some to.
    pub fn critical(&self, module: &ModuleName) -> bool {
        self.broken.is_some() || matches_any(&self.file.critical, module)
    }

    /// Whether any module can stop the package manager.
    pub fn has_critical(&self) -> bool {
        self.broken.is_some() || !self.file.critical.is_empty()
    }

    /// Minutes that one step of this module's build may take: an hour, unless the file says something else. Of several
    /// patterns that name the module the longest counts.
    pub fn build_minutes(&self, module: &ModuleName) -> u64 {
        let own = self
            .file
            .module
            .iter()
            .filter(|(pattern, own)| {
                own.build_minutes.is_some() && matches_any(std::slice::from_ref(pattern), module)
            })
            .max_by_key(|(pattern, _)| pattern.len())
            .and_then(|(_, own)| own.build_minutes);
        own.or(self.file.build_minutes).map_or(60, |minutes| u64::from(minutes.get()))
    }

    /// Bytes that finished builds may take that are kept for later: 2 GiB, unless the file says something else.
    pub fn cache_bytes(&self) -> u64 {
        u64::from(self.file.cache_mib.unwrap_or(2048)) << 20
    }

    /// Whether a kernel stays the boot default for as long as a newer one lacks a module in use.
    pub fn keep_boot_default(&self) -> bool {
        self.file.keep_boot_default.unwrap_or(true)
    }

    /// Whether this module's build may see the whole system.
    pub fn unconfined(&self, module: &ModuleName) -> bool {
        matches_any(&self.file.unconfined, module)
    }
}

fn matches_any(patterns: &[String], module: &ModuleName) -> bool {
    patterns.iter().any(|pattern| glob(pattern.as_bytes(), module.as_str().as_bytes()))
}

/// `*` is any text, `?` any one byte.
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
    fn an_unknown_key_is_an_error_with_file_and_line_and_makes_all_critical() {
        let admin = Admin::parse("# mine\ncritcal = [\"zfs\"]\n", Path::new("/etc/dkms/policy.toml"));
        let broken = admin.broken.clone().unwrap();
        assert!(broken.starts_with("/etc/dkms/policy.toml:2: unknown field `critcal`"), "{broken}");
        assert!(admin.critical(&"anything".parse().unwrap()));
    }
}
