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
use crate::tree::{LockedTree, Snapshot};
use crate::types::{Arch, KernelRelease};

/// Keeps a kernel that has the modules in use as the boot default, or undoes this. A failure is a remark, because the
/// modules are already installed.
pub fn settle(session: &Session, tree: &LockedTree, events: &[Event], report: &mut Report) -> Result<()> {
    if !(concerns(session, events, report) || session.layout.boot_default().exists()) || !ours(session) {
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

/// Whether this is the machine whose boot default is decided here.
fn ours(session: &Session) -> bool {
    // With a relocated install tree there is no machine to boot.
    let here = session.layout.depmod_root() == Some(std::path::Path::new("/"));
    // If policy.toml cannot be read, the admin's choice is unknown: the boot default is neither changed nor restored.
    let known = session.policy.admin.broken.is_none();
    // In a container, the modules in use are those of another system.
    here && known && !session.guest()
}

/// What an earlier run should have changed and could not.
pub fn overdue(session: &Session, snapshot: &Snapshot) -> Result<Option<String>> {
    if !ours(session) {
        return Ok(None);
    }
    let decision = decided(session, snapshot, &[], session.policy.admin.keep_boot_default())?;
    let decision = decision.filter(|decision| decision.undo.is_some() || decision.change.is_some());
    let unknown = || "an interrupted run left a change of the boot default".to_owned();
    Ok(decision.map(|decision| decision.remark.unwrap_or_else(unknown)))
}

/// Makes that change.
pub fn catch_up(session: &Session) -> Result<()> {
    let tree = hold(session)?;
    if let Some(remark) = settled(session, &tree, &[], session.policy.admin.keep_boot_default())? {
        session.screen.alert(&format!("dkms: {remark}"));
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

fn decided(
    session: &Session,
    snapshot: &Snapshot,
    events: &[Event],
    wanted: bool,
) -> Result<Option<Decision>> {
    let arch: Arch = crate::kernel::machine().context("the machine architecture has an invalid name")?;
    let leaving = |event: &Event| match event {
        Event::KernelRemoved(target) => Some(target.kernel.clone()),
        _ => None,
    };
    let gone: BTreeSet<KernelRelease> = events.iter().filter_map(leaving).collect();
    let facts = boot::inspect(&session.layout, &session.policy, snapshot, &arch, &gone);
    Ok(boot::decide(&Facts { wanted, ..facts }))
}

fn settled(session: &Session, tree: &LockedTree, events: &[Event], wanted: bool) -> Result<Option<String>> {
    let decision = decided(session, &tree.snapshot()?, events, wanted)?;
    let Some(Decision { undo, change, menu, remark }) = decision else { return Ok(None) };
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
    events.iter().any(|event| matches!(event, Event::KernelAdded(_) | Event::KernelRemoved(_)))
        && boot_default::menu_follows(session)
}
