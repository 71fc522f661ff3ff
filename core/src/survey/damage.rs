//! Whether the files of an installed build are what was installed, in the kernel's module directory and in the DKMS tree.

use std::path::Path;

use crate::kernel::{Module, read_module};
use crate::session::Session;
use crate::sys::{file, hash};
use crate::tree::{Build, Snapshot};
use crate::types::{ModuleId, Target};

/// An installed build whose files in the kernel's module directory are missing, differ in size from the build, or are
/// recorded as older than the build.
pub fn damaged(
    session: &Session,
    snapshot: &Snapshot,
    id: &ModuleId,
    target: &Target,
    build: &Build,
) -> bool {
    if !build.active {
        return false;
    }
    let built = session.layout.built_modules(id, target);
    let Some(record) = &build.record else {
        // Built by shell DKMS: on most distributions, the paths of its files are known.
        let Some(place) = session.policy.destination() else { return false };
        let dir = session.layout.kernel(&target.kernel).join(place.trim_matches('/'));
        return build.files.iter().any(|file| !dir.join(file).exists());
    };
    // An automatic run compares sizes only: it must not read all modules each time.
    let exact = session.options.exact || session.requested.contains(id);
    // A build from a tarball loses this mark at its installation. If it still has it, the installed files are older.
    record.loaded
        || record.installed.iter().any(|file| {
            let name = file.path.file_name().unwrap_or_default();
            let size = |path: &Path| path.metadata().map(|meta| meta.len()).ok();
            let published = size(&file.path);
            let differs =
                || file::content(&file.path).map_or(true, |content| hash::hex(&content) != file.sha256);
            let other = file.sha256.is_empty()
                || published.is_none()
                || published != size(&built.join(name))
                || exact && differs();
            other && !is_of_another(session, snapshot, id, target, &file.path)
        })
}

/// A build that was compiled with a file outside of its source that has changed since, or an installed one whose own files are not
/// those that were installed from it. A build that was signed again together with
/// the installed files is still usable.
pub fn unusable(session: &Session, id: &ModuleId, target: &Target, build: &Build) -> bool {
    // As above, an automatic run does not read all modules each time.
    let exact = session.options.exact || session.requested.contains(id);
    let Some(record) = build.record.as_ref() else { return false };
    // Few builds have such files, and they are small.
    if record.outside.changed().is_some() {
        return true;
    }
    if !exact || !build.active {
        return false;
    }
    let dir = session.layout.built_modules(id, target);
    record.installed.iter().filter(|file| !file.sha256.is_empty()).any(|file| {
        let built = dir.join(file.path.file_name().unwrap_or_default());
        let content = file::content(&built).unwrap_or_default();
        let is_module = |path: &Path| read_module(path).is_ok_and(|content| Module::read(&content).is_ok());
        let again = || file::same_content(&file.path, &built).unwrap_or(false) && is_module(&built);
        hash::hex(&content) != file.sha256 && !again()
    })
}

/// Whether a file is that of another package with the same module, which was installed later. Installing each of the two
/// again whenever the other one is installed would never end.
fn is_of_another(
    session: &Session,
    snapshot: &Snapshot,
    id: &ModuleId,
    target: &Target,
    file: &Path,
) -> bool {
    let kernel = session.layout.kernel(&target.kernel);
    let others = snapshot.modules.iter().filter(|(other, _)| other.name != id.name);
    let mut installed = others.filter_map(|(other, entry)| Some((other, entry.builds.get(target)?)));
    installed.any(|(other, build)| {
        let built = session.layout.built_modules(other, target).join(file.file_name().unwrap_or_default());
        build.active
            && build.places(&kernel, session.policy.destination()).iter().any(|place| place == file)
            && file::same_content(file, &built).unwrap_or(false)
    })
}
