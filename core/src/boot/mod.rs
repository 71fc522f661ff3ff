//! The boot default. If a module in use has no build for the newest kernel, the newest kernel that has it remains the
//! default until the newer one has it, too.
//!
//! [`inspect`] reads, [`decide`] is pure. A change is recorded, so that it can be undone exactly; what the admin chose,
//! or changes meanwhile, is left unchanged.

pub mod grub;
mod inspect;
pub mod loader_conf;
pub mod pin;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use inspect::{inspect, mkconfig};

use crate::types::{KernelRelease, ModuleName};

/// A kernel that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its release.
    pub kernel: KernelRelease,
    /// Modules in use that it lacks and another kernel has.
    pub lacks: BTreeSet<ModuleName>,
}

/// The boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loader {
    /// Unknown.
    Unknown,
    /// Known, but not usable, with the reason.
    Closed(String),
    /// GRUB, with a menu that grub-mkconfig generates.
    Grub(grub::Grub),
    /// systemd-boot.
    LoaderConf(loader_conf::LoaderConf),
    /// Any loader whose files a tool copies and writes, which reads the kernel to boot in a file.
    Pin(pin::Pin),
    /// Any loader that is configured with the distribution's own program.
    Tool(Tool),
}

/// The facts from the distribution's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The image of the boot default.
    pub default: String,
    /// Images by kernel.
    pub images: Vec<(KernelRelease, String)>,
}

/// Everything that the decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The admin has not disabled it.
    pub wanted: bool,
    /// Kernels that can be booted, oldest first.
    pub kernels: Vec<Candidate>,
    /// The boot loader.
    pub loader: Loader,
    /// The change of an earlier run, and the current content at its location.
    pub kept_default: Option<(KeptDefault, Option<String>)>,
}

/// A kernel that was made the boot default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDefault {
    /// The kernel.
    pub keep: KernelRelease,
    /// The newer one that would be the default.
    pub instead: KernelRelease,
    /// The modules that the newer one lacks.
    pub modules: BTreeSet<ModuleName>,
    /// The change that was made.
    pub change: Change,
    /// The change is complete. Otherwise the run was interrupted.
    pub done: bool,
}

/// A change of the boot loader's configuration, with the data to undo it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "loader", rename_all = "kebab-case")]
pub enum Change {
    /// A file of our own, followed by regenerating the menu.
    Grub {
        /// The file.
        file: PathBuf,
        /// Its content.
        text: String,
    },
    /// Lines in loader.conf.
    LoaderConf {
        /// The file.
        file: PathBuf,
        /// Our lines.
        ours: String,
        /// The lines that they replaced; often none.
        before: String,
    },
    /// The file with the kernel to boot, followed by running the tool that applies it.
    Pin {
        /// The file.
        file: PathBuf,
        /// Its content.
        text: String,
    },
    /// A call of the distribution's program.
    Tool {
        /// The new default image.
        image: String,
        /// The previous one.
        before: String,
    },
}

/// One action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Write a file.
    Write(PathBuf, String),
    /// Delete a file.
    Delete(PathBuf),
    /// Set this image as the default with the distribution's program.
    Set(String),
}

/// The actions to take.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The earlier change has ended: forget it, after this action, if there is something to undo.
    pub undo: Option<Option<Act>>,
    /// Make this change, with this action.
    pub change: Option<(KeptDefault, Act)>,
    /// The menu must be regenerated.
    pub menu: bool,
    /// A message for the user, in one line.
    pub remark: Option<String>,
}

/// The kernel to keep, the one that would be booted, and the modules that it lacks.
type Need<'a> = (&'a KernelRelease, &'a KernelRelease, &'a BTreeSet<ModuleName>);

