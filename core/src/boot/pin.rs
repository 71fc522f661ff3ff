//! A file with the kernel to boot, which the distribution's boot tool applies: `proxmox-boot-tool kernel pin` writes the same.

use std::path::PathBuf;

use super::{Act, Change, Need};

/// The facts about that file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The file.
    pub file: PathBuf,
    /// Its content, if it is there.
    pub text: Option<String>,
}

impl Pin {
    pub(super) fn make_default(&self, (keep, ..): Need<'_>) -> Result<(Change, Act), String> {
        if let Some(text) = &self.text {
            let kernel = text.lines().next().unwrap_or_default();
            return Err(format!("{} pins {kernel}", self.file.display()));
        }
        let (file, text) = (self.file.clone(), format!("{keep}\n"));
        Ok((Change::Pin { file: file.clone(), text: text.clone() }, Act::Write(file, text)))
    }
}
