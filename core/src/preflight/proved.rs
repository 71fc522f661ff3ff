//! What the last pre-build had proven: a transaction with the same packages, on the same system, need not prove it again.
//!
//! Only a pre-build without any failure is recorded. If the record is wrong, for example because another program has
//! changed the system since, the transaction compiles what it needs, as without any pre-build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::apply::Proven;
use crate::cache;
use crate::kernel::installed_tools;
use crate::layout::Layout;
use crate::package::Package;
use crate::report::{Line, Outcome, Severity};
use crate::session::Session;
use crate::sys::file;
use crate::sys::hash::{self, Watch};
use crate::tree::Snapshot;
use crate::types::Placement;

/// The format version of the record. Others are ignored.
const FORMAT: u32 = 1;

/// The record.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proved {
    format: u32,
    /// The packages that were used, by name and version, each with the digest of its file.
    packages: BTreeMap<String, String>,
    /// The hash of everything of this system that counts.
    system: String,
    /// The names of the builds in the cache.
    builds: BTreeSet<String>,
    /// The new kernel replaces the old one.
    replaces: bool,
}

impl Proved {
    /// Records a pre-build with these packages, or that nothing is proven.
    pub(super) fn record(
        session: &Session,
        snapshot: &Snapshot,
        used: &[&Package],
        replaces: bool,
        proven: Option<&Proven>,
    ) -> Result<()> {
        let place = session.layout.proved();
        let Some(builds) = proven.and_then(builds) else { return file::remove_all(&place) };
        let packages = used.iter().filter_map(|package| Some((named(package), hash::digest(&package.file)?)));
        let proved = Self {
            format: FORMAT,
            packages: packages.collect(),
            system: system(session, snapshot)?,
            builds,
            replaces,
        };
        file::write_atomic(&place, &serde_json::to_vec(&proved)?, 0o644)
    }

    /// Whether a pre-build that uses these packages would find out nothing new.
    pub(super) fn covers(session: &Session, snapshot: &Snapshot, used: &[&Package], replaces: bool) -> bool {
        let Some(proved) = Self::load(&session.layout) else { return false };
        let cache = session.cache();
        let same = |package: &&Package| {
            let known = proved.packages.get(&named(package));
            known.is_some() && hash::digest(&package.file).as_ref() == known
        };
        proved.replaces == replaces
            && used.len() == proved.packages.len()
            && used.iter().all(same)
            && proved.builds.iter().all(|build| cache.holds(build))
            && system(session, snapshot).is_ok_and(|now| now == proved.system)
    }

    fn load(layout: &Layout) -> Option<Self> {
        let content = file::read_optional(&layout.proved()).ok().flatten()?;
        let proved: Self = serde_json::from_slice(&content).ok()?;
        (proved.format == FORMAT).then_some(proved)
    }
}

fn named(package: &Package) -> String {
    format!("{} {}", package.name, package.version)
}

/// The builds of a pre-build in which every module was built or is excluded by its dkms.conf.
fn builds(proven: &Proven) -> Option<BTreeSet<String>> {
    let fine = |line: &Line| line.outcome.follows().severity <= Severity::LeftOut;
    let lines = &proven.report.lines;
    lines.iter().all(fine).then(|| lines.iter().filter_map(|line| cached(proven, line)).collect())
}

/// The name of a module's build in the cache.
pub fn cached(proven: &Proven, line: &Line) -> Option<String> {
    let target = line.target.as_ref()?;
    let built = matches!(line.outcome, Outcome::Built { .. } | Outcome::UpToDate);
    let case = proven.survey.cases.get(&Placement::of(&line.module, target)).filter(|_| built)?;
    let headers = proven.survey.kernels.get(target)?.headers.as_ref()?;
    Some(cache::unfinished(case.fingerprint.as_ref()?, &headers.environment))
}

/// The hash of what a result depends on, apart from packages: the sources of the modules, the administrator's settings, and
/// all programs that take part in builds.
fn system(session: &Session, snapshot: &Snapshot) -> Result<String> {
    Ok(format!("{} {}", settings_and_sources(session, snapshot)?, installed_tools(&session.layout)?))
}

/// The hash of the sources of the modules, and of the administrator's settings.
pub fn settings_and_sources(session: &Session, snapshot: &Snapshot) -> Result<String> {
    let sources = snapshot.modules.values().filter_map(|entry| entry.source_dir()).map(PathBuf::from);
    let mut roots: Vec<PathBuf> =
        sources.chain([session.layout.config()]).filter(|root| root.exists()).collect();
    roots.sort();
    hash::trees(&roots, Watch::Files, Some(&session.layout.hashes().join("settings")), &[])
}
