//! Reads what goes into a package: the files of a build, verified again for their kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};

use super::{Contents, ModuleFile};
use crate::conf::Recipe;
use crate::distro::{Distribution, PackageFormat, fill};
use crate::kernel::{Algorithms, Compression, Kernel, Module, read_module, signature};
use crate::plan::Scope;
use crate::session::Session;
use crate::step::verify;
use crate::survey;
use crate::sys::{environment, run};
use crate::tree::{Build, Entry, Snapshot};
use crate::types::{Attempt, KernelRelease, ModuleId, Placement, Target, is_plain, version};

/// The oldest time of a file that no tool complains about: 2000-01-01. Used if nothing else is known.
const SOME_TIME: i64 = 946_684_800;

/// Why a build cannot be packed, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no build for this kernel.
    NotBuilt,
    /// Its source is missing, so that nothing says which files belong to it, or its dkms.conf is invalid.
    NoRecipe(String),
    /// The kernel would not load it.
    WouldNotLoad(String),
    /// It has no files to pack.
    Nothing(String),
}

/// Reads a build and verifies it for its kernel.
pub fn gather(
    session: &Session,
    snapshot: &Snapshot,
    entry: &Entry,
    module: &ModuleId,
    target: &Target,
    format: PackageFormat,
) -> Attempt<Contents, Refusal> {
    let Some(build) = entry.builds.get(target) else { return Ok(Err(Refusal::NotBuilt)) };
    let Some(source) = entry.source_dir() else {
        return Ok(Err(Refusal::NoRecipe(entry.source.missing())));
    };
    let kernel = session.kernel(target)?;
    let recipe = match survey::recipe(session, module, &kernel, source)? {
        Ok(recipe) => recipe,
        Err(why) => return Ok(Err(Refusal::NoRecipe(why.to_string()))),
    };
    let lists = symvers(session, snapshot, &recipe, target);
    let renamed = build.record.as_ref().map(|record| record.renamed.clone()).unwrap_or_default();
    if let Err(why) = verify::finished(&session.layout, module, &kernel, &recipe, &lists, &renamed) {
        return Ok(Err(Refusal::WouldNotLoad(why)));
    }
    let withheld = build.record.as_ref().map(|record| record.withheld.as_slice()).unwrap_or_default();
    let mut remarks: Vec<String> =
        withheld.iter().map(|name| format!("{name} is left out: the kernel provides it")).collect();
    if out_of_date(session, snapshot, module, target, build)? {
        remarks.push(format!(
            "it is out of date: its inputs have changed since it was built; to rebuild: dkms build {module} -k {} --force",
            target.kernel
        ));
    }
    if kernel.headers.is_none() {
        remarks
            .push(format!("kernel headers for {} are not installed: fewer checks were made", target.kernel));
    }
    let scripts = &recipe.scripts;
    for (name, command) in [
        ("PRE_INSTALL", &scripts.pre_install),
        ("POST_INSTALL", &scripts.post_install),
        ("POST_REMOVE", &scripts.post_remove),
    ] {
        if !command.is_empty() {
            remarks.push(format!("{name} of its dkms.conf is not part of the package: {command}"));
        }
    }
    let distribution = row(session, format);
    let files = files(session, (module, &kernel), &recipe, withheld, &distribution)?;
    if files.is_empty() {
        return Ok(Err(Refusal::Nothing("the kernel provides all of its modules".to_owned())));
    }
    Ok(Ok(Contents {
        module: module.clone(),
        target: target.clone(),
        modules_dir: session.layout.packaged_modules(),
        files,
        weak_modules: recipe.weak_modules,
        image_package: image_package(&distribution, target, kernel.pkgbase.as_deref()),
        image_version: image_version(&distribution, target, kernel.pkgbase.as_deref()),
        pkgbase: kernel.pkgbase,
        time: time(session, target)?,
        maintainer: maintainer()?,
        distribution,
        remarks,
    }))
}

/// Whether the build's inputs are known to be other ones now.
fn out_of_date(
    session: &Session,
    snapshot: &Snapshot,
    module: &ModuleId,
    target: &Target,
    build: &Build,
) -> Result<bool> {
    let place = Placement::of(module, target);
    let (cases, kernels) = ([place.clone()].into(), [target.clone()].into());
    let survey = survey::survey(session, &Scope { cases, older: BTreeMap::new(), kernels }, snapshot)?;
    let now = survey.cases.get(&place).and_then(|case| case.fingerprint.as_ref());
    let then = build.record.as_ref().map(|record| &record.fingerprint);
    Ok(now.zip(then).is_some_and(|(now, then)| !then.same_inputs(now)))
}

/// The kernel of the newest build of a module.
pub fn newest(entry: &Entry) -> Option<&Target> {
    entry.builds.keys().max_by(|a, b| version::compare(a.kernel.as_str(), b.kernel.as_str()))
}

/// The row of the distribution that the package is for: this one, if it uses the format. Extensions are for all.
fn row(session: &Session, format: PackageFormat) -> Distribution {
    let here = &session.policy.distribution;
    if here.packages == Some(format) || format == PackageFormat::Sysext {
        here.clone()
    } else {
        Distribution::of_format(format)
    }
}

