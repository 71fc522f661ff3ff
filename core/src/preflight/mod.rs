//! The pre-build: builds for packages that are about to be installed, while the transaction can still be aborted.
//!
//! The packages are unpacked into a private directory, which overlays the system for sandboxed processes only. Builds
//! run there with the final paths and compilers, so that the results are what the transaction needs. This process,
//! which runs as root, neither mounts the overlay nor executes any of its files. A pre-build that could not run proves
//! nothing and does not abort a transaction.

mod inside;
mod proved;
mod summary;
mod toolchain;

pub use inside::{Found, PARTS};
pub use proved::{cached, settings_and_sources};
pub use summary::{RequestedBy, summary};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::apply::{self, Proven};
use crate::borrowed::{self, Downloaded, Kept, When};
use crate::in_use::in_use;
use crate::incoming::Incoming;
use crate::inventory::this_machine;
use crate::kept_back::{Reason, expired};
use crate::kernel::{HeadersPackage, installed};
use crate::package::{Package, Reader};
use crate::plan::{Stakes, at_stake};
use crate::report::Line;
use crate::session::Session;
use crate::sys::{confine, signal};
use crate::types::{KernelRelease, ModuleName, Target};
use crate::unpacked;

use inside::Request;
use proved::Proved;

/// The input of a pre-build.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Package files that are about to be installed.
    pub files: Vec<PathBuf>,
    /// Installed kernels to build for.
    pub kernels: Vec<Target>,
    /// The new kernel replaces the old one.
    pub replaces: bool,
    /// The result of each module is asked for, even if all of them were built before.
    #[serde(skip)]
    pub in_full: bool,
}

impl Question {
    /// These package files, for a machine that keeps the old kernel.
    pub fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().collect(), ..Self::default() }
    }
}

/// The result of a pre-build.
#[derive(Debug, Default)]
pub struct Finding {
    /// The outcome of each module; `None` if nothing was built.
    pub proven: Option<Proven>,
    /// What could not be checked, and why.
    pub untried: Vec<String>,
    /// Modules that would be lost and must not be.
    pub held: Vec<Line>,
    /// The packages with kernels.
    pub packages: BTreeSet<String>,
    /// Kernels that are about to be installed.
    pub incoming: BTreeSet<Target>,
    /// The packages with sources of modules, by directory of the source tree.
    pub sources: BTreeMap<String, String>,
}

impl Finding {
    /// Names of the modules because of which the transaction is aborted.
    pub fn held_names(&self) -> BTreeSet<&ModuleName> {
        self.held.iter().map(|line| &line.module.name).collect()
    }

    /// What must be kept back so that the rest can be installed: the kernel, or, if it is installed already, the new version
    /// of the module. `None` if this is not known for one of the losses.
    pub fn reasons(&self) -> Option<BTreeSet<Reason>> {
        let reason = |line: &Line| {
            let target = line.target.as_ref()?;
            let Line { module, .. } = line;
            let source = || self.sources.get(&format!("{}-{}", module.name, module.version)).cloned();
            let package = if self.incoming.contains(target) { None } else { Some(source()?) };
            Some(Reason { module: module.clone(), kernel: target.kernel.clone(), package })
        };
        self.held.iter().map(reason).collect()
    }
}

/// Runs the pre-build. `Err` means that it was interrupted; other errors are in `untried`.
pub fn preflight(session: &mut Session, question: &Question) -> Result<Finding> {
    let mut finding = Finding::default();
    match look(session, question, &mut finding) {
        Ok(()) => {}
        Err(error) if error.is::<signal::Interrupted>() => return Err(error),
        Err(error) => finding.untried.push(format!("{error:#}")),
    }
    Ok(finding)
}

