//! The initramfs: regenerated only if a published module makes it out of date, and nothing regenerates it later.

mod unified;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::distro::{Generator, fill};
use crate::kernel::{elf, pkgbase};
use crate::report::KernelStep;
use crate::report::progress::Progress;
use crate::session::Session;
use crate::sys::file;
use crate::sys::run::{Cmd, Output, which};
use crate::types::Target;

/// Regenerates the initramfs of a kernel, and unified images with it, if they are out of date since a time. True if one was
/// regenerated.
pub fn refresh(session: &Session, target: &Target, published: &BTreeSet<String>, since: u64) -> Result<bool> {
    if published.is_empty() || image_is_pending(session, target)? {
        return Ok(false);
    }
    let images = unified::images(session, target);
    let wishes = wishes(session);
    let plain = plain(session, target, published, &wishes)?;
    let [own, _] = session.policy.distribution.generators();
    let stale = |initramfs: &Path| stale(published, &wishes, || list(&own, initramfs));
    let unified = unified::refresh(session, target, (&images, since), stale)?;
    Ok(plain || unified)
}

/// Those of the published modules that the initramfs of a kernel has, or that its configuration names. `None` if that is not
/// known. Changes nothing.
pub fn inside(session: &Session, target: &Target, published: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    if !unified::images(session, target).is_empty() {
        return None;
    }
    let pkgbase = pkgbase(&session.layout, &target.kernel);
    let images = session.layout.initramfs_images(&target.kernel, pkgbase.as_deref());
    let (mut all, wishes) = (BTreeSet::new(), wishes(session));
    for generator in session.policy.distribution.generators() {
        let own = images.iter().find(|image| generator.made(image) && image.exists());
        if let Some(image) = own {
            all.extend(contained(published, &wishes, &list(&generator, image)?));
        }
    }
    Some(all)
}

/// Whether a kernel has an initramfs, or an image with one in it.
pub fn exists(session: &Session, target: &Target) -> bool {
    let pkgbase = pkgbase(&session.layout, &target.kernel);
    let mut images = session.layout.initramfs_images(&target.kernel, pkgbase.as_deref()).into_iter();
    images.any(|image| image.exists()) || !unified::images(session, target).is_empty()
}

/// The initramfs in files of its own: usually one.
fn plain(session: &Session, target: &Target, published: &BTreeSet<String>, wishes: &str) -> Result<bool> {
    let mut made = false;
    for generator in session.policy.distribution.generators() {
        made |=
            image(session, target, &generator, |image| stale(published, wishes, || list(&generator, image)))?;
    }
    Ok(made)
}

/// The image of one generator.
fn image(
    session: &Session,
    target: &Target,
    generator: &Generator,
    stale: impl FnOnce(&Path) -> bool,
) -> Result<bool> {
    let Some((program, args)) = generator.make.split_first() else { return Ok(false) };
    let pkgbase = pkgbase(&session.layout, &target.kernel);
    let images = session.layout.initramfs_images(&target.kernel, pkgbase.as_deref());
    let images: Vec<_> = images.into_iter().filter(|image| generator.made(image) && image.exists()).collect();
    let Some(image) = images.first().filter(|image| which(program).is_some() && stale(image)) else {
        return Ok(false);
    };
    session.screen.event(&Progress::Step { step: KernelStep::Initramfs, target });
    session
        .screen
        .progress(&format!("dkms: updating the initramfs for {}: a module in it changed", target.kernel));
    Cmd::new(*program)
        .args(args.iter().map(|arg| {
            fill(arg, target, pkgbase.as_deref()).replace("{image}", &image.display().to_string())
        }))
        .check()
        .with_context(|| format!("updating the initramfs for {}", target.kernel))?;
    // The note that it is out of date is deleted after this.
    for image in &images {
        if let (Some(dir), Some(name)) = (image.parent().filter(|_| image.exists()), image.file_name()) {
            file::sync_files(dir, |file| name == file)?;
        }
    }
    Ok(true)
}

/// The names of the files in an initramfs.
fn list(generator: &Generator, image: &Path) -> Option<String> {
    let (program, args) = generator.list.split_first()?;
    let done = Cmd::new(*program).args(args).arg(image).output(Output::Split).run().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.output).into_owned())
}

/// Whether an initramfs from before these modules were published lacks them or contains old ones: it contains one, or
/// its configuration or a hook names one. If it cannot be listed, only the names are used.
pub fn stale(published: &BTreeSet<String>, wishes: &str, list: impl FnOnce() -> Option<String>) -> bool {
    !contained(published, wishes, "").is_empty()
        || !contained(published, "", &list().unwrap_or_default()).is_empty()
}

/// Those that a configuration names or the list of an initramfs contains.
fn contained(published: &BTreeSet<String>, wishes: &str, listed: &str) -> BTreeSet<String> {
    let wished = wishes
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')))
        .map(elf::canonical_name);
    let listed = listed.lines().filter(|line| line.contains(".ko")).map(|line| elf::module_name(line.trim()));
    wished.chain(listed).filter(|name| published.contains(name)).collect()
}

/// The package manager has unpacked the kernel and not configured it yet: its own hook runs after dkms.
fn image_is_pending(session: &Session, target: &Target) -> Result<bool> {
    let (command, pending) = session.policy.distribution.image_state;
    let Some((program, args)) = command.split_first() else { return Ok(false) };
    if which(program).is_none() {
        return Ok(false);
    }
    let done = Cmd::new(*program)
        .args(args.iter().map(|arg| fill(arg, target, None)))
        .output(Output::Split)
        .run()?;
    let states = String::from_utf8_lossy(&done.output).into_owned();
    Ok(states.lines().any(|state| pending.contains(&state)))
}

fn wishes(session: &Session) -> String {
    let read = |path: &std::path::PathBuf| file::content(path).ok();
    let texts = session.layout.initramfs_config().iter().filter_map(read).collect::<Vec<_>>();
    let mut all: String = texts.iter().map(|text| String::from_utf8_lossy(text) + "\n").collect();
    // MODULES=dep includes modules that this machine uses now.
    if all.lines().any(|line| line.trim() == "MODULES=dep") && !session.guest() {
        let loaded = file::text(session.layout.loaded_modules()).unwrap_or_default();
        all.extend(loaded.lines().filter_map(|line| line.split(' ').next()).flat_map(|name| [name, "\n"]));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_module_that_belongs_inside_makes_it_stale() {
        let published = BTreeSet::from(["v4l2loopback".to_owned(), "hid_kye".to_owned()]);
        let list = "usr/lib/modules/6.1/kernel/drivers/hid/hid-kye.ko.xz\n";
        for (wishes, listed, expected) in [
            ("", Some(""), false),
            ("", None, false),
            ("# v4l2loopback\n", Some("usr/lib/modules/6.1/kernel/other.ko\n"), false),
            ("v4l2loopback\n", None, true),
            ("manual_add_modules v4l2loopback", None, true),
            ("", Some(list), true),
            ("", Some("usr/share/doc/v4l2loopback\n"), false),
        ] {
            let stale = stale(&published, wishes, || listed.map(str::to_owned));
            assert_eq!(stale, expected, "{wishes:?} {listed:?}");
        }
        assert_eq!(contained(&published, "", list), BTreeSet::from(["hid_kye".to_owned()]));
    }
}
