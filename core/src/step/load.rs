//! Loads modules into the running kernel, for `--modprobe-on-install`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::session::Session;
use crate::sys::file;
use crate::sys::run::{Cmd, Output};

/// Aliases for one run of modprobe: the length of a command line is limited.
const AT_ONCE: usize = 500;
/// The unit that loads what `modules-load.d` names.
const UNIT: &str = "systemd-modules-load.service";

/// Runs modprobe for each of the machine's devices; new modules are loaded where they match. Returns error messages; a
/// device without a module is not an error.
pub fn probe_devices(session: &Session) -> Result<Option<String>> {
    let mut aliases = BTreeSet::new();
    collect(&session.layout.devices(), &mut aliases);
    let aliases: Vec<String> = aliases.into_iter().collect();
    for some in aliases.chunks(AT_ONCE) {
        // It fails for each alias without a module.
        Cmd::new("modprobe").args(["-a", "-b", "-q"]).args(some).output(Output::Memory).run()?;
    }
    if !session.layout.systemd().is_dir() {
        return Ok(None);
    }
    let done = Cmd::new("systemctl").args(["restart", UNIT]).run()?;
    Ok((!done.status.success()).then(|| format!("{UNIT} failed (exit code {})", done.code())))
}

/// All `modalias` files below a directory; links point upwards and are not followed.
fn collect(dir: &Path, aliases: &mut BTreeSet<String>) {
    for sub in file::sub_dirs(dir) {
        let sub = dir.join(sub);
        let alias = file::text(sub.join("modalias")).unwrap_or_default();
        aliases.extend(Some(alias.trim().to_owned()).filter(|alias| !alias.is_empty()));
        collect(&sub, aliases);
    }
}
