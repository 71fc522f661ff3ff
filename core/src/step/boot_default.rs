//! Changes the boot default, or restores it.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};

use crate::boot::{self, Act, KeptDefault};
use crate::session::Session;
use crate::sys::file;
use crate::sys::run::{Cmd, which};

/// Executes one action.
pub fn carry_out(session: &Session, act: &Act) -> Result<()> {
    match act {
        Act::Write(path, text) => {
            // A FAT file system rejects other permissions than those that it shows.
            let mode = path.metadata().map_or(0o644, |meta| meta.mode() & 0o7777);
            file::write_atomic(path, text.as_bytes(), mode)
        }
        Act::Delete(path) => {
            let mut changed = file::Changed::default();
            changed.remove(path)?;
            changed.sync()
        }
        Act::Set(image) => {
            let Some((program, args)) = session.policy.distribution.default_kernel.1.split_first() else {
                return Ok(());
            };
            let args = args.iter().map(|arg| arg.replace("{image}", image));
            Cmd::new(*program).args(args).check().context("setting the boot default")?;
            sync(session)
        }
    }
}

/// Records the change, or that there is none.
pub fn note(session: &Session, kept_default: Option<&KeptDefault>) -> Result<()> {
    let path = session.layout.boot_default();
    match kept_default {
        Some(kept_default) => file::write_atomic(&path, &serde_json::to_vec_pretty(kept_default)?, 0o644),
        None => file::remove_all(&path),
    }
}

/// Makes the boot menu again: GRUB's, or those on the partitions that a tool manages.
pub fn regenerate_menu(session: &Session) -> Result<()> {
    if let Some((program, args)) = managed(session) {
        session.screen.progress("dkms: updating the boot partitions");
        Cmd::new(program).args(args).check().context("updating the boot partitions")?;
        return sync(session);
    }
    let menu = session.layout.grub_menus().into_iter().find(|menu| menu.exists());
    let (Some(menu), Some(mkconfig)) = (menu, boot::mkconfig()) else { return Ok(()) };
    session.screen.progress("dkms: updating the GRUB menu");
    Cmd::new(mkconfig).arg("-o").arg(&menu).check().context("updating the GRUB menu")?;
    sync(session)
}

/// The program and arguments of the tool that manages the boot partitions, if there are some.
fn managed(session: &Session) -> Option<(&'static str, &'static [&'static str])> {
    let (program, args) = session.policy.distribution.boot_tool.0.split_first()?;
    let managed = session.layout.proxmox_partitions().exists() && which(program).is_some();
    managed.then_some((*program, args))
}

/// Whether the package manager makes the menu again after dkms when a kernel is installed or removed.
pub fn menu_follows(session: &Session) -> bool {
    let distribution = &session.policy.distribution;
    let hook = match managed(session) {
        Some(_) => Some(distribution.boot_tool.1),
        None => distribution.menu_hook,
    };
    hook.is_some_and(|hook| session.layout.etc.join(hook).exists())
}

/// The boot loader's programs sync nothing. What they wrote is on the disk before it is noted as done.
fn sync(session: &Session) -> Result<()> {
    file::sync_file_system(&session.layout.boot)
}
