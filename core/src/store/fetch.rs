//! Takes builds from the configured stores into the local cache, instead of compiling them.
//!
//! First all manifests are asked for, then the objects of those that are there. Whatever is wrong with a store ends its use
//! for this run: a broken or hostile one costs its time limit once, not once for each module.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::envelope;
use super::key::PublicKey;
use super::object;
use super::reach::Place;
use super::statement::Manifest;
use super::{MANIFEST_LIMIT, manifest_path, object_path};
use crate::cache::{self, Cache};
use crate::conf::Recipe;
use crate::session::Session;
use crate::sys::{file, signal, time};
use crate::types::{Fingerprint, Placement};

/// How many bytes are at least expected in a second: the time limit of objects follows from it.
const SLOWEST: u64 = 256 << 10;
/// Objects are downloaded together up to this size, because all are held in memory.
const TOGETHER: u64 = 64 << 20;

/// A build that would be compiled.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The module and the kernel.
    pub place: Placement,
    /// The inputs.
    pub fingerprint: &'a Fingerprint,
    /// The programs that run in a build, see [`cache::unfinished`].
    pub environment: &'a str,
    /// Its recipe: a build has these modules.
    pub recipe: &'a Recipe,
}

/// What stores had.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The builds that are in the local cache now, with the URL of their store.
    pub builds: BTreeMap<Placement, String>,
    /// One line for each store that was not used, and one for builds that no store has.
    pub remarks: Vec<String>,
}

/// Looks for builds in the stores of policy.toml. `Err` means that dkms was interrupted: everything else that goes wrong is a
/// remark.
pub fn fetch(session: &Session, wanted: &[Wanted<'_>]) -> Result<Fetched> {
    let mut fetched = Fetched::default();
    let settings = session.policy.admin.store();
    let cache = session.cache();
    let (mut open, mut own): (Vec<&Wanted<'_>>, Vec<&Wanted<'_>>) = (Vec::new(), Vec::new());
    for one in wanted {
        // A run that was killed had it already.
        match cache.unproven(&one.key()) {
            Some(url) => drop(fetched.builds.insert(one.place.clone(), url)),
            None if manifest_path(one.fingerprint).is_some() => open.push(one),
            None => own.push(one),
        }
    }
    if settings.url.is_empty() {
        return Ok(fetched);
    }
    if !own.is_empty() {
        let variables: Vec<&str> =
            session.options.environment.iter().map(|(name, _)| name.as_str()).collect();
        fetched.remarks.push(format!(
            "no build in the store for {}: variables of the environment reach the build ({})",
            names(&own),
            variables.join(", ")
        ));
    }
    if open.is_empty() {
        return Ok(fetched);
    }
    if !cache.enabled() {
        fetched
            .remarks
            .push("the store of builds was not used: it needs the cache, and cache_mib is 0".into());
        return Ok(fetched);
    }
    if let Err(error) = session.fleet_key() {
        fetched
            .remarks
            .push(format!("builds from the store are signed with this machine's own key: {error:#}"));
    }
    let mut run = Run { session, cache, deadline: Instant::now() + Duration::from_secs(settings.seconds()) };
    let mut absent = true;
    for url in &settings.url {
        if open.is_empty() {
            break;
        }
        if let Err(error) = run.one(url, &open, &mut fetched) {
            if error.is::<signal::Interrupted>() {
                return Err(error);
            }
            absent = false;
            fetched.remarks.push(format!("the store {} was not used: {error:#}", shown(url)));
        }
        open.retain(|one| !fetched.builds.contains_key(&one.place));
    }
    if absent && !open.is_empty() {
        fetched.remarks.push(format!("no build in the store for {}", names(&open)));
    }
    Ok(fetched)
}

/// The first of these modules, and the number of the others.
fn names(all: &[&Wanted<'_>]) -> String {
    let names: Vec<String> = all.iter().take(3).map(|one| one.place.module.to_string()).collect();
    let more = if all.len() > 3 { format!(" and {} more", all.len() - 3) } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// A URL of policy.toml in a message: a wrong one may contain anything, also a password.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}").chars().filter(|c| !c.is_control()).take(200).collect()
}

impl Wanted<'_> {
    fn key(&self) -> String {
        cache::unfinished(self.fingerprint, self.environment)
    }
}

/// One run.
struct Run<'a> {
    session: &'a Session,
    cache: Cache,
    /// When the search for manifests ends, in all stores.
    deadline: Instant,
}

