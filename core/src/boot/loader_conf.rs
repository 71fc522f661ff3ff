//! systemd-boot: `default` in loader.conf, which names an entry by a pattern. Without it, the newest version is booted.
//!
//! `bootctl set-default` would set an EFI variable. This takes precedence over the file, is not available in a chroot,
//! and stores
//! what a user selected in the boot menu, so it is left unchanged.

use std::path::PathBuf;

use super::{Act, Change, Need, names};
use crate::policy::admin::glob;
use crate::types::{KernelRelease, is_plain};

/// The facts about systemd-boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderConf {
    /// loader.conf.
    pub file: PathBuf,
    /// Its content.
    pub text: String,
    /// Entries by kernel, as the loader calls them.
    pub entries: Vec<(KernelRelease, String)>,
    /// An entry was selected in the boot menu, or with bootctl.
    pub chosen: bool,
}

impl LoaderConf {
    pub(super) fn make_default(&self, (keep, instead, modules): Need<'_>) -> Result<(Change, Act), String> {
        if self.chosen {
            return Err("an entry was chosen in the boot menu or with bootctl".into());
        }
        let entry = self.entries.iter().find(|(kernel, _)| kernel == keep).map(|(_, id)| id);
        let entry = entry.ok_or_else(|| format!("no boot loader entry for {keep}"))?;
        // In the file, `*` and `?` are patterns, and a blank or a new line ends the value.
        if !entry.bytes().all(is_plain) {
            return Err(format!("{entry:?} contains a special character"));
        }
        let why = names(modules);
        let ours = format!("# set by dkms until {why} is built for {instead}\ndefault {entry}\n");
        // The last line takes effect.
        let lines: Vec<&str> = self.text.split_inclusive('\n').collect();
        let old = lines.iter().rposition(|line| value(line).is_some());
        let (text, before) = match old {
            None => (format!("{ours}{}", self.text), String::new()),
            Some(old) => {
                let pattern = value(lines[old]).unwrap_or_default();
                let open = pattern.contains(['*', '?']) && glob(pattern.as_bytes(), entry.as_bytes());
                if !open {
                    return Err(format!("{} sets default {pattern}", self.file.display()));
                }
                (
                    format!("{}{ours}{}", lines[..old].concat(), lines[old + 1..].concat()),
                    lines[old].to_owned(),
                )
            }
        };
        let file = self.file.clone();
        Ok((Change::LoaderConf { file: file.clone(), ours, before }, Act::Write(file, text)))
    }
}

/// The value of a line that sets the default.
fn value(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("default")?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}

/// The id of an entry (its file name without the boot counter), and its kernel, if it is one of these. `names`: the
/// names of each kernel in file names. `text`: empty for a unified kernel image.
pub fn entry(
    file: &str,
    text: &str,
    names: &[(KernelRelease, Vec<String>)],
) -> Option<(KernelRelease, String)> {
    let (stem, kind) = file.rsplit_once('.')?;
    let counts = |tries: &str| !tries.is_empty() && tries.bytes().all(|c| c.is_ascii_digit() || c == b'-');
    let stem = stem.rsplit_once('+').filter(|(_, tries)| counts(tries)).map_or(stem, |(stem, _)| stem);
    let field = |key: &str| {
        let values = text.lines().filter_map(|line| line.trim_start().strip_prefix(key));
        values.filter(|value| value.starts_with([' ', '\t'])).map(str::trim).next()
    };
    let version = field("version");
    let image = field("linux").or(field("efi")).unwrap_or_default();
    let is = |name: &String| {
        // /TOKEN/KERNEL/linux, or /vmlinuz-KERNEL.
        let (dirs, image) = image.rsplit_once('/').unwrap_or(("", image));
        let of_image = dirs.split('/').any(|dir| dir == name) || image.strip_prefix("vmlinuz-") == Some(name);
        let of_name =
            stem == name || stem.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('-'));
        version == Some(name) || of_image || (text.is_empty() && of_name)
    };
    let kernel = names.iter().find(|(_, names)| names.iter().any(is)).map(|(kernel, _)| kernel)?;
    Some((kernel.clone(), format!("{stem}.{kind}")))
}