fn look(session: &mut Session, question: &Question, finding: &mut Finding) -> Result<()> {
    if session.autoinstall_off() {
        return Ok(());
    }
    let (mut packages, whole) = open(&question.files, finding)?;
    let admin = &session.policy.admin;
    let concerns = |kernel: &KernelRelease| admin.leaves_out(kernel).is_none();
    let mut incoming = Incoming::of(&packages);
    incoming.images.retain(|kernel, _| concerns(kernel));
    finding.packages = incoming.packages.clone();
    finding.sources = incoming.sources.clone();
    let registry = apply::status_of(session, None)?;
    let modules = !registry.modules.is_empty() || !incoming.sources.is_empty();
    if !modules {
        return Ok(());
    }
    let there = installed(&session.layout);
    let lacking = incoming.images.iter();
    let lacking =
        lacking.filter(|(kernel, _)| !incoming.headers.contains_key(*kernel) && !there.contains(kernel));
    let lacking: Vec<(KernelRelease, String)> =
        lacking.map(|(kernel, package)| (kernel.clone(), package.clone())).collect();
    // They are deleted with this.
    let mut borrowed = Vec::new();
    for (kernel, package) in lacking {
        match headers_of(session, &packages, &kernel, &package) {
            Ok(Some((files, found))) => {
                borrowed.push(files);
                packages.extend(found);
            }
            Ok(None) => {
                finding.untried.push(format!("kernel headers for {kernel} are not part of this transaction"));
            }
            Err(error) if error.is::<signal::Interrupted>() => return Err(error),
            Err(error) => finding.untried.push(borrowed::undelivered(&kernel, &error)),
        }
    }
    if let Some(kept) = Kept::now(&session.layout) {
        kept.until(incoming.sources.keys())?;
    }
    let images = incoming.images;
    let mut incoming = Incoming { images, ..Incoming::of(&packages) };
    incoming.headers.retain(|kernel, _| concerns(kernel));
    if !incoming.concerns() && question.kernels.is_empty() {
        return Ok(());
    }
    let named = !question.kernels.is_empty();
    let used: Vec<&Package> =
        packages.iter().filter(|package| incoming.wants(package, &Path::exists)).collect();
    if whole && !named && !question.in_full && Proved::covers(session, &registry, &used, question.replaces) {
        let kernels: Vec<&str> = incoming.headers.keys().map(|kernel| kernel.as_str()).collect();
        let what = if kernels.is_empty() { "these packages".to_owned() } else { kernels.join(", ") };
        session.screen.progress(&format!("dkms: all modules for {what} are built already"));
        return Ok(());
    }
    let arch = this_machine()?;
    let targets = incoming.headers.keys().map(|kernel| Target { kernel: kernel.clone(), arch: arch.clone() });
    finding.incoming = targets.collect();
    let kernels: Vec<&str> = finding.incoming.iter().map(|target| target.kernel.as_str()).collect();
    if !kernels.is_empty() {
        session.screen.progress(&format!("dkms: preparing the pre-build for {}", kernels.join(", ")));
    }
    let overlay = match incoming.concerns() {
        // Programs of a package run in the sandbox or not at all.
        true if !confine::available() => bail!("this system does not allow namespaces"),
        true => Some(unpacked::unpack(session, &packages, &incoming)?),
        false => None,
    };
    let request = Request {
        layout: session.layout.clone(),
        options: session.options.clone(),
        incoming: finding.incoming.iter().cloned().collect(),
        kernels: question.kernels.clone(),
        sources: incoming.sources.keys().cloned().collect(),
        replaces: question.replaces,
    };
    let tools = incoming.toolchain;
    let untried = &mut finding.untried;
    let proven = apply::prove(session, overlay.as_ref(), |session, snapshot| {
        let layers = overlay.as_ref().map(|overlay| &overlay.layers);
        let mut found = match layers {
            Some(layers) => inside::ask(layers, &request)?,
            None => inside::find(session, snapshot, &request)?,
        };
        untried.append(&mut found.untried);
        let (events, survey) = found.into_parts();
        if let Some(layers) = layers.filter(|_| tools && !events.is_empty()) {
            toolchain::check(layers, &survey)?;
        }
        Ok((events, survey))
    })?;
    let Some(proven) = proven else { return Ok(()) };
    // In a chroot or container, the modules in use are those of another system.
    let uses = question.replaces && !session.guest();
    let in_use = if uses { in_use(&session.layout) } else { BTreeSet::new() };
    // A user asks about kernels that could be installed.
    let concerned = finding.incoming.iter().chain(&question.kernels).cloned().collect();
    let stakes = Stakes {
        admin: &session.policy.admin,
        replaces: question.replaces,
        in_use: &in_use,
        incoming: &concerned,
        expired: &expired(session),
    };
    // An unreadable package may contain what the others were built without: then nothing is proven.
    let held =
        if whole { at_stake(&proven.report, &proven.snapshot, &proven.survey, &stakes) } else { Vec::new() };
    finding.held = held.into_iter().cloned().collect();
    if let Some(kept) = Kept::now(&session.layout).filter(|_| !finding.held.is_empty()) {
        kept.forget()?;
    }
    if !named {
        let all = whole && finding.untried.is_empty() && finding.held.is_empty();
        let all = Some(&proven).filter(|_| all);
        // Without the record, the next transaction with these packages proves them again.
        let _ = Proved::record(session, &proven.snapshot, &used, question.replaces, all);
    }
    finding.proven = Some(proven);
    Ok(())
}

/// Downloads the headers of a kernel that is in one of the packages; `None` if the administrator does not want this.
fn headers_of(
    session: &Session,
    packages: &[Package],
    kernel: &KernelRelease,
    image: &str,
) -> Result<Option<(Downloaded, Vec<Package>)>> {
    let image = packages.iter().find(|package| package.name == image).filter(|_| borrowed::wanted(session));
    let distribution = &session.policy.distribution;
    let headers = image.and_then(|image| distribution.headers_of(&image.name, &image.version));
    let Some(names) = headers.as_ref().and_then(HeadersPackage::exact) else { return Ok(None) };
    borrowed::described(session, kernel, &names, When::Before).map(Some)
}

/// Opens package files; returns whether all of them could be read. Unreadable ones are skipped; those for other
/// architectures are not needed for building.
fn open(files: &[PathBuf], finding: &mut Finding) -> Result<(Vec<Package>, bool)> {
    let mut whole = true;
    let machine = this_machine()?;
    let mut packages = Vec::new();
    let mut reader = Reader::default();
    for file in files {
        signal::check()?;
        match reader.describe(file) {
            Ok(package) if package.machine.as_ref().is_none_or(|other| *other == machine) => {
                packages.push(package)
            }
            Ok(package) => {
                let foreign = Incoming::of([&package]);
                for kernel in foreign.headers.keys() {
                    let other = package.machine.as_ref().map_or("", |machine| machine.as_str());
                    finding.untried.push(format!("{kernel} is for {other}; this machine is {machine}"));
                }
            }
            Err(error) => {
                whole = false;
                finding.untried.push(format!("{error:#}"));
            }
        }
    }
    Ok((packages, whole))
}
