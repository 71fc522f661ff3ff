//! The common part of all package manager hooks: how they start, and what their failure may cause.
//!
//! An adapter is a function from the [`Input`] of its package manager to an [`Answer`], which is data. Everything else
//! is here, so that a failed module has the same effect under each of them.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::apply;
use crate::caller::{self, other_root};
use crate::event::Event;
use crate::exit::Exit;
use crate::inventory::targets_of_source;
use crate::kept_back::{self, KeptBack};
use crate::layout::Layout;
use crate::preflight::{Finding, PARTS, Question, RequestedBy, preflight, summary};
use crate::report::{Reported, Screen, broke, text};
use crate::session::{Options, Session};
use crate::sys::run::{Ancestor, ancestors};
use crate::sys::{confine, environment, signal};
use crate::types::{Arch, ModuleId};

/// The exit code of a hook that aborts the transaction: different from those of a hook that failed.
pub const HELD: i32 = Exit::HELD.number();

/// The verb of our own package's removal: changes that no later run would undo are undone now.
const PACKAGE_LEAVES: &str = "package-leaves";

/// What the package manager does if a hook fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureEffect {
    /// It stops, or leaves a package half-configured: only failures of critical modules may cause this.
    Stops,
    /// It reports the failure and continues: every failure may cause this.
    Tells,
}

/// The input that a package manager gives to a hook.
pub struct Input<'a> {
    /// The command line: a verb and its arguments.
    pub words: &'a [&'a str],
    /// Standard input.
    pub reader: &'a mut dyn BufRead,
    /// Standard output, if the package manager reads it.
    pub writer: &'a mut dyn Write,
    /// A variable of the environment; empty if it is not set.
    pub variable: &'a dyn Fn(&str) -> String,
    /// The parent processes, nearest first.
    pub ancestors: &'a dyn Fn() -> Vec<Ancestor>,
}

/// The translated input of a hook.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// These events, in one transaction.
    Events(FailureEffect, Vec<Event>, Channel),
    /// A transaction is about to install these packages.
    Incoming(Question, Channel),
    /// None of the input concerns modules.
    Nothing,
    /// The command line is wrong; this is the usage.
    Usage(&'static str),
}

/// Where the summary is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// To standard error.
    StandardError,
    /// The same, as the last output of the transaction: failures that were reported before are counted again.
    AtTheEnd,
    /// Also to the package manager, in its protocol on standard output: see [`Adapter::reply`].
    Protocol,
}

/// The translator of one package manager.
pub struct Adapter {
    /// Translates the input of the package manager.
    pub translate: fn(&Session, &mut Input<'_>) -> Result<Answer>,
    /// A text in the package manager's protocol, and whether it is the reason for aborting the transaction.
    pub reply: fn(&str, bool) -> String,
}

/// Options of `dkms` that a hook accepts before its verb: for a dry run, and for relocated trees.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flags<'a> {
    dry_run: bool,
    root: Option<&'a str>,
    dkms_tree: Option<&'a str>,
    source_tree: Option<&'a str>,
    install_tree: Option<&'a str>,
}

impl<'a> Flags<'a> {
    /// The options, and the remaining words.
    fn read(mut words: &'a [&'a str]) -> (Self, &'a [&'a str]) {
        let mut flags = Self::default();
        loop {
            words = match words {
                ["--dry-run", rest @ ..] => {
                    flags.dry_run = true;
                    rest
                }
                ["--root", root, rest @ ..] => {
                    flags.root = Some(root);
                    rest
                }
                ["--dkmstree", tree, rest @ ..] => {
                    flags.dkms_tree = Some(tree);
                    rest
                }
                ["--sourcetree", tree, rest @ ..] => {
                    flags.source_tree = Some(tree);
                    rest
                }
                ["--installtree", tree, rest @ ..] => {
                    flags.install_tree = Some(tree);
                    rest
                }
                rest => return (flags, rest),
            };
        }
    }

    fn place(&self, layout: &mut Layout) {
        for (wanted, tree) in [
            (self.dkms_tree, &mut layout.dkms_tree),
            (self.source_tree, &mut layout.source_tree),
            (self.install_tree, &mut layout.install_tree),
        ] {
            if let Some(wanted) = wanted {
                *tree = std::path::absolute(wanted).unwrap_or_else(|_| wanted.into());
            }
        }
    }
}

