//! The list of files in a package's description.

use std::path::PathBuf;

use anyhow::Result;

use crate::archive::{Refused, checked_path};
use crate::layout::merged;

/// Far more than any package has; each path is held in memory.
const COUNT: usize = 500_000;
const BYTES: usize = 64 << 20;

/// Collects paths, within limits: a few bytes of a header can repeat a long name many times.
#[derive(Debug, Default)]
pub(super) struct Paths {
    list: Vec<PathBuf>,
    bytes: usize,
}

impl Paths {
    /// Adds a path, relative to the root.
    pub(super) fn push(&mut self, raw: &[u8]) -> Result<()> {
        let path = plain(raw)?;
        self.bytes += path.as_os_str().len();
        if self.list.len() >= COUNT || self.bytes > BYTES {
            return Err(Refused::malformed(format!("lists more than {COUNT} files")));
        }
        self.list.push(path);
        Ok(())
    }

    pub(super) fn into_list(self) -> Vec<PathBuf> {
        self.list
    }
}

/// A normalized name, or why it is invalid.
pub(super) fn plain(raw: &[u8]) -> Result<PathBuf> {
    let shown = || String::from_utf8_lossy(raw.get(..200).unwrap_or(raw)).into_owned();
    let path =
        checked_path(raw).map_err(|why| Refused::malformed(format!("contains {:?}, {why}", shown())))?;
    Ok(merged(path))
}