/// What the modules that it depends on export.
fn symvers(session: &Session, snapshot: &Snapshot, recipe: &Recipe, target: &Target) -> Vec<PathBuf> {
    let built = |entry: &Entry| entry.builds.contains_key(target);
    let one = |name| {
        let active = snapshot.active(name, target);
        active.or_else(|| snapshot.versions(name).find(|(_, entry)| built(entry)).map(|(id, _)| id))
    };
    let found = recipe.build_depends.iter().filter_map(one);
    found.map(|id| session.layout.built_modules(id, target).join("Module.symvers")).collect()
}

fn files(
    session: &Session,
    (id, kernel): (&ModuleId, &Kernel),
    recipe: &Recipe,
    withheld: &[String],
    distribution: &Distribution,
) -> Result<Vec<ModuleFile>> {
    let target = &kernel.target;
    let built = session.layout.built_modules(id, target);
    let here = distribution == &session.policy.distribution;
    let destination = if here { session.policy.destination() } else { distribution.destination };
    let config = kernel.headers.as_ref().map(|headers| &headers.config);
    let algorithms = Algorithms::of(target.kernel.as_str(), config);
    let mut files = Vec::new();
    let mut names = BTreeSet::new();
    for spec in recipe.modules.iter().filter(|spec| !withheld.contains(&spec.dest_name)) {
        let kinds = [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd];
        let all = kinds.map(|kind| format!("{}.ko{}", spec.dest_name, kind.suffix()));
        let Some(name) = all.into_iter().find(|name| built.join(name).is_file()) else {
            anyhow::bail!("{id} has no {}.ko for {}", spec.dest_name, target.kernel);
        };
        let path = built.join(&name);
        let content =
            crate::sys::file::content(&path).with_context(|| format!("reading {}", path.display()))?;
        let plain = read_module(&path)?;
        let place = destination.unwrap_or(&spec.dest_location).trim_matches('/').to_owned();
        let path = format!("{place}/{name}");
        if !names.insert(path.clone()) {
            continue;
        }
        files.push(ModuleFile {
            path,
            module: Module::read(&plain).with_context(|| format!("reading {name}"))?,
            signature: match signature::examine(&plain, &[], &algorithms)? {
                signature::Signature::UnknownKey(signer) => format!("signed by {signer}"),
                other => other.to_string(),
            },
            content,
        });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The version of the kernel's package, from the package manager.
fn image_version(distribution: &Distribution, target: &Target, pkgbase: Option<&str>) -> Option<String> {
    let (program, args) = distribution.ask_image_version.split_first()?;
    run::which(program)?;
    let args = args.iter().map(|arg| fill(arg, target, pkgbase));
    let done = run::Cmd::new(*program).args(args).output(run::Output::Split).run().ok()?;
    let answer = String::from_utf8_lossy(&done.output).into_owned();
    let mut words = answer.split_whitespace().rev();
    let (version, name) = (words.next()?, words.next()?);
    let plain = version.bytes().all(is_plain);
    (done.status.success() && plain && Some(name) == pkgbase).then(|| version.to_owned())
}

/// Of the packages that can have a kernel, such as one with and one without a signature: the installed one. A dependency on
/// any of them would have apt install another one when the kernel is removed.
fn image_package(distribution: &Distribution, target: &Target, pkgbase: Option<&str>) -> Option<String> {
    let (program, args) = distribution.database.installed.split_first()?;
    run::which(program)?;
    let mut names = distribution.image_packages.iter().map(|name| fill(name, target, pkgbase));
    names.find(|name| {
        let done = run::Cmd::new(*program).args(args).arg(name).output(run::Output::Split).run();
        let installed =
            |output: &[u8]| String::from_utf8_lossy(output).lines().any(|line| line == "installed");
        done.is_ok_and(|done| done.status.success() && installed(&done.output))
    })
}

/// `SOURCE_DATE_EPOCH`; else the date of the kernel's package, which is the same on every machine.
fn time(session: &Session, target: &Target) -> Result<i64> {
    let wanted = environment::variable("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty());
    let wanted = wanted.map(|text| {
        let seconds = text.parse::<u32>().ok().map(i64::from);
        seconds.with_context(|| format!("SOURCE_DATE_EPOCH: {text:?} is not a number of seconds since 1970"))
    });
    let wanted = wanted.transpose()?;
    let packaged = |kernel: &KernelRelease| {
        let time = session.layout.modules_builtin(kernel).metadata().ok()?.modified().ok()?;
        i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
    };
    let time = wanted.or_else(|| packaged(&target.kernel)).unwrap_or(SOME_TIME);
    // As many digits as the formats have.
    Ok(if (SOME_TIME..=u32::MAX.into()).contains(&time) { time } else { SOME_TIME })
}

/// As for Debian's own tools: `DEBFULLNAME` and `DEBEMAIL`. They become a field of the package.
fn maintainer() -> Result<String> {
    let valid = |name: &str, text: Option<String>, default: &str| {
        let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let text = text.unwrap_or_else(|| default.to_owned());
        if text.contains(['<', '>']) || text.chars().any(char::is_control) {
            bail!("{name}: {text:?} must not contain <, > or control characters");
        }
        Ok(text)
    };
    let name = valid("DEBFULLNAME", environment::variable("DEBFULLNAME"), "dkms mkpackage")?;
    let email = valid("DEBEMAIL", environment::variable("DEBEMAIL"), "dkms@packages.invalid")?;
    Ok(format!("{name} <{email}>"))
}
