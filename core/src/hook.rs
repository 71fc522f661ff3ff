//! What all hooks of package managers have in common: how they start, and what their failure may do.
//!
//! An adapter only translates what its package manager says into events; everything else is here, so that a module that
//! fails means the same under each of them.

use std::process::ExitCode;

use anyhow::Result;

use crate::apply;
use crate::event::Event;
use crate::exit::Exit;
use crate::inventory::targets_of_source;
use crate::preflight::words::{self, Asked};
use crate::preflight::{Question, preflight};
use crate::report::{Screen, broke, text};
use crate::session::{Options, Session};
use crate::sys::{confine, signal};
use crate::types::{Arch, ModuleId};

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
        Err(error) => broke(&error, screen).into(),
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
    if !events.iter().all(Event::leaves) && session.autoinstall_off() {
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
