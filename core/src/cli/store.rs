//! `dkms store`: the machine that builds for others fills a store; the others read it by `[store]` in policy.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::args::Args;
use super::matrix::{Cell, Matrix};
use super::refuse;
use crate::exit::Exit;
use crate::session::Session;
use crate::store::{self, Found, Keep, Place, PrivateKey, Problem, PublicKey, Pushed};
use crate::sys::{file, hash};
use crate::types::{KernelRelease, ModuleId, Placement, Target};

/// What can be done with a store.
pub(super) const WORDS: [&str; 5] = ["key", "push", "verify", "gc", "report"];
/// The name of a key, unless one is given.
const KEY: &str = "dkms-store";
/// The width of the table in a file.
const WIDE: usize = 160;

/// What `dkms store report --json` prints.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Document {
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    format: u32,
    builds: Vec<Stored>,
    /// Manifests that cannot be read or are not signed with a trusted key.
    problems: Vec<Wrong>,
}

/// A build in the store.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Stored {
    module: ModuleId,
    #[serde(flatten)]
    target: Target,
    fingerprint: String,
    /// RFC 3339.
    finished: String,
    builder: String,
    /// Compressed, in bytes.
    size: u64,
}

/// A file that is not as it should be.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Wrong {
    path: PathBuf,
    why: String,
}

pub(super) fn run(session: &Session, args: &Args, words: &[String]) -> Result<Exit> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if args.dry_run && words.first() != Some(&"gc") {
        return refuse(Exit::ERROR, "--dry-run is supported by store gc only");
    }
    if args.json && words.first() != Some(&"report") {
        return refuse(Exit::ERROR, "--json is supported by store report only");
    }
    match words.as_slice() {
        ["key"] => key(session, args, KEY),
        ["key", name] => key(session, args, name),
        ["push", place, modules @ ..] => push(session, args, place, modules),
        ["verify", place] => verify(session, args, &directory(place)?),
        ["gc", place] => gc(session, args, &directory(place)?),
        ["report", place] => report(session, args, &directory(place)?),
        _ => refuse(
            Exit::NO_ACTION,
            "usage: dkms store key [NAME], push DIRECTORY|URL [MODULE[/VERSION]...], verify|gc|report DIRECTORY",
        ),
    }
}

fn place(word: &str) -> Result<Place> {
    match word.contains("://") || word.starts_with("file:") {
        true => word.parse().with_context(|| format!("the store {word}")),
        false => Ok(Place::Dir(std::path::absolute(word)?)),
    }
}

fn directory(word: &str) -> Result<PathBuf> {
    match place(word)? {
        Place::Dir(dir) => Ok(dir),
        Place::Web(url) | Place::Bucket(url) => {
            refuse(Exit::ERROR, format!("{url} cannot be listed; run this where the files are"))
        }
    }
}

/// Generates a key pair. An existing one is never replaced: machines trust it.
fn key(session: &Session, args: &Args, name: &str) -> Result<Exit> {
    let (default, public) = session.layout.store_key();
    let (private, public) = match &args.key {
        Some(path) => (path.clone(), path.with_extension("pub")),
        None => (default, public),
    };
    if private == public {
        return refuse(
            Exit::ERROR,
            format!(
                "{}: the public key would be written to the same file; --key needs a name that does not end with .pub",
                private.display()
            ),
        );
    }
    for path in [&private, &public] {
        if path.exists() {
            return refuse(Exit::ERROR, format!("{} exists; nothing was changed", path.display()));
        }
    }
    let key = store::generate(name, &hash::random()?)?;
    let private_text = format!(
        "# Private key of a store of builds: who has it can install modules on all machines that trust it.\n{}\n",
        key.line()
    );
    file::make_dirs(private.parent().unwrap_or(Path::new("/")))?;
    file::write_atomic(&private, private_text.as_bytes(), 0o600)?;
    file::write_atomic(&public, format!("{}\n", key.public()).as_bytes(), 0o644)?;
    session.screen.progress(&format!(
        "dkms: generated {} and {}\n      to trust it, in {} of each machine: [store] trust = [\"{}\"]",
        private.display(),
        public.display(),
        session.layout.policy().display(),
        key.public()
    ));
    Ok(Exit::SUCCESS)
}

fn push(session: &Session, args: &Args, to: &str, modules: &[&str]) -> Result<Exit> {
    let path = args.key.clone().unwrap_or_else(|| session.layout.store_key().0);
    let text = file::text(&path);
    let text = match text {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse(
                Exit::ERROR,
                format!("{} not found; to generate a key: dkms store key", path.display()),
            );
        }
        other => other.with_context(|| format!("reading {}", path.display()))?,
    };
    let key: PrivateKey = text.parse().with_context(|| format!("reading {}", path.display()))?;
    for secret in
        [&path, &session.layout.store_logins()].into_iter().filter(|path| file::open_to_others(path))
    {
        session.screen.alert(&format!(
            "dkms: {0} is secret, but other users can read or change it; to protect it: chown root: {0} && chmod 600 {0}",
            secret.display()
        ));
    }
    let kernels: BTreeSet<&str> = args.pairs.kernels().collect();
    let named = |one: &Placement| {
        let module = modules.is_empty()
            || modules
                .iter()
                .any(|word| *word == one.module.name.as_str() || *word == one.module.to_string());
        module && (kernels.is_empty() || kernels.contains(one.target.kernel.as_str()))
    };
    let (mut new, mut present, mut left) = (0, 0, 0);
    store::push(session, &place(to)?, &key, named, |one, pushed| {
        let what = match &pushed {
            Pushed::New => {
                new += 1;
                "pushed".to_owned()
            }
            Pushed::Present => {
                present += 1;
                return;
            }
            Pushed::LeftOut(why) => {
                left += 1;
                format!("not pushed: {why}")
            }
        };
        session.screen.progress(&format!("dkms: {} for {}: {what}", one.module, one.target.kernel));
    })?;
    session.screen.progress(&format!("dkms: {new} builds pushed, {present} were there, {left} left out"));
    // A named module that is not there afterwards is an error.
    let nothing = new + present == 0 && !modules.is_empty();
    Ok(if nothing { Exit::ERROR } else { Exit::SUCCESS })
}

