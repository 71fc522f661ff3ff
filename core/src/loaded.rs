//! Modules of ours that the running kernel loaded before their file was replaced. A driver's library is replaced at once,
//! its module only with the next load: until then, the two do not fit together.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::distro::RestartFlag;
use crate::in_use;
use crate::kernel::{Module, elf, read_module};
use crate::layout::Layout;
use crate::session::Session;
use crate::sys::file;
use crate::tree::Snapshot;
use crate::types::{ModuleId, Target};

/// A loaded module that is not the installed one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Replaced {
    /// The module package that it belongs to.
    #[serde(rename = "module")]
    pub id: ModuleId,
    /// Its name in the kernel.
    pub name: String,
    /// The loaded version, or the identifier of its source if it has none.
    pub loaded: String,
    /// The same of the installed file.
    pub installed: String,
}

impl Replaced {
    /// As one line.
    pub fn line(&self) -> String {
        format!(
            "{}: {} {} is loaded, {} is installed: reload the module, or restart",
            self.id, self.name, self.loaded, self.installed
        )
    }
}

/// What the kernel and a file say about a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Identity {
    version: String,
    srcversion: String,
}

impl Identity {
    /// Of a loaded module; `None` if it is not loaded, or has no identifier.
    fn loaded(layout: &Layout, name: &str) -> Option<Self> {
        let read = |attribute: &str| {
            let text = file::read_optional(&layout.loaded_module(name).join(attribute)).ok().flatten()?;
            Some(String::from_utf8_lossy(&text).trim().to_owned())
        };
        Some(Self { srcversion: read("srcversion")?, version: read("version").unwrap_or_default() })
    }

    fn installed(path: &Path) -> Option<Self> {
        let module = Module::read(&read_module(path).ok()?).ok()?;
        Some(Self { version: module.version, srcversion: module.srcversion })
    }
}

/// Loaded modules that differ from the installed ones. Reads files only of modules that are loaded.
pub fn replaced(session: &Session, snapshot: &Snapshot, targets: &BTreeSet<Target>) -> Vec<Replaced> {
    let Some(running) = session.running() else { return Vec::new() };
    let layout = &session.layout;
    let mut found = Vec::new();
    for target in targets.iter().filter(|target| target.kernel == running) {
        let dir = layout.kernel(&target.kernel);
        for (id, entry) in &snapshot.modules {
            let Some(build) = entry.builds.get(target).filter(|build| build.active) else { continue };
            for path in build.places(&dir, session.policy.distribution.destination) {
                let name = elf::module_name(&path.file_name().unwrap_or_default().to_string_lossy());
                let Some(loaded) = Identity::loaded(layout, &name) else { continue };
                let Some(installed) = Identity::installed(&path) else { continue };
                found.extend(differs(&loaded, &installed).map(|(loaded, installed)| Replaced {
                    id: id.clone(),
                    name,
                    loaded,
                    installed,
                }));
            }
        }
    }
    found
}

/// How to tell both apart; `None` if they are the same.
fn differs(loaded: &Identity, installed: &Identity) -> Option<(String, String)> {
    if installed.srcversion.is_empty() || loaded.srcversion == installed.srcversion {
        return None;
    }
    let by_version = loaded.version != installed.version && !loaded.version.is_empty();
    let name = |identity: &Identity| {
        let text = if by_version { &identity.version } else { &identity.srcversion };
        text.clone()
    };
    Some((name(loaded), name(installed)))
}

/// Tells the distribution that a restart is due, if one of these modules is in use: others can be reloaded.
pub fn request_restart(session: &Session, replaced: &[Replaced]) -> Result<()> {
    let layout = &session.layout;
    let Some(flag) = session.policy.distribution.restart_flag.filter(|_| !replaced.is_empty()) else {
        return Ok(());
    };
    let vital = in_use::in_use(layout);
    let used = |one: &&Replaced| vital.contains(&one.name) || is_used(layout, &one.name);
    let names: BTreeSet<&str> = replaced.iter().filter(used).map(|one| one.id.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    write(layout, flag, &names)
}

/// Other modules or programs use it.
fn is_used(layout: &Layout, module: &str) -> bool {
    let count = file::read_optional(&layout.loaded_module(module).join("refcnt")).ok().flatten();
    count.is_some_and(|count| String::from_utf8_lossy(&count).trim() != "0")
}

fn write(layout: &Layout, flag: RestartFlag, names: &BTreeSet<&str>) -> Result<()> {
    let path = layout.run.join(flag.file);
    if file::read_optional(&path)?.is_none() {
        file::write_atomic(&path, flag.text.as_bytes(), 0o644)?;
    }
    let Some(list) = flag.list else { return Ok(()) };
    let list = layout.run.join(list);
    let known = file::read_optional(&list)?.unwrap_or_default();
    let mut text = String::from_utf8_lossy(&known).into_owned();
    for name in names {
        if !text.lines().any(|line| line == *name) {
            text.push_str(name);
            text.push('\n');
        }
    }
    file::write_atomic(&list, text.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(version: &str, srcversion: &str) -> Identity {
        Identity { version: version.into(), srcversion: srcversion.into() }
    }

    #[test]
    fn only_another_source_is_a_difference() {
        for (loaded, installed, expected) in [
            (("550.1", "AA"), ("550.2", "BB"), Some(("550.1", "550.2"))),
            // The same version of another source.
            (("1", "AA"), ("1", "BB"), Some(("AA", "BB"))),
            (("", "AA"), ("2", "BB"), Some(("AA", "BB"))),
            (("1", "AA"), ("1", "AA"), None),
            // Nothing is known about the file.
            (("1", "AA"), ("2", ""), None),
        ] {
            let found = differs(&identity(loaded.0, loaded.1), &identity(installed.0, installed.1));
            let expected = expected.map(|(a, b): (&str, &str)| (a.to_owned(), b.to_owned()));
            assert_eq!(found, expected, "{loaded:?} {installed:?}");
        }
    }

    #[test]
    fn a_restart_is_requested_once_for_each_module() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout { run: dir.path().into(), ..Layout::default() };
        let flag = RestartFlag { file: "reboot-required", list: Some("reboot-required.pkgs"), text: "now\n" };
        file::write_atomic(&dir.path().join("reboot-required.pkgs"), b"linux-image\n", 0o644).unwrap();
        for _ in 0..2 {
            write(&layout, flag, &["a", "b"].into()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("reboot-required"), "now\n");
        assert_eq!(read("reboot-required.pkgs"), "linux-image\na\nb\n");
    }
}
