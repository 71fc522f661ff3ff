//! Translates the input of pacman's hooks into events.
//!
//! `alpm-hook VERB`, called by the hook files in `/usr/share/libalpm/hooks`. Standard input has one path per line,
//! without the
//! leading slash: the files of the transaction, merged over all triggers, without versions and operations. So after the
//! transaction
//! the disk decides: what exists was installed, what does not was removed.

mod call;
mod repository;
mod targets;

use std::process::ExitCode;

use anyhow::{Context, Result};
use dkms_core::event::Event;
use dkms_core::hook::{self, Adapter, Answer, Channel, FailureEffect, Input};
use dkms_core::inventory::{source_in, sources_once_in, target, targets_of_source};
use dkms_core::kernel;
use dkms_core::preflight::Question;
use dkms_core::session::Session;

use call::Call;
use repository::PacmanInput;
use targets::Targets;

/// The verbs.
const USAGE: &str =
    "alpm-hook {pre-transaction|post-transaction|pre-remove}, with packages and paths on standard input";

fn main() -> ExitCode {
    // pacman prints a hook's output, and does not interpret it.
    hook::main(&Adapter { translate, reply: |text, _| text.to_owned() })
}

fn translate(session: &Session, input: &mut Input<'_>) -> Result<Answer> {
    let ancestors = input.ancestors;
    let call = || Call::above(ancestors());
    let read = match input.words {
        ["pre-transaction"] => return before(session, &text(input)?, call),
        ["post-transaction"] => after,
        // A removal may be part of an upgrade: then everything is decided after the new version is installed.
        ["pre-remove"] if call().is_some_and(|call| call.is_removal()) => before_removal,
        ["pre-remove"] => return Ok(Answer::Nothing),
        _ => return Ok(Answer::Usage(USAGE)),
    };
    let targets = Targets::read(&text(input)?);
    for odd in &targets.odd {
        session.screen.alert(&format!("dkms: {odd}; ignored"));
    }
    Ok(Answer::Events(FailureEffect::Tells, read(session, &targets)?, Channel::StandardError))
}

fn text(input: &mut Input<'_>) -> Result<String> {
    let mut text = Vec::new();
    input.reader.read_to_end(&mut text).context("reading what pacman writes")?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Before the transaction: the files that are about to be installed. A kernel replaces the previous one.
fn before(session: &Session, text: &str, call: impl Fn() -> Option<Call>) -> Result<Answer> {
    let input = PacmanInput::read(text);
    if !input.concerns() {
        return Ok(Answer::Nothing);
    }
    match repository::files(&input, &call().unwrap_or_default()) {
        Ok(files) => {
            let question = Question { files, replaces: true, ..Question::default() };
            Ok(Answer::Incoming(question, Channel::StandardError))
        }
        Err(error) => {
            session.screen.alert(&format!("dkms: pre-build skipped: {error:#}"));
            Ok(Answer::Nothing)
        }
    }
}

/// After the transaction: all events in one list, so that there is one plan.
fn after(session: &Session, targets: &Targets) -> Result<Vec<Event>> {
    let layout = &session.layout;
    let (came, went): (Vec<_>, Vec<_>) =
        targets.kernels.iter().partition(|kernel| layout.image(kernel).exists());
    let mut events = Vec::new();
    for kernel in &went {
        events.push(Event::KernelRemoved(target(kernel.as_str())?));
    }
    let (here, gone): (Vec<_>, Vec<_>) = targets
        .sources
        .iter()
        .partition(|directory| layout.source_tree.join(directory).join("dkms.conf").exists());
    for directory in gone {
        match sources_once_in(session, directory) {
            Ok(modules) => events.extend(modules.into_iter().map(Event::SourceGone)),
            // A directory that was never a module's source is not a removed one.
            Err(_) => continue,
        }
    }
    for directory in here {
        match source_in(session, directory) {
            Ok(module) => {
                let mut kernels = targets_of_source(session, None, false)?;
                kernels.retain(|target| {
                    kernel::is_there(layout, &target.kernel) && !went.contains(&&target.kernel)
                });
                events.push(Event::SourceAdded { module, targets: kernels });
            }
            Err(error) => session.screen.alert(&format!("dkms: {error:#}; ignored")),
        }
    }
    for kernel in &came {
        events.push(Event::KernelAdded(target(kernel.as_str())?));
    }
    for kernel in targets.headers.iter().filter(|kernel| !targets.kernels.contains(*kernel)) {
        // Without its kernel nothing is built yet: this is done when the kernel is installed.
        if layout.headers(kernel).join("include").exists() && kernel::is_there(layout, kernel) {
            events.push(Event::HeadersAdded(target(kernel.as_str())?));
        }
    }
    Ok(events)
}

/// Before packages are removed without replacement: modules are removed while their sources and scripts exist.
fn before_removal(session: &Session, targets: &Targets) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for kernel in &targets.kernels {
        events.push(Event::KernelRemoved(target(kernel.as_str())?));
    }
    for directory in &targets.sources {
        let modules = sources_once_in(session, directory).unwrap_or_default();
        events.extend(modules.into_iter().map(Event::SourceGone));
    }
    Ok(events)
}

#[cfg(test)]
mod tests;
