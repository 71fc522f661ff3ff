//! Unified kernel images, which contain an initramfs: the system's own tool makes them again, or they are named.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::distro::fill;
use crate::kernel::{pkgbase, unified};
use crate::layout::Layout;
use crate::report::KernelStep;
use crate::report::progress::Progress;
use crate::session::Session;
use crate::sys::file::{self, sorted_entries};
use crate::sys::private::Private;
use crate::sys::run::{Cmd, which};
use crate::types::Target;

/// A file, as it was when it was seen: another one has its name as soon as it was made again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) path: PathBuf,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Seen {
    fn of(path: PathBuf) -> Option<Self> {
        let meta = path.metadata().ok()?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        Some(Self { path, inode: meta.ino(), size: meta.size(), modified })
    }

    /// It is the same file, and not from after this time.
    fn unchanged_since(&self, since: u64) -> bool {
        let older = self.modified.0 <= i64::try_from(since).unwrap_or(i64::MAX);
        older && Self::of(self.path.clone()).as_ref() == Some(self)
    }
}

/// The images of a kernel.
pub(super) fn images(session: &Session, target: &Target) -> Vec<Seen> {
    let dirs = session.layout.esps().into_iter().flat_map(|esp| Layout::loader_entries(&esp));
    let files =
        dirs.flat_map(|dir| sorted_entries(&dir)).filter(|path| path.extension().is_some_and(|e| e == "efi"));
    let ours =
        files.filter(|path| unified::release(path).is_some_and(|release| release == target.kernel.as_str()));
    // A mount point may be seen by two names.
    let mut seen: Vec<Seen> = ours.filter_map(Seen::of).collect();
    seen.sort_by_key(|one| one.inode);
    seen.dedup_by_key(|one| one.inode);
    seen
}

/// Makes images again that contain what was published since, as `stale` says of a file with an initramfs. True if one was
/// made, here or by the step before.
pub(super) fn refresh(
    session: &Session,
    target: &Target,
    (images, since): (&[Seen], u64),
    stale: impl Fn(&Path) -> bool,
) -> Result<bool> {
    let mut made = false;
    for image in images {
        if !image.unchanged_since(since) {
            made = true;
            continue;
        }
        // The tools that list an initramfs read no unified image.
        let dir = Private::new(&session.layout.work())?;
        let initramfs = dir.path().join("initramfs");
        file::write_unsynced(&initramfs, &unified::initramfs(&image.path)?)?;
        if !stale(&initramfs) {
            continue;
        }
        make(session, target, image)?;
        made = true;
    }
    Ok(made)
}

fn make(session: &Session, target: &Target, image: &Seen) -> Result<()> {
    let path = image.path.display();
    let Some((program, args)) = tool(session, target) else {
        bail!(
            "{path} is a unified kernel image with an older module; make it again with the tool that made it"
        )
    };
    session.screen.event(&Progress::Step { step: KernelStep::Initramfs, target });
    session.screen.progress(&format!("dkms: updating {path}: a module in it changed"));
    Cmd::new(program).args(&args).check().with_context(|| format!("updating {path}"))?;
    if Seen::of(image.path.clone()).as_ref() == Some(image) {
        bail!("{program} did not update {path}; make it again with the tool that made it");
    }
    if let (Some(dir), Some(name)) = (image.path.parent(), image.path.file_name()) {
        file::sync_files(dir, |file| name == file)?;
    }
    Ok(())
}

/// The program that makes this machine's unified images, if that is known.
fn tool(session: &Session, target: &Target) -> Option<(&'static str, Vec<String>)> {
    let layout = &session.layout;
    let base = pkgbase(layout, &target.kernel);
    let (program, args) = session.policy.distribution.make_initramfs.split_first()?;
    let preset = base.as_ref().and_then(|base| file::text(layout.mkinitcpio_preset(base)).ok());
    if preset.is_some_and(|preset| makes_unified(&preset)) && which(program).is_some() {
        return Some((program, args.iter().map(|arg| fill(arg, target, base.as_deref())).collect()));
    }
    let settings = layout.install_confs().iter().filter_map(|path| file::text(path).ok()).collect();
    let kernel = [layout.boot_image(&target.kernel), layout.image(&target.kernel)];
    let kernel = kernel.iter().find(|kernel| kernel.exists())?;
    let program = "kernel-install";
    (installs_unified(settings) && which(program).is_some())
        .then(|| (program, vec!["add".to_owned(), target.kernel.to_string(), kernel.display().to_string()]))
}

/// Whether a preset of mkinitcpio has a unified image.
fn makes_unified(preset: &str) -> bool {
    let names = preset.lines().filter_map(|line| line.trim().split_once('=')).map(|(name, _)| name);
    names.into_iter().any(|name| !name.starts_with('#') && name.ends_with("_uki"))
}

/// Whether kernel-install makes unified images. The first file with a layout counts.
fn installs_unified(settings: Vec<String>) -> bool {
    let layout = |text: &String| {
        let mut values = text.lines().filter_map(|line| line.trim().strip_prefix("layout="));
        values.next_back().map(|value| value.trim().to_owned())
    };
    settings.iter().find_map(layout).is_some_and(|layout| layout == "uki")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_is_told_by_its_configuration() {
        for (preset, unified) in [
            ("PRESETS=('default')\ndefault_image=\"/boot/initramfs-linux.img\"\n", false),
            ("#default_uki=\"/efi/EFI/Linux/arch-linux.efi\"\n", false),
            ("default_uki=\"/efi/EFI/Linux/arch-linux.efi\"\n", true),
        ] {
            assert_eq!(makes_unified(preset), unified, "{preset}");
        }
        for (settings, unified) in [
            (&[][..], false),
            (&["# layout=uki\n"], false),
            (&["uki_generator=ukify\nlayout=uki\n"], true),
            (&["layout=bls\n", "layout=uki\n"], false),
            (&["initrd_generator=dracut\n", "layout=uki\n"], true),
        ] {
            let settings = settings.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(installs_unified(settings), unified);
        }
    }
}
