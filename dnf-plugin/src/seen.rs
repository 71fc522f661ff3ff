//! Which kernels and module sources a list of paths or packages tells of.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _};

use anyhow::Result;
use dkms_core::event::Event;
use dkms_core::hook::{source_in, target, targets_of_source};
use dkms_core::kernel::{installed, of_package};
use dkms_core::layout::Place;
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
    /// Somebody has seen them before: it is known which of them wait.
    again: bool,
}

impl Seen {
    /// Reads paths from standard input. Sources whose directory has no module's name are left out: nobody could register them.
    pub fn paths(session: &Session) -> Self {
        let mut seen = Self::default();
        for path in lines() {
            match Place::of(&path) {
                Some(Place::Part(release)) => seen.kernels.extend(release.parse::<KernelRelease>()),
                Some(Place::Image(release)) => seen.images.extend(release.parse::<KernelRelease>()),
                Some(Place::Source(directory)) => match source_in(session, directory) {
                    Ok(module) => drop(seen.modules.insert(module)),
                    Err(error) => session.screen.alert(&format!("dkms: {error:#}: it is left out")),
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
        let registered = dkms_core::apply::status_of(session, None).map(|known| known.modules);
        let registered: Vec<ModuleId> = registered.into_iter().flatten().map(|(module, _)| module).collect();
        let mut seen = Self { again: true, ..Self::default() };
        for package in packages {
            let words: Vec<&str> = package.split(' ').collect();
            let [name, version, release, ..] = words[..] else { continue };
            if name.starts_with("kernel") {
                let mut there = installed(&session.layout);
                there.retain(|kernel| of_package(kernel, version, release) && has_headers(session, kernel));
                seen.kernels.extend(there);
            }
            let its = |id: &&ModuleId| id.version.as_str() == version && name.contains(id.name.as_str());
            seen.modules.extend(registered.iter().filter(its).cloned());
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
            targets.retain(|target| !self.again || has_headers(session, &target.kernel));
            events.push(Event::SourceAdded { module, targets });
        }
        for kernel in self.kernels.union(&self.images).filter(|kernel| there.contains(kernel)) {
            events.push(Event::HeadersAdded(target(kernel.as_str())?));
        }
        Ok(events)
    }

    /// The events when we come ourselves, and see everything that was there before: what another dkms has built is believed.
    /// The modules have been registered, and each kernel has all of them.
    pub fn found(self, session: &Session) -> Result<Vec<Event>> {
        let kernels = Self { modules: BTreeSet::new(), ..self }.came(session)?;
        let believed = |event| match event {
            Event::HeadersAdded(target) => Event::Autoinstall(target),
            other => other,
        };
        Ok(kernels.into_iter().map(believed).collect())
    }

    /// The events before a package's files are deleted. `stays`: the package itself stays, in another version.
    pub fn leave(self, session: &Session, stays: bool) -> Result<Vec<Event>> {
        let known = dkms_core::apply::status_of(session, None)?;
        let modules = self.modules.into_iter().filter(|module| known.registered(module));
        let mut events: Vec<Event> = modules
            .map(|module| match stays {
                // What is installed serves until its successor is proven.
                true => Event::SourceReplaced(module),
                false => Event::SourceGone(module),
            })
            .collect();
        for kernel in self.images {
            events.push(Event::KernelRemoved(target(kernel.as_str())?));
        }
        Ok(events)
    }
}

fn has_headers(session: &Session, kernel: &KernelRelease) -> bool {
    session.layout.headers(kernel).exists()
}

/// The lines of standard input; what is not text is nobody's name.
pub fn lines() -> impl Iterator<Item = String> {
    io::stdin().lock().lines().map_while(|line| line.ok())
}