/// Runs a hook.
///
/// Standard output belongs to the package manager; messages go to standard error.
pub fn main(adapter: &Adapter) -> ExitCode {
    if let Some(code) = confine::enter(PARTS) {
        return code;
    }
    signal::install();
    let screen = Screen::package_manager();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let program = std::env::current_exe().unwrap_or_default();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (flags, words) = Flags::read(&words);
    if let Some(exit) = other_root::enter(flags.root.map(Path::new), &program, &args, screen) {
        return exit.into();
    }
    let options = Options { dry_run: flags.dry_run, ..Options::default() };
    let code = Session::start(screen, options, |layout| flags.place(layout))
        .and_then(|mut session| run(&mut session, adapter, words));
    match code {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => broke(&error, screen).into(),
    }
}

/// From the arguments to the exit code.
fn run(session: &mut Session, adapter: &Adapter, words: &[&str]) -> Result<i32> {
    // The removal of our own package is the same under all package managers.
    if words == [PACKAGE_LEAVES] {
        // What is kept back or kept as the default is recorded in the DKMS tree.
        if session.read_only(false).is_some() {
            return Ok(0);
        }
        return if session.options.dry_run { Ok(0) } else { apply::let_go(session).map(|()| 0) };
    }
    let answer = (adapter.translate)(
        session,
        &mut Input {
            words,
            reader: &mut io::stdin().lock(),
            writer: &mut io::stdout(),
            variable: &|name| environment::variable(name).unwrap_or_default(),
            ancestors: &ancestors,
        },
    )?;
    let screen = session.screen;
    let reply = |channel, text: &str, held| {
        if channel == Channel::Protocol {
            screen.answer(&(adapter.reply)(text, held));
        }
    };
    match answer {
        Answer::Nothing => Ok(0),
        Answer::Usage(usage) => {
            session.screen.alert(usage);
            Ok(2)
        }
        Answer::Incoming(question, channel) => incoming(session, &question, channel, reply),
        Answer::Events(effect, events, channel) => {
            session.options.recap = channel != Channel::StandardError;
            carry_out(session, effect, events, |text| reply(channel, text, false))
        }
    }
}

/// Runs the pre-build; the exit code determines whether the transaction may begin. Only a proven failure aborts it.
fn incoming(
    session: &mut Session,
    question: &Question,
    channel: Channel,
    reply: impl FnOnce(Channel, &str, bool),
) -> Result<i32> {
    if session.options.dry_run {
        session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(question)?));
        return Ok(0);
    }
    if skipped(session, false) {
        return Ok(0);
    }
    let finding = preflight(session, question)?;
    let held = !finding.held.is_empty();
    let kept = if held { keep_back(session, &finding) } else { None };
    if let Some(text) = summary(&finding, session, &RequestedBy::Transaction(kept)) {
        // A package manager with its own protocol prints the reason itself.
        if !held || channel != Channel::Protocol {
            session.screen.alert(&text);
        }
        reply(channel, &text, held);
    }
    if let Some(kept) = KeptBack::load(&session.layout).filter(|_| !held && !question.files.is_empty()) {
        let sentence = format!("dkms: {} (see dkms upcoming)", kept.sentence());
        if Reported::load(&session.layout, caller::manager()).is_first(&session.layout, &sentence) {
            session.screen.progress(&sentence);
        }
    }
    Ok(if held { HELD } else { 0 })
}

