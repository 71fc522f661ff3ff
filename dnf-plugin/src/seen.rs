//! Which kernels and module sources are in a list of paths or packages.

use std::collections::BTreeSet;

use anyhow::Result;
use dkms_core::apply::status_of;
use dkms_core::event::Event;
use dkms_core::inventory::{source_in, target, targets_of_source};
use dkms_core::kernel::{installed, of_package};
use dkms_core::layout::PackagePath;
use dkms_core::session::Session;
use dkms_core::types::{KernelRelease, ModuleId};

/// What a transaction brought, or is about to take.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Kernels of which modules, headers or a package were seen.
    pub kernels: BTreeSet<KernelRelease>,
    /// Kernels of which the image was seen.
    pub images: BTreeSet<KernelRelease>,
    /// Modules whose source was seen.
    pub modules: BTreeSet<ModuleId>,
    /// rpm's triggers have seen them before: it is known which of them wait.
    again: bool,
}

impl Seen {
    /// Reads paths. Sources whose directory has no module's name are left out: they cannot be registered.
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

    /// Reads packages, `NAME VERSION RELEASE ARCH`: kernels are called by their package's version and release, and what
    /// follows differs; a registered module's package is called by its name, among other words, and has its version. What a
    /// package of another name brought, rpm's triggers know better; of a kernel without headers they have said that it waits.
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

    /// The events at the end of a transaction, in which everything is in its place. Whoever makes initramfs images has
    /// had his turn: the kernel counts as one whose headers came, whatever of it came.
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

    /// The events before a package's files are deleted. `stays`: the package itself stays, in another version.
    pub fn leave(self, session: &Session, stays: bool) -> Result<Vec<Event>> {
        let known = status_of(session, None)?;
        let modules = self.modules.into_iter().filter(|module| known.registered(module));
        let mut events: Vec<Event> = modules
            .map(|module| match stays {
                // What is installed serves until its successor is proven.
                true => Event::SourceReplaced(module),
                false => Event::SourceGone(module),
            })
            .collect();
        let gone = self.images.iter().map(|kernel| target(kernel.as_str()).map(Event::KernelRemoved));
        events.extend(gone.collect::<Result<Vec<_>>>()?);
        Ok(events)
    }
}
