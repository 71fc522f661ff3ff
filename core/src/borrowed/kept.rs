//! What a package transaction keeps of borrowed headers from its pre-build until the last hook that needs them: while it runs, not
//! every package manager can be asked, and what was built below all of them is found again below all of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::caller;
use crate::event::Event;
use crate::layout::Layout;
use crate::sys::file;
use crate::sys::private::Private;
use crate::types::{KernelRelease, Target};

/// The list of hooks. Kernel releases do not begin with a dot.
const AWAITED: &str = ".awaited";
/// The directory of copies, until all of them are complete.
const COPIES: &str = "copies";

/// The directory of the package transaction above this process. Those of dead ones are deleted by the next run.
#[derive(Debug)]
pub struct Kept(PathBuf);

impl Kept {
    /// `None` outside of a transaction.
    pub fn now(layout: &Layout) -> Option<Self> {
        let transaction = caller::manager()?.replace(' ', "-");
        Some(Self(layout.borrowed().join(transaction)))
    }

    /// The package files of a kernel's headers.
    pub fn files(&self, kernel: &KernelRelease) -> Option<Vec<PathBuf>> {
        let dir = self.place(kernel);
        dir.is_dir().then(|| file::sorted_entries(&dir))
    }

    /// The kernels whose headers are here.
    pub fn kernels(&self) -> Vec<KernelRelease> {
        file::sub_dirs(&self.0).iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// Why a download for a kernel has failed in this transaction: each can wait for a network that does not answer.
    pub fn failure(&self, kernel: &KernelRelease) -> Option<String> {
        file::text(self.place(kernel)).ok()
    }

    /// Remembers that.
    pub fn note_failure(&self, kernel: &KernelRelease, why: &str) -> Result<()> {
        file::write_atomic(&self.place(kernel), why.as_bytes(), 0o600)
    }

    /// Copies package files. The directory is complete if it exists.
    pub fn put(&self, kernel: &KernelRelease, files: &[PathBuf], private: &Private) -> Result<()> {
        let copies = private.path().join(COPIES);
        file::make_private_dir(&copies)?;
        for from in files {
            let name = from.file_name().context("a package file has no name")?;
            file::copy_atomic(from, &copies.join(name))?;
        }
        file::replace_dir(&copies, &self.place(kernel))
    }

    /// Keeps all until these hooks have run: those of the kernels that are here, and of modules, by directory of the source tree.
    pub fn until<'s>(&self, sources: impl IntoIterator<Item = &'s String>) -> Result<()> {
        let kernels = self.kernels();
        if kernels.is_empty() {
            return Ok(());
        }
        let kernels = kernels.iter().map(of_kernel);
        let lines: BTreeSet<String> = kernels.chain(sources.into_iter().map(|dir| of_source(dir))).collect();
        self.await_all(&lines)
    }

    /// These events have been handled. After the last of the awaited hooks, nothing is kept.
    pub fn handled(&self, events: &[Event]) -> Result<()> {
        let list = self.0.join(AWAITED);
        let Ok(text) = file::text(&list) else { return Ok(()) };
        let done: BTreeSet<String> = events.iter().flat_map(lines).collect();
        let open: BTreeSet<String> =
            text.lines().map(str::to_owned).filter(|line| !done.contains(line)).collect();
        if open.is_empty() { self.forget() } else { self.await_all(&open) }
    }

    /// Deletes it.
    pub fn forget(&self) -> Result<()> {
        file::remove_all(&self.0)
    }

    fn await_all(&self, lines: &BTreeSet<String>) -> Result<()> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        file::write_atomic(&self.0.join(AWAITED), text.as_bytes(), 0o600)
    }

    fn place(&self, kernel: &KernelRelease) -> PathBuf {
        self.0.join(Path::new(kernel.as_str()))
    }
}

fn of_kernel(kernel: &KernelRelease) -> String {
    format!("kernel {kernel}")
}

fn of_source(directory: &str) -> String {
    format!("source {directory}")
}

/// The hooks that an event is from.
fn lines(event: &Event) -> Vec<String> {
    match event {
        Event::KernelAdded(Target { kernel, .. })
        | Event::HeadersAdded(Target { kernel, .. })
        | Event::Autoinstall(Target { kernel, .. }) => vec![of_kernel(kernel)],
        // Without targets, it is only registered, and built later.
        Event::SourceAdded { module, targets } if !targets.is_empty() => {
            vec![of_source(&format!("{}-{}", module.name, module.version))]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_until_the_last_hook() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept(dir.path().join("7-70"));
        let kernel: KernelRelease = "6.1-amd64".parse().unwrap();
        let target = Target { kernel: kernel.clone(), arch: "x86_64".parse().unwrap() };
        let package = dir.path().join("headers.deb");
        file::write_atomic(&package, b"x", 0o644).unwrap();
        let private = Private::new(&dir.path().join("in")).unwrap();
        assert_eq!(kept.files(&kernel), None);
        kept.put(&kernel, &[package], &private).unwrap();
        kept.until(&["zfs-2.3".to_owned()]).unwrap();
        assert_eq!((kept.files(&kernel).unwrap().len(), kept.kernels()), (1, vec![kernel.clone()]));
        let source =
            |targets: Vec<Target>| Event::SourceAdded { module: "zfs/2.3".parse().unwrap(), targets };
        for (events, still) in [
            (vec![], true),
            (vec![source(vec![])], true),
            (vec![Event::KernelAdded(target.clone())], true),
            (vec![Event::KernelRemoved(target.clone())], true),
            (vec![source(vec![target])], false),
        ] {
            kept.handled(&events).unwrap();
            assert_eq!(kept.0.exists(), still, "{events:?}");
        }
        kept.note_failure(&kernel, "no network").unwrap();
        assert_eq!((kept.files(&kernel), kept.failure(&kernel).as_deref()), (None, Some("no network")));
        // Without headers, nothing is awaited.
        kept.until(&["zfs-2.3".to_owned()]).unwrap();
        kept.handled(&[]).unwrap();
        assert!(kept.0.exists());
    }
}
