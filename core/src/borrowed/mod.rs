//! Headers that are not installed: downloaded through the package manager if the administrator wants this, and laid over the
//! system for confined processes of one run.

mod kept;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail};

pub use kept::Kept;

use crate::incoming::Incoming;
use crate::manager::Manager;
use crate::package::{Package, Reader};
use crate::plan::{Plan, Survey};
use crate::session::Session;
use crate::sys::private::Private;
use crate::sys::{confine, signal};
use crate::types::{KernelRelease, Target};
use crate::unpacked::{self, Overlay};

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

/// When headers are downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before a transaction, which keeps them.
    Before,
    /// Now.
    Now,
    /// Not now: a later hook of the transaction does it. What the pre-build has downloaded is used.
    Later,
}

/// Borrows the headers that a plan lacks.
pub fn borrow(session: &Session, plan: &Plan, survey: &Survey, when: When) -> Result<Borrowed> {
    let mut borrowed = Borrowed::default();
    // What is built for a kernel that is not installed is not installed either.
    let there = |target: &Target| survey.kernels.get(target).is_some_and(|kernel| kernel.exists);
    let lacking: Vec<Target> = plan.without_headers().into_iter().filter(there).collect();
    if lacking.is_empty() || !wanted(session) {
        return Ok(borrowed);
    }
    if !confine::available() {
        // Programs of a package that is not installed run in a sandbox or not at all.
        let why = "kernel headers are not downloaded: this system does not allow namespaces";
        borrowed.remarks.push(why.to_owned());
        return Ok(borrowed);
    }
    let kept = Kept::now(&session.layout);
    let is_kept = |target: &Target| kept.as_ref().is_some_and(|kept| kept.files(&target.kernel).is_some());
    let (mut packages, mut downloaded) = (Vec::new(), Vec::new());
    for target in lacking {
        if is_kept(&target) {
            borrowed.kernels.insert(target);
            continue;
        }
        let package = survey.headers_package(&session.policy.distribution, &target);
        let Some(names) = package.exact().filter(|_| when != When::Later) else { continue };
        match described(session, &target.kernel, &names, when) {
            Ok((files, found)) => {
                downloaded.push(files);
                packages.extend(found);
                borrowed.kernels.insert(target);
            }
            Err(error) if error.is::<signal::Interrupted>() => return Err(error),
            Err(error) => borrowed.remarks.push(undelivered(&target.kernel, &error)),
        }
    }
    // The pre-build's builds are valid below the same files: those of all kernels.
    if let Some(kept) = kept.as_ref().filter(|_| borrowed.kernels.iter().any(is_kept)) {
        let files = kept.kernels().into_iter().filter_map(|kernel| kept.files(&kernel));
        match describe(files.flatten()) {
            Ok(found) => packages.extend(found),
            Err(error) if error.is::<signal::Interrupted>() => return Err(error),
            Err(error) => {
                borrowed.remarks.push(format!("downloaded headers were not read: {error:#}"));
                return Ok(borrowed);
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

/// That a kernel's headers were not borrowed, and why.
pub fn undelivered(kernel: &KernelRelease, error: &anyhow::Error) -> String {
    format!("kernel headers for {kernel} were not downloaded: {error:#}")
}

/// The files of these packages, which must have the headers of a kernel, and their descriptions.
pub fn described(
    session: &Session,
    kernel: &KernelRelease,
    names: &[&str],
    when: When,
) -> Result<(Downloaded, Vec<Package>)> {
    let downloaded = files(session, kernel, names, when)?;
    let packages = describe(downloaded.files.iter().cloned())?;
    let headers = Incoming::of(&packages).headers;
    if !headers.contains_key(kernel) {
        let others: Vec<&str> = headers.keys().map(KernelRelease::as_str).collect();
        let what = if others.is_empty() { "nothing".to_owned() } else { others.join(", ") };
        bail!("{} has headers for {what}", names.join(" "));
    }
    Ok((downloaded, packages))
}

fn describe(files: impl Iterator<Item = PathBuf>) -> Result<Vec<Package>> {
    let mut reader = Reader::default();
    files.map(|file| reader.describe(&file)).collect()
}

/// Downloaded package files; deleted with this value, unless they are kept for a transaction.
#[derive(Debug)]
pub struct Downloaded {
    /// The files.
    pub files: Vec<PathBuf>,
    _private: Option<Private>,
}

fn files(session: &Session, kernel: &KernelRelease, packages: &[&str], when: When) -> Result<Downloaded> {
    let kept = Kept::now(&session.layout);
    if let Some(why) = kept.as_ref().and_then(|kept| kept.failure(kernel)) {
        bail!("{why}");
    }
    if let Some(files) = kept.as_ref().and_then(|kept| kept.files(kernel)) {
        return Ok(Downloaded { files, _private: None });
    }
    let private = Private::new(&session.layout.incoming())?;
    let files = download(session, kernel, packages, &private).inspect_err(|error| {
        if let Some(kept) = kept.as_ref().filter(|_| !error.is::<signal::Interrupted>()) {
            let _ = kept.note_failure(kernel, &format!("{error:#}"));
        }
    })?;
    if let Some(kept) = kept.filter(|_| when == When::Before) {
        kept.put(kernel, &files, &private)?;
        return Ok(Downloaded { files: kept.files(kernel).unwrap_or_default(), _private: None });
    }
    Ok(Downloaded { files, _private: Some(private) })
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
