//! At the end of a transaction: which kernel is booted next.

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

/// Keeps a kernel that works as the boot default, or undoes that. What goes wrong is a remark: modules are in place by now.
pub fn settle(session: &Session, tree: &LockedTree, events: &[Event], report: &mut Report) -> Result<()> {
    // Trees of somebody's own are no machine that boots.
    let ours = session.layout.depmod_root() == Some(std::path::Path::new("/"));
    // While policy.toml cannot be read nobody knows whether this is wanted: neither done nor undone.
    let known = session.policy.admin.broken.is_none();
    if !ours || !known || !(concerns(session, events, report) || session.layout.boot_default().exists()) {
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

/// Whether a kernel may have come to lack something. An idle hook ends here: nothing is read.
fn concerns(session: &Session, events: &[Event], report: &Report) -> bool {
    let lacks = report.worse_than(Severity::Fine).any(|line| line.target.is_some());
    events.iter().any(|event| match event {
        Event::KernelAdded(_)
        | Event::HeadersAdded(_)
        | Event::Autoinstall(_)
        | Event::SourceAdded { .. } => lacks,
        // One that lacked something may be the newest now.
        Event::KernelRemoved(_) => session.layout.failures().exists(),
        _ => false,
    })
}

/// This program leaves, and nobody would undo it later.
pub fn let_go(session: &Session) -> Result<()> {
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
    let facts = boot::look(&session.layout, &session.policy, &snapshot, &arch, &gone);
    let facts = Facts { wanted, ..facts };
    let Some(Decision { undo, make, menu, remark }) = boot::decide(&facts) else { return Ok(None) };
    // In this order a run that is killed leaves what the next one can tell from what the admin did.
    let menu = menu && !remade_after_us(session, events);
    if let Some(act) = undo {
        act.iter().try_for_each(|act| boot_default::carry_out(session, act))?;
        fail::fail_point!("boot:undone");
        if menu && make.is_none() {
            boot_default::remake_menu(session)?;
        }
        boot_default::note(session, None)?;
    }
    if let Some((mut made, act)) = make {
        boot_default::note(session, Some(&made))?;
        fail::fail_point!("boot:noted");
        boot_default::carry_out(session, &act)?;
        fail::fail_point!("boot:made");
        if menu {
            boot_default::remake_menu(session)?;
        }
        made.done = true;
        boot_default::note(session, Some(&made))?;
    }
    Ok(remark)
}

/// Whether the package manager remakes the boot menu itself, later in this run.
fn remade_after_us(session: &Session, events: &[Event]) -> bool {
    let hook = session.policy.row.menu_hook.map(|hook| session.layout.etc.join(hook));
    events.iter().any(|event| matches!(event, Event::KernelAdded(_) | Event::KernelRemoved(_)))
        && hook.is_some_and(|hook| hook.exists())
}
