//! A kernel's configuration.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use memchr::memchr_iter;
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::sys::file;
use crate::types::KernelRelease;

/// A `.config` or `auto.conf`, kept as text: a kernel has ten thousand options, and an idle hook looks up only a few
/// dozen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Config {
    content: Vec<u8>,
    /// The offsets of the lines, in [`DRAWERS`] hash buckets by two letters after `CONFIG_`. Built once, so that a
    /// lookup, in particular of an option that is not set, does not scan the whole text.
    lines: OnceLock<Vec<Vec<u32>>>,
}

/// Enough for about twenty lines per bucket.
const DRAWERS: usize = 512;

/// The bucket of a line, or of its beginning. The same option always has the same two letters.
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

    /// The value of an option, for example `CONFIG_SMP`, without quotes.
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

    /// Whether the kernel was built with clang.
    pub fn clang(&self) -> bool {
        self.on("CONFIG_CC_IS_CLANG")
    }

    /// Whether the configuration is unknown.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }
}

/// A kernel's configuration, from its headers, else from the file next to its image; `None` if neither exists.
pub fn config(layout: &Layout, kernel: &KernelRelease) -> Option<Config> {
    let places = [config_file(&layout.headers(kernel)), layout.boot_config(kernel)];
    let content = places.iter().find_map(|place| file::read_optional(place).ok().flatten())?;
    Some(Config::new(content))
}

/// The key that a kernel was built with, and its certificate in the same file, if the file is there: a relative path is
/// below its build directory.
pub fn signing_key(layout: &Layout, kernel: &KernelRelease) -> Option<PathBuf> {
    let config = config(layout, kernel)?;
    let key =
        config.get("CONFIG_MODULE_SIG_KEY").filter(|key| !key.is_empty() && !key.starts_with("pkcs11:"))?;
    let file = layout.headers(kernel).join(key);
    file.is_file().then_some(file)
}

/// The file with a kernel's configuration in its headers.
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
