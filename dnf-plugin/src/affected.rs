//! The kernels and module sources in a list of paths or packages.

use std::collections::BTreeSet;

use anyhow::Result;
use dkms_core::apply::status_of;
use dkms_core::event::Event;
use dkms_core::inventory::{source_in, target, targets_of_source};
use dkms_core::kernel::{installed, of_package};
use dkms_core::layout::PackagePath;
use dkms_core::session::Session;
use dkms_core::types::{KernelRelease, ModuleId};

/// The kernels and modules that a transaction installed or is about to remove.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Kernels with a module, headers or a package in the list.
    pub kernels: BTreeSet<KernelRelease>,
    /// Kernels with an image in the list.
    pub images: BTreeSet<KernelRelease>,
    /// Modules with a source in the list.
    pub modules: BTreeSet<ModuleId>,
    /// rpm's triggers have processed them before, and have reported those that wait.
    again: bool,
}

impl Affected {
    /// Reads paths. Sources whose directory is not named after a module are skipped: they cannot be registered.
    pub fn paths(session: &Session, paths: impl Iterator<Item = String>) -> Self {
        let mut seen = Self::default();
        for path in paths {
            match PackagePath::of(&path) {
                Some(PackagePath::Part(release)) => seen.kernels.extend(release.parse::<KernelRelease>()),
                Some(PackagePath::Image(release)) => seen.images.extend(release.parse::<KernelRelease>()),
                Some(PackagePath::Source(directory)) => match source_in(session, directory) {
                    Ok(module) => drop(seen.modules.insert(module)),
                    Err(error) => session.screen.alert(&format!("dkms: {error:#}; ignored")),
                },
                None => {}
            }
        }
        seen
    }

    /// Reads packages, `NAME VERSION RELEASE ARCH`. A kernel release begins with the version and release of its
    /// package, and its suffix varies. The package of a registered module contains its name as one of several words,
    /// and has its version. Packages with other names are processed by rpm's triggers, which have also reported kernels
    /// without headers.
    pub fn packages(session: &Session, packages: impl Iterator<Item = String>) -> Self {
        let registered = status_of(session, None).map(|known| known.modules).unwrap_or_default();
        let mut there = installed(&session.layout);
        there.retain(|kernel| session.layout.headers(kernel).exists());
        let mut seen = Self { again: true, ..Self::default() };
        for package in packages {
            let words: Vec<&str> = package.split(' ').collect();
            let [name, version, release, ..] = words[..] else { continue };
            let its =
                |kernel: &&KernelRelease| name.starts_with("kernel") && of_package(kernel, version, release);
            seen.kernels.extend(there.iter().filter(its).cloned());
            let its = |id: &&ModuleId| id.version.as_str() == version && name.contains(id.name.as_str());
            seen.modules.extend(registered.keys().filter(its).cloned());
        }
        seen
    }

    /// The events at the end of a transaction, when everything is installed. Generators of the initramfs have already
    /// run, so the event is always that of installed headers.
    pub fn came(self, session: &Session) -> Result<Vec<Event>> {
        let there = installed(&session.layout);
        let mut events = Vec::new();
        for module in self.modules {
            let mut targets = targets_of_source(session, None, false)?;
            targets.retain(|target| !self.again || session.layout.headers(&target.kernel).exists());
            events.push(Event::SourceAdded { module, targets });
        }
        for kernel in self.kernels.union(&self.images).filter(|kernel| there.contains(kernel)) {
            events.push(Event::HeadersAdded(target(kernel.as_str())?));
        }
        Ok(events)
    }

    /// The events before a package's files are deleted. `stays`: another version of the package remains.
    pub fn leave(self, session: &Session, stays: bool) -> Result<Vec<Event>> {
        let known = status_of(session, None)?;
        let modules = self.modules.into_iter().filter(|module| known.registered(module));
        let mut events: Vec<Event> = modules
            .map(|module| match stays {
                // Installed modules are kept until their successor is verified.
                true => Event::SourceReplaced(module),
                false => Event::SourceGone(module),
            })
            .collect();
        let gone = self.images.iter().map(|kernel| target(kernel.as_str()).map(Event::KernelRemoved));
        events.extend(gone.collect::<Result<Vec<_>>>()?);
        Ok(events)
    }
}
