//! A kernel's configuration.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use memchr::memchr_iter;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::sys::file;
use crate::types::KernelRelease;

/// A `.config` or `auto.conf`. It stays the text that it is: a kernel has ten thousand options, and a hook that finds
/// nothing to do asks for a few dozen of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Config {
    content: Vec<u8>,
    /// Where the lines begin, in [`DRAWERS`] by two letters behind `CONFIG_`: made once, so that not every question, most of
    /// all one for what a kernel does not have, is a walk through all of the text.
    lines: OnceLock<Vec<Vec<u32>>>,
}

/// About as many as make a question cheap: twenty lines each.
const DRAWERS: usize = 512;

/// Where a line, or the beginning of one, belongs. Whoever has the same option has the same two letters.
fn drawer(line: &[u8]) -> Option<usize> {
    let at = |index: usize| line.get("CONFIG_".len() + index).copied().map(usize::from);
    Some((at(0)? * 31 + at(1)?) % DRAWERS)
}

impl From<String> for Config {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Config> for String {
    fn from(config: Config) -> Self {
        Self::from_utf8_lossy(&config.content).into_owned()
    }
}

impl Config {
    /// From the file's content.
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        Self { content: content.into(), lines: OnceLock::new() }
    }

    /// The value of an option such as `CONFIG_SMP`, without quotes.
    pub fn get(&self, option: &str) -> Option<&str> {
        let wanted = format!("{option}=");
        let drawer = self.lines().get(drawer(wanted.as_bytes())?)?;
        let lines = drawer.iter().filter_map(|at| self.content.get(*at as usize..));
        let value = lines.filter_map(|line| line.strip_prefix(wanted.as_bytes())).next()?;
        let value = value.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Some(std::str::from_utf8(value).ok()?.trim_matches('"'))
    }

    fn lines(&self) -> &[Vec<u32>] {
        self.lines.get_or_init(|| {
            let mut lines = vec![Vec::new(); DRAWERS];
            let begins = std::iter::once(0).chain(memchr_iter(b'\n', &self.content).map(|end| end + 1));
            for at in begins {
                let line = self.content.get(at..).filter(|line| line.starts_with(b"CONFIG_"));
                if let (Some(drawer), Ok(at)) = (line.and_then(drawer), u32::try_from(at)) {
                    lines[drawer].push(at);
                }
            }
            lines
        })
    }

    /// Whether an option is `y`.
    pub fn on(&self, option: &str) -> bool {
        self.get(option) == Some("y")
    }

    /// Whether the kernel was built by clang.
    pub fn clang(&self) -> bool {
        self.on("CONFIG_CC_IS_CLANG")
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }
}

/// A kernel's configuration, from its headers, else as it is kept beside its image; `None` when it is in neither place.
pub fn config(layout: &Layout, kernel: &KernelRelease) -> Option<Config> {
    let places = [config_file(&layout.headers(kernel)), layout.boot_config(kernel)];
    let content = places.iter().find_map(|place| file::read_optional(place).ok().flatten())?;
    Some(Config::new(content))
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
        let config = Config::new(
            b"CONFIG_AA=m\n# CONFIG_B is not set\nCONFIG_A=n\nX_CONFIG_C=y\nCONFIG_D=\"gcc 14\"\nCONFIG_E=",
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
        assert!(Config::new(b"CONFIG_A=y\n").on("CONFIG_A"));
    }
}
