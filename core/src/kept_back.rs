//! Packages that upgrades leave as they are because a module would be lost: everything else is upgraded.
//!
//! The package manager keeps them back by its own means, which the adapter's program writes. This room has the reasons, and
//! undoes it as soon as they are gone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::kernel::{installed, of_package};
use crate::layout::Layout;
use crate::manager::{Manager, Offer};
use crate::policy::admin::{Unbuildable, glob};
use crate::session::Session;
use crate::sys::private::Private;
use crate::sys::time::now;
use crate::sys::{file, plain};
use crate::tree::{LockedTree, Snapshot};
use crate::types::{KernelRelease, ModuleId, ModuleName, ModuleVersion};

/// The format version of the record. Others are ignored.
const FORMAT: u32 = 1;

/// A module that would be lost, and what would bring this about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reason {
    /// The module.
    pub module: ModuleId,
    /// The kernel that it does not build for.
    pub kernel: KernelRelease,
    /// The package with a new version of the module, if the kernel is installed already.
    pub package: Option<String>,
}

/// What is kept back, and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptBack {
    format: u32,
    /// The packages.
    pub packages: Vec<Offer>,
    /// The names that people know: those of the packages that an older version is installed of, if there are any.
    names: Vec<String>,
    /// Why.
    pub reasons: BTreeSet<Reason>,
    /// The modules of the reasons.
    pub modules: BTreeMap<ModuleName, Known>,
    /// Kernels of the reasons that were installed already, in an older version.
    installed: BTreeSet<KernelRelease>,
    /// The hash of the package manager's settings that keep the packages back.
    #[serde(default)]
    in_force: String,
}

/// A module because of which packages are kept back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Since when, in seconds since 1970. A newer kernel for which it does not build either changes nothing.
    pub since: u64,
    /// The registered versions of the module at that time: any other may build.
    registered: BTreeSet<ModuleVersion>,
}

impl KeptBack {
    /// What is kept back; `None` if nothing is.
    pub fn load(layout: &Layout) -> Option<Self> {
        Self::record(layout).filter(|kept| !kept.packages.is_empty())
    }

    /// The record. Without packages, it has modules because of which none are kept back any more.
    fn record(layout: &Layout) -> Option<Self> {
        let mut kept: Self = file::record(&layout.kept_back())?;
        // The clock may have been wrong.
        kept.modules.values_mut().for_each(|known| known.since = known.since.min(now()));
        (kept.format == FORMAT).then_some(kept)
    }

    /// Since when the first module has kept packages back, in seconds since 1970.
    pub fn since(&self) -> u64 {
        self.modules.values().map(|known| known.since).min().unwrap_or_default()
    }

    /// The names of the packages, and why they are kept back: one sentence.
    pub fn sentence(&self) -> String {
        let are = if self.names.len() == 1 { "is" } else { "are" };
        format!("{} {are} kept back: {}", self.names(), self.explained().join("; "))
    }

    /// The names of the packages.
    pub fn names(&self) -> String {
        self.names.join(", ")
    }

    /// `MODULE does not build for KERNELS`, for each module.
    fn explained(&self) -> Vec<String> {
        let mut modules: BTreeMap<&ModuleId, Vec<&str>> = BTreeMap::new();
        for Reason { module, kernel, .. } in &self.reasons {
            modules.entry(module).or_default().push(kernel.as_str());
        }
        let line =
            |(module, kernels): (_, Vec<&str>)| format!("{module} does not build for {}", kernels.join(", "));
        modules.into_iter().map(line).collect()
    }

    fn store(&self, layout: &Layout) -> Result<()> {
        let content = plain::document(self)?;
        file::write_atomic(&layout.kept_back(), &content, 0o644).context("recording what is kept back")
    }
}

/// The modules because of which packages have been kept back for as long as the administrator accepts.
pub fn expired(session: &Session) -> BTreeSet<ModuleName> {
    let kept = KeptBack::record(&session.layout).unwrap_or_default();
    kept.modules.into_iter().filter(|(_, known)| is_over(session, known)).map(|(name, _)| name).collect()
}

fn is_over(session: &Session, known: &Known) -> bool {
    let days = session.policy.admin.hold_days();
    days.is_some_and(|days| now().saturating_sub(known.since) >= u64::from(days) * 86_400)
}

/// Whether the package manager's settings are those that were recorded: an administrator may have changed or deleted either.
pub fn is_in_force(layout: &Layout, manager: &Manager<'_>) -> Result<bool> {
    let recorded = KeptBack::load(layout).map(|kept| kept.in_force).unwrap_or_default();
    Ok(manager.in_force()? == recorded)
}

/// The same for a caller that has asked the package manager nothing yet. True for users who cannot ask it.
pub fn is_as_recorded(session: &Session) -> bool {
    ask(session, |manager| is_in_force(&session.layout, manager)).unwrap_or_default().unwrap_or(true)
}

