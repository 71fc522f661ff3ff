//! The files in the module directories of kernels. A directory with thousands of files is read once for all modules that are
//! installed for its kernel, and again if something may have changed it in an unknown way.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::Work;
use crate::sys::file;
use crate::tree::Installed;
use crate::types::Target;

impl Work<'_> {
    /// All files in a kernel's module directory.
    pub(super) fn module_files(&mut self, target: &Target) -> Arc<BTreeSet<PathBuf>> {
        let kernel = self.tree.layout.kernel(&target.kernel);
        let read = || Arc::new(file::files_below(&kernel, &["build", "source"]).into_iter().collect());
        self.module_files.entry(target.clone()).or_insert_with(read).clone()
    }

    /// A module was published: these files are there, and those that they replaced are not.
    pub(super) fn note_published(&mut self, target: &Target, installed: &[Installed]) {
        let Some(files) = self.module_files.get_mut(target) else { return };
        let files = Arc::make_mut(files);
        let dirs: BTreeSet<_> = installed.iter().filter_map(|file| file.path.parent()).collect();
        files.retain(|path| path.parent().is_none_or(|dir| !dirs.contains(dir)) || path.exists());
        files.extend(installed.iter().map(|file| file.path.clone()));
    }

    /// A module is removed, or a script of a module has run: it may have changed any file.
    pub(super) fn forget_module_files(&mut self) {
        self.module_files.clear();
    }
}
