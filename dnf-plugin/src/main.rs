//! Translates arguments and input of rpm's triggers, kernel-install and dnf into events.
//!
//! `dnf-hook VERB ARGUMENTS…`: the triggers of our package, the kernel-install plugin and dnf's plugins call it. Those
//! that
//! know the content of a transaction write it to standard input, one item per line: rpm paths, dnf packages.
#![cfg_attr(test, allow(clippy::disallowed_methods))] // unit tests lay out machines of their own

mod affected;
mod cache;
mod dnf5;

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use dkms_core::event::Event;
use dkms_core::hook::{self, Adapter, Answer, Channel, FailureEffect, Input};
use dkms_core::inventory::{all_targets, target};
use dkms_core::preflight::Question;
use dkms_core::session::Session;

use affected::Affected;

/// The verbs and their arguments.
const USAGE: &str = "dnf-hook kernel-install {add|remove} KERNEL [ENTRY-DIR [IMAGE...]] | sources-added <PATHS | \
    files-leave INSTANCES-THAT-STAY <PATHS | transaction-end [first] <PATHS | module-postinst NAME VERSION [TARBALLS [ARCH [OLD]]] | \
    dnf4-before <FILES | dnf4 <PACKAGES | dnf5-before | dnf5";

fn main() -> ExitCode {
    hook::main(&Adapter { translate, reply: dnf5::reply })
}

fn translate(session: &Session, input: &mut Input<'_>) -> Result<Answer> {
    let events = match input.words {
        ["kernel-install", "add", kernel, ..] => vec![Event::KernelAdded(target(kernel)?)],
        ["kernel-install", "remove", kernel, ..] => vec![Event::KernelRemoved(target(kernel)?)],
        // Only registered: at the end of the transaction, all of them are built in one plan.
        ["sources-added"] => Affected::paths(session, lines(input))
            .modules
            .into_iter()
            .map(|module| Event::SourceAdded { module, targets: Vec::new() })
            .collect(),
        ["files-leave", stay] => Affected::paths(session, lines(input)).leave(session, *stay != "0")?,
        ["transaction-end"] => Affected::paths(session, lines(input)).came(session)?,
        // Our own package is being installed, and all files existed before: builds of another dkms are trusted.
        ["transaction-end", "first"] => all_targets(session)?.into_iter().map(Event::Autoinstall).collect(),
        ["module-postinst", name, version, rest @ ..] => {
            vec![hook::module_installed(session, [name, version], None, rest)?]
        }
        ["dnf4-before"] => {
            let question = Question::of(lines(input).map(PathBuf::from));
            return Ok(Answer::Incoming(question, Channel::StandardError));
        }
        ["dnf4"] => {
            let events = Affected::packages(session, lines(input)).came(session)?;
            return Ok(Answer::Events(FailureEffect::Stops, events, Channel::AtTheEnd));
        }
        ["dnf5-before"] => return dnf5::comes(input),
        ["dnf5"] => return dnf5::came(session, input),
        _ => return Ok(Answer::Usage(USAGE)),
    };
    // If this trigger fails, dnf and zypper fail, although everything is installed. As with apt, only critical modules
    // may cause this.
    Ok(Answer::Events(FailureEffect::Stops, events, Channel::StandardError))
}

/// The lines of standard input; invalid UTF-8 is skipped, because it is not a name.
fn lines<'i>(input: &'i mut Input<'_>) -> impl Iterator<Item = String> + 'i {
    (&mut *input.reader).lines().map_while(|line| line.ok())
}

#[cfg(test)]
mod tests;
