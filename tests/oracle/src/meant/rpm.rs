//! Our .rpm: files, marks such as %config, and the scripts and triggers of the spec file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rpm::{DependencyFlags, Error, FileFlags, IndexTag, PackageMetadata, Scriptlet, Trigger};

use super::files::{self, Files, Meant, dir};
use super::{payload, repository};
use crate::compare::{Difference, different};
use crate::deb::plain;

/// The directory that is empty in the package.
const EMPTY: &str = "var/lib/dkms";

/// The directories that the package must own, as no other package does: those whose path names dkms.
fn directories<'a>(files: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    let named = |path: &Path| path.iter().any(|part| part.to_string_lossy().starts_with("dkms"));
    let above = files.flat_map(|path| path.ancestors().skip(1));
    above.chain([Path::new(EMPTY)]).filter(|path| named(path)).map(Path::to_owned).collect()
}

pub fn check(file: &Path) -> Result<Vec<Difference>> {
    let package = rpm::Package::open(file)?;
    package.verify_digests()?;
    let mut found = Vec::new();
    owned(&package, &mut found)?;
    let spec = fs::read_to_string(repository().join("packaging/rpm/dkms-rs.spec.in"))?;
    let theirs = scripts(&package.metadata)?;
    different(&sections(&spec), &theirs, "script", &mut found);
    Ok(found)
}

fn owned(package: &rpm::Package, found: &mut Vec<Difference>) -> Result<()> {
    let mut meant = files::files(&payload::RPM)?;
    let directories = directories(meant.keys());
    meant.extend(directories.into_iter().map(|path| (path, dir())));
    let (mut theirs, mut marks) = (Files::new(), BTreeMap::new());
    for file in package.files()? {
        let file = file?;
        let entry = &file.metadata;
        let path = plain(&entry.path());
        marks.insert(path.clone(), entry.flags());
        theirs.insert(
            path,
            Meant {
                mode: u32::from(entry.mode().raw_mode()),
                owner: format!("{} {}", entry.user(), entry.group()),
                sha256: file.content().map(crate::facts::sha256),
            },
        );
    }
    files::forget_unknown(&mut theirs, &meant);
    different(&meant, &theirs, "packaged file", found);
    let meant = meant.iter().map(|(path, file)| (path.clone(), mark(path, file.mode & files::DIR != 0)));
    different(&meant.collect(), &marks, "mark", found);
    Ok(())
}

/// `%config(noreplace)`, `%doc` or neither.
fn mark(path: &Path, is_dir: bool) -> FileFlags {
    if is_dir {
        FileFlags::empty()
    } else if path.starts_with("etc") {
        FileFlags::CONFIG | FileFlags::NOREPLACE
    } else if path.starts_with("usr/share/doc") || path.starts_with("usr/share/man") {
        FileFlags::DOC
    } else {
        FileFlags::empty()
    }
}

/// Scripts and triggers by their line in the spec file.
type Scripts = BTreeMap<PathBuf, String>;

/// As the spec file has them.
fn sections(spec: &str) -> Scripts {
    let mut scripts = Scripts::new();
    let mut current: Option<PathBuf> = None;
    for line in spec.lines() {
        let section =
            line.strip_prefix('%').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        match section {
            Some(_) if !line.starts_with("%define") => {
                let is_script = ["%pre", "%post", "%trigger", "%filetrigger", "%transfiletrigger"]
                    .iter()
                    .any(|begins| line.starts_with(begins));
                current = is_script.then(|| line.into());
                if is_script {
                    scripts.insert(line.into(), String::new());
                }
            }
            _ => {
                if let Some(text) = current.as_ref().and_then(|name| scripts.get_mut(name)) {
                    text.push_str(&line.replace("%%", "%"));
                    text.push('\n');
                }
            }
        }
    }
    scripts.into_iter().map(|(line, text)| (sorted(&line), shown("/bin/sh", &text))).collect()
}

/// rpmbuild sorts what a trigger watches.
fn sorted(line: &Path) -> PathBuf {
    let line = line.to_string_lossy();
    let Some((begins, names)) = line.split_once(" -- ") else { return line.as_ref().into() };
    let mut names: Vec<&str> = names.split_whitespace().collect();
    names.sort_unstable();
    format!("{begins} -- {}", names.join(" ")).into()
}

fn shown(program: &str, script: &str) -> String {
    format!("{program}: {}", script.trim())
}

/// RPMTRIGGER_DEFAULT_PRIORITY of rpm's build/rpmbuild_internal.h: what a file trigger without -P has.
const DEFAULT_PRIORITY: u32 = 1_000_000;

/// As the package has them.
fn scripts(head: &PackageMetadata) -> Result<Scripts> {
    let mut found = Scripts::new();
    for (name, script) in [
        ("%pre", head.get_pre_install_script()),
        ("%post", head.get_post_install_script()),
        ("%preun", head.get_pre_uninstall_script()),
        ("%postun", head.get_post_uninstall_script()),
        ("%pretrans", head.get_pre_trans_script()),
        ("%posttrans", head.get_post_trans_script()),
    ] {
        match script {
            Ok(Scriptlet { script, program, .. }) => {
                found.insert(name.into(), shown(&program.unwrap_or_default().join(" "), &script));
            }
            Err(Error::TagNotFound(_)) => {}
            Err(error) => return Err(error).context(name),
        }
    }
    let priorities = |tag| head.header.get_entry_data_as_u32_array(tag).unwrap_or_default();
    let mut triggers = |kind: &str, list: Vec<Trigger>, priorities: Vec<u32>| {
        for (at, trigger) in list.into_iter().enumerate() {
            let names: Vec<&str> = trigger.conditions.iter().map(|one| one.name.as_str()).collect();
            let when = trigger.conditions.first().map_or("", |one| when(one.flags));
            let priority = match priorities.get(at) {
                None | Some(&DEFAULT_PRIORITY) => String::new(),
                Some(number) => format!(" -P {number}"),
            };
            let line = format!("%{kind}{when}{priority} -- {}", names.join(" "));
            found.insert(line.into(), shown(&trigger.program.join(" "), &trigger.script));
        }
    };
    triggers("trigger", head.get_triggers()?, Vec::new());
    let (file, transaction) =
        (IndexTag::RPMTAG_FILETRIGGERPRIORITIES, IndexTag::RPMTAG_TRANSFILETRIGGERPRIORITIES);
    triggers("filetrigger", head.get_file_triggers()?, priorities(file));
    triggers("transfiletrigger", head.get_trans_file_triggers()?, priorities(transaction));
    Ok(found)
}

fn when(flags: DependencyFlags) -> &'static str {
    if flags.contains(DependencyFlags::TRIGGERIN) {
        "in"
    } else if flags.contains(DependencyFlags::TRIGGERUN) {
        "un"
    } else if flags.contains(DependencyFlags::TRIGGERPOSTUN) {
        "postun"
    } else {
        "?"
    }
}
