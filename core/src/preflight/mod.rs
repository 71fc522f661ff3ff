//! Proof before commit: builds for what is about to be installed, while the transaction can still be stopped.
//!
//! What comes is unpacked into a directory of ours and laid over the system, for this process only. There the ordinary
//! engine builds, at the paths and with the compilers of later, so that what it makes is what the transaction needs.
//! A preflight that could not be done proves nothing and stops no transaction.

pub mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::apply::{self, Proven};
use crate::event::Event;
use crate::in_use::in_use;
use crate::incoming::Incoming;
use crate::inventory::{all_targets, source_in, this_machine};
use crate::kernel::{installed, pkgbase};
use crate::layout::Offered;
use crate::package::{Package, Unpacking};
use crate::plan::{Stakes, at_stake};
use crate::report::Line;
use crate::session::Session;
use crate::sys::private::Private;
use crate::sys::{overlay, signal};
use crate::types::{ModuleName, Target};

/// What is unpacked, and what of the system is seen under it where overlayfs is not to be had.
const OVER: &str = "over";
const UNDER: &str = "under";

/// What is asked.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Package files that are about to be installed.
    pub files: Vec<PathBuf>,
    /// Kernels whose headers are installed already.
    pub kernels: Vec<Target>,
    /// The new kernel takes the place of the old one.
    pub replaces: bool,
}

impl Question {
    /// These package files, for a machine on which the old kernel stays beside the new one.
    pub fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().collect(), ..Self::default() }
    }
}

/// What was found out.
#[derive(Debug, Default)]
pub struct Finding {
    /// How it ended for each module; `None` when nothing was tried.
    pub proven: Option<Proven>,
    /// What was not tried, and why.
    pub untried: Vec<String>,
    /// Modules that would be lost, where that must not be.
    pub held: Vec<Line>,
    /// The packages that bring kernels.
    pub packages: BTreeSet<String>,
    /// Kernels that come.
    pub incoming: BTreeSet<Target>,
}

impl Finding {
    /// Names of the modules for which the transaction must not go on.
    pub fn held_names(&self) -> BTreeSet<&ModuleName> {
        self.held.iter().map(|line| &line.module.name).collect()
    }
}

/// Tries what is about to come. `Err` means that we were interrupted; whatever else goes wrong is among what was not tried.
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
    let (packages, whole) = open(&question.files, finding)?;
    let incoming = Incoming::of(&packages);
    finding.packages = incoming.packages.clone();
    let registry = apply::status_of(session, None)?;
    let modules = !registry.modules.is_empty() || !incoming.sources.is_empty();
    if !modules {
        return Ok(());
    }
    let there = installed(&session.layout);
    for kernel in incoming
        .images
        .iter()
        .filter(|kernel| !incoming.headers.contains_key(*kernel) && !there.contains(kernel))
    {
        finding.untried.push(format!("kernel headers for {kernel} are not part of this transaction"));
    }
    if !incoming.concerns() && question.kernels.is_empty() {
        return Ok(());
    }
    // Until the process ends, or the next run sweeps: who is in its namespace reads from here.
    let _unpacked = if incoming.concerns() { Some(unpack(session, &packages, &incoming)?) } else { None };
    let arch = this_machine()?;
    let targets = incoming.headers.keys().map(|kernel| Target { kernel: kernel.clone(), arch: arch.clone() });
    finding.incoming = targets.collect();
    let events = events(session, question, &incoming, finding)?;
    if events.is_empty() {
        return Ok(());
    }
    let proven = apply::prove(session, &events)?;
    let in_use = if question.replaces { in_use(&session.layout) } else { BTreeSet::new() };
    let stakes = Stakes {
        admin: &session.policy.admin,
        replaces: question.replaces,
        in_use: &in_use,
        incoming: &finding.incoming,
    };
    // A file that could not be read may be what the others were built without: then nothing is proven.
    let held =
        if whole { at_stake(&proven.report, &proven.snapshot, &proven.survey, &stakes) } else { Vec::new() };
    finding.held = held.into_iter().cloned().collect();
    finding.proven = Some(proven);
    Ok(())
}

/// Opens package files; whether all of them could be read. One that cannot is left out; those for other machines build
/// nothing for this one.
fn open(files: &[PathBuf], finding: &mut Finding) -> Result<(Vec<Package>, bool)> {
    let mut whole = true;
    let machine = this_machine()?;
    let mut packages = Vec::new();
    for file in files {
        signal::check()?;
        match Package::open(file) {
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

/// Unpacks what is needed to build, and lays it over the system.
fn unpack(session: &Session, packages: &[Package], incoming: &Incoming) -> Result<Private> {
    let private = Private::new(&session.layout.incoming())?;
    let mut unpacking = Unpacking::new(&private, Path::new(OVER));
    let there = |path: &Path| Path::new("/").join(path).symlink_metadata().is_ok();
    for package in packages.iter().filter(|package| incoming.wants(package, &there)) {
        signal::check()?;
        unpacking.take(package, &|path| incoming.takes(package, path, &there))?;
    }
    // On some distributions another package than the headers' brings the link to them.
    for (kernel, dir) in &incoming.headers {
        let there = session.layout.headers(kernel).symlink_metadata().is_ok();
        if !there {
            unpacking.link(&Offered::headers_link(kernel), &Path::new("/").join(dir))?;
        }
    }
    unpacking.finish()?;
    let over = private.path().join(OVER);
    fail::fail_point!("preflight:unpacked");
    overlay::lay(&Offered::places(&over), &private.path().join(UNDER))?;
    Ok(private)
}

/// What comes, as events. Everything can be seen by now.
fn events(
    session: &Session,
    question: &Question,
    incoming: &Incoming,
    finding: &mut Finding,
) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut replaced: BTreeSet<String> = BTreeSet::new();
    for target in finding.incoming.iter().chain(&question.kernels) {
        if !session.layout.headers(&target.kernel).join("include").exists() {
            let headers = session.layout.headers(&target.kernel);
            bail!("kernel headers for {} not found in {}", target.kernel, headers.display());
        }
        replaced.extend(pkgbase(&session.layout, &target.kernel).filter(|_| question.replaces));
        events.push(Event::KernelIncoming(target.clone()));
    }
    let mut targets = all_targets(session)?;
    // A kernel that leaves needs no new modules.
    let leaves = |target: &Target| {
        pkgbase(&session.layout, &target.kernel).is_some_and(|base| replaced.contains(&base))
    };
    targets.retain(|target| finding.incoming.contains(target) || !leaves(target));
    for dir in &incoming.sources {
        match source_in(session, dir) {
            Ok(module) => events.push(Event::SourceIncoming { module, targets: targets.clone() }),
            Err(error) => finding.untried.push(format!("{error:#}")),
        }
    }
    Ok(events)
}
