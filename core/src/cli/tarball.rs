//! `dkms mktarball`, `dkms ldtarball`, and the tarballs that `add`, `build` and `install` take.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::args::Args;
use super::invocation::Invocation;
use super::{Refusal, refuse, source, unknown};
use crate::archive::{self, Contents, Packing, Refused, Unpacked};
use crate::event::{Event, Load};
use crate::exit::Exit;
use crate::package;
use crate::session::Session;
use crate::survey;
use crate::sys::file;
use crate::sys::hash::{self, Watch};
use crate::tree::{Entry, Snapshot, Source};
use crate::types::{ModuleId, Target};

/// Larger than any real dkms.conf.
const CONF_LIMIT: u64 = 1 << 20;

/// `dkms mktarball`.
pub(super) fn mktarball(session: &Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    let module = invocation.module_id()?;
    // The lock prevents changes of what is being packed. If we may not write, no lock can be taken.
    let may_lock = rustix::process::geteuid().is_root();
    let _tree = may_lock.then(|| crate::apply::hold(session)).transpose()?;
    let snapshot = crate::apply::status_of(session, Some(&module.name))?;
    let entry = match snapshot.modules.get(&module) {
        Some(entry) if entry.broken() => {
            return refuse(
                Exit::BROKEN,
                format!("{module} is broken: source directory or source link is missing"),
            );
        }
        Some(entry) if snapshot.registered(&module) => entry,
        _ => {
            let all = crate::apply::status_of(session, None)?;
            let (name, version) = (module.name.as_str(), Some(module.version.as_str()));
            return refuse(Exit::NOT_ADDED, unknown::module(&all, name, version));
        }
    };
    let Some(from) = entry.source_dir() else {
        return refuse(Exit::BROKEN, format!("source directory of {module} not found"));
    };
    let conf = session.options.conf.clone().unwrap_or_else(|| from.join("dkms.conf"));
    source::module_of(session, &conf)?;
    let targets = match (args.source_only, args.all) {
        (true, _) => None,
        (false, true) => Some(entry.builds.keys().cloned().collect()),
        (false, false) => Some(args.targets(session)?),
    };
    let name = archive::file_name(&module, targets.as_deref());
    let packing = Packing {
        module: &module,
        source: (!args.binaries_only).then_some(from.as_path()),
        conf: &conf,
        builds: built(session, &module, entry, targets.unwrap_or_default())?,
    };
    let to = archive::destination(&session.layout.tarballs(&module), args.archive.as_deref(), &name);
    let to = to.map_err(|error| translated(error, "the tarball"))?;
    let remarks =
        archive::pack(&packing, &to).map_err(|error| translated(error, &to.display().to_string()))?;
    for remark in remarks {
        session.screen.alert(&format!("dkms: {remark}"));
    }
    session.screen.progress(&format!("dkms: wrote {}", to.display()));
    Ok(Exit::SUCCESS)
}

/// The builds for these kernels, all of which must exist.
fn built(
    session: &Session,
    module: &ModuleId,
    entry: &Entry,
    targets: Vec<Target>,
) -> Result<BTreeMap<Target, PathBuf>> {
    let mut builds = BTreeMap::new();
    for target in targets {
        if !entry.builds.contains_key(&target) {
            let build = format!("dkms build {module} -k {}", target.kernel);
            let why = format!("{module} is not built for {target}; run `{build}` first");
            return refuse(Exit::NOT_BUILT, why);
        }
        let dir = session.layout.built(module, &target);
        builds.insert(target, dir);
    }
    Ok(builds)
}

/// `dkms ldtarball`.
pub(super) fn ldtarball(
    session: &mut Session,
    args: &Args,
    invocation: &Invocation,
) -> Result<(ModuleId, Exit)> {
    import(session, args, invocation)
}

/// `dkms add TARBALL`.
pub(super) fn add(session: &mut Session, args: &Args, invocation: &Invocation) -> Result<(ModuleId, Exit)> {
    import(session, args, invocation)
}

