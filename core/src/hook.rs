//! What all hooks of package managers have in common: how they start, and what their failure may do.
//!
//! An adapter only translates what its package manager says into events; everything else is here, so that a module that
//! fails means the same under each of them.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::apply;
use crate::cli::{autoinstall_off, explain, source};
use crate::event::Event;
use crate::exit::Exit;
use crate::kernel::{installed, machine, running};
use crate::preflight::words::{self, Asked};
use crate::preflight::{Question, preflight};
use crate::report::{Screen, text};
use crate::session::{Options, Session};
use crate::sys::{confine, signal};
use crate::tree::Source;
use crate::types::{Arch, KernelRelease, ModuleId, Target};

/// The exit code by which a hook says that the transaction must not begin: another one than those of a hook that broke.
pub const HELD: i32 = Exit::HELD.number();

/// The word by which our own package says that it is removed: what nobody would undo later is undone now.
const PACKAGE_LEAVES: &str = "package-leaves";

/// What the caller of a hook makes of an exit code that is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It stops, or leaves a package half-configured: only modules that the admin cannot do without may cause that.
    Stops,
    /// It shows that something went wrong, and goes on: every failure may.
    Tells,
}

/// What a hook answers.
pub enum Answer {
    /// These events, in one transaction.
    Events(Power, Vec<Event>),
    /// The same, for a package manager that shows nobody our standard error: it is told the closing summary.
    Told(Power, Vec<Event>, Box<dyn FnOnce(&str)>),
    /// A transaction is about to install these.
    Incoming(Question),
    /// The same, for a package manager that says itself why it is stopped: it is told what was found out, and whether that
    /// stops the transaction.
    IncomingTold(Question, TellFinding),
    /// It has been answered already.
    Code(i32),
}

/// Takes what was found out about what comes, and whether that stops the transaction.
pub type TellFinding = Box<dyn FnOnce(&str, bool)>;

/// A hook's whole life: `translate` gets the words of its command line.
///
/// Standard output belongs to the package manager; whatever there is to say goes to standard error.
pub fn main(translate: impl FnOnce(&Session, &[&str]) -> Result<Answer>) -> ExitCode {
    if let Some(code) = confine::enter() {
        return code;
    }
    signal::install();
    let screen = Screen::package_manager();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let code = Session::start(screen, Options::default(), |_| {}).and_then(|mut session| {
        // What our own package's removal says is the same everywhere.
        if words == [PACKAGE_LEAVES] {
            return apply::let_go(&session).map(|()| 0);
        }
        match translate(&session, &words)? {
            Answer::Code(code) => Ok(code),
            Answer::Incoming(question) => incoming(&mut session, &question, None),
            Answer::IncomingTold(question, tell) => incoming(&mut session, &question, Some(tell)),
            Answer::Events(power, events) => answer(&mut session, power, events, |_| {}),
            Answer::Told(power, events, tell) => answer(&mut session, power, events, tell),
        }
    });
    match code {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => explain(&error, screen).into(),
    }
}

/// Tries what is about to come; the exit code says whether the transaction may begin. Only what was proven stops it.
fn incoming(session: &mut Session, question: &Question, tell: Option<TellFinding>) -> Result<i32> {
    let finding = preflight(session, question)?;
    let held = !finding.held.is_empty();
    if let Some(text) = words::finding(&finding, session, Asked::Transaction) {
        if !held || tell.is_none() {
            session.screen.alert(&text);
        }
        if let Some(tell) = tell {
            tell(&text, held);
        }
    }
    Ok(if held { HELD } else { 0 })
}

