//! Translates arguments and input of dpkg's hooks into events.
//!
//! `apt-hook VERB ARGUMENTS…`: the hook files in `/etc/kernel/*.d` and `/usr/lib/dkms` call it with their name as
//! the verb and pass on their own arguments.

mod incoming;

use std::process::ExitCode;

use anyhow::Result;
use dkms_core::event::Event;
use dkms_core::hook::{self, Adapter, Answer, Channel, FailureEffect, Input};
use dkms_core::inventory::{default_targets, target};
use dkms_core::preflight::Question;
use dkms_core::session::Session;
use dkms_core::types::Target;

/// The verbs and their arguments.
const USAGE: &str = "apt-hook {kernel-preinst|kernel-postinst|kernel-prerm} KERNEL [IMAGE] | \
    header-postinst KERNEL | module-postinst NAME VERSION [TARBALLS [ARCH [OLD]]] | autoinstaller start [KERNEL] | \
    incoming <PACKAGES";

fn main() -> ExitCode {
    // dpkg and apt do not interpret standard output.
    hook::main(&Adapter { translate, reply: |text, _| text.to_owned() })
}

fn translate(session: &Session, input: &mut Input<'_>) -> Result<Answer> {
    let default = |event: fn(Target) -> Event| -> Result<Vec<Event>> {
        Ok(default_targets(session)?.into_iter().map(event).collect())
    };
    let removing = !(input.variable)("DEB_MAINT_PARAMS").starts_with("upgrade");
    let events = match input.words {
        ["incoming"] => {
            let question = Question::of(incoming::files(&mut *input.reader)?);
            return Ok(Answer::Incoming(question, Channel::StandardError));
        }
        // Installed modules are kept until their successors are verified: nothing to do before the kernel is unpacked.
        // A hook that is called by hand has no arguments: the running kernel is meant where something is built.
        ["kernel-preinst" | "kernel-prerm"] | ["kernel-preinst", _, ..] => Vec::new(),
        ["kernel-postinst"] => default(Event::KernelAdded)?,
        ["header-postinst"] => default(Event::HeadersAdded)?,
        ["kernel-postinst", kernel, ..] => vec![Event::KernelAdded(target(kernel)?)],
        ["header-postinst", kernel, ..] => vec![Event::HeadersAdded(target(kernel)?)],
        ["kernel-prerm", kernel, ..] if removing => vec![Event::KernelRemoved(target(kernel)?)],
        ["kernel-prerm", _, ..] => Vec::new(),
        ["autoinstaller", "start", kernel] => vec![Event::Autoinstall(target(kernel)?)],
        ["autoinstaller", "start"] => default(Event::Autoinstall)?,
        ["autoinstaller", "stop" | "restart" | "force-reload" | "status" | "reload", ..] => Vec::new(),
        ["module-postinst", name, version, rest @ ..] => {
            let arch = rest.get(1).filter(|arch| !arch.is_empty()).map(|arch| arch.parse()).transpose()?;
            vec![hook::module_installed(session, [name, version], arch, rest)?]
        }
        _ => return Ok(Answer::Usage(USAGE)),
    };
    Ok(Answer::Events(FailureEffect::Stops, events, Channel::StandardError))
}

#[cfg(test)]
mod tests;
