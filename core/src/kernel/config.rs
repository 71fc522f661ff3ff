//! A kernel's configuration.

use std::path::{Path, PathBuf};

use memchr::memmem;

use crate::layout::Layout;
use crate::sys::file;
use crate::types::KernelRelease;

/// A `.config` or `auto.conf`. It stays the text that it is: a kernel has ten thousand options, and a hook that finds
/// nothing to do asks for a dozen of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config(String);

impl Config {
    /// From the file's content.
    pub fn parse(content: &[u8]) -> Self {
        Self(String::from_utf8_lossy(content).into_owned())
    }

    /// The value of an option such as `CONFIG_SMP`, without quotes. The last line about it counts.
    pub fn get(&self, option: &str) -> Option<&str> {
        let line = format!("{option}=");
        let begins = |at: &usize| *at == 0 || self.0.as_bytes().get(at - 1) == Some(&b'\n');
        let at = memmem::find_iter(self.0.as_bytes(), line.as_bytes()).filter(begins).last()?;
        Some(self.0.get(at + line.len()..)?.lines().next().unwrap_or_default().trim_matches('"'))
    }

    /// Whether an option is `y`.
    pub fn on(&self, option: &str) -> bool {
        self.get(option) == Some("y")
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A kernel's configuration, from its headers, else as it is kept beside its image; `None` when it is in neither place.
pub fn config(layout: &Layout, kernel: &KernelRelease) -> Option<Config> {
    let places = [config_file(&layout.headers(kernel)), layout.boot_config(kernel)];
    let content = places.iter().find_map(|place| file::read_optional(place).ok().flatten())?;
    Some(Config::parse(&content))
}

/// The file that holds a kernel's configuration, in its headers.
pub(super) fn config_file(headers: &Path) -> PathBuf {
    let auto = headers.join("include/config/auto.conf");
    if auto.exists() { auto } else { headers.join(".config") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_by_their_whole_name() {
        let config = Config::parse(
            b"CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_AA=m\nX_CONFIG_C=y\nCONFIG_D=\"gcc 14\"\nCONFIG_A=n\nCONFIG_E=",
        );
        for (option, value) in [
            ("CONFIG_A", Some("n")),
            ("CONFIG_B", None),
            ("CONFIG_AA", Some("m")),
            ("CONFIG_C", None),
            ("CONFIG_D", Some("gcc 14")),
            ("CONFIG_E", Some("")),
            ("CONFIG_", None),
        ] {
            assert_eq!(config.get(option), value, "{option}");
        }
        assert!(!config.on("CONFIG_A") && !config.on("CONFIG_AA") && !config.is_empty());
        assert!(Config::parse(b"CONFIG_A=y\n").on("CONFIG_A"));
    }
}
