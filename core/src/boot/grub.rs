//! GRUB: a file that grub-mkconfig reads after `/etc/default/grub`, which sets the id of a menu entry.
//!
//! The id is taken from the existing menu: the distribution's `10_linux` creates it, and its form differs between
//! versions.

use std::path::{Path, PathBuf};

use super::{Act, Change, Need, names};
use crate::types::{KernelRelease, is_plain};

/// The facts about GRUB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grub {
    /// Our drop-in file.
    pub file: PathBuf,
    /// The menu, grub.cfg.
    pub menu: String,
    /// The file in which the admin has chosen a default.
    pub chosen: Option<PathBuf>,
    /// Our state file: without it the drop-in has no effect.
    pub state: PathBuf,
    /// The directory of the kernel images.
    pub boot: PathBuf,
}

/// The prefix of the menu id of a kernel's entry.
const BEGIN: &str = "gnulinux-";
const MIDDLE: &str = "-advanced-";

/// Variables that determine which kernel is the first entry.
const ORDER: [&str; 2] = ["GRUB_TOP_LEVEL=", "GRUB_FLAVOUR_ORDER="];

impl Grub {
    pub(super) fn make_default(&self, need: Need<'_>) -> Result<(Change, Act), String> {
        let (keep, instead, modules) = need;
        if let Some(file) = &self.chosen {
            return Err(format!("{} sets a default", file.display()));
        }
        let entry = entry_of(&self.menu, keep).ok_or_else(|| format!("no GRUB menu entry for {keep}"))?;
        let (state, image) = (self.state.display(), self.boot.join(format!("vmlinuz-{keep}")));
        // grub-mkconfig sources the file as root.
        for text in [&entry, &state.to_string(), &image.display().to_string()] {
            if !text.bytes().all(|byte| is_plain(byte) || b"/>".contains(&byte)) {
                return Err(format!("{text:?} contains a special character"));
            }
        }
        // A later default of the admin's wins. Without the kernel or our state, the file has no effect.
        let text = format!(
            "# Created by dkms because {} is not built for {instead}; dkms deletes this file when it is.\n\
             # To disable this, set keep_boot_default = false in policy.toml.\n\
             if [ \"${{GRUB_DEFAULT:-0}}\" = 0 ] && [ -e '{}' ] && [ -e '{state}' ]; then\n    \
             GRUB_DEFAULT='{entry}'\nfi\n",
            names(modules),
            image.display()
        );
        Ok((
            Change::Grub { file: self.file.clone(), text: text.clone() },
            Act::Write(self.file.clone(), text),
        ))
    }
}

/// The file that chooses a default other than the first entry, of these files and their contents, in the order in which
/// the shell reads them. A value that the shell would have to compute counts as chosen.
pub fn chosen(files: &[(PathBuf, String)]) -> Option<&Path> {
    let mut chosen = None;
    for (file, text) in files {
        for line in text.lines().map(str::trim) {
            let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
            // The first entry has been chosen.
            if ORDER.iter().any(|variable| line.starts_with(variable)) {
                return Some(file);
            }
            let assigned = line.strip_prefix("GRUB_DEFAULT=");
            match assigned {
                Some(value) => {
                    let value = value.split(['#', ';']).next().unwrap_or_default().trim();
                    let first = matches!(value.trim_matches(['"', '\'']), "" | "0");
                    chosen = (!first).then_some(file.as_path());
                }
                // GRUB_DEFAULT_BUTTON is a different setting.
                None if !line.starts_with('#')
                    && line.replace("GRUB_DEFAULT_", "").contains("GRUB_DEFAULT") =>
                {
                    chosen = Some(file);
                }
                None => {}
            }
        }
    }
    chosen
}

/// The path through the menu to a kernel's entry, `SUBMENU>ENTRY`. For a kernel that is not in the menu yet, derived
/// from the id of another one.
pub fn entry_of(menu: &str, kernel: &KernelRelease) -> Option<String> {
    let mut open: Vec<Option<&str>> = Vec::new();
    let mut other = None;
    for line in menu.lines().map(str::trim) {
        let id = || line.split_once("$menuentry_id_option '")?.1.split('\'').next();
        let entry = || id().and_then(|id| id.strip_prefix(BEGIN)?.split_once(MIDDLE));
        if let Some((release, device)) = line.starts_with("menuentry ").then(entry).flatten() {
            let above: String = open.iter().flatten().map(|id| format!("{id}>")).collect();
            let path = format!("{above}{BEGIN}{kernel}{MIDDLE}{device}");
            if release == kernel.as_str() {
                return Some(path);
            }
            other.get_or_insert(path);
        }
        if line.ends_with('{') {
            open.push(if line.starts_with("submenu ") { id() } else { None });
        } else if line == "}" {
            open.pop();
        }
    }
    other
}
