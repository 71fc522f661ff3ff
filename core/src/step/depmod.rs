//! Runs depmod.

use std::path::Path;

use anyhow::{Context, Result};

use crate::session::Session;
use crate::sys::file;
use crate::sys::run::Cmd;
use crate::types::Target;

/// Files beside depmod's that the kernel's package brings.
const OF_THE_KERNEL: [&str; 3] = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];

/// Runs depmod for a kernel. False if the kernel is not installed (its own installation runs depmod).
pub fn depmod(session: &Session, target: &Target) -> Result<bool> {
    let layout = &session.layout;
    let Some(root) = layout.depmod_root() else { return Ok(false) };
    if session.options.no_depmod || !layout.modules_dep(&target.kernel).exists() {
        return Ok(false);
    }
    let mut cmd = Cmd::new("depmod").arg("-a").arg(target.kernel.as_str());
    let map = layout.system_map(&target.kernel);
    // Debian's map is a stub of one line, with which depmod would report every symbol as missing.
    if map.metadata().is_ok_and(|meta| meta.len() > 4096) {
        cmd = cmd.arg("-F").arg(&map);
    }
    if root != Path::new("/") {
        cmd = cmd.arg("-b").arg(root);
    }
    cmd.check().with_context(|| format!("running depmod for {}", target.kernel))?;
    // depmod does not sync what it writes. The intent, which would repeat it, is deleted after this.
    file::sync_files(&layout.kernel(&target.kernel), |name| {
        name.starts_with("modules.") && !OF_THE_KERNEL.contains(&name)
    })?;
    Ok(true)
}
