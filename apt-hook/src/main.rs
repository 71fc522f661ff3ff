//! What dpkg's hooks say, as events. Translates only.
//!
//! `apt-hook VERB ARGUMENTS…`: the hook files in `/etc/kernel/*.d` and `/usr/lib/dkms` call it with their name as
//! the verb and hand on the arguments that they get themselves.

use std::process::ExitCode;

use anyhow::{Context, Result};
use dkms_core::cli::{autoinstall_off, explain};
use dkms_core::event::Event;
use dkms_core::kernel::{installed, machine, running};
use dkms_core::report::Screen;
use dkms_core::session::{Options, Session};
use dkms_core::sys::{confine, signal};
use dkms_core::types::{Arch, KernelRelease, ModuleId, Target};

/// The verbs and their arguments.
const USAGE: &str = "apt-hook {kernel-preinst|kernel-postinst|kernel-prerm} KERNEL [IMAGE] | \
    header-postinst KERNEL | module-postinst NAME VERSION [TARBALLS [ARCH [OLD]]] | autoinstaller start [KERNEL]";

fn main() -> ExitCode {
    if let Some(code) = confine::enter() {
        return code;
    }
    signal::install();
    // dpkg's hooks may run under debconf: standard output is not ours.
    let screen = Screen::package_manager();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match hook(&words, screen) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => ExitCode::from(explain(&error, screen)),
    }
}

fn hook(words: &[&str], screen: Screen) -> Result<i32> {
    let (Some(verb), arguments) = (words.first(), words.get(1..).unwrap_or_default()) else {
        screen.alert(USAGE);
        return Ok(2);
    };
    let maintainer = std::env::var("DEB_MAINT_PARAMS").unwrap_or_default();
    let removing = !maintainer.starts_with("upgrade");
    let mut session = Session::start(screen, Options::default(), |_| {})?;
    let events = match (*verb, arguments) {
        // A module that serves stays until its successor does: nothing to do before the kernel is unpacked.
        ("kernel-preinst", [_, ..]) => Vec::new(),
        ("kernel-postinst", [kernel, ..]) => vec![Event::KernelAdded(target(kernel)?)],
        ("header-postinst", [kernel, ..]) => vec![Event::HeadersAdded(target(kernel)?)],
        ("kernel-prerm", [kernel, ..]) if removing => vec![Event::KernelRemoved(target(kernel)?)],
        ("kernel-prerm", [_, ..]) => Vec::new(),
        ("autoinstaller", ["start", kernel]) => vec![Event::Autoinstall(target(kernel)?)],
        ("autoinstaller", ["start"]) => {
            let kernel = running().context("the running kernel has no valid name")?;
            vec![Event::Autoinstall(target(kernel.as_str())?)]
        }
        ("autoinstaller", ["stop" | "restart" | "force-reload" | "status" | "reload", ..]) => Vec::new(),
        ("module-postinst", [name, version, rest @ ..]) => {
            let module = ModuleId { name: name.parse()?, version: version.parse()? };
            let arch = rest.get(1).filter(|arch| !arch.is_empty()).map(|arch| arch.parse()).transpose()?;
            let upgrade = rest.get(2).is_some_and(|old| !old.is_empty());
            vec![Event::SourceAdded { module, targets: targets(&session, arch, upgrade)? }]
        }
        _ => {
            screen.alert(USAGE);
            return Ok(2);
        }
    };
    let removal = matches!(events.as_slice(), [Event::KernelRemoved(_)]);
    if events.is_empty() || !removal && autoinstall_off(&session) {
        return Ok(0);
    }
    match dkms_core::apply::run(&mut session, events) {
        Ok(report) => Ok(report.hook_code(&session.policy.admin)),
        Err(error) if error.is::<signal::Interrupted>() => Err(error),
        // A full disk, say. It must not keep a kernel from being removed, and keeps one from being installed only
        // where the admin has said that modules matter more.
        Err(error) if removal || !session.policy.admin.has_critical() => {
            screen.alert(&format!(
                "dkms: {error:#}\ndkms: the package manager goes on: no module is critical here"
            ));
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

fn target(kernel: &str) -> Result<Target> {
    Ok(Target { kernel: kernel.parse()?, arch: this_machine()? })
}

fn this_machine() -> Result<Arch> {
    machine().context("this machine's architecture has no valid name")
}

/// The kernels that a new module package is for: all (those without headers wait for them), or, when
/// framework.conf wants fewer, the running and the newest one. A running kernel that is not installed is a
/// chroot's host's.
fn targets(session: &Session, arch: Option<Arch>, upgrade: bool) -> Result<Vec<Target>> {
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
