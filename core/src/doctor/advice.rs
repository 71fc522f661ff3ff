//! The one table: each finding's name in JSON, its sentence, the command that helps, and whether `--fix` does it.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::facts::OUTSIDE;
use super::{Finding, LostOriginal, Misplaced};
use crate::check::Rejection;
use crate::distro::Distribution;
use crate::layout::Layout;
use crate::sys::file::Unwritable;
use crate::sys::run;
use crate::tree::Source;
use crate::types::{ModuleName, Target};

/// What a user reads about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The kind, for programs.
    pub kind: &'static str,
    /// What is wrong, with what, in one sentence.
    pub what: String,
    /// What the command is for: `to install them`.
    pub purpose: &'static str,
    /// A command that can be pasted.
    pub command: String,
    /// What `--fix` does about it; `None`: nothing, the decision is the admin's.
    pub repair: Option<Repair>,
}

/// A repair that is safe: it does what the next transaction would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// The next transaction completes the interrupted ones.
    Complete,
    /// The next transaction regenerates an initramfs that is out of date.
    Initramfs(Target),
    /// The boot default is decided again.
    BootDefault,
    /// Temporary files are deleted.
    Sweep,
    /// modules.dep is made again.
    Index(Target),
    /// The kernel's modules are built, installed, and put into its initramfs.
    Autoinstall(Target),
}

impl Finding {
    /// What `--fix` does about it. Everything else needs a decision, a package or a restart.
    pub(super) fn repair(&self) -> Option<Repair> {
        match self {
            Self::Unfinished { .. } => Some(Repair::Complete),
            Self::OutdatedInitramfs { target, .. } => Some(Repair::Initramfs(target.clone())),
            Self::BootDefault { .. } => Some(Repair::BootDefault),
            Self::Temporary { .. } => Some(Repair::Sweep),
            Self::OutdatedIndex { target } => Some(Repair::Index(target.clone())),
            Self::Missing { target, .. } => Some(Repair::Autoinstall(target.clone())),
            Self::BadPolicy { .. }
            | Self::BadFramework { .. }
            | Self::UnknownOptions { .. }
            | Self::Misplaced(_)
            | Self::Unwritable { .. }
            | Self::LowSpace { .. }
            | Self::HalfKeyPair { .. }
            | Self::DamagedKey { .. }
            | Self::ExposedKey { .. }
            | Self::Rejected(_)
            // Its directory may only be away, and some builds cannot be made again.
            | Self::RemovedKernel { .. }
            | Self::Unowned { .. }
            | Self::Unrecorded { .. }
            | Self::Damaged { .. }
            | Self::LostOriginal(_)
            | Self::DamagedPackage { .. }
            | Self::Unrestored { .. }
            | Self::Broken { .. }
            | Self::Loaded(_)
            | Self::NoHeaders { .. }
            | Self::NoTools { .. }
            | Self::Failed { .. }
            | Self::Hindered { .. }
            | Self::Upcoming { .. }
            | Self::KeptBack { .. }
            | Self::HoldDiffers
            | Self::OtherProgram { .. }
            | Self::MissingHooks { .. } => None,
        }
    }