/// Decides. `None`: nothing changes.
pub fn decide(facts: &Facts) -> Option<Decision> {
    let need = need(facts);
    let mut loader = facts.loader.clone();
    let mut decision = Decision::default();
    if let Some((kept_default, now)) = &facts.kept_default {
        let same = need == Some((&kept_default.keep, &kept_default.instead, &kept_default.modules));
        let in_force = kept_default.change.in_force(now.as_deref());
        // A change that the admin removed or edited is not repeated for the same reason.
        if same && kept_default.done {
            return None;
        }
        let act = in_force.then(|| kept_default.change.undo(now.as_deref().unwrap_or_default()));
        if let Some(act) = &act {
            loader.after(act);
        }
        decision.undo = Some(act);
        decision.menu = kept_default.change.needs_menu();
        if need.is_none() && in_force {
            decision.remark = Some(over(facts, kept_default));
        }
    }
    if let Some(need) = need {
        match loader.make_default(need) {
            Some(Ok((change, act))) => {
                let (keep, instead, modules) = need;
                decision.menu |= change.needs_menu();
                decision.remark = Some(kept(need, &change));
                let (keep, instead, modules) = (keep.clone(), instead.clone(), modules.clone());
                decision.change = Some((KeptDefault { keep, instead, modules, change, done: false }, act));
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
    /// The change that makes a kernel the default. An error is the reason why it is not possible; `None` means an
    /// unknown loader.
    fn make_default(&self, need: Need<'_>) -> Option<Result<(Change, Act), String>> {
        match self {
            Self::Unknown => None,
            Self::Closed(why) => Some(Err(why.clone())),
            Self::Grub(grub) => Some(grub.make_default(need)),
            Self::LoaderConf(conf) => Some(conf.make_default(need)),
            Self::Pin(pin) => Some(pin.make_default(need)),
            Self::Tool(tool) => Some(tool.make_default(need)),
        }
    }

    /// The facts after this action.
    fn after(&mut self, act: &Act) {
        match (self, act) {
            (Self::LoaderConf(conf), Act::Write(file, text)) if conf.file == *file => {
                conf.text.clone_from(text)
            }
            (Self::Pin(pin), Act::Delete(file)) if pin.file == *file => pin.text = None,
            (Self::Pin(pin), Act::Write(file, text)) if pin.file == *file => pin.text = Some(text.clone()),
            (Self::Tool(tool), Act::Set(image)) => tool.default.clone_from(image),
            _ => {}
        }
    }
}

impl Tool {
    fn make_default(&self, (keep, instead, _): Need<'_>) -> Result<(Change, Act), String> {
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
    /// Whether it has an effect only when the menu is made again.
    fn needs_menu(&self) -> bool {
        matches!(self, Self::Grub { .. } | Self::Pin { .. })
    }

    /// Whether the change is still in effect.
    fn in_force(&self, now: Option<&str>) -> bool {
        match self {
            Self::Grub { text, .. } | Self::Pin { text, .. } => now == Some(text),
            Self::LoaderConf { ours, .. } => now.is_some_and(|now| now.contains(ours.as_str())),
            Self::Tool { image, .. } => now == Some(image),
        }
    }

    /// The action that undoes it.
    fn undo(&self, now: &str) -> Act {
        match self {
            Self::Grub { file, .. } | Self::Pin { file, .. } => Act::Delete(file.clone()),
            Self::LoaderConf { file, ours, before } => {
                Act::Write(file.clone(), now.replacen(ours, before, 1))
            }
            Self::Tool { before, .. } => Act::Set(before.clone()),
        }
    }

    /// Its location, for messages.
    fn place(&self) -> String {
        match self {
            Self::Grub { file, .. } | Self::LoaderConf { file, .. } | Self::Pin { file, .. } => {
                file.display().to_string()
            }
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

fn over(facts: &Facts, kept_default: &KeptDefault) -> String {
    let there = |kernel: &KernelRelease| facts.kernels.iter().any(|candidate| candidate.kernel == *kernel);
    let why = if !facts.wanted {
        "keep_boot_default no longer applies".to_owned()
    } else if !there(&kept_default.keep) {
        format!("{} was removed", kept_default.keep)
    } else if !there(&kept_default.instead) {
        format!("{} was removed", kept_default.instead)
    } else {
        format!("{} is no longer missing for {}", names(&kept_default.modules), kept_default.instead)
    };
    format!("{} is no longer kept as the boot default: {why}", kept_default.keep)
}