/// Reads a tarball and adds its content.
fn import(session: &mut Session, args: &Args, invocation: &Invocation) -> Result<(ModuleId, Exit)> {
    let Some(path) = invocation.tarball(args).filter(|path| path.exists()) else {
        let named =
            args.archive.clone().or_else(|| invocation.rest.first().map(PathBuf::from)).unwrap_or_default();
        let why = match named.as_os_str().is_empty() {
            true => format!("{} requires a tarball: dkms {0} FILE", invocation.action),
            false if named.is_dir() => format!("{} is a directory, not a tarball", named.display()),
            false => format!("tarball {named:?} not found"),
        };
        return refuse(Exit::NO_SOURCE, why);
    };
    if args.force && !rustix::process::geteuid().is_root() {
        return refuse(Exit::ERROR, "--force must be run as root");
    }
    let name = path.display().to_string();
    if package::named_like_rpm(&path) {
        return refuse(
            Exit::NO_TARBALL,
            format!("{name} is a package, not a tarball; install it with your package manager"),
        );
    }
    let tarball = Unpacked::open(&session.layout, &path).map_err(|error| translated(error, &name))?;
    let contents = &tarball.contents;
    let module = module_in(session, &tarball, &name)?;
    let snapshot = crate::apply::status_of(session, Some(&module.name))?;
    // The plan checks this again under the lock, but the source is copied before.
    let rest = rest_of_import(session, &tarball, &module, &snapshot);
    if snapshot.registered(&module) && !args.force && rest.is_empty() {
        let code = if contents.made { Exit::TARBALL_OF_ADDED } else { Exit::ALREADY_ADDED };
        return refuse(
            code,
            format!("{module} is already in the DKMS tree; use --force to replace it with {name}"),
        );
    }
    if let Some(Entry { source: Source::Dangling(to), .. }) = snapshot.modules.get(&module) {
        return refuse(
            Exit::BROKEN,
            format!("{module} is broken: source directory {} not found", to.display()),
        );
    }
    let Some(target) = args.any_targets(session)?.into_iter().next() else {
        return refuse(Exit::EMPTY_VALUE, "no kernel specified");
    };
    sound(session, &tarball, &module, &target, &name)?;
    let place = session.layout.source(&module);
    // A build that exists is not replaced then.
    let mut registered_now = !args.force && snapshot.registered(&module);
    match &contents.source {
        Some(dir) if !same(&tarball.path(dir), &place) => {
            // An unrelated source of this name: shell DKMS would mix the two.
            if place.exists() && !args.force {
                return Err(refusal(Exit::ALREADY_ADDED, &place, &name));
            }
            source::put(session, &tarball.path(dir), &module, args.force)?;
        }
        Some(_) => {}
        None if place.is_dir() || snapshot.registered(&module) => {}
        // As in shell DKMS: installing its builds needs no source, and building again fails.
        None => {
            let conf = file::read_untrusted(&tarball.path(Path::new("")), &contents.conf, CONF_LIMIT)?;
            crate::apply::hold(session)?.register_conf(&module, &conf)?;
            registered_now = true;
        }
    }
    let wanted = |target: &Target| rest.is_empty() || args.force || rest.contains(target);
    let builds = contents.builds.iter().filter(|(target, _)| wanted(target));
    let builds = builds.map(|(target, dir)| (target.clone(), tarball.path(dir))).collect();
    let load = Load { module: module.clone(), target, builds, force: args.force || registered_now };
    let report = crate::apply::run(session, vec![Event::Loaded(load)])?;
    Ok((module, report.code()))
}

/// The builds of a tarball that a module lacks which has its source: an import was interrupted after it had added the module.
fn rest_of_import(
    session: &Session,
    tarball: &Unpacked,
    module: &ModuleId,
    snapshot: &Snapshot,
) -> BTreeSet<Target> {
    let source = tarball.contents.source.as_ref().map(|dir| tarball.path(dir));
    let ours = |source: &PathBuf| same(source, &session.layout.source(module));
    if !snapshot.registered(module) || !source.as_ref().is_some_and(ours) {
        return BTreeSet::new();
    }
    tarball
        .contents
        .builds
        .keys()
        .filter(|target| snapshot.build(module, target).is_none())
        .cloned()
        .collect()
}

/// The module of a tarball, checked against every name in it.
fn module_in(session: &Session, tarball: &Unpacked, name: &str) -> Result<ModuleId> {
    let Contents { conf, claims, .. } = &tarball.contents;
    let conf = tarball.path(conf);
    let module = source::module_of(session, &conf).map_err(|error| match error.downcast::<Refusal>() {
        Ok(Refusal { code, message }) => {
            // The directory that it was unpacked to no longer exists when the message is read.
            let message = message.replace(&format!("{}", conf.display()), "dkms.conf");
            Refusal { code, message: format!("{name}: {message}") }.into()
        }
        Err(error) => error,
    })?;
    if let Some((claimed_name, claimed_version)) = claims {
        let read = |path: &Path| -> Result<String> {
            let content = file::read_untrusted(&tarball.path(Path::new("")), path, 4096)?;
            Ok(String::from_utf8_lossy(&content).trim().to_owned())
        };
        let claim = format!("{}/{}", read(claimed_name)?, read(claimed_version)?);
        if claim != module.to_string() {
            return refuse(
                Exit::OTHER_MODULE,
                format!("{name} names {claim:?}, but its dkms.conf names {module}"),
            );
        }
    }
    Ok(module)
}

/// A module that could not be added must not be copied to the source tree.
fn sound(
    session: &Session,
    tarball: &Unpacked,
    module: &ModuleId,
    target: &Target,
    name: &str,
) -> Result<()> {
    let kernel = session.kernel(target)?;
    let conf = tarball.path(&tarball.contents.conf);
    let dir = conf.parent().unwrap_or(&conf);
    match survey::recipe(session, module, &kernel, dir)? {
        Ok(_) => Ok(()),
        Err(error) => {
            let why = error.to_string().replace(&conf.display().to_string(), "dkms.conf");
            refuse(Exit::BAD_CONF, format!("{name}: {why}"))
        }
    }
}

/// Whether two source trees are the same.
fn same(one: &Path, other: &Path) -> bool {
    let hash = |dir: &Path| hash::trees(&[dir.to_owned()], Watch::Files, None, &[]);
    other.is_dir() && hash(one).is_ok_and(|one| hash(other).is_ok_and(|other| one == other))
}

fn refusal(code: Exit, place: &Path, name: &str) -> anyhow::Error {
    let message =
        format!("{} already exists and differs; use --force to replace it with {name}", place.display());
    Refusal { code, message }.into()
}

/// A fault of the tarball, as the command's exit code.
fn translated(error: anyhow::Error, name: &str) -> anyhow::Error {
    match error.downcast::<Refused>() {
        Ok(Refused { code, why }) => {
            Refusal { code, message: format!("{name} {why}; nothing was changed") }.into()
        }
        Err(error) => error.context(format!("reading {name}")),
    }
}
