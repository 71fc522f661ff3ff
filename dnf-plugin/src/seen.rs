//! Which kernels and module sources a list of paths or packages tells of.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _};

use anyhow::Result;
use dkms_core::event::Event;
use dkms_core::hook::{source_in, target, targets_of_source};
use dkms_core::kernel::installed;
use dkms_core::session::Session;
use dkms_core::types::{KernelRelease, ModuleId};

/// What lies in a kernel's directory as long as the kernel is installed.
const IMAGE: [&str; 2] = ["vmlinuz", "modules.builtin"];
/// What else lies directly in it and is neither a module of somebody else's nor made by depmod.
const PARTS: [&str; 5] = ["build", "kernel", "modules.order", "System.map", "config"];

/// What a transaction brought, or is about to take.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Kernels of which anything was seen: image, modules or headers.
    pub kernels: BTreeSet<KernelRelease>,
    /// Those of them of which the image was seen.
    pub images: BTreeSet<KernelRelease>,
    /// Modules whose source was seen.
    pub modules: BTreeSet<ModuleId>,
}

impl Seen {
    /// Reads paths from standard input. Sources that are no module's, or of a module that does not lie where its name
    /// says, are left out: nobody could register them.
    pub fn paths(session: &Session) -> Self {
        let mut seen = Self::default();
        for path in lines() {
            match place(&path) {
                Some(Place::Part(release)) => seen.kernels.extend(release.parse::<KernelRelease>()),
                Some(Place::Image(release)) => {
                    seen.kernels.extend(release.parse::<KernelRelease>());
                    seen.images.extend(release.parse::<KernelRelease>());
                }
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
    /// follows differs. What a package of another name brought, rpm's triggers know better.
    pub fn packages(session: &Session, packages: impl Iterator<Item = String>) -> Self {
        let there = installed(&session.layout);
        let mut kernels = BTreeSet::new();
        for package in packages {
            let words: Vec<&str> = package.split(' ').collect();
            if let [name, version, release, ..] = words[..]
                && name.starts_with("kernel")
            {
                kernels.extend(there.iter().filter(|kernel| of(kernel.as_str(), version, release)).cloned());
            }
        }
        Self { kernels, ..Self::default() }
    }

    /// The events at the end of a transaction, in which everything is in its place. Whoever makes initramfs images has
    /// had his turn: the kernel counts as one whose headers came, whatever of it came.
    pub fn came(self, session: &Session) -> Result<Vec<Event>> {
        let there = installed(&session.layout);
        let mut events = Vec::new();
        for module in self.modules {
            events.push(Event::SourceAdded { module, targets: targets_of_source(session, None, false)? });
        }
        for kernel in self.kernels.iter().filter(|kernel| there.contains(kernel)) {
            events.push(Event::HeadersAdded(target(kernel.as_str())?));
        }
        Ok(events)
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

/// Whether a kernel is from a package of this version and release.
fn of(kernel: &str, version: &str, release: &str) -> bool {
    let rest = kernel.strip_prefix(&format!("{version}-{release}"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '+']))
}

/// What a path of a package is.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    /// What a kernel of this release cannot be without.
    Image(&'a str),
    /// Something else of it.
    Part(&'a str),
    /// The dkms.conf in this directory of the sources.
    Source(&'a str),
}

fn place(path: &str) -> Option<Place<'_>> {
    let path = path.strip_prefix("/usr").unwrap_or(path);
    if let Some(source) = path.strip_prefix("/src/") {
        if let Some(kernel) = source.strip_prefix("kernels/") {
            // The directory itself: what it contains is thousands of lines of the same.
            return (!kernel.is_empty() && !kernel.contains('/')).then_some(Place::Part(kernel));
        }
        let directory = source.strip_suffix("/dkms.conf")?;
        return (!directory.contains('/')).then_some(Place::Source(directory));
    }
    let (release, rest) = path.strip_prefix("/lib/modules/")?.split_once('/')?;
    match rest {
        rest if IMAGE.contains(&rest) => Some(Place::Image(release)),
        rest if PARTS.contains(&rest) => Some(Place::Part(release)),
        _ => None,
    }
}

/// The lines of standard input; what is not text is nobody's name.
pub fn lines() -> impl Iterator<Item = String> {
    io::stdin().lock().lines().map_while(|line| line.ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_called_like_their_package() {
        for (kernel, version, release, expected) in [
            ("6.12.1-1.fc43.x86_64", "6.12.1", "1.fc43", true),
            ("6.12.1-1.fc43.x86_64+debug", "6.12.1", "1.fc43", true),
            ("6.12.1-10.fc43.x86_64", "6.12.1", "1", false),
            ("6.12.10-1.fc43.x86_64", "6.12.1", "1.fc43", false),
        ] {
            assert_eq!(of(kernel, version, release), expected, "{kernel}");
        }
    }

    #[test]
    fn paths_tell_of_kernels_and_sources() {
        for (path, expected) in [
            ("/usr/lib/modules/6.12.1-1.fc43.x86_64/vmlinuz", Some(Place::Image("6.12.1-1.fc43.x86_64"))),
            (
                "/lib/modules/5.14.0-570.el9.x86_64/modules.builtin",
                Some(Place::Image("5.14.0-570.el9.x86_64")),
            ),
            ("/usr/lib/modules/6.4.0-150600.23-default/build", Some(Place::Part("6.4.0-150600.23-default"))),
            ("/usr/lib/modules/6.12.1/kernel", Some(Place::Part("6.12.1"))),
            ("/usr/lib/modules/6.12.1/kernel/fs/ext4/ext4.ko.xz", None),
            // Made by depmod; another package's module: no kernel came.
            ("/usr/lib/modules/6.12.1/modules.dep", None),
            ("/usr/lib/modules/6.12.1/extra/other/other.ko", None),
            ("/usr/lib/modules/6.12.1", None),
            ("/usr/src/kernels/6.12.1-1.fc43.x86_64", Some(Place::Part("6.12.1-1.fc43.x86_64"))),
            ("/usr/src/kernels/6.12.1-1.fc43.x86_64/Makefile", None),
            ("/usr/src/kernels/", None),
            ("/usr/src/nvidia-570.1/dkms.conf", Some(Place::Source("nvidia-570.1"))),
            ("/usr/src/nvidia-570.1/examples/dkms.conf", None),
            ("/usr/src/dkms.conf", None),
            ("/usr/src", None),
            ("", None),
        ] {
            assert_eq!(place(path), expected, "{path}");
        }
    }
}
