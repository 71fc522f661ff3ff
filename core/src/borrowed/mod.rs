//! Headers that are not installed: downloaded through the package manager if the administrator wants this, and laid over the
//! system for confined processes of one run. What the builds need to be judged and found again is in their records.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::caller;
use crate::incoming::Incoming;
use crate::manager::Manager;
use crate::package::{Package, Reader};
use crate::plan::{Plan, Survey};
use crate::session::Session;
use crate::sys::private::Private;
use crate::sys::{confine, file, signal};
use crate::types::{KernelRelease, Target};
use crate::unpacked::{self, Overlay};

/// The directory of copies, until all of them are complete.
const KEPT: &str = "kept";

/// What a run has borrowed.
#[derive(Debug, Default)]
pub struct Borrowed {
    /// The headers; deleted with this value.
    pub overlay: Option<Overlay>,
    /// Their kernels.
    pub kernels: BTreeSet<Target>,
    /// What could not be borrowed, and why.
    pub remarks: Vec<String>,
}

/// Downloads the headers that a plan lacks. `later`: a later hook of the transaction does this; until then, only what the
/// pre-build has downloaded is used.
pub fn borrow(session: &Session, plan: &Plan, survey: &Survey, later: bool) -> Result<Borrowed> {
    let mut borrowed = Borrowed::default();
    let lacking = plan.without_headers();
    if lacking.is_empty() || !wanted(session) {
        return Ok(borrowed);
    }
    if !confine::available() {
        // Programs of a package that is not installed run in a sandbox or not at all.
        borrowed
            .remarks
            .push("kernel headers are not downloaded: this system does not allow namespaces".into());
        return Ok(borrowed);
    }
    let (mut packages, mut downloaded) = (Vec::new(), Vec::new());
    for target in lacking {
        // What is built for a kernel that is not installed is not installed either.
        if !survey.kernels.get(&target).is_some_and(|kernel| kernel.exists) {
            continue;
        }
        let package = survey.headers_package(&session.policy.distribution, &target);
        let Some(names) = package.exact() else { continue };
        // The transaction may install them yet.
        if later && !kept(session, &target.kernel).is_some_and(|kept| kept.is_dir()) {
            continue;
        }
        match described(session, &target.kernel, &names) {
            Ok((files, found)) => {
                downloaded.push(files);
                packages.extend(found);
                borrowed.kernels.insert(target);
            }
            Err(error) if error.is::<signal::Interrupted>() => return Err(error),
            Err(error) => {
                borrowed
                    .remarks
                    .push(format!("kernel headers for {} were not downloaded: {error:#}", target.kernel));
            }
        }
    }
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    packages.dedup_by(|a, b| (&a.name, &a.version) == (&b.name, &b.version));
    if !borrowed.kernels.is_empty() {
        match unpacked::unpack(session, &packages, &Incoming::of(&packages)) {
            Ok(overlay) => borrowed.overlay = Some(overlay),
            Err(error) if error.is::<signal::Interrupted>() => return Err(error),
            Err(error) => borrowed.remarks.push(format!("kernel headers were not unpacked: {error:#}")),
        }
    }
    Ok(borrowed)
}

/// Whether the administrator wants this, and this process can do it.
pub fn wanted(session: &Session) -> bool {
    session.policy.admin.fetch_headers() && !session.options.offline && rustix::process::geteuid().is_root()
}

/// The files of these packages, which must have the headers of a kernel, and their descriptions.
pub fn described(
    session: &Session,
    kernel: &KernelRelease,
    names: &[&str],
) -> Result<(Downloaded, Vec<Package>)> {
    let downloaded = files(session, kernel, names)?;
    let mut reader = Reader::default();
    let packages: Vec<Package> =
        downloaded.files.iter().map(|file| reader.describe(file)).collect::<Result<_>>()?;
    let headers = Incoming::of(&packages).headers;
    if !headers.contains_key(kernel) {
        let others: Vec<&str> = headers.keys().map(KernelRelease::as_str).collect();
        let what = if others.is_empty() { "nothing".to_owned() } else { others.join(", ") };
        bail!("{} has headers for {what}", names.join(" "));
    }
    Ok((downloaded, packages))
}

/// Downloaded package files; deleted with this value, unless they are kept for a transaction.
#[derive(Debug)]
pub struct Downloaded {
    /// The files.
    pub files: Vec<PathBuf>,
    _private: Option<Private>,
}

/// The files of these packages, which have a kernel's headers. A package transaction keeps them from its pre-build until it ends:
/// while it runs, not every package manager can be asked.
fn files(session: &Session, kernel: &KernelRelease, packages: &[&str]) -> Result<Downloaded> {
    let Some(kept) = kept(session, kernel) else {
        let private = Private::new(&session.layout.incoming())?;
        let files = download(session, kernel, packages, &private)?;
        return Ok(Downloaded { files, _private: Some(private) });
    };
    if let Some(why) = file::read_optional(&kept).ok().flatten() {
        bail!("{}", String::from_utf8_lossy(&why));
    }
    if !kept.is_dir() {
        keep(session, kernel, packages, &kept).inspect_err(|error| {
            // One transaction has many hooks, and each download can wait for a network that does not answer.
            if !error.is::<signal::Interrupted>() {
                drop(file::write_atomic(&kept, format!("{error:#}").as_bytes(), 0o600));
            }
        })?;
    }
    Ok(Downloaded { files: file::sorted_entries(&kept), _private: None })
}

/// Downloads to a directory that is complete if it exists.
fn keep(session: &Session, kernel: &KernelRelease, packages: &[&str], kept: &Path) -> Result<()> {
    let private = Private::new(&session.layout.incoming())?;
    let files = download(session, kernel, packages, &private)?;
    let copies = private.path().join(KEPT);
    file::make_private_dir(&copies)?;
    for from in &files {
        file::copy_atomic(from, &copies.join(from.file_name().context("a package file without a name")?))?;
    }
    file::replace_dir(&copies, kept)
}

fn download(
    session: &Session,
    kernel: &KernelRelease,
    packages: &[&str],
    private: &Private,
) -> Result<Vec<PathBuf>> {
    let Some(manager) = Manager::of(&session.layout, private.path()) else {
        let program = session.layout.upcoming_program();
        bail!("{} does not exist: no package manager can be asked", program.display());
    };
    let what = format!("dkms: downloading kernel headers for {kernel} (fetch_headers in policy.toml)");
    session.screen.progress(&what);
    manager.fetch_headers(packages)
}

/// Where a transaction keeps the packages with a kernel's headers. Those of dead processes are deleted by the next run.
fn kept(session: &Session, kernel: &KernelRelease) -> Option<PathBuf> {
    let transaction = caller::manager()?.replace(' ', "-");
    Some(session.layout.borrowed().join(format!("{transaction}-{kernel}")))
}
