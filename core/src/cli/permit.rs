//! Who may do what: root everything, others what they can write.

use anyhow::Result;

use super::args::Args;
use super::refuse;
use super::words::Words;
use crate::session::Session;
use crate::sys::file;

/// Refuses early, and with one line, what the file system would refuse in the middle.
pub(super) fn check(session: &Session, args: &Args, words: &Words) -> Result<()> {
    if args.dry_run {
        return Ok(());
    }
    let (registry, modules) = (&session.layout.dkms_tree, &session.layout.install_tree);
    let (kernels, needed) = match words.action.as_str() {
        "add" | "build" => (false, true),
        // What is not registered is refused as that, whoever asks.
        "remove" | "unbuild" => (false, registered(session, words)),
        "uninstall" => (true, registered(session, words)),
        "install" | "autoinstall" | "match" => (true, true),
        action if action.starts_with("kernel_") => (true, true),
        _ => return Ok(()),
    };
    let root = rustix::process::geteuid().is_root();
    if !root && needed && kernels && !file::writable(modules) {
        let modules = modules.display();
        return refuse(1, format!("dkms {} changes {modules}: only root may do that", words.action));
    }
    if !root && words.source().is_some() && !file::writable(&session.layout.source_tree) {
        let sources = session.layout.source_tree.display();
        return refuse(1, format!("the source would be copied to {sources}: only root may do that"));
    }
    // Root's actions on a kernel make the registry where there is none.
    if needed && !(root && kernels) && !file::writable(registry) {
        let why = if registry.is_dir() { "is not yours to write" } else { "does not exist" };
        return refuse(
            1,
            format!("the registry {} {why}: give another one with --dkmstree", registry.display()),
        );
    }
    Ok(())
}

fn registered(session: &Session, words: &Words) -> bool {
    let Ok(module) = words.module_id() else { return false };
    crate::apply::status_of(session, Some(&module.name))
        .is_ok_and(|snapshot| snapshot.modules.contains_key(&module))
}