/// Whether the package manager keeps anything back for us, recorded or not.
pub fn is_any_in_force(session: &Session) -> Result<bool> {
    Ok(ask(session, |manager| Ok(!manager.in_force()?.is_empty()))?.unwrap_or(false))
}

/// `None`: the package manager of this system cannot be asked.
fn ask<T>(session: &Session, question: impl FnOnce(&Manager<'_>) -> Result<T>) -> Result<Option<T>> {
    let private = Private::new(&session.layout.incoming())?;
    let manager = Manager::of(&session.layout, private.path());
    manager.map(|manager| question(&manager)).transpose()
}

/// Keeps back what would bring these losses about, as far as upgrades would. Returns `None` if none would, or if the package
/// manager cannot do it. Earlier reasons stay, but for the kernels that were examined now.
pub fn keep(
    session: &Session,
    tree: &LockedTree,
    mut reasons: BTreeSet<Reason>,
    examined: &BTreeSet<KernelRelease>,
) -> Result<Option<KeptBack>> {
    let before = KeptBack::record(&session.layout).unwrap_or_default();
    let snapshot = tree.snapshot()?;
    let earlier = left(session, &snapshot, &before).into_iter();
    reasons.extend(earlier.filter(|reason| !examined.contains(&reason.kernel)));
    let over: BTreeMap<ModuleName, Known> =
        before.modules.clone().into_iter().filter(|(_, known)| is_over(session, known)).collect();
    if reasons.is_empty() {
        end(session, tree, over)?;
        return Ok(None);
    }
    let private = Private::new(&session.layout.incoming())?;
    let Some(manager) = Manager::of(&session.layout, private.path()) else { return Ok(None) };
    let patterns = session.policy.distribution.kernel_packages;
    let mut packages = manager.list()?;
    packages.retain(|offer| reasons.iter().any(|reason| brings(offer, reason, patterns)));
    if packages.is_empty() {
        end(session, tree, over)?;
        return Ok(None);
    }
    // What no upgrade brings about was asked for by name.
    reasons.retain(|reason| packages.iter().any(|offer| brings(offer, reason, patterns)));
    let known = |reason: &Reason| {
        let name = &reason.module.name;
        let since = before.modules.get(name).map_or_else(now, |known| known.since);
        (name.clone(), Known { since, registered: registered(&snapshot, name) })
    };
    let modules = reasons.iter().map(known).chain(over).collect();
    let mut there: BTreeSet<KernelRelease> = installed(&session.layout).into_iter().collect();
    there.retain(|kernel| reasons.iter().any(|reason| reason.kernel == *kernel));
    let names = known_names(&packages);
    let in_force = String::new();
    let mut kept = KeptBack { format: FORMAT, packages, names, reasons, modules, installed: there, in_force };
    // The record comes first: what is in force is known, whatever happens next.
    kept.store(&session.layout)?;
    let packages = manager.keep_back(&kept.packages, &kept.explained().join("\n"));
    if !packages.as_ref().is_ok_and(|packages| !packages.is_empty()) {
        // What was in force still is.
        if before == KeptBack::default() {
            forget(session)?
        } else {
            before.store(&session.layout)?
        }
        return packages.map(|_| None);
    }
    kept.packages = packages?;
    kept.names = known_names(&kept.packages);
    kept.in_force = manager.in_force()?;
    kept.store(&session.layout)?;
    Ok(Some(kept))
}

fn known_names(packages: &[Offer]) -> Vec<String> {
    let older = packages.iter().any(|offer| !offer.new);
    let names = packages.iter().filter(|offer| !(older && offer.new)).map(|offer| offer.name.clone());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Keeps nothing back, but remembers modules whose time is over: otherwise it would begin again.
fn end(session: &Session, tree: &LockedTree, over: BTreeMap<ModuleName, Known>) -> Result<()> {
    lift(session, tree)?;
    if over.is_empty() {
        return Ok(());
    }
    KeptBack { format: FORMAT, modules: over, ..KeptBack::default() }.store(&session.layout)
}

/// Keeps nothing back, also if the record was lost.
pub fn lift(session: &Session, _: &LockedTree) -> Result<()> {
    ask(session, |manager| manager.keep_back(&[], ""))?;
    forget(session)
}

/// Drops reasons that are gone. Returns what is no longer kept back, if anything was.
pub fn review(session: &Session, tree: &LockedTree) -> Result<Option<KeptBack>> {
    if !session.layout.kept_back().exists() {
        return Ok(None);
    }
    let Some(kept) = KeptBack::record(&session.layout) else {
        lift(session, tree)?;
        return Ok(None);
    };
    let snapshot = tree.snapshot()?;
    let reasons = left(session, &snapshot, &kept);
    let mut modules = kept.modules.clone();
    modules.retain(|name, known| {
        let named = reasons.iter().any(|reason| reason.module.name == *name);
        named || is_over(session, known) && known.registered == registered(&snapshot, name)
    });
    if kept.packages.is_empty() && modules == kept.modules {
        return Ok(None);
    }
    if reasons.is_empty() {
        end(session, tree, modules)?;
        return Ok(Some(kept).filter(|kept| !kept.packages.is_empty()));
    }
    // Which packages the others still keep back is found out by the next look at the available ones.
    if reasons != kept.reasons {
        KeptBack { reasons, modules, ..kept }.store(&session.layout)?;
    }
    Ok(None)
}

/// The reasons that may still be ones.
fn left(session: &Session, snapshot: &Snapshot, kept: &KeptBack) -> BTreeSet<Reason> {
    let there = installed(&session.layout);
    let holds = |reason: &&Reason| {
        let name = &reason.module.name;
        let same = kept.modules.get(name).is_some_and(|known| known.registered == registered(snapshot, name));
        let new = reason.package.is_none() && !kept.installed.contains(&reason.kernel);
        let arrived = new && there.contains(&reason.kernel);
        let over = kept.modules.get(name).is_some_and(|known| is_over(session, known));
        same && !arrived && !over && session.policy.admin.on_unbuildable(name) == Some(Unbuildable::Hold)
    };
    kept.reasons.iter().filter(holds).cloned().collect()
}

fn registered(snapshot: &Snapshot, name: &ModuleName) -> BTreeSet<ModuleVersion> {
    snapshot.versions(name).map(|(id, _)| id.version.clone()).collect()
}

/// Whether this package brings the loss about. Some distributions have the kernel release in a package's name, others in
/// its version.
fn brings(offer: &Offer, reason: &Reason, patterns: &[&str]) -> bool {
    if let Some(package) = &reason.package {
        return offer.name == *package;
    }
    patterns.iter().any(|pattern| {
        let name = pattern.replace("{kernel}", reason.kernel.as_str());
        let version = || {
            let plain = offer.version.split_once(':').map_or(offer.version.as_str(), |(_, plain)| plain);
            let parts = plain.rsplit_once('-');
            // openSUSE's releases end with a number that counts rebuilds.
            let of = |version, release: &str| {
                let counted = release.rsplit_once('.').map_or(release, |(plain, _)| plain);
                of_package(&reason.kernel, version, release) || of_package(&reason.kernel, version, counted)
            };
            parts.is_some_and(|(version, release)| of(version, release))
        };
        glob(name.as_bytes(), offer.name.as_bytes()) && (name != *pattern || version())
    })
}

fn forget(session: &Session) -> Result<()> {
    file::remove_all(&session.layout.kept_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_packages_have_its_release_in_their_name_or_version() {
        let debian = &["linux-*-{kernel}", "linux-*-{kernel}-unsigned"][..];
        let fedora = &["kernel", "kernel-*"][..];
        let kernel = Reason {
            module: "a/2".parse().unwrap(),
            kernel: "6.12.5+deb13-amd64".parse().unwrap(),
            package: None,
        };
        let fc = Reason { kernel: "6.12.5-200.fc41.x86_64".parse().unwrap(), ..kernel.clone() };
        let suse = Reason { kernel: "6.12.5-1-default".parse().unwrap(), ..kernel.clone() };
        let module = Reason { package: Some("a-dkms".into()), ..kernel.clone() };
        for (reason, patterns, name, version, brought) in [
            (&kernel, debian, "linux-image-6.12.5+deb13-amd64", "6.12.5-1", true),
            (&kernel, debian, "linux-image-6.12.5+deb13-amd64-unsigned", "6.12.5-1", true),
            (&kernel, debian, "linux-headers-6.12.5+deb13-amd64", "6.12.5-1", true),
            (&kernel, debian, "linux-image-6.12.5+deb13-cloud-amd64", "6.12.5-1", false),
            (&kernel, debian, "linux-image-amd64", "6.12.5-1", false),
            (&kernel, debian, "a-dkms", "2-1", false),
            (&fc, fedora, "kernel-core", "6.12.5-200.fc41", true),
            (&fc, fedora, "kernel-core", "0:6.12.5-200.fc41", true),
            (&fc, fedora, "kernel-core", "6.12.6-200.fc41", false),
            (&suse, fedora, "kernel-default", "6.12.5-1.2", true),
            (&suse, fedora, "kernel-default", "6.12.5-2.1", false),
            (&fc, fedora, "kernelshark", "6.12.5-200.fc41", false),
            (&module, debian, "a-dkms", "2-1", true),
            (&module, debian, "linux-image-6.12.5+deb13-amd64", "6.12.5-1", false),
        ] {
            let offer =
                serde_json::from_value(serde_json::json!({"name": name, "version": version})).unwrap();
            assert_eq!(brings(&offer, reason, patterns), brought, "{name} {version}");
        }
    }
}
