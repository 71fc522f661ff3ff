//! What rpm's triggers, kernel-install and dnf say, as events. Translates only.
//!
//! `dnf-hook VERB ARGUMENTS…`: the triggers of our package, the kernel-install plugin and dnf's plugins call it. Those that
//! know what a transaction brought write it to standard input, a line each: rpm paths, dnf packages.

mod dnf5;
mod seen;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use dkms_core::event::Event;
use dkms_core::hook::{self, Answer, Power};
use dkms_core::inventory::{all_targets, target};
use dkms_core::preflight::Question;
use dkms_core::session::Session;

/// The verbs and their arguments.
const USAGE: &str = "dnf-hook kernel-install {add|remove} KERNEL [ENTRY-DIR [IMAGE...]] | sources-added <PATHS | \
    files-leave INSTANCES-THAT-STAY <PATHS | transaction-end [first] <PATHS | module-postinst NAME VERSION [TARBALLS [ARCH [OLD]]] | \
    dnf4-before <FILES | dnf4 <PACKAGES | dnf5-before | dnf5";

fn main() -> ExitCode {
    hook::main(translate)
}

fn translate(session: &Session, words: &[&str]) -> Result<Answer> {
    let events = match words {
        ["kernel-install", "add", kernel, ..] => vec![Event::KernelAdded(target(kernel)?)],
        ["kernel-install", "remove", kernel, ..] => vec![Event::KernelRemoved(target(kernel)?)],
        // Only registered: at the end of the transaction all of them are built in one plan.
        ["sources-added"] => seen::Seen::paths(session)
            .modules
            .into_iter()
            .map(|module| Event::SourceAdded { module, targets: Vec::new() })
            .collect(),
        ["files-leave", stay] => seen::Seen::paths(session).leave(session, *stay != "0")?,
        ["transaction-end"] => seen::Seen::paths(session).came(session)?,
        // We come ourselves, after everything that is there: what another dkms has built is believed.
        ["transaction-end", "first"] => all_targets(session)?.into_iter().map(Event::Autoinstall).collect(),
        ["module-postinst", name, version, rest @ ..] => {
            vec![hook::module_installed(session, [name, version], None, rest)?]
        }
        ["dnf4-before"] => return Ok(Answer::Incoming(Question::of(seen::lines().map(PathBuf::from)))),
        ["dnf4"] => seen::Seen::packages(session, seen::lines()).came(session)?,
        ["dnf5-before"] => return dnf5::comes(session),
        ["dnf5"] => return dnf5::came(session),
        _ => {
            session.screen.alert(USAGE);
            return Ok(Answer::Code(2));
        }
    };
    // A trigger that fails fails the whole run of dnf or zypper, although everything is installed: as with apt, only
    // what the admin cannot do without may do that.
    Ok(Answer::Events(Power::Stops, events))
}
