//! The command line: words become calls. No logic.

mod args;
pub mod caller;
mod check;
mod complete;
mod history;
mod source;
mod status;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use crate::event::{Event, Request, Verb};
use crate::kernel;
use crate::layout::Layout;
use crate::report::Screen;
use crate::session::{Options, Session};
use crate::step::sign;
use crate::sys::signal::{self, Interrupted};
use crate::types::{ModuleId, Target};

use args::Args;

/// The version of shell DKMS whose interface this is.
const INTERFACE: &str = "3.4.3";

/// A command that cannot be understood or carried out, with the exit code that shell DKMS documents for it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    code: u8,
    message: String,
}

/// Makes a [`Refusal`].
fn refuse<T>(code: u8, message: impl Into<String>) -> Result<T> {
    Err(Refusal { code, message: message.into() }.into())
}

/// The program `dkms`.
pub fn main() -> ExitCode {
    if let Some(words) = complete::asked(std::env::args_os().map(|word| word.to_string_lossy().into_owned()))
    {
        complete::answer(&words, caller::screen());
        return ExitCode::SUCCESS;
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // A closed terminal is no reason to panic.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let screen = caller::screen().quiet(args.quiet);
    signal::install();
    match command(&args, screen) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => ExitCode::from(explain(&error, screen)),
    }
}

/// The definition of the command line, for those who describe it.
pub fn definition() -> clap::Command {
    Args::command()
}

/// Shows an error on one line, the chain included, and chooses the exit code.
pub fn explain(error: &anyhow::Error, screen: Screen) -> u8 {
    if let Some(Interrupted(signal)) = error.downcast_ref() {
        return 128 + u8::try_from(*signal).unwrap_or(0);
    }
    screen.alert(&format!("dkms: {error:#}"));
    error.downcast_ref::<Refusal>().map_or(1, |refusal| refusal.code)
}

fn command(args: &Args, screen: Screen) -> Result<i32> {
    if args.version {
        screen.answer(&format!("dkms-{INTERFACE}\n"));
        return Ok(0);
    }
    let words = args.words()?;
    args.refuse_missing()?;
    let options = Options {
        jobs: args.jobs,
        no_depmod: args.no_depmod,
        headers: args.kernelsourcedir.clone(),
        conf: args.conf.clone(),
        force_version: args.force_version_override,
        dry_run: args.dry_run,
    };
    let place = |layout: &mut Layout| {
        for (wanted, tree) in [
            (&args.dkmstree, &mut layout.dkms_tree),
            (&args.sourcetree, &mut layout.source_tree),
            (&args.installtree, &mut layout.install_tree),
        ] {
            if let Some(wanted) = wanted {
                *tree = std::path::absolute(wanted).unwrap_or_else(|_| wanted.clone());
            }
        }
    };
    let mut session = Session::start(screen, options, place)?;
    if args.dry_run && (words.action == "generate_mok" || words.source(args).is_some()) {
        return refuse(1, "--dry-run needs a module that has its place already: module/version");
    }
    match words.action.as_str() {
        "status" => status::show(&session, args, &words),
        "check" => check::show(&session, args, &words),
        "history" => history::show(&session, &words.rest, args.json),
        "generate_mok" if !args.dry_run => generate_mok(&session),
        "autoinstall" => {
            let target = args.one_target("autoinstall")?;
            if autoinstall_off(&session) {
                return Ok(0);
            }
            let report = crate::apply::run(&mut session, vec![Event::Autoinstall(target)])?;
            Ok(report.autoinstall_code())
        }
        "kernel_preinst" => args.named_target("kernel_preinst").map(|_| 0),
        "kernel_postinst" => {
            let target = args.named_target("kernel_postinst")?;
            if autoinstall_off(&session) {
                return Ok(0);
            }
            hook(&mut session, Event::KernelAdded(target))
        }
        "kernel_prerm" => {
            let target = args.named_target("kernel_prerm")?;
            hook(&mut session, Event::KernelRemoved(target))
        }
        "add" => {
            let module = match words.source(args) {
                Some(dir) => source::copy(&session, &dir, args.force)?,
                None => args.module_id(&words)?,
            };
            let target = args.targets()?.into_iter().next();
            ask(&mut session, Verb::Add, module, target.into_iter().collect(), args)
        }
        "build" | "install" => {
            if args.all {
                return refuse(5, format!("{} does not know --all: name a kernel with -k", words.action));
            }
            let verb = if words.action == "build" { Verb::Build } else { Verb::Install };
            let module = match words.source(args) {
                Some(dir) => source::copy(&session, &dir, args.force)?,
                None => args.module_id(&words)?,
            };
            ask(&mut session, verb, module, args.targets()?, args)
        }
        "uninstall" | "unbuild" | "remove" => withdraw(&mut session, args, &words),
        action => refuse(1, format!("dkms {action} is not available yet in this version")),
    }
}

