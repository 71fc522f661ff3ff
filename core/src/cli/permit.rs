//! Who may do what: root everything, others what they can write.

use anyhow::Result;

use super::args::Args;
use super::refuse;
use super::words::Words;
use crate::exit::Exit;
use crate::session::Session;
use crate::sys::file;

/// Refuses early, and with one line, what the file system would refuse in the middle.
pub(super) fn check(session: &Session, args: &Args, words: &Words) -> Result<()> {
    if args.dry_run {
        return Ok(());
    }
    let (registry, modules) = (&session.layout.dkms_tree, &session.layout.install_tree);
    let kernels = match words.action.as_str() {
        "preflight" if !rustix::process::geteuid().is_root() => {
            return refuse(
                Exit::ERROR,
                "dkms preflight builds as if it were installed already: only root may do that",
            );
        }
        "add" | "build" | "remove" | "unbuild" => false,
        "install" | "uninstall" | "autoinstall" | "match" => true,
        action if action.starts_with("kernel_") => true,
        _ => return Ok(()),
    };
    let withdraws = matches!(words.action.as_str(), "remove" | "unbuild" | "uninstall");
    if withdraws && !file::writable(registry) && !registered(session, words)? {
        return refuse(
            Exit::NOT_ADDED,
            format!("{} is not registered: dkms status lists what is", words.module_id()?),
        );
    }
    let root = rustix::process::geteuid().is_root();
    if !root && kernels && !file::writable(modules) {
        let modules = modules.display();
        return refuse(
            Exit::ERROR,
            format!("dkms {} changes {modules}: only root may do that", words.action),
        );
    }
    if !root && words.source().is_some() && !file::writable(&session.layout.source_tree) {
        let sources = session.layout.source_tree.display();
        return refuse(
            Exit::ERROR,
            format!("the source would be copied to {sources}: only root may do that"),
        );
    }
    // Root's actions on a kernel make the registry where there is none.
    let makes_registry = root && kernels;
    if !makes_registry && !file::writable(registry) {
        let why = if registry.is_dir() { "is not yours to write" } else { "does not exist" };
        return refuse(
            Exit::ERROR,
            format!("the registry {} {why}: give another one with --dkmstree", registry.display()),
        );
    }
    Ok(())
}

/// What is not registered is refused as that, whoever asks.
fn registered(session: &Session, words: &Words) -> Result<bool> {
    let module = words.module_id()?;
    Ok(crate::apply::status_of(session, Some(&module.name))?.modules.contains_key(&module))
}