    /// Its row.
    pub fn advice(&self, distribution: &Distribution, layout: &Layout) -> Advice {
        let row = |kind, what: String, purpose, command: String| Advice {
            kind,
            what,
            purpose,
            command,
            repair: self.repair(),
        };
        match self {
            Self::BadPolicy { why } => {
                row("bad-policy", why.clone(), "to correct it", edit(&[layout.policy()]))
            }
            Self::BadFramework { why, files } => {
                let what = format!("framework.conf has no effect: {why}");
                row("bad-framework-conf", what, "to correct it", edit(files))
            }
            Self::UnknownOptions { options, files } => {
                let what = format!("framework.conf: options without a meaning: {}", options.join(", "));
                row("unknown-options", what, "to correct it", edit(files))
            }
            Self::Misplaced(Misplaced { path, is, needed }) => {
                let what = format!("{} is {is}; dkms needs {needed} there", path.display());
                let name = quoted(path);
                if *is == OUTSIDE {
                    let command = format!("to=$(realpath {name}) && rm {name} && cp -a \"$to\" {name}");
                    return row("wrong-file-type", what, "to copy its content there", command);
                }
                row("wrong-file-type", what, "to move it aside", format!("mv {name} {}", aside(path)))
            }
            Self::Unwritable { dir, why } => {
                let (what, program) = match why {
                    Unwritable::ReadOnly => ("is on a read-only file system", "findmnt -T"),
                    Unwritable::Immutable => {
                        ("has an attribute that forbids changes, also to root", "lsattr -d")
                    }
                    Unwritable::Denied => ("cannot be changed by root", "ls -ld"),
                };
                let what = format!("{} {what}; nothing can be built or installed there", dir.display());
                row("unwritable", what, "to see why", format!("{program} {}", quoted(dir)))
            }
            Self::LowSpace { dir, free, needed } => {
                let what = format!("{} has {free} MiB left; an update can need {needed} MiB", dir.display());
                row("low-space", what, "to see what uses the space", format!("du -xh -d 1 {}", quoted(dir)))
            }
            Self::HalfKeyPair { there, missing } => {
                let what = format!(
                    "{} is missing; modules cannot be signed with {} alone",
                    missing.display(),
                    there.display()
                );
                // The key stays: only it belongs to the certificate that may be enrolled.
                let command = format!("mv {} {} && dkms generate_mok", quoted(there), aside(there));
                row("half-key-pair", what, "unless there is a backup, to make a new pair", command)
            }
            Self::DamagedKey { why, key, certificate } => {
                let what = format!("modules cannot be signed: {why}");
                let command = format!(
                    "mv {} {} && mv {} {} && dkms generate_mok",
                    quoted(key),
                    aside(key),
                    quoted(certificate),
                    aside(certificate)
                );
                row("damaged-key", what, "unless there is a backup, to make a new pair", command)
            }
            Self::ExposedKey { key } => {
                let what = format!("other users can read the private key {}", key.display());
                row("exposed-key", what, "to protect it", format!("chmod 600 {}", quoted(key)))
            }
            Self::Rejected(Rejection { why, enroll }) => {
                let purpose = if enroll.is_some() { "to enroll the key" } else { "for details" };
                let command = enroll.clone().unwrap_or_else(|| "dkms check".into());
                row("rejected", why.clone(), purpose, command)
            }
            Self::Unfinished { number } => {
                let plural = if *number == 1 { " was" } else { "s were" };
                let what = format!("{number} transaction{plural} interrupted; the next run completes this");
                row("unfinished", what, COMPLETE, "dkms doctor --fix".into())
            }
            Self::Temporary { paths } => {
                let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
                let what = match paths.len() {
                    1 => format!("an interrupted run left {first}"),
                    many => format!("interrupted runs left {many} temporary files, such as {first}"),
                };
                row("temporary-files", what, "to delete them", "dkms doctor --fix".into())
            }
            Self::RemovedKernel { target, modules } => {
                let what = format!(
                    "builds for {}, whose modules are not installed: {}",
                    target.kernel,
                    list(modules)
                );
                let command = format!("dkms kernel_prerm -k {}/{}", target.kernel, target.arch);
                row("removed-kernel", what, "if the kernel was removed, to delete them", command)
            }
            Self::Unowned { target, file } => {
                let what = format!("{} belongs to no module in the DKMS tree", file.display());
                let command = format!("rm {} && depmod {}", quoted(file), target.kernel);
                row("unowned-module", what, "unless it is needed, to delete it", command)
            }
            Self::Unrecorded { target, module, files, force } => {
                let what = format!(
                    "{} has the name of a module of {module}, and is not recorded as installed",
                    list(files.iter().map(|file| file.display()))
                );
                let (purpose, force) = match force {
                    true => ("to install the module in its place", " --force"),
                    false => ("to record it as installed", ""),
                };
                let command = format!("dkms install {module} -k {}/{}{force}", target.kernel, target.arch);
                row("unrecorded-module", what, purpose, command)
            }
            Self::Damaged { target, module, wanted } => {
                let what = format!("files of {module} for {} are missing or were changed", target.kernel);
                let purpose = if module == wanted {
                    "to install it again"
                } else {
                    "to install the version to be used"
                };
                let command = format!("dkms install {wanted} -k {}/{} --force", target.kernel, target.arch);
                row("damaged-files", what, purpose, command)
            }
            Self::DamagedPackage { target, module, package } => {
                let what = format!(
                    "files of package {package} are missing or were changed: {module} for {}",
                    target.kernel
                );
                row(
                    "damaged-package",
                    what,
                    "to install it again",
                    distribution.reinstall(&run::quoted(package)),
                )
            }
            Self::Unrestored { target, kept, place } => {
                let what =
                    format!("{} is a module of {} that was not restored", kept.display(), target.kernel);
                let dir = quoted(place.parent().unwrap_or(place));
                let (kept, place) = (quoted(kept), quoted(place));
                let command = format!(
                    "mkdir -p {dir} && mv {kept} {place} && rm -f {kept}.origin && depmod {}",
                    target.kernel
                );
                row("unrestored-module", what, "to restore it", command)
            }
            Self::LostOriginal(LostOriginal { target, place, why, package }) => {
                let what = format!("the kernel's original {} cannot be restored: {why}", place.display());
                match package {
                    Some(package) => {
                        let command = distribution.reinstall(&run::quoted(package));
                        row("lost-original", what, "to install the original again", command)
                    }
                    None => {
                        let command = format!("ls -l {}", quoted(place.parent().unwrap_or(place)));
                        let what = format!("{what}; install kernel {} again", target.kernel);
                        row("lost-original", what, "to see whether it is there then", command)
                    }
                }
            }
            Self::Broken { module, source } => {
                let what = format!("{module} is broken: {}", source.missing());
                if *source == Source::Unlinked {
                    return row("broken", what, "to register it again", format!("dkms add {module}"));
                }
                let command = format!("dkms remove {module} --all");
                row("broken", what, "to remove it, unless its package is reinstalled", command)
            }
            Self::OutdatedInitramfs { target, modules, why } => {
                let what = outdated(target, modules, why);
                let command = format!("dkms autoinstall -k {}", target.kernel);
                row("outdated-initramfs", what, "to regenerate it", command)
            }
            Self::BootDefault { what } => {
                let what = format!("the boot default is out of date: {what}");
                row("boot-default", what, "to set it", "dkms doctor --fix".into())
            }
            Self::OutdatedIndex { target } => {
                let what = format!("modules.dep of {} lacks installed modules", target.kernel);
                let command = format!("depmod {}", target.kernel);
                row("outdated-index", what, "to update it", command)
            }
            Self::Loaded(replaced) => {
                let what = format!(
                    "{}: {} {} is loaded, {} is installed",
                    replaced.id, replaced.name, replaced.loaded, replaced.installed
                );
                let command = format!("modprobe -r {0} && modprobe {0}", replaced.name);
                row("loaded-differs", what, "to reload it, or restart", command)
            }
            Self::NoHeaders { target, modules, package } => {
                let what = format!("{}; not built: {}", package.lack(&target.kernel), list(modules));
                row("no-headers", what, "to install them", package.command(distribution, &target.kernel))
            }
            Self::NoTools { target, modules, tools } => {
                let tools = tools.join(" ");
                let what =
                    format!("not installed: {tools}; not built for {}: {}", target.kernel, list(modules));
                let command =
                    format!("{} && dkms autoinstall -k {}", distribution.install(&tools), target.kernel);
                row("no-tools", what, "to install and build", command)
            }
            Self::Missing { target, modules } => {
                let what = format!("not up to date for {}: {}", target.kernel, list(modules));
                let command = format!("dkms autoinstall -k {}", target.kernel);
                row("missing-builds", what, "to build and install", command)
            }
            Self::Failed { target, module, why } => {
                let what = format!("{module} does not build for {}: {why}", target.kernel);
                let command = format!("dkms log {module} -k {}", target.kernel);
                row("failed", what, "to read the log", command)
            }
            Self::Hindered { target, module, installed, why } => {
                let what = match installed {
                    true => {
                        format!(
                            "{module} is installed for {}, and cannot be built again: {why}",
                            target.kernel
                        )
                    }
                    false => format!("{module} is not built for {}: {why}", target.kernel),
                };
                let command = format!("dkms why {module} -k {}", target.kernel);
                row("hindered", what, "for details", command)
            }
            Self::Upcoming { what } => row("upcoming", what.clone(), "for details", "dkms upcoming".into()),
            Self::KeptBack { what, days } => {
                let what = format!("{what}, for {days} days");
                let purpose = "to upgrade without the module, set on_unbuildable = \"warn\" for it, then run dkms preflight --upcoming";
                row("kept-back", what, purpose, edit(&[layout.policy()]))
            }
            Self::HoldDiffers => {
                let what = "upgrades keep back other packages than dkms has recorded";
                row("hold-differs", what.into(), "to examine this again", "dkms preflight --upcoming".into())
            }
            Self::OtherProgram { program } => {
                let what = format!("the command dkms starts {}, which is not dkms-rs", program.display());
                if program == Path::new(Layout::PROGRAM) {
                    row("other-program", what, "to restore it", distribution.restore_hooks())
                } else {
                    let command = format!("mv {} {}", quoted(program), aside(program));
                    row("other-program", what, "unless it is needed, to move it aside", command)
                }
            }
            Self::MissingHooks { files } => {
                let what = format!(
                    "package transactions do not start dkms; missing: {}",
                    list(files.iter().map(|file| file.display()))
                );
                row("missing-hooks", what, "to restore them", distribution.restore_hooks())
            }
        }
    }
}

/// The purpose of completing.
const COMPLETE: &str = "to complete it now";

fn outdated(target: &Target, modules: &BTreeSet<ModuleName>, why: &str) -> String {
    let what = crate::report::text::outdated(&target.kernel, modules);
    if why.is_empty() { what } else { format!("{what}: {why}") }
}

/// A path in a command.
fn quoted(path: &Path) -> String {
    run::quoted(&path.display().to_string())
}

/// The path to which a file is moved instead of being deleted.
fn aside(path: &Path) -> String {
    run::quoted(&format!("{}.old", path.display()))
}

/// The command that edits files.
fn edit(files: &[PathBuf]) -> String {
    let files: Vec<String> = files.iter().map(|file| quoted(file)).collect();
    format!("${{EDITOR:-vi}} {}", files.join(" "))
}

/// The first of them, and how many more.
fn list<T: Display>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    match all.len() {
        0..=4 => all.join(", "),
        many => format!("{} and {} more", all[..3].join(", "), many - 3),
    }
}
