//! Takes the results out of an untrusted build directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{BESIDES_LIMIT, MODULE_LIMIT, MODULES_LIMIT, SYMVERS_LIMIT, Sandbox, Stop, seal};
use crate::exit::Exit;
use crate::kernel::{Compression, Module, elf};
use crate::sys::{file, signal};
use crate::types::Attempt;

impl Sandbox<'_> {
    /// The target of a link that was created in the sandbox, as seen from outside: absolute ones contain the canonical
    /// path.
    fn seen(&self, relative: PathBuf) -> PathBuf {
        let target = fs::read_link(self.view.join(&relative)).ok();
        let inside = target.and_then(|target| Some(target.strip_prefix(&self.canonical).ok()?.to_owned()));
        inside.unwrap_or(relative)
    }

    /// The path of a module built by make.
    fn built(&self, name: &str) -> PathBuf {
        self.seen(Path::new("build").join(format!("{name}.ko")))
    }

    /// Takes the modules out of the build directory: checks, signs and compresses each.
    pub(super) fn harvest(&self, scratch: &Path, staged: &Path) -> Attempt<Vec<String>, Stop> {
        let job = self.job;
        let name = Path::new("build/Module.symvers");
        let exists = self.view.join(name).exists();
        let own = exists.then(|| file::read_untrusted(&self.view, name, SYMVERS_LIMIT)).transpose()?;
        let mut modules = Vec::new();
        let mut left = MODULES_LIMIT;
        for module in &job.recipe.modules {
            signal::check()?;
            let content =
                file::read_untrusted(&self.view, &self.built(&module.built), MODULE_LIMIT.min(left))?;
            left -= content.len() as u64;
            // A file that is not a module is reported below.
            modules.extend(Module::read(&content).map(|read| (module.dest_name.clone(), read)));
        }
        let verifier = job.verifier(self.session, &modules)?;
        let mut notes = Vec::new();
        for module in &job.recipe.modules {
            signal::check()?;
            let content = file::read_untrusted(&self.view, &self.built(&module.built), MODULE_LIMIT)?;
            if let Err(why) = verifier.verify(&content) {
                return Ok(Err(Stop::new(
                    format!("{}.ko would not load: {why}", module.built),
                    Exit::WOULD_NOT_LOAD,
                )));
            }
            let (compression, scratch) = (job.compression(), scratch);
            seal::one(
                self.session,
                job,
                compression,
                scratch,
                (&module.dest_name, content),
                staged,
                &mut notes,
            )?;
        }
        if let Some(own) = own {
            file::write_unsynced(&staged.join("Module.symvers"), &own)?;
        }
        Ok(Ok(notes))
    }

    /// POST_BUILD may change the modules at their final path: it gets a copy there, and its result is checked again.
    pub(super) fn post_build(&self, staged: &Path) -> Attempt<(), Stop> {
        let job = self.job;
        let target = &job.kernel.target;
        let owner = self.owner;
        let dir = self.view.join(target.kernel.as_str()).join(target.arch.as_str());
        if self.confined {
            // Links and other files that the build created there must not be followed.
            file::remove_all(&self.view.join(target.kernel.as_str()))?;
            file::make_dirs(&dir)?;
            for dir in [self.view.join(target.kernel.as_str()), dir.clone()] {
                file::give(&dir, owner)?;
            }
            file::copy_tree(staged, &dir.join("module"), owner)?;
        }
        let staged_files = file::sorted_entries(staged);
        let made = !dir.exists();
        file::make_dirs(&dir)?;
        let stopped = self.script("post_build", &job.recipe.scripts.post_build)?;
        if stopped.is_ok() {
            self.keep_besides(staged)?;
        }
        if made {
            // Without a private directory, an empty build would be visible in the DKMS tree until this one replaces it.
            file::remove_all(&dir)?;
            file::remove_empty_up_to(&self.view.join(target.kernel.as_str()), &self.view);
        }
        if stopped.is_err() || !self.confined {
            return Ok(stopped);
        }
        let place = Path::new(target.kernel.as_str()).join(target.arch.as_str()).join("module");
        let mut left = MODULES_LIMIT;
        let mut modules = Vec::new();
        for path in &staged_files {
            signal::check()?;
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let content = file::read_untrusted(&self.view, &place.join(name), MODULE_LIMIT.min(left))?;
            left -= content.len() as u64;
            let plain = Compression::of(name).decompress(&content).ok().filter(|_| name.contains(".ko"));
            let read = plain.and_then(|plain| Module::read(&plain).ok());
            modules.extend(read.map(|read| (elf::module_name(name), read)));
        }
        let verifier = job.verifier(self.session, &modules)?;
        for path in staged_files {
            signal::check()?;
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let content = file::read_untrusted(&self.view, &place.join(name), MODULE_LIMIT)?;
            if name.contains(".ko") {
                let plain = Compression::of(name).decompress(&content).map_err(|error| format!("{error:#}"));
                if let Err(why) = plain.and_then(|plain| verifier.verify(&plain)) {
                    return Ok(Err(Stop::new(
                        format!("{name} would not load after the post_build script: {why}"),
                        Exit::WOULD_NOT_LOAD,
                    )));
                }
            }
            file::write_unsynced(&path, &content)?;
        }
        Ok(Ok(()))
    }

    /// Keeps other files that POST_BUILD created next to the modules or beside their directory: zfs puts files there
    /// that other modules need, and a POST_INSTALL may use them. Links are not kept: root would follow them.
    fn keep_besides(&self, staged: &Path) -> Result<()> {
        let target = &self.job.kernel.target;
        let dir = self.view.join(target.kernel.as_str()).join(target.arch.as_str());
        let (mut left, mut files) = BESIDES_LIMIT;
        for path in file::files_below(&dir, &["log"]) {
            signal::check()?;
            let relative = path.strip_prefix(&dir)?;
            let to = staged.with_file_name(relative);
            if to.exists() {
                continue;
            }
            if files == 0 {
                bail!("the post_build script leaves more than {} files beside the modules", BESIDES_LIMIT.1);
            }
            let content = file::read_untrusted(&self.view, path.strip_prefix(&self.view)?, left)?;
            (left, files) = (left - content.len() as u64, files - 1);
            file::make_dirs(to.parent().unwrap_or(staged))?;
            file::write_unsynced(&to, &content)?;
        }
        Ok(())
    }
}