fn withdraw(session: &mut Session, args: &Args, words: &args::Words) -> Result<i32> {
    let module = args.module_id(words)?;
    if args.all && (!args.kernelver.is_empty() || !args.arch.is_empty()) {
        let code = if args.kernelver.is_empty() { 3 } else { 2 };
        return refuse(code, "--all means every kernel: it cannot go with -k or -a");
    }
    if words.action == "remove" && args.all && caller::replacing() {
        let report = crate::apply::run(session, vec![Event::SourceReplaced(module)])?;
        return Ok(report.code());
    }
    let verb = match words.action.as_str() {
        "uninstall" => Verb::Uninstall,
        "unbuild" => Verb::Unbuild,
        _ => Verb::Remove,
    };
    let targets = match (args.all, verb) {
        (false, _) => args.targets()?,
        (true, Verb::Remove) => Vec::new(),
        (true, _) => {
            let snapshot = crate::apply::status_of(session, Some(&module.name))?;
            snapshot
                .modules
                .get(&module)
                .map(|entry| entry.builds.keys().cloned().collect())
                .unwrap_or_default()
        }
    };
    ask(session, verb, module, targets, args)
}

fn ask(
    session: &mut Session,
    verb: Verb,
    module: ModuleId,
    targets: Vec<Target>,
    args: &Args,
) -> Result<i32> {
    let request = Request {
        verb,
        module,
        targets,
        force: args.force || args.rpm_safe_upgrade && verb == Verb::Install,
    };
    let report = crate::apply::run(session, vec![Event::Asked(request)])?;
    Ok(report.code())
}

fn hook(session: &mut Session, event: Event) -> Result<i32> {
    let report = crate::apply::run(session, vec![event])?;
    Ok(report.hook_code(&session.policy.admin))
}

/// Whether the admin has turned automatic installation off; says so.
pub fn autoinstall_off(session: &Session) -> bool {
    let switch = session.layout.no_autoinstall();
    let off = switch.exists();
    if off {
        session.screen.progress(&format!("dkms: nothing is built by itself: {} exists", switch.display()));
    }
    off
}

fn generate_mok(session: &Session) -> Result<i32> {
    let (key, certificate) = sign::pair(session, &running()?);
    for path in [Path::new(&key), &certificate] {
        if path.exists() || key.starts_with("pkcs11:") {
            return refuse(
                1,
                format!("{} exists already and may be enrolled: nothing was made", path.display()),
            );
        }
    }
    sign::make(session, Path::new(&key), &certificate)?;
    let enrol = sign::enrol(session, &certificate);
    session.screen.progress(&format!("dkms: made {}; enrol it once: {enrol}", certificate.display()));
    Ok(0)
}

/// The running kernel on this machine.
fn running() -> Result<Target> {
    match (kernel::running(), kernel::machine()) {
        (Some(kernel), Some(arch)) => Ok(Target { kernel, arch }),
        _ => refuse(12, "the running kernel's release or architecture is no valid name: give -k and -a"),
    }
}
