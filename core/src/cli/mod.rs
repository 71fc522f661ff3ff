//! The command line: arguments become calls. Contains no logic.

mod action;
mod args;
mod check;
mod complete;
mod doctor;
mod help;
mod history;
mod idle;
mod implied;
mod invocation;
mod log;
mod matrix;
mod mkpackage;
mod pairs;
mod pattern;
mod permit;
mod picture;
mod preflight;
mod prometheus;
mod read_only;
mod safe_upgrade;
mod source;
mod status;
mod store;
mod tarball;
mod timeline;
mod unknown;
mod upcoming;
mod why;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;

use crate::caller::{self, other_root};
use crate::event::{Event, Request, Verb};
use crate::exit::Exit;
use crate::inventory::all_targets;
use crate::kernel;
use crate::layout::Layout;
use crate::report::progress::Progress;
use crate::report::{Report, Screen, broke};
use crate::session::{Options, Session};
use crate::step::sign;
use crate::sys::signal;
use crate::tree::Snapshot;
use crate::types::{ModuleId, ModuleName, Target};

use action::{Action, Operand};
use args::Args;
use invocation::Invocation;

/// The version of shell DKMS whose interface dkms has.
const INTERFACE: &str = "3.4.3";

/// A command that is invalid or cannot be executed, with the exit code that shell DKMS documents for this.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    code: Exit,
    message: String,
}

/// Returns a [`Refusal`].
fn refuse<T>(code: Exit, message: impl Into<String>) -> Result<T> {
    Err(Refusal { code, message: message.into() }.into())
}

/// The program `dkms`.
pub fn main() -> ExitCode {
    let words = || std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    if let Some(words) = complete::requested(words()) {
        complete::print(&words, caller::screen());
        return ExitCode::SUCCESS;
    }
    match help::requested(&words().skip(1).collect::<Vec<_>>()) {
        Some(Ok(text)) => {
            caller::screen().answer(&text);
            return written(Exit::SUCCESS, caller::screen()).into();
        }
        Some(Err(why)) => {
            caller::screen().alert(&format!("dkms: {why}"));
            return Exit::NO_ACTION.into();
        }
        None => {}
    }
    let args = match Args::read() {
        Ok(args) => args,
        Err(error) => {
            caller::screen().alert(&help::wrong(&error));
            return Exit::NO_ACTION.into();
        }
    };
    let screen = caller::screen().quiet(args.quiet).events(args.progress_as_json());
    let words: Vec<String> = words().skip(1).collect();
    if let Some(exit) = other_root::enter(args.root.as_deref(), Path::new(Layout::PROGRAM), &words, screen) {
        return written(exit, screen).into();
    }
    signal::install();
    let exit = match command(&args, screen) {
        Ok(exit) => exit,
        Err(error) => explain(&error, screen),
    };
    written(exit, screen).into()
}

/// The exit code; an error if the answer could not be written.
fn written(exit: Exit, screen: Screen) -> Exit {
    match screen.lost() {
        Some(error) => {
            screen.alert(&format!("dkms: writing the output: {error}"));
            if exit.is_success() { Exit::ERROR } else { exit }
        }
        None => exit,
    }
}

/// Words that an action does not use: an error, except for a package's script, which may have worked for years.
fn unused(screen: Screen, invocation: &Invocation) -> Result<()> {
    let action = invocation.action;
    let operand = action.rules().operand;
    let word = match operand {
        Operand::None => invocation.rest.first(),
        operand if operand.takes_many() => None,
        _ => invocation.unrecognized.first(),
    };
    let Some(word) = word else { return Ok(()) };
    let takes = if operand == Operand::None { "no module" } else { "one module" };
    let why = format!("{action} takes {takes}: {word:?} has no meaning here");
    if screen.is_person() {
        return refuse(Exit::NO_ACTION, why);
    }
    screen.alert(&format!("dkms: ignored: {why}"));
    Ok(())
}

/// The definition of the command line, for documentation and completion.
pub fn definition() -> clap::Command {
    Args::command()
}

/// Prints an error and returns the exit code.
fn explain(error: &anyhow::Error, screen: Screen) -> Exit {
    let code = broke(error, screen);
    error.downcast_ref::<Refusal>().map_or(code, |refusal| refusal.code)
}