/// Whether nothing can be done because a tree is read-only, as in rpm-ostree's sandbox for scripts; if so, prints one line. A
/// failure would undo the whole update of an image.
fn skipped(session: &Session, kernels: bool) -> bool {
    let why = session.read_only(kernels).map(|found| found.what());
    let why = why.filter(|_| !session.options.dry_run);
    if let Some(why) = &why {
        session.screen.alert(&format!("dkms: skipped: {why}"));
    }
    why.is_some()
}

/// Has the next transaction leave out what aborts this one, if the package manager can be asked now; else the next ahead run does.
/// If this fails, the administrator does it by hand.
fn keep_back(session: &Session, finding: &Finding) -> Option<KeptBack> {
    if !session.policy.distribution.answers_meanwhile {
        return None;
    }
    let reasons = finding.reasons()?;
    let before = KeptBack::load(&session.layout);
    let kept = apply::hold(session)
        .and_then(|tree| kept_back::keep(session, &tree, reasons.clone(), &BTreeSet::new()));
    let kept = kept.unwrap_or_else(|error| {
        session.screen.alert(&format!("dkms: {error:#}"));
        None
    });
    // A kernel that no upgrade brings, or that was kept back already, was asked for by name.
    let known = before.is_some_and(|before| reasons.is_subset(&before.reasons));
    kept.filter(|kept| !known && reasons.is_subset(&kept.reasons))
}

/// Handles the events; returns the exit code.
fn carry_out(
    session: &mut Session,
    effect: FailureEffect,
    mut events: Vec<Event>,
    tell: impl FnOnce(&str),
) -> Result<i32> {
    // Modules are uninstalled with their kernel or source, even if automatic builds are disabled.
    if !events.iter().all(Event::leaves) && session.autoinstall_off() {
        events.retain(Event::leaves);
    }
    if events.is_empty() {
        return Ok(0);
    }
    if skipped(session, true) {
        return Ok(0);
    }
    let removal = events.iter().all(Event::leaves);
    match apply::run(session, events) {
        Ok(report) => {
            // For a log that does not contain what the hooks printed before.
            let whole = Reported::default();
            if let Some(summary) = text::summary(&report, &session.policy.admin, None, &whole) {
                tell(&summary);
            }
            Ok(match effect {
                FailureEffect::Stops => report.hook_code(&session.policy.admin).number(),
                FailureEffect::Tells if report.autoinstall_code().is_success() => 0,
                FailureEffect::Tells => Exit::AUTOINSTALL_FAILED.number(),
            })
        }
        Err(error) if error.is::<signal::Interrupted>() => Err(error),
        // For example a full disk. This must not prevent the removal of a kernel, and prevents an installation only if
        // the admin has configured critical modules.
        Err(error) if effect == FailureEffect::Stops && (removal || !session.policy.admin.has_critical()) => {
            session.screen.alert(&format!(
                "dkms: {error:#}\ndkms: the package manager continues: no module is critical"
            ));
            Ok(0)
        }
        // Distinguished from a hook that crashed.
        Err(error) => {
            broke(&error, session.screen);
            Ok(Exit::AUTOINSTALL_FAILED.number())
        }
    }
}

/// The arguments of a module package's script for `common.postinst`: the module, and others, with the previous version
/// as the third argument.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_before_the_verb() {
        let words = [
            "--dry-run",
            "--root",
            "/r",
            "--dkmstree",
            "/a",
            "--installtree",
            "/c",
            "verb",
            "--dry-run",
            "x",
        ];
        let (flags, rest) = Flags::read(&words);
        let expected = Flags {
            dry_run: true,
            root: Some("/r"),
            dkms_tree: Some("/a"),
            source_tree: None,
            install_tree: Some("/c"),
        };
        assert_eq!((flags, rest), (expected, &words[7..]));
        let mut layout = Layout::default();
        Flags::read(&words).0.place(&mut layout);
        assert_eq!(
            (layout.dkms_tree.as_path(), layout.install_tree.as_path()),
            ("/a".as_ref(), "/c".as_ref())
        );
        assert_eq!(layout.source_tree, Layout::default().source_tree);
    }
}