/// The keys whose manifests are read: that of `--key`, else the trusted ones and this machine's own.
fn keys(session: &Session, args: &Args) -> Result<Vec<PublicKey>> {
    let read = |path: &Path| -> Result<PublicKey> {
        let text = file::text(path).with_context(|| format!("reading {}", path.display()))?;
        text.parse().with_context(|| format!("reading {}", path.display()))
    };
    if let Some(path) = &args.key {
        return Ok(vec![read(path)?]);
    }
    let trust = &session.policy.admin.store().trust;
    let mut keys = trust.iter().map(|line| line.parse()).collect::<Result<Vec<PublicKey>>>()?;
    let (_, own) = session.layout.store_key();
    if own.exists() {
        keys.push(read(&own)?);
    }
    if keys.is_empty() {
        return refuse(Exit::ERROR, "no key is trusted: use --key FILE, or [store] trust in policy.toml");
    }
    Ok(keys)
}

fn tell(session: &Session, problems: &[Problem]) {
    for Problem { path, why } in problems {
        session.screen.alert(&format!("dkms: {}: {why}", path.display()));
    }
}

fn verify(session: &Session, args: &Args, dir: &Path) -> Result<Exit> {
    let (found, problems) = store::verify(dir, &keys(session, args)?)?;
    tell(session, &problems);
    session.screen.progress(&format!("dkms: {} builds, {} problems", found.len(), problems.len()));
    Ok(if problems.is_empty() { Exit::SUCCESS } else { Exit::ERROR })
}

fn gc(session: &Session, args: &Args, dir: &Path) -> Result<Exit> {
    let kernels = args.pairs.kernels().map(str::parse::<KernelRelease>);
    let kernels = kernels.collect::<Result<BTreeSet<_>, _>>()?;
    let keep = Keep { kernels, days: args.older_than };
    let gone = store::gc(dir, &keys(session, args)?, &keep, args.dry_run)?;
    for path in &gone {
        session.screen.answer(&format!("{}\n", path.display()));
    }
    let end = if args.dry_run { "would be deleted" } else { "deleted" };
    session.screen.progress(&format!("dkms: {} files {end}", gone.len()));
    Ok(Exit::SUCCESS)
}

fn report(session: &Session, args: &Args, dir: &Path) -> Result<Exit> {
    let (found, problems) = store::list(dir, &keys(session, args)?)?;
    if args.json {
        let document = document(&found, &problems);
        session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(&document)?));
        return Ok(Exit::SUCCESS);
    }
    let places: Vec<&Placement> = found.iter().map(|found| &found.manifest.place).collect();
    let matrix = Matrix {
        modules: places.iter().map(|place| place.module.clone()).collect(),
        kernels: places.iter().map(|place| place.target.clone()).collect(),
        cells: places
            .iter()
            .map(|place| ((place.module.clone(), place.target.clone()), Cell::Stored))
            .collect::<BTreeMap<_, _>>(),
        running: None,
    };
    match session.screen.terminal() {
        Some(width) => session.screen.painted(&matrix.draw(width)),
        None => session.screen.answer(&matrix.draw(WIDE).text(false)),
    }
    tell(session, &problems);
    Ok(Exit::SUCCESS)
}

fn document(found: &[Found], problems: &[Problem]) -> Document {
    let stored = |Found { manifest, .. }: &Found| Stored {
        module: manifest.place.module.clone(),
        target: manifest.place.target.clone(),
        fingerprint: manifest.fingerprint.0.clone(),
        finished: manifest.finished.clone(),
        builder: manifest.builder.clone(),
        size: manifest.object.size,
    };
    let wrong = |Problem { path, why }: &Problem| Wrong { path: path.clone(), why: why.clone() };
    let (mut builds, problems) =
        (found.iter().map(stored).collect::<Vec<_>>(), problems.iter().map(wrong).collect());
    builds
        .sort_by(|a, b| (&a.module, &a.target, &a.fingerprint).cmp(&(&b.module, &b.target, &b.fingerprint)));
    Document { format: 1, builds, problems }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{documented, fields};

    #[test]
    fn every_field_is_described() {
        let found = Stored {
            module: "a/1".parse().unwrap(),
            target: Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() },
            fingerprint: "12".into(),
            finished: "2026-11-30T12:00:00Z".into(),
            builder: "urn".into(),
            size: 1,
        };
        let problems = vec![Wrong { path: "builds".into(), why: "why".into() }];
        let document = serde_json::to_value(Document { format: 1, builds: vec![found], problems }).unwrap();
        assert_eq!(documented(".SS store report \\-\\-json"), fields(&document));
    }

    #[test]
    fn the_shipped_schema_is_that_of_the_document() {
        crate::shipped::expect::<Document>("store-report");
    }
}
