//! `dkms log`: the log of a module's last build.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::args::Args;
use super::invocation::Invocation;
use super::{of_tree, refuse};
use crate::exit::Exit;
use crate::session::Session;
use crate::sys::file;
use crate::tree::Snapshot;
use crate::types::{ModuleId, ModuleName, Target};

/// The largest log that is printed. The builder limits logs to less.
const LIMIT: u64 = 64 << 20;

/// The module, if a build of it has failed: that of a package which is not installed yet is not in the DKMS tree.
fn of_failure(session: &Session, invocation: &Invocation) -> Result<Option<(ModuleName, Snapshot)>> {
    let name = invocation.name.as_deref().and_then(|name| name.parse::<ModuleName>().ok());
    let Some(name) = name else { return Ok(None) };
    let snapshot = crate::apply::status_of(session, None)?;
    let version = invocation.version.as_deref();
    let named =
        |id: &ModuleId| id.name == name && version.is_none_or(|version| version == id.version.as_str());
    let failed = snapshot.failures.keys().any(|key| named(&key.module));
    Ok(failed.then_some((name, snapshot)))
}

pub(super) fn show(session: &Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    let (name, snapshot) = match of_failure(session, invocation)? {
        Some(found) => found,
        None => of_tree(session, invocation)?,
    };
    let wanted = args.pairs.wanted()?;
    let fits = |target: &Target| {
        wanted.iter().any(|(kernel, arch)| {
            kernel.as_ref().is_none_or(|kernel| *kernel == target.kernel)
                && arch.as_ref().is_none_or(|arch| *arch == target.arch)
        })
    };
    let of_version = |version: &str| invocation.version.as_deref().is_none_or(|wanted| wanted == version);
    let failed = snapshot
        .failures
        .iter()
        .filter(|(key, _)| key.module.name == name && of_version(key.module.version.as_str()))
        .map(|(key, failure)| (&key.target, failure.log.clone()));
    let built = snapshot
        .versions(&name)
        .filter(|(id, _)| of_version(id.version.as_str()))
        .flat_map(|(id, entry)| entry.builds.keys().map(move |target| (id, target)))
        .map(|(id, target)| (target, session.layout.built(id, target).join("log/make.log")));
    let logs = failed.chain(built).filter(|(target, _)| fits(target)).filter_map(|(_, log)| {
        let written = log.symlink_metadata().and_then(|found| found.modified()).ok()?;
        Some((written, log))
    });
    let last: Option<(SystemTime, PathBuf)> = logs.max();
    let Some((_, log)) = last else {
        let target = wanted.iter().find_map(|(kernel, _)| kernel.as_ref());
        let place = if target.is_some() { " for this kernel" } else { "" };
        let option = target.map_or(String::new(), |kernel| format!(" -k {kernel}"));
        let version =
            snapshot.versions(&name).map(|(id, _)| id).filter(|id| of_version(id.version.as_str())).last();
        let module = version.map_or(name.to_string(), ToString::to_string);
        let build = format!("dkms install {module}{option}");
        return refuse(Exit::NOT_BUILT, format!("{name} has no build log{place}; to build it: {build}"));
    };
    let reading = || format!("reading {}", log.display());
    let (opened, _) = file::open_regular(&log).with_context(reading)?;
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(opened, LIMIT), &mut content)
        .with_context(reading)?;
    session.screen.alert(&format!("dkms: {}", log.display()));
    session.screen.answer(&String::from_utf8_lossy(&content));
    Ok(Exit::SUCCESS)
}