impl Run<'_> {
    /// One store. Builds that came before something failed are kept.
    fn one(&mut self, url: &str, open: &[&Wanted<'_>], fetched: &mut Fetched) -> Result<()> {
        let place: Place = url.parse()?;
        let keys = self.keys()?;
        let names: Vec<String> = open.iter().filter_map(|one| manifest_path(one.fingerprint)).collect();
        let got = place.get(self.session, &names, MANIFEST_LIMIT, self.deadline)?;
        let mut there: Vec<(&Wanted<'_>, Manifest)> = Vec::new();
        for (one, content) in open.iter().zip(got.files) {
            let Some(content) = content else { continue };
            let manifest =
                read(&content, &keys, one).with_context(|| format!("the build of {}", one.place.module))?;
            there.push((one, manifest));
        }
        if let Some(fault) = got.fault {
            bail!("{fault}");
        }
        let mut rest = there.as_slice();
        while !rest.is_empty() {
            let mut size = 0;
            let fits = rest.iter().take_while(|(_, manifest)| {
                size += manifest.object.size;
                size <= TOGETHER
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            self.objects(&place, url, now, fetched)?;
            rest = later;
        }
        Ok(())
    }

    /// Downloads objects, and puts their builds into the cache.
    fn objects(
        &self,
        place: &Place,
        url: &str,
        builds: &[(&Wanted<'_>, Manifest)],
        fetched: &mut Fetched,
    ) -> Result<()> {
        let sizes = builds.iter().map(|(_, manifest)| manifest.object.size);
        let (most, all) = (sizes.clone().max().unwrap_or(0), sizes.sum::<u64>());
        let names: Vec<String> =
            builds.iter().filter_map(|(_, manifest)| object_path(&manifest.object.sha256)).collect();
        let seconds = self.session.policy.admin.store().seconds() + all / SLOWEST;
        let got = place.get(self.session, &names, most, Instant::now() + Duration::from_secs(seconds))?;
        for ((one, manifest), content) in builds.iter().zip(got.files) {
            let keep = || {
                let content = content.context("its object is missing")?;
                self.keep(one, manifest, &content, url)
            };
            keep().with_context(|| format!("the build of {}", one.place.module))?;
            fetched.builds.insert(one.place.clone(), url.to_owned());
        }
        match got.fault {
            Some(fault) => bail!("{fault}"),
            None => Ok(()),
        }
    }

    fn keep(&self, one: &Wanted<'_>, manifest: &Manifest, object: &[u8], url: &str) -> Result<()> {
        let files = object::unpack(object, manifest)?;
        let dir = file::temp_beside(&self.session.layout.work().join("store"));
        let kept = (|| {
            file::make_private_dir(&dir)?;
            object::write(&files, &dir)?;
            let Placement { module, target } = &one.place;
            let entry = cache::Manifest::new(module, target, None, manifest.seconds, Vec::new()).fetched(url);
            // An entry whose overlay is not valid now.
            self.cache.forget(&one.key())?;
            self.cache.store(&one.key(), &dir, entry)
        })();
        file::remove_all(&dir)?;
        kept
    }

    /// The trusted keys.
    fn keys(&self) -> Result<Vec<PublicKey>> {
        trusted(&self.session.policy.admin.store().trust)
    }
}

/// The keys of policy.toml that are trusted today.
pub(super) fn trusted(lines: &[String]) -> Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let key = line.parse::<PublicKey>();
        keys.push(key.with_context(|| format!("key {} of `trust` in policy.toml", number + 1))?);
    }
    if keys.is_empty() {
        bail!("policy.toml trusts no key");
    }
    let today = time::today();
    if keys.iter().all(|key| !key.valid_on(&today)) {
        bail!("all keys of `trust` in policy.toml have expired");
    }
    keys.retain(|key| key.valid_on(&today));
    Ok(keys)
}

/// The manifest of exactly this build, signed with a trusted key.
fn read(content: &[u8], keys: &[PublicKey], one: &Wanted<'_>) -> Result<Manifest> {
    let manifest = Manifest::read(&envelope::open(content, keys)?)?;
    manifest.is_of(&one.place, one.fingerprint)?;
    complete(&manifest, one.recipe)?;
    Ok(manifest)
}

/// Whether a build consists of the modules of the recipe, and has no others.
fn complete(manifest: &Manifest, recipe: &Recipe) -> Result<()> {
    let modules = manifest.files.iter().filter_map(|file| {
        let name = Path::new(&file.path).strip_prefix("module").ok()?.to_str()?;
        name.contains(".ko").then_some(name)
    });
    let mut modules: Vec<String> = modules.map(str::to_owned).collect();
    let mut wanted: Vec<String> =
        recipe.modules.iter().map(|module| format!("{}.ko", module.dest_name)).collect();
    modules.sort();
    wanted.sort();
    wanted.dedup();
    if modules != wanted {
        bail!("its modules are not those of the dkms.conf");
    }
    Ok(())
}