/// Carries the events out; the exit code.
fn answer(
    session: &mut Session,
    power: Power,
    mut events: Vec<Event>,
    tell: impl FnOnce(&str),
) -> Result<i32> {
    // What leaves takes its modules along also where nothing is built by itself.
    if !events.iter().all(Event::leaves) && autoinstall_off(session) {
        events.retain(Event::leaves);
    }
    if events.is_empty() {
        return Ok(0);
    }
    let removal = events.iter().all(Event::leaves);
    match apply::run(session, events) {
        Ok(report) => {
            if let Some(summary) = text::summary(&report, &session.policy.admin, None) {
                tell(&summary);
            }
            Ok(match power {
                Power::Stops => report.hook_code(&session.policy.admin).number(),
                Power::Tells => report.autoinstall_code().number(),
            })
        }
        Err(error) if error.is::<signal::Interrupted>() => Err(error),
        // A full disk, say. It must not keep a kernel from being removed, and keeps one from being installed only
        // where the admin has said that modules matter more.
        Err(error) if power == Power::Stops && (removal || !session.policy.admin.has_critical()) => {
            session.screen.alert(&format!(
                "dkms: {error:#}\ndkms: the package manager goes on: no module is critical here"
            ));
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// The architecture of this machine.
pub fn this_machine() -> Result<Arch> {
    machine().context("this machine's architecture has no valid name")
}

/// A kernel of this machine, by its release.
pub fn target(kernel: &str) -> Result<Target> {
    Ok(Target { kernel: kernel.parse()?, arch: this_machine()? })
}

/// The running kernel.
pub fn running_target() -> Result<Target> {
    Ok(Target { kernel: running().context("the running kernel has no valid name")?, arch: this_machine()? })
}

/// All kernels of this machine, oldest first; those without headers wait for them.
pub fn all_targets(session: &Session) -> Result<Vec<Target>> {
    let arch = this_machine()?;
    Ok(installed(&session.layout).into_iter().map(|kernel| Target { kernel, arch: arch.clone() }).collect())
}

/// The module whose source a package brought as `DIRECTORY/dkms.conf` of the source tree. The directory's name decides: many
/// a package relies on that, and leaves a placeholder for the version in its dkms.conf. That file says where a name with
/// dashes ends.
pub fn source_in(session: &Session, directory: &str) -> Result<ModuleId> {
    let conf = session.layout.source_tree.join(directory).join("dkms.conf");
    let told = source::module_of(session, &conf).ok();
    match told.filter(|id| session.layout.source(id).ends_with(directory)) {
        Some(id) => Ok(id),
        None => split(directory),
    }
}

/// The modules whose source was in this directory of the source tree: as the registry has it, else by its name.
pub fn sources_once_in(session: &Session, directory: &str) -> Result<Vec<ModuleId>> {
    let was_there = |id: &ModuleId, source: &Source| match source {
        Source::Linked(dir) | Source::Dangling(dir) => *dir == session.layout.source_tree.join(directory),
        _ => session.layout.source(id).ends_with(directory),
    };
    let registry = apply::status_of(session, None)?;
    let found = registry.modules.iter().filter(|(id, entry)| was_there(id, &entry.source));
    let found: Vec<ModuleId> = found.map(|(id, _)| id.clone()).collect();
    if found.is_empty() { split(directory).map(|id| vec![id]) } else { Ok(found) }
}

/// `NAME-VERSION`; a version has no dash.
fn split(directory: &str) -> Result<ModuleId> {
    let (name, version) = directory
        .rsplit_once('-')
        .with_context(|| format!("{directory:?} in the source tree has no name of the form NAME-VERSION"))?;
    Ok(ModuleId { name: name.parse()?, version: version.parse()? })
}

/// What a module package's script says through `common.postinst`: its module, and what follows that, the version of before
/// among it.
pub fn module_installed(
    session: &Session,
    module: [&str; 2],
    arch: Option<Arch>,
    rest: &[&str],
) -> Result<Event> {
    let [name, version] = module;
    let module = ModuleId { name: name.parse()?, version: version.parse()? };
    let upgrade = rest.get(2).is_some_and(|old| !old.is_empty());
    Ok(Event::SourceAdded { module, targets: targets_of_source(session, arch, upgrade)? })
}

/// The kernels that a new module package is for: all (those without headers wait for them), or, when
/// framework.conf wants fewer, the running and the newest one. A running kernel that is not installed is a
/// chroot's host's. `upgrade`: the package was there before.
pub fn targets_of_source(session: &Session, arch: Option<Arch>, upgrade: bool) -> Result<Vec<Target>> {
    let arch = match arch {
        Some(arch) => arch,
        None => this_machine()?,
    };
    let all = installed(&session.layout);
    let host = running().filter(|kernel| all.contains(kernel));
    let newest = all.last().cloned();
    let chosen: Vec<KernelRelease> = match (session.policy.framework.all_kernels, host) {
        (false, Some(running)) => {
            all.into_iter().filter(|kernel| *kernel == running || Some(kernel) == newest.as_ref()).collect()
        }
        (false, None) if upgrade => newest.into_iter().collect(),
        _ => all,
    };
    Ok(chosen.into_iter().map(|kernel| Target { kernel, arch: arch.clone() }).collect())
}
