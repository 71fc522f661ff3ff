//! `alpm-headers KERNEL` prints the package with a kernel's headers, according to pacman's database, as `NAME`; or
//! `NAME INSTALLED NEEDED` if this package is installed in another version than the kernel. Prints nothing if the
//! database
//! or the package is missing: the usual name is then assumed.
//!
//! A separate program, and the only one that is linked to libalpm: a hook that is linked to it would fail after a
//! transaction that
//! replaces the library.

use std::path::Path;
use std::process::ExitCode;

use alpm::{Alpm, Db, Package, SigLevel};
use dkms_core::distro::managers::PACMAN_DATABASE;
use dkms_core::layout::Layout;
use dkms_core::report::Screen;
use dkms_core::types::KernelRelease;

fn main() -> ExitCode {
    let kernel = std::env::args().nth(1).and_then(|word| word.parse::<KernelRelease>().ok());
    match kernel.and_then(|kernel| answer(&kernel)) {
        Some(answer) => {
            Screen::person().answer(&format!("{answer}\n"));
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
}

fn answer(kernel: &KernelRelease) -> Option<String> {
    let layout = Layout::default();
    let database = Path::new(PACMAN_DATABASE);
    // Does not create a missing database.
    if !database.join("local").is_dir() {
        return None;
    }
    let handle = Alpm::new("/", database.to_str()?).ok()?;
    let image = layout.image(kernel);
    // Packages have it below /usr, whether /lib is a link or not.
    let image = format!("usr/{}", image.strip_prefix("/").ok()?.to_str()?);
    let owner =
        handle.localdb().pkgs().iter().find(|package| package.files().contains(image.as_str()).is_some())?;
    for entry in dkms_core::sys::file::sorted_entries(&database.join("sync")) {
        let name = entry.file_name().and_then(|name| name.to_str()?.strip_suffix(".db"));
        if let Some(name) = name {
            handle.register_syncdb(name, SigLevel::NONE).ok()?;
        }
    }
    let sync = handle.syncdbs();
    let offered = sync.iter().find_map(|db| headers_of(owner, db));
    match headers_of(owner, handle.localdb()) {
        Some(there) if there.version() != owner.version() => {
            Some(format!("{} {} {}", there.name(), there.version(), owner.version()))
        }
        Some(there) => Some(there.name().to_owned()),
        None => offered.map(|package| package.name().to_owned()),
    }
}

/// The package that is named after the kernel's and built together with it; else any package of the same build with a
/// name for headers.
fn headers_of<'a>(kernel: &Package, db: &'a Db) -> Option<&'a Package> {
    let base = kernel.base().unwrap_or(kernel.name());
    let named = [format!("{}-headers", kernel.name()), format!("{base}-headers")];
    named.iter().find_map(|name| db.pkg(name.as_str()).ok()).or_else(|| {
        db.pkgs().iter().find(|package| package.base() == Some(base) && package.name().ends_with("-headers"))
    })
}
