//! This machine's kernels as targets, and the sources in its source tree as modules.
//!
//! Front doors and the pre-build use these functions, so that a kernel or a directory means the same to all of them.

use std::path::Path;

use anyhow::{Context, Result};

use crate::conf::evaluate;
use crate::kernel::{installed, machine};
use crate::session::Session;
use crate::tree::{Snapshot, Source};
use crate::types::{Arch, KernelRelease, ModuleId, Target};

/// Why a dkms.conf does not name a module.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoModule(pub String);

/// The architecture of this machine.
pub fn this_machine() -> Result<Arch> {
    machine().context("the machine architecture has an invalid name")
}

/// A kernel of this machine, by its release.
pub fn target(kernel: &str) -> Result<Target> {
    Ok(Target { kernel: kernel.parse()?, arch: this_machine()? })
}

/// The kernels that a command without a kernel means: the running one. In a chroot or container, that is another
/// system's: there, all kernels of this system.
pub fn default_kernels(session: &Session) -> Vec<KernelRelease> {
    if session.guest() { installed(&session.layout) } else { session.running().into_iter().collect() }
}

/// The same as targets.
pub fn default_targets(session: &Session) -> Result<Vec<Target>> {
    let arch = this_machine()?;
    Ok(default_kernels(session).into_iter().map(|kernel| Target { kernel, arch: arch.clone() }).collect())
}

/// All kernels of this machine, oldest first, including those without headers.
pub fn all_targets(session: &Session) -> Result<Vec<Target>> {
    let arch = this_machine()?;
    Ok(installed(&session.layout).into_iter().map(|kernel| Target { kernel, arch: arch.clone() }).collect())
}

/// The kernels that a new module package is built for: all, including those without headers, or, if framework.conf
/// restricts them, the running and the newest one. A running kernel that is not installed is that of a chroot's host.
/// `upgrade`: an earlier version of the package was installed.
pub fn targets_of_source(session: &Session, arch: Option<Arch>, upgrade: bool) -> Result<Vec<Target>> {
    let arch = match arch {
        Some(arch) => arch,
        None => this_machine()?,
    };
    let all = installed(&session.layout);
    let host = session.running().filter(|kernel| all.contains(kernel));
    let newest = all.last().cloned();
    let chosen: Vec<KernelRelease> = match (session.policy.framework.all_kernels, host) {
        (false, Some(running)) => {
            all.into_iter().filter(|kernel| *kernel == running || Some(kernel) == newest.as_ref()).collect()
        }
        (false, None) if upgrade => newest.into_iter().collect(),
        _ => all,
    };
    Ok(chosen.into_iter().map(|kernel| Target { kernel, arch: arch.clone() }).collect())
}

/// The module that a dkms.conf belongs to. The error is a [`NoModule`] if the file is at fault.
pub fn module_of(session: &Session, conf: &Path) -> Result<ModuleId> {
    let files = [conf.to_owned()];
    let names = "PACKAGE_NAME PACKAGE_VERSION";
    let raw = evaluate::framework(&files, names, &session.layout.evaluated())?
        .map_err(|error| NoModule(error.to_string()))?;
    let (name, version) = (raw.get("PACKAGE_NAME"), raw.get("PACKAGE_VERSION"));
    match (name.parse(), version.parse()) {
        (Ok(name), Ok(version)) => Ok(ModuleId { name, version }),
        _ => Err(NoModule(format!(
            "{}: invalid PACKAGE_NAME {name:?} or PACKAGE_VERSION {version:?}",
            conf.display()
        ))
        .into()),
    }
}

/// The module whose source a package installed as `DIRECTORY/dkms.conf` of the source tree. The name of the directory
/// decides: many packages rely on this, and have a placeholder for the version in their dkms.conf. The dkms.conf
/// determines where a name with dashes ends.
pub fn source_in(session: &Session, directory: &str) -> Result<ModuleId> {
    let conf = session.layout.source_tree.join(directory).join("dkms.conf");
    let named = module_of(session, &conf).ok();
    match named.filter(|id| session.layout.source(id).ends_with(directory)) {
        Some(id) => Ok(id),
        None => split(directory),
    }
}

/// The modules whose source was in this directory of the source tree: according to the DKMS tree, else by its name.
pub fn sources_once_in(session: &Session, directory: &str) -> Result<Vec<ModuleId>> {
    let was_there = |id: &ModuleId, source: &Source| match source {
        Source::Linked(dir) | Source::Dangling(dir) => *dir == session.layout.source_tree.join(directory),
        _ => session.layout.source(id).ends_with(directory),
    };
    let registry = Snapshot::load(&session.layout)?;
    let found = registry.modules.iter().filter(|(id, entry)| was_there(id, &entry.source));
    let found: Vec<ModuleId> = found.map(|(id, _)| id.clone()).collect();
    if found.is_empty() { split(directory).map(|id| vec![id]) } else { Ok(found) }
}

/// `NAME-VERSION`; a version has no dash.
fn split(directory: &str) -> Result<ModuleId> {
    let (name, version) = directory
        .rsplit_once('-')
        .with_context(|| format!("{directory:?} in the source tree has no name of the form NAME-VERSION"))?;
    Ok(ModuleId { name: name.parse()?, version: version.parse()? })
}
