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
    /// All files in a kernel's module directory. Those that a module replaced are still among them.
    pub(super) fn module_files(&mut self, target: &Target) -> Arc<BTreeSet<PathBuf>> {
        let kernel = self.tree.layout.kernel(&target.kernel);
        let read = || Arc::new(file::files_below(&kernel, &["build", "source"]).into_iter().collect());
        self.module_files.entry(target.clone()).or_insert_with(read).clone()
    }

    /// A module was published: these files are there.
    pub(super) fn note_published(&mut self, target: &Target, installed: &[Installed]) {
        if let Some(files) = self.module_files.get_mut(target) {
            Arc::make_mut(files).extend(installed.iter().map(|file| file.path.clone()));
        }
    }

    /// A module is removed, or a script of a module has run: it may have changed any file.
    pub(super) fn forget_module_files(&mut self) {
        self.module_files.clear();
    }
}
