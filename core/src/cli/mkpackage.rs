//! `dkms mkpackage`, `mkdeb`, `mkrpm`: native packages of builds. Without root, if the DKMS tree can be read.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use super::action::Action;
use super::args::Args;
use super::invocation::Invocation;
use super::{refuse, unknown};
use crate::distro::PackageFormat;
use crate::exit::Exit;
use crate::mkpackage::{self, Contents, Refusal};
use crate::session::Session;
use crate::tree::Snapshot;
use crate::types::{ModuleId, Target};

pub(super) fn make(session: &Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    let module = invocation.module_id()?;
    let format = format(session, args, invocation.action)?;
    if args.source_only {
        return refuse(
            Exit::CONTRADICTION,
            "packages contain builds; to pack a source: dkms mktarball --source-only",
        );
    }
    let without_meta = match format {
        PackageFormat::Deb | PackageFormat::Rpm => None,
        PackageFormat::Pacman => {
            Some("--meta is not needed in this format: its packages are upgraded together with their kernel")
        }
        PackageFormat::Sysext => Some(
            "--meta is not supported in this format: several extensions can be installed, one for each kernel",
        ),
    };
    if let Some(why) = without_meta.filter(|_| args.meta) {
        return refuse(Exit::ERROR, why);
    }
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("."));
    if !out.is_dir() {
        return refuse(Exit::UNWRITABLE, format!("--out {}: directory not found", out.display()));
    }
    // The lock prevents changes of what is being packed. If we may not write, no lock can be taken.
    let may_lock = rustix::process::geteuid().is_root();
    let _tree = may_lock.then(|| crate::apply::hold(session)).transpose()?;
    let snapshot = crate::apply::status_of(session, Some(&module.name))?;
    let targets = targets(session, args, &snapshot, &module)?;
    // Nothing is written if one of several packages cannot be.
    let mut all = Vec::new();
    for target in &targets {
        all.push(contents(session, &snapshot, &module, target, format)?);
    }
    for contents in &all {
        write(session, contents, format, args.meta, &out)?;
    }
    Ok(Exit::SUCCESS)
}

/// The named format, or that of the action, or that of this distribution.
fn format(session: &Session, args: &Args, action: Action) -> Result<PackageFormat> {
    let own = match action {
        Action::Mkdeb => Some(PackageFormat::Deb),
        Action::Mkrpm => Some(PackageFormat::Rpm),
        _ => None,
    };
    match (args.format, own) {
        (Some(named), Some(own)) if named != own => refuse(
            Exit::CONTRADICTION,
            format!("{action} does not write another format; use mkpackage --format"),
        ),
        (Some(format), _) | (None, Some(format)) => Ok(format),
        (None, None) => match session.policy.distribution.packages {
            Some(format) => Ok(format),
            None => {
                let formats =
                    PackageFormat::value_variants().iter().filter_map(PackageFormat::to_possible_value);
                let formats: Vec<String> = formats.map(|value| value.get_name().to_owned()).collect();
                refuse(Exit::ERROR, format!("{action} requires --format: {}", formats.join(" or ")))
            }
        },
    }
}

/// The kernels: the named ones, with `--meta` the newest that has a build, else those that have one of the kernels of other actions.
fn targets(session: &Session, args: &Args, snapshot: &Snapshot, module: &ModuleId) -> Result<Vec<Target>> {
    let Some(entry) = snapshot.modules.get(module) else {
        let all = crate::apply::status_of(session, None)?;
        let (name, version) = (module.name.as_str(), Some(module.version.as_str()));
        return refuse(Exit::NOT_ADDED, unknown::module(&all, name, version));
    };
    if args.all {
        return Ok(entry.builds.keys().cloned().collect());
    }
    if args.meta && !args.pairs.any() {
        return Ok(mkpackage::newest(entry).into_iter().cloned().collect());
    }
    let targets = args.targets(session)?;
    if args.pairs.any() {
        return Ok(targets);
    }
    let built: Vec<Target> =
        targets.iter().filter(|target| entry.builds.contains_key(target)).cloned().collect();
    // A user in a chroot is not told that the running kernel is none of it.
    match (built.is_empty(), entry.builds.keys().next()) {
        (false, _) => Ok(built),
        (true, None) => Ok(targets),
        (true, Some(other)) => {
            let kernels: Vec<&str> = targets.iter().map(|target| target.kernel.as_str()).collect();
            let why = format!("{module} is not built for {}", kernels.join(", "));
            refuse(Exit::NOT_BUILT, format!("{why}; to pack another of its builds: -k {}", other.kernel))
        }
    }
}

fn contents(
    session: &Session,
    snapshot: &Snapshot,
    module: &ModuleId,
    target: &Target,
    format: PackageFormat,
) -> Result<Contents> {
    let Some(entry) = snapshot.modules.get(module) else {
        return refuse(Exit::NOT_ADDED, format!("{module} is not in the DKMS tree"));
    };
    let rebuild = format!("dkms build {module} -k {} --force", target.kernel);
    match mkpackage::gather(session, snapshot, entry, module, target, format)? {
        Ok(contents) => Ok(contents),
        Err(Refusal::NotBuilt) => {
            let build = format!("dkms build {module} -k {}", target.kernel);
            refuse(Exit::NOT_BUILT, format!("{module} is not built for {target}; run `{build}` first"))
        }
        Err(Refusal::NoRecipe(why)) => refuse(Exit::BROKEN, format!("{module} cannot be packed: {why}")),
        Err(Refusal::WouldNotLoad(why)) => refuse(
            Exit::WOULD_NOT_LOAD,
            format!("{module} is not packed for {}: {why}; to rebuild: {rebuild}", target.kernel),
        ),
        Err(Refusal::Nothing(why)) => {
            refuse(Exit::NEWER_IN_KERNEL, format!("{module} is not packed for {}: {why}", target.kernel))
        }
    }
}

fn write(
    session: &Session,
    contents: &Contents,
    format: PackageFormat,
    meta: bool,
    out: &Path,
) -> Result<()> {
    let path = if meta {
        mkpackage::write_meta(session, contents, format, out)?
    } else {
        for file in &contents.files {
            session.screen.aside().progress(&format!("dkms: {}: {}", file.path, file.signature));
        }
        for remark in &contents.remarks {
            session.screen.alert(&format!("dkms: {}: {remark}", contents.module));
        }
        mkpackage::write(session, contents, format, out)?
    };
    // Scripts read this line.
    session.screen.answer(&format!("{}\n", path.display()));
    Ok(())
}
