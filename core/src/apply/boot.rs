//! The end of a transaction: which kernel is the boot default.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::hold::hold;
use crate::boot::{self, Decision, Facts};
use crate::event::Event;
use crate::report::{Report, Severity};
use crate::session::Session;
use crate::step::boot_default;
use crate::sys::signal;
use crate::tree::LockedTree;
use crate::types::{Arch, KernelRelease};

/// Keeps a kernel that has the modules in use as the boot default, or undoes this. A failure is a remark, because the
/// modules are already installed.
pub fn settle(session: &Session, tree: &LockedTree, events: &[Event], report: &mut Report) -> Result<()> {
    // With a relocated install tree there is no machine to boot.
    let ours = session.layout.depmod_root() == Some(std::path::Path::new("/"));
    // If policy.toml cannot be read, the admin's choice is unknown: the boot default is neither changed nor restored.
    let known = session.policy.admin.broken.is_none();
    if !ours || !known || !(concerns(session, events, report) || session.layout.boot_default().exists()) {
        return Ok(());
    }
    // The modules in use are those of another system.
    if session.guest() {
        return Ok(());
    }
    let wanted = session.policy.admin.keep_boot_default();
    match settled(session, tree, events, wanted) {
        Ok(remark) => report.remarks.extend(remark),
        Err(error) if error.is::<signal::Interrupted>() => return Err(error),
        Err(error) => report.remarks.push(format!("setting the boot default failed: {error:#}")),
    }
    Ok(())
}

/// Whether a kernel may now lack a module in use. An idle hook returns here without reading anything.
fn concerns(session: &Session, events: &[Event], report: &Report) -> bool {
    let lacks = report.worse_than(Severity::Fine).any(|line| line.target.is_some());
    events.iter().any(|event| match event {
        Event::KernelAdded(_)
        | Event::HeadersAdded(_)
        | Event::Autoinstall(_)
        | Event::SourceAdded { .. } => lacks,
        // A kernel that lacked a module may be the newest one now.
        Event::KernelRemoved(_) => session.layout.failures().exists(),
        _ => false,
    })
}

/// Restores the administrator's boot default.
pub fn restore(session: &Session) -> Result<()> {
    if session.layout.boot_default().exists() {
        let tree = hold(session)?;
        if let Some(remark) = settled(session, &tree, &[], false)? {
            session.screen.alert(&format!("dkms: {remark}"));
        }
    }
    Ok(())
}

fn settled(session: &Session, tree: &LockedTree, events: &[Event], wanted: bool) -> Result<Option<String>> {
    let arch: Arch = crate::kernel::machine().context("the machine architecture has an invalid name")?;
    let leaving = |event: &Event| match event {
        Event::KernelRemoved(target) => Some(target.kernel.clone()),
        _ => None,
    };
    let gone: BTreeSet<KernelRelease> = events.iter().filter_map(leaving).collect();
    let snapshot = tree.snapshot()?;
    let facts = boot::inspect(&session.layout, &session.policy, &snapshot, &arch, &gone);
    let facts = Facts { wanted, ..facts };
    let Some(Decision { undo, change, menu, remark }) = boot::decide(&facts) else { return Ok(None) };
    // This order lets the run after a killed one distinguish our change from the admin's.
    let menu = menu && !regenerated_later(session, events);
    if let Some(act) = undo {
        act.iter().try_for_each(|act| boot_default::carry_out(session, act))?;
        fail::fail_point!("boot:undone");
        if menu && change.is_none() {
            boot_default::regenerate_menu(session)?;
        }
        boot_default::note(session, None)?;
    }
    if let Some((mut kept_default, act)) = change {
        boot_default::note(session, Some(&kept_default))?;
        fail::fail_point!("boot:noted");
        boot_default::carry_out(session, &act)?;
        fail::fail_point!("boot:made");
        if menu {
            boot_default::regenerate_menu(session)?;
        }
        kept_default.done = true;
        boot_default::note(session, Some(&kept_default))?;
    }
    Ok(remark)
}

/// Whether the package manager regenerates the boot menu later in this run.
fn regenerated_later(session: &Session, events: &[Event]) -> bool {
    let hook = session.policy.distribution.menu_hook.map(|hook| session.layout.etc.join(hook));
    events.iter().any(|event| matches!(event, Event::KernelAdded(_) | Event::KernelRemoved(_)))
        && hook.is_some_and(|hook| hook.exists())
}
