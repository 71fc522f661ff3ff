//! The list of files that a package says it has.

use std::path::PathBuf;

use anyhow::Result;

use crate::archive::{Refused, checked_path};
use crate::layout::merged;

/// Far more than any package has; each is held in memory.
const COUNT: usize = 500_000;
const BYTES: usize = 64 << 20;

/// Collects paths, within bounds: a few bytes of a header can say a long name again and again.
#[derive(Debug, Default)]
pub(super) struct Paths {
    list: Vec<PathBuf>,
    bytes: usize,
}

impl Paths {
    /// Takes a path, relative to the root.
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

/// A name as we use it, or why there can be no such file.
pub(super) fn plain(raw: &[u8]) -> Result<PathBuf> {
    let shown = || String::from_utf8_lossy(raw.get(..200).unwrap_or(raw)).into_owned();
    let path =
        checked_path(raw).map_err(|why| Refused::malformed(format!("contains {:?}, {why}", shown())))?;
    Ok(merged(path))
}
