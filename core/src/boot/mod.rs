//! Which kernel is booted next, when a module that this machine cannot do without has no build for the newest one: the
//! newest kernel that has it stays the default, until the other one has it, too.
//!
//! [`look`] reads, [`decide`] is pure. What was done is kept, so that it can be undone exactly; what the admin chose, or changes
//! meanwhile, is left alone.

pub mod grub;
pub mod loader_conf;
mod look;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use look::{look, mkconfig};

use crate::types::{KernelRelease, ModuleName};

/// A kernel that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its release.
    pub kernel: KernelRelease,
    /// Modules in use that it does not have, and another one has.
    pub lacks: BTreeSet<ModuleName>,
}

/// The boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loader {
    /// None that is known.
    Unknown,
    /// Known, but nothing can be done with it: why.
    Closed(String),
    /// GRUB, whose menu grub-mkconfig makes.
    Grub(grub::Grub),
    /// systemd-boot.
    LoaderConf(loader_conf::LoaderConf),
    /// One that the distribution's own program is told of.
    Tool(Tool),
}

/// What the distribution's program says, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The image that is booted by default.
    pub default: String,
    /// Images by kernel.
    pub images: Vec<(KernelRelease, String)>,
}

/// All that the decision is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The admin has not switched it off.
    pub wanted: bool,
    /// Kernels that can be booted, oldest first.
    pub kernels: Vec<Candidate>,
    /// The boot loader.
    pub loader: Loader,
    /// What a former run did, and what is at that place now.
    pub made: Option<(Made, Option<String>)>,
}

/// A kernel that was made the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The kernel.
    pub keep: KernelRelease,
    /// The newer one that would be the default.
    pub instead: KernelRelease,
    /// The modules that the newer one lacks.
    pub modules: BTreeSet<ModuleName>,
    /// What was changed.
    pub change: Change,
    /// All of it has happened. Otherwise a run did not live to its end.
    pub done: bool,
}

/// A change of the boot loader's configuration, with what undoes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "loader", rename_all = "kebab-case")]
pub enum Change {
    /// A file of our own, and the menu made anew.
    Grub {
        /// The file.
        file: PathBuf,
        /// Its content.
        text: String,
    },
    /// A part of loader.conf.
    LoaderConf {
        /// The file.
        file: PathBuf,
        /// Lines that are ours.
        ours: String,
        /// What stood there; often nothing.
        before: String,
    },
    /// A word to the distribution's program.
    Tool {
        /// The image that is the default now.
        image: String,
        /// The one that was.
        before: String,
    },
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Write a file.
    Write(PathBuf, String),
    /// Delete a file.
    Delete(PathBuf),
    /// Tell the distribution's program that this image is the default.
    Set(String),
}

/// What is to be done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was made is over: forget it, after this, if anything is left to be undone.
    pub undo: Option<Option<Act>>,
    /// Make this, by that.
    pub make: Option<(Made, Act)>,
    /// The menu must be made anew.
    pub menu: bool,
    /// What the user should know, in one line.
    pub remark: Option<String>,
}

/// The kernel to keep, the one that would be booted, and what that one lacks.
type Need<'a> = (&'a KernelRelease, &'a KernelRelease, &'a BTreeSet<ModuleName>);

/// Decides. `None`: everything stays as it is.
pub fn decide(facts: &Facts) -> Option<Decision> {
    let need = need(facts);
    let mut loader = facts.loader.clone();
    let mut decision = Decision::default();
    if let Some((made, now)) = &facts.made {
        let same = need == Some((&made.keep, &made.instead, &made.modules));
        let in_force = made.change.in_force(now.as_deref());
        // What the admin took away or changed is not made again for the same reason.
        if same && made.done {
            return None;
        }
        let act = in_force.then(|| made.change.undo(now.as_deref().unwrap_or_default()));
        if let Some(act) = &act {
            loader.after(act);
        }
        decision.undo = Some(act);
        decision.menu = matches!(made.change, Change::Grub { .. });
        if need.is_none() && in_force {
            decision.remark = Some(over(facts, made));
        }
    }
    if let Some(need) = need {
        match loader.keep(need) {
            Some(Ok((change, act))) => {
                let (keep, instead, modules) = need;
                decision.menu |= matches!(change, Change::Grub { .. });
                decision.remark = Some(kept(need, &change));
                let (keep, instead, modules) = (keep.clone(), instead.clone(), modules.clone());
                decision.make = Some((Made { keep, instead, modules, change, done: false }, act));
            }
            Some(Err(why)) => decision.remark = Some(not_kept(need, &why)),
            None => {}
        }
    }
    (decision != Decision::default()).then_some(decision)
}

