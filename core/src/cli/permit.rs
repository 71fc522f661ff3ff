//! Permission checks: root may do everything, other users what they can write.

use std::path::Path;

use anyhow::Result;

use super::action::Writes;
use super::args::Args;
use super::invocation::Invocation;
use super::refuse;
use crate::exit::Exit;
use crate::session::Session;
use crate::sys::file::{self, Unwritable};

/// Detects missing permissions before the action begins, and reports them in one line.
pub(super) fn check(session: &Session, args: &Args, invocation: &Invocation) -> Result<()> {
    if args.dry_run {
        return Ok(());
    }
    let (registry, modules) = (&session.layout.dkms_tree, &session.layout.install_tree);
    let rules = invocation.action.rules();
    let kernels = match rules.writes {
        Writes::AsRoot if !rustix::process::geteuid().is_root() => {
            return refuse(Exit::ERROR, format!("dkms {} must be run as root", invocation.action));
        }
        Writes::AsRoot | Writes::Nothing => return Ok(()),
        Writes::Tree => false,
        Writes::Kernels => true,
    };
    if rules.withdraws && !file::writable(registry) && !registered(session, invocation)? {
        return refuse(
            Exit::NOT_ADDED,
            format!("{} is not in the DKMS tree; to list all modules: dkms status", invocation.module_id()?),
        );
    }
    let root = rustix::process::geteuid().is_root();
    if !root && kernels && !file::writable(modules) {
        let modules = modules.display();
        return refuse(
            Exit::ERROR,
            format!("dkms {} must be run as root: {modules} is not writable", invocation.action),
        );
    }
    if !root && invocation.source().is_some() && !file::writable(&session.layout.source_tree) {
        let sources = session.layout.source_tree.display();
        return refuse(
            Exit::ERROR,
            format!("dkms {} must be run as root: {sources} is not writable", invocation.action),
        );
    }
    // As root, an action on a kernel creates a missing DKMS tree.
    let makes_registry = root && kernels;
    if !makes_registry && !file::writable(registry) {
        let why = unwritable(registry);
        return refuse(
            Exit::ERROR,
            format!("DKMS tree {} {why}; use --dkmstree DIRECTORY to select another one", registry.display()),
        );
    }
    Ok(())
}

/// Why a directory cannot be written to, as a sentence without its subject.
pub(super) fn unwritable(dir: &Path) -> String {
    match file::kind_of(dir, false) {
        None => "does not exist".into(),
        Some(kind) if kind != file::A_DIRECTORY => format!("is {kind}, not a directory"),
        Some(_) => match file::unwritable(dir) {
            Some(Unwritable::ReadOnly) => "is on a read-only file system".into(),
            Some(Unwritable::Immutable) => "has an attribute that forbids changes (lsattr -d)".into(),
            Some(Unwritable::Denied) | None => "is not writable".into(),
        },
    }
}

/// A module that is not in the DKMS tree is reported as such to every user.
fn registered(session: &Session, invocation: &Invocation) -> Result<bool> {
    let module = invocation.module_id()?;
    Ok(crate::apply::status_of(session, Some(&module.name))?.modules.contains_key(&module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_writable_is_named_as_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        assert_eq!(unwritable(&tree), "does not exist");
        file::write_atomic(&tree, b"", 0o644).unwrap();
        assert_eq!(unwritable(&tree), "is a regular file, not a directory");
        assert_eq!(unwritable(Path::new("/proc/self")), "is not writable");
    }
}