fn command(args: &Args, screen: Screen) -> Result<Exit> {
    if args.version {
        // Scripts read the first line.
        let ours = format!("dkms-rs {}\n", env!("CARGO_PKG_VERSION"));
        let ours = if io::stdout().is_terminal() { ours } else { String::new() };
        screen.answer(&format!("dkms-{INTERFACE}\n{ours}"));
        return Ok(Exit::SUCCESS);
    }
    let mut invocation = args.invocation()?;
    let rules = invocation.action.rules();
    args.pairs.check(args.all)?;
    for option in args.deprecated() {
        screen.alert(&format!("dkms: {option} is deprecated and has no effect"));
    }
    unused(screen, &invocation)?;
    args.without_meaning(screen, invocation.action)?;
    unknown::directory(&invocation)?;
    if let Some(config) = args.config.as_ref().filter(|config| !config.is_file()) {
        return refuse(Exit::ERROR, format!("--config {}: file not found", config.display()));
    }
    let options = Options {
        jobs: args.jobs,
        no_depmod: args.no_depmod,
        headers: args.kernelsourcedir.clone(),
        config: args.config.clone(),
        conf: args.conf.clone(),
        directives: args.directives()?,
        symlink_modules: args.symlink_modules,
        // Devices have waited for modules that were missing at boot.
        modprobe: args.modprobe_on_install || args.at_boot,
        offline: args.at_boot,
        verbose: args.verbose,
        force_version: args.force_version_override,
        force: args.force && matches!(invocation.action, Action::Autoinstall | Action::KernelPostinst),
        // The state of modules was requested. The start of a machine must not read all of them.
        exact: matches!(invocation.action, Action::Doctor | Action::Why | Action::Autoinstall)
            && !args.at_boot,
        dry_run: args.dry_run,
        recap: false,
        gives_way: args.upcoming,
        environment: match invocation.action {
            // They are about package transactions, which have none, or about builds for other machines.
            Action::Store | Action::Preflight | Action::Upcoming | Action::Why | Action::Doctor => Vec::new(),
            _ => caller::build_environment(),
        },
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
    if args.dry_run {
        // The plan is the only thing on standard output.
        session.screen = session.screen.aside();
    }
    if args.binaries_only && args.source_only {
        return refuse(Exit::CONTRADICTION, "--binaries-only and --source-only cannot be used together");
    }
    let brings = invocation.source().is_some() || invocation.brings_tarball(args);
    if args.dry_run && !rules.plans {
        return refuse(Exit::ERROR, format!("--dry-run is not supported by {}", invocation.action));
    }
    if args.dry_run && brings {
        return refuse(Exit::ERROR, "--dry-run is not supported here; it requires MODULE/VERSION");
    }
    // Before anything else: in such a transaction, nothing that earlier actions should have written is there.
    if let Some(exit) = read_only::end(&session, args, &invocation)? {
        return Ok(exit);
    }
    implied::version(&session, args, &mut invocation)?;
    unknown::kernels(&session, args, &invocation)?;
    permit::check(&session, args, &invocation)?;
    let action = invocation.action;
    match action {
        Action::Status => status::show(&session, args, &invocation),
        Action::Check => check::show(&session, args, &invocation),
        Action::Preflight => preflight::show(&mut session, args, &invocation),
        Action::Upcoming => upcoming::show(&session, args),
        Action::History => history::show(&session, args, &invocation.rest),
        Action::Timeline => timeline::show(&session, args, &invocation.rest),
        Action::Log => log::show(&session, args, &invocation),
        Action::Why => why::show(&mut session, args, &invocation),
        Action::Doctor => doctor::show(&mut session, args),
        Action::GenerateMok => generate_mok(&session),
        Action::Autoinstall => {
            // With --all, every kernel of this machine in one plan: their builds share the processors until the end.
            let targets = match args.all {
                true => all_targets(&session)?,
                false if !args.pairs.named() => args.targets(&session)?,
                false => vec![args.one_target(&session, action)?],
            };
            if session.autoinstall_off() {
                // A program that reads the plan or the progress gets one in which nothing happens.
                if args.dry_run {
                    crate::apply::run(&mut session, Vec::new())?;
                }
                session.screen.event(&Progress::End { transaction: None, report: &Report::default() });
                return Ok(Exit::SUCCESS);
            }
            let events = targets.iter().cloned().map(Event::Autoinstall).collect();
            let report = crate::apply::run(&mut session, events)?;
            idle::automatic(&session, &report, &targets);
            // An optional module that does not build would be a failed unit at every boot.
            Ok(if args.at_boot { report.hook_code(&session.policy.admin) } else { report.autoinstall_code() })
        }
        Action::KernelPreinst => {
            let target = args.named_target(&session, action)?;
            idle::say(&session, &format!("nothing to do before {} is installed", target.kernel));
            Ok(Exit::SUCCESS)
        }
        Action::KernelPostinst => {
            let target = args.named_target(&session, action)?;
            if session.autoinstall_off() {
                return Ok(Exit::SUCCESS);
            }
            let report = crate::apply::run(&mut session, vec![Event::KernelAdded(target.clone())])?;
            idle::automatic(&session, &report, &[target]);
            Ok(report.hook_code(&session.policy.admin))
        }
        Action::KernelPrerm => {
            let target = args.named_target(&session, action)?;
            let report = crate::apply::run(&mut session, vec![Event::KernelRemoved(target.clone())])?;
            idle::removed(&session, &report, &target);
            Ok(report.hook_code(&session.policy.admin))
        }
        Action::Store => store::run(&session, args, &invocation.rest),
        Action::Mktarball => tarball::mktarball(&session, args, &invocation),
        Action::Mkpackage | Action::Mkdeb | Action::Mkrpm => mkpackage::make(&session, args, &invocation),
        Action::Ldtarball => tarball::ldtarball(&mut session, args, &invocation).map(|(_, code)| code),
        Action::Add => add(&mut session, args, &invocation),
        Action::Build => build(&mut session, args, &invocation, Verb::Build),
        Action::Install => build(&mut session, args, &invocation, Verb::Install),
        Action::Match => matching(&mut session, args, &invocation),
        Action::Uninstall => withdraw(&mut session, args, &invocation, Verb::Uninstall),
        Action::Unbuild => withdraw(&mut session, args, &invocation, Verb::Unbuild),
        Action::Remove => remove(&mut session, args, &invocation),
    }
}

/// The named module of the DKMS tree, and the tree's content. A version is optional.
fn of_tree(session: &Session, invocation: &Invocation) -> Result<(ModuleName, Snapshot)> {
    let Some(word) = &invocation.name else {
        return refuse(Exit::ERROR, format!("{} requires MODULE", invocation.action));
    };
    let snapshot = crate::apply::status_of(session, None)?;
    let name = word.parse::<ModuleName>().ok();
    let of_version =
        |id: &ModuleId| invocation.version.as_deref().is_none_or(|wanted| wanted == id.version.as_str());
    match name.filter(|name| snapshot.versions(name).any(|(id, _)| of_version(id))) {
        Some(name) => Ok((name, snapshot)),
        None => refuse(Exit::NOT_ADDED, unknown::module(&snapshot, word, invocation.version.as_deref())),
    }
}

fn add(session: &mut Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    if invocation.brings_tarball(args) {
        return tarball::add(session, args, invocation).map(|(_, code)| code);
    }
    let module = named(session, args, invocation)?;
    if args.rpm_safe_upgrade && !args.dry_run {
        safe_upgrade::note(session, &module)?;
    }
    let target = args.any_targets(session)?.into_iter().next();
    ask(session, Verb::Add, module, target.into_iter().collect(), args)
}

fn build(session: &mut Session, args: &Args, invocation: &Invocation, verb: Verb) -> Result<Exit> {
    let module = if invocation.source().is_none() && invocation.brings_tarball(args) {
        match tarball::add(session, args, invocation)? {
            (module, Exit::SUCCESS) => module,
            (_, code) => return Ok(code),
        }
    } else {
        named(session, args, invocation)?
    };
    ask(session, verb, module, args.targets(session)?, args)
}

/// The module to add, build or install; a source directory is copied to its place first.
fn named(session: &Session, args: &Args, invocation: &Invocation) -> Result<ModuleId> {
    if args.all {
        return refuse(
            Exit::NO_ALL,
            format!("--all is not supported by {}; name a kernel with -k", invocation.action),
        );
    }
    match invocation.source() {
        Some(dir) => source::copy(session, dir, args),
        None => invocation.module_id(),
    }
}

fn matching(session: &mut Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    let target = args.one_target(session, invocation.action)?;
    let template = args.template(&target)?;
    let only = match invocation.name.as_deref() {
        None => None,
        Some(word) => match word.parse::<ModuleName>() {
            Ok(name) if !crate::apply::status_of(session, Some(&name))?.modules.is_empty() => Some(name),
            _ => {
                let snapshot = crate::apply::status_of(session, None)?;
                return refuse(Exit::NOT_ADDED, unknown::module(&snapshot, word, None));
            }
        },
    };
    let nothing = format!("dkms: nothing to match: no matching module is installed for {}", template.kernel);
    let event = Event::Matched { template, target, only, force: args.force };
    let report = crate::apply::run(session, vec![event])?;
    if report.lines.is_empty() && !args.dry_run {
        session.screen.progress(&nothing);
    }
    Ok(report.code())
}

fn remove(session: &mut Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    let module = invocation.module_id()?;
    if args.rpm_safe_upgrade && !args.dry_run && safe_upgrade::replaced(session, &module)? {
        return Ok(Exit::SUCCESS);
    }
    if args.all && caller::replacing() {
        let report = crate::apply::run(session, vec![Event::SourceReplaced(module)])?;
        return Ok(report.code());
    }
    withdraw(session, args, invocation, Verb::Remove)
}

fn withdraw(session: &mut Session, args: &Args, invocation: &Invocation, verb: Verb) -> Result<Exit> {
    let module = invocation.module_id()?;
    let targets = match (args.all, verb) {
        (false, _) => args.any_targets(session)?,
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
) -> Result<Exit> {
    let request = Request {
        verb,
        module,
        targets,
        force: args.force || args.rpm_safe_upgrade && verb == Verb::Install,
    };
    let report = crate::apply::run(session, vec![Event::Requested(request.clone())])?;
    idle::requested(session, &report, &request)?;
    Ok(report.code())
}

fn generate_mok(session: &Session) -> Result<Exit> {
    let (key, certificate) = sign::pair(session, &running()?);
    let token = key.starts_with("pkcs11:");
    let whole = || (token || Path::new(&key).exists()) && certificate.exists();
    let _tree = (!whole()).then(|| crate::apply::hold(session)).transpose()?;
    if !token && !whole() {
        // An interrupted run may have left one half.
        sign::heal(Path::new(&key), &certificate)?;
    }
    match (token || Path::new(&key).exists(), certificate.exists()) {
        (true, true) => {
            if let Some(why) = sign::damaged(&key, &certificate) {
                let advice = "restore it from a backup; otherwise run `dkms doctor`, which names the commands for a new pair";
                return refuse(Exit::ERROR, format!("{why}; {advice}; nothing was changed"));
            }
            let certificate = certificate.display();
            session.screen.progress(&format!("dkms: {key} and {certificate} already exist; nothing to do"));
            return Ok(Exit::SUCCESS);
        }
        (false, false) => {}
        // Generating both again would lose a key that may be enrolled.
        (key_exists, _) => {
            let certificate = certificate.display().to_string();
            let (there, missing) = if key_exists { (&key, &certificate) } else { (&certificate, &key) };
            return refuse(
                Exit::ERROR,
                format!("{there} exists and may be enrolled, but {missing} is missing; nothing was changed"),
            );
        }
    }
    sign::ensure_pair(session, Path::new(&key), &certificate)?;
    let enroll = sign::enroll(session, &certificate);
    session.screen.progress(&format!(
        "dkms: generated a module signing key (MOK): {}; to enroll it: {enroll}",
        certificate.display()
    ));
    Ok(Exit::SUCCESS)
}

/// The running kernel on this machine.
fn running() -> Result<Target> {
    match (kernel::running(), kernel::machine()) {
        (Some(kernel), Some(arch)) => Ok(Target { kernel, arch }),
        _ => refuse(
            Exit::NO_RUNNING_KERNEL,
            "the running kernel's release or architecture is not a valid name; use -k and -a",
        ),
    }
}