/// Whether the newest kernel lacks a module in use, and another one lacks none.
fn need(facts: &Facts) -> Option<Need<'_>> {
    let (newest, others) = facts.kernels.split_last().filter(|_| facts.wanted)?;
    if newest.lacks.is_empty() {
        return None;
    }
    let keep = others.iter().rev().find(|candidate| candidate.lacks.is_empty())?;
    Some((&keep.kernel, &newest.kernel, &newest.lacks))
}

impl Loader {
    /// What makes a kernel the default; an error says why it cannot be, `None` that the loader is not known.
    fn keep(&self, need: Need<'_>) -> Option<Result<(Change, Act), String>> {
        match self {
            Self::Unknown => None,
            Self::Closed(why) => Some(Err(why.clone())),
            Self::Grub(grub) => Some(grub.keep(need)),
            Self::LoaderConf(conf) => Some(conf.keep(need)),
            Self::Tool(tool) => Some(tool.keep(need)),
        }
    }

    /// What it is after this was done.
    fn after(&mut self, act: &Act) {
        match (self, act) {
            (Self::LoaderConf(conf), Act::Write(file, text)) if conf.file == *file => {
                conf.text.clone_from(text)
            }
            (Self::Tool(tool), Act::Set(image)) => tool.default.clone_from(image),
            _ => {}
        }
    }
}

impl Tool {
    fn keep(&self, (keep, instead, _): Need<'_>) -> Result<(Change, Act), String> {
        let of = |kernel: &KernelRelease| {
            self.images.iter().find(|(release, _)| release == kernel).map(|(_, image)| image.clone())
        };
        if of(instead).as_ref() != Some(&self.default) {
            return Err(format!("{} was set as the default", self.default));
        }
        let image = of(keep).ok_or_else(|| format!("kernel image of {keep} not found"))?;
        Ok((Change::Tool { image: image.clone(), before: self.default.clone() }, Act::Set(image)))
    }
}

impl Change {
    /// Whether it is still as it was made.
    fn in_force(&self, now: Option<&str>) -> bool {
        match self {
            Self::Grub { text, .. } => now == Some(text),
            Self::LoaderConf { ours, .. } => now.is_some_and(|now| now.contains(ours.as_str())),
            Self::Tool { image, .. } => now == Some(image),
        }
    }

    /// What undoes it.
    fn undo(&self, now: &str) -> Act {
        match self {
            Self::Grub { file, .. } => Act::Delete(file.clone()),
            Self::LoaderConf { file, ours, before } => {
                Act::Write(file.clone(), now.replacen(ours, before, 1))
            }
            Self::Tool { before, .. } => Act::Set(before.clone()),
        }
    }

    /// Where it can be seen.
    fn place(&self) -> String {
        match self {
            Self::Grub { file, .. } | Self::LoaderConf { file, .. } => file.display().to_string(),
            Self::Tool { image, .. } => image.clone(),
        }
    }
}

fn names(modules: &BTreeSet<ModuleName>) -> String {
    modules.iter().map(ModuleName::as_str).collect::<Vec<_>>().join(", ")
}

fn kept((keep, instead, modules): Need<'_>, change: &Change) -> String {
    format!(
        "{}: in use, but not built for {instead}; {keep} remains the boot default until it is ({}; \
         to disable: keep_boot_default = false in policy.toml)",
        names(modules),
        change.place()
    )
}

fn not_kept((keep, instead, modules): Need<'_>, why: &str) -> String {
    format!(
        "{}: in use, and built for {keep} but not for {instead}; the boot default was not changed: {why}",
        names(modules)
    )
}

fn over(facts: &Facts, made: &Made) -> String {
    let there = |kernel: &KernelRelease| facts.kernels.iter().any(|candidate| candidate.kernel == *kernel);
    let why = if !facts.wanted {
        "keep_boot_default no longer applies".to_owned()
    } else if !there(&made.keep) {
        format!("{} was removed", made.keep)
    } else if !there(&made.instead) {
        format!("{} was removed", made.instead)
    } else {
        format!("{} is no longer missing for {}", names(&made.modules), made.instead)
    };
    format!("{} is no longer kept as the boot default: {why}", made.keep)
}
