//! A kernel's `modules.dep`.

use std::ops::Range;
use std::path::Path;

use memchr::memchr;
use serde::{Deserialize, Serialize};

use crate::sys::file;

/// The paths of the modules in it, relative to the kernel's directory. Kept as text: there are thousands, and an idle
/// hook looks up only a few.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Index {
    text: Vec<u8>,
    paths: Vec<Range<usize>>,
}

impl From<String> for Index {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Index> for String {
    fn from(index: Index) -> Self {
        Self::from_utf8_lossy(&index.text).into_owned()
    }
}

impl Index {
    /// From the file's content: one line per module, with its path before the colon.
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        let text: Vec<u8> = content.into();
        let mut paths = Vec::new();
        let mut from = 0;
        while let Some(rest) = text.get(from..).filter(|rest| !rest.is_empty()) {
            let line = memchr(b'\n', rest).unwrap_or(rest.len());
            paths.extend(memchr(b':', &rest[..line]).map(|colon| from..from + colon));
            from += line + 1;
        }
        Self { text, paths }
    }

    /// All paths, in the order of the file.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().filter_map(|path| std::str::from_utf8(self.text.get(path.clone())?).ok())
    }

    /// Whether it contains this path.
    pub fn contains(&self, wanted: &str) -> bool {
        self.paths.iter().any(|path| self.text.get(path.clone()) == Some(wanted.as_bytes()))
    }
}

/// The first bytes of an index in kmod's binary form.
const BINARY: [u8; 4] = [0xb0, 0x07, 0xf4, 0x57];

/// Whether a file is there, and not an index in kmod's binary form: kmod then finds no module.
pub fn is_damaged(path: &Path) -> bool {
    path.exists()
        && !file::read_ends(path, (BINARY.len() as u64, 0)).is_ok_and(|start| start.starts_with(&BINARY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_stands_before_the_colon() {
        let index = Index::new(b"kernel/a.ko.xz:\n\nupdates/b.ko: kernel/a.ko.xz\nno colon\nkernel/c.ko:");
        assert_eq!(index.paths().collect::<Vec<_>>(), ["kernel/a.ko.xz", "updates/b.ko", "kernel/c.ko"]);
        assert!(index.contains("updates/b.ko") && !index.contains("b.ko") && !index.contains("no colon"));
        assert_eq!(Index::new(b"").paths().count(), 0);
    }
}
