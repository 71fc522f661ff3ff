//! Builds one module package for one kernel, in a private directory that is mounted at the path that every dkms.conf
//! expects, `NAME/VERSION/build` in the DKMS tree. Builds for two kernels never share files.

mod command;
pub mod fault;
mod harvest;
mod outside;
mod seal;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};

use command::SIGNAL_CODES;

use super::sign::Signing;
use crate::cache;
use crate::conf::{Recipe, script_dir};
use crate::exit::Exit;
use crate::kernel::{Compression, Headers, Kernel, Module};
use crate::layout::Layout;
use crate::report::timeline::Phases;
use crate::report::{Fault, compiler, refused};
use crate::session::Session;
use crate::step::verify;
use crate::sys::confine::{self, Lease};
use crate::sys::hash::Digests;
use crate::sys::jobs::Jobs;
use crate::sys::overlay::Layers;
use crate::sys::{file, run};
use crate::types::{Attempt, Fingerprint, ModuleId};

/// Larger than any real module file.
const MODULE_LIMIT: u64 = 512 << 20;
/// Larger than any real list of symbols.
const SYMVERS_LIMIT: u64 = 64 << 20;
/// All modules of a package together. The largest known packages have a quarter of it.
const MODULES_LIMIT: u64 = 1 << 30;
/// All that a POST_BUILD leaves beside the modules: bytes, and files. zfs leaves two files of 4 MiB.
const BESIDES_LIMIT: (u64, usize) = (SYMVERS_LIMIT, 100);
/// Larger than any real log. An endless log would fill the disk.
const LOG_LIMIT: u64 = 64 << 20;
/// The space that a build must leave free: other programs write to the same file system.
const RESERVE: u64 = 256 << 20;
/// The space that builds at the same time may use. The largest known driver needs two GiB.
const BUILDS_LIMIT: u64 = 16 << 30;
/// The jobserver of a build, next to its directory.
const JOBSERVER: &str = ".jobserver";
/// The sizes of the beginning and the end of a log that are kept.
const LOG_KEPT: (u64, u64) = (1 << 20, 3 << 20);

/// The inputs of a build.
#[derive(Debug)]
pub struct Job<'a> {
    /// The module.
    pub module: &'a ModuleId,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Its headers.
    pub headers: &'a Headers,
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The directory of the source.
    pub source: &'a Path,
    /// Whether and how modules are signed.
    pub signing: &'a Signing,
    /// `Module.symvers` of the packages that the module depends on.
    pub symvers: Vec<PathBuf>,
    /// The expected signer.
    pub signer: Option<&'a str>,
    /// The hash of all inputs.
    pub fingerprint: &'a Fingerprint,
    /// What it sees over the system: packages that are not installed.
    pub layers: Option<&'a Layers>,
    /// Set for a pre-build: signing and compression are done at the installation, with the programs installed then.
    pub unfinished: bool,
    /// The job budget that its make shares with the others.
    pub jobs: &'a Jobs,
    /// The number of builds that may run in parallel, including this one.
    pub builds: usize,
    /// Becomes true when the whole transaction must end.
    pub stop: &'a Arc<AtomicBool>,
}

/// A build that is not in the DKMS tree yet.
#[derive(Debug)]
pub struct Built {
    /// The directory to move there, with `module/` and `log/`.
    pub staged: PathBuf,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Remarks.
    pub notes: Vec<String>,
    /// The signer; `None` if it is unsigned.
    pub signer: Option<String>,
    /// It was taken from the cache.
    pub cached: bool,
    /// The URL of the store that it is from.
    pub origin: Option<String>,
    /// It is in the cache in this form.
    pub kept: bool,
    /// Files with which it was compiled, and which are no part of its source.
    pub outside: Digests,
    /// Deletes the working directory when dropped.
    pub scratch: Scratch,
}

/// A build that failed.
#[derive(Debug)]
pub struct Unbuilt {
    /// What failed, as one line.
    pub why: String,
    /// The exit code that shell DKMS documents for it.
    pub code: Exit,
    /// The first errors in the log.
    pub errors: Vec<String>,
    /// The log.
    pub log: Vec<u8>,
    /// The cause.
    pub fault: Fault,
    /// What the machine lacked.
    pub cause: Option<String>,
}

/// A working directory, deleted when it is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    fn new(layout: &Layout) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let scratch = Self(layout.work().join(format!("{}-{number}", std::process::id())));
        file::remove_all(&scratch.0)?;
        // Only root may enter: the directory in it belongs to the build user, and no other process of that user may
        // access it.
        file::make_private_dir(&scratch.0)?;
        Ok(scratch)
    }
}

/// Takes a cached build with the same fingerprint. `Err` is the reason why it cannot be used.
pub fn again(session: &Session, job: &Job<'_>) -> Result<Built> {
    let scratch = Scratch::new(&session.layout)?;
    let staged = scratch.0.join("staged");
    let (cache, environment) = (session.cache(), &job.headers.environment);
    let finished = cache::key(job.fingerprint, job.signer);
    if cache.holds(&finished) {
        let cache::Manifest { seconds, notes, signer, origin, outside, .. } =
            cache.take(&finished, &staged)?;
        job.sync(&staged)?;
        return Ok(Built {
            staged,
            seconds,
            notes,
            signer,
            cached: true,
            origin,
            kept: true,
            outside,
            scratch,
        });
    }
    let known = cache.take(&cache::unfinished(job.fingerprint, environment), &staged)?;
    let (mut notes, signer) = seal::all(session, job, &scratch.0, &staged.join("module"))?;
    notes.splice(0..0, known.notes);
    job.sync(&staged)?;
    let (seconds, origin, outside) = (known.seconds, known.origin, known.outside);
    Ok(Built { staged, seconds, notes, signer, cached: true, origin, kept: false, outside, scratch })
}

/// Deletes what came from a store and cannot be used.
pub fn reject(session: &Session, job: &Job<'_>) -> Result<()> {
    session.cache().forget(&cache::unfinished(job.fingerprint, &job.headers.environment))
}

impl Job<'_> {
    /// A build in the DKMS tree survives a power failure; one that only goes to the cache may be lost.
    fn sync(&self, staged: &Path) -> Result<()> {
        if self.unfinished { Ok(()) } else { file::sync_tree(staged) }
    }

    /// What these modules of the build are verified against, with the lists in the places where they are readable now.
    fn verifier(&self, session: &Session, modules: &[(String, Module)]) -> Result<verify::Verifier> {
        let list = self.headers.symvers();
        let exporters = verify::Exporters {
            kernel: &list,
            others: &self.symvers,
            installed: !self.unfinished || self.layers.is_none(),
        };
        verify::Verifier::new(&session.layout, self.kernel, exporters, modules)
    }

    /// How the modules are compressed.
    fn compression(&self) -> Compression {
        // A POST_BUILD expects files with their final names.
        let later = self.unfinished && self.recipe.scripts.post_build.is_empty();
        if later { Compression::None } else { self.kernel.compression }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = file::remove_all(&self.0);
    }
}

struct Sandbox<'a> {
    session: &'a Session,
    job: &'a Job<'a>,
    /// The directory that appears as `NAME/VERSION` in the DKMS tree; equal to `canonical` if nothing can be mounted.
    view: PathBuf,
    /// `NAME/VERSION` in the DKMS tree.
    canonical: PathBuf,
    log: PathBuf,
    /// It has its own namespaces.
    confined: bool,
    /// The user that it runs as; `None` for root.
    owner: Option<u32>,
    _lease: Option<Lease>,
    /// The admin allows it all privileges.
    trusted: bool,
    /// Remarks about the recipe.
    warnings: RefCell<Vec<String>>,
}

/// Why a step ended the build.
struct Stop {
    why: String,
    code: Exit,
    /// By a signal or a limit.
    killed: bool,
    /// The exit status of the failed step; 0 if dkms found the problem.
    status: i32,
    /// The processes through which it failed, where the kernel records them.
    failed: Option<Vec<confine::Failed>>,
    /// Whether the kernel killed one of its processes for lack of memory, if the step had a control group.
    starved: Option<bool>,
}

impl Stop {
    fn new(why: String, code: Exit) -> Self {
        Self { why, code, killed: false, status: 0, failed: None, starved: None }
    }
}

/// Builds. `Err` means that dkms failed or was interrupted; a module that does not compile is a value.
pub fn build(session: &Session, job: &Job<'_>, phases: &mut Phases) -> Attempt<Built, Unbuilt> {
    let (began, before) = (Instant::now(), fault::Before::read());
    let layout = &session.layout;
    let scratch = Scratch::new(layout)?;
    let confined = confine::available();
    let trusted = session.policy.admin.unconfined(&job.module.name);
    let lease = if trusted { None } else { confine::lease()? };
    let canonical = layout.version(job.module);
    let place = Sandbox {
        session,
        job,
        view: if confined { scratch.0.join("view") } else { canonical.clone() },
        canonical,
        log: scratch.0.join("make.log"),
        confined,
        owner: lease.as_ref().map(Lease::id),
        _lease: lease,
        trusted,
        warnings: RefCell::default(),
    };
    let result = place.all_steps(&scratch.0, phases);
    phases.end();
    let outside = outside::of(job, &place.view, &place.canonical);
    if !confined {
        file::remove_all(&place.view.join("build"))?;
    }
    let log = file::read_ends(&place.log, LOG_KEPT).unwrap_or_default();
    match result? {
        Ok(notes) => {
            let staged = scratch.0.join("staged");
            file::write_unsynced(&staged.join("log/make.log"), &log)?;
            job.sync(&staged)?;
            let signer = job.signing.signer(&notes);
            let notes = notes.into_iter().chain(place.warnings.take()).collect();
            Ok(Ok(Built {
                staged,
                seconds: began.elapsed().as_secs_f64(),
                notes,
                signer,
                cached: false,
                origin: None,
                kept: false,
                outside,
                scratch,
            }))
        }
        Err(Stop { why, code, killed, status, failed, starved }) => {
            let text = String::from_utf8_lossy(&log);
            let mut errors = compiler::errors(&text, &place.canonical.join("build"), 3);
            if let Some(refused) = refused::refused(&text).filter(|_| place.owner.is_some() && !killed) {
                errors.extend([refused, refused::permission(job.module.name.as_str())]);
            }
            errors.extend(hidden_link(job.source).filter(|_| place.owner.is_some() && !killed));
            let facts = before.facts(&scratch.0, starved);
            let facts = fault::Facts { killed, status, failed, ..facts };
            let fault::Blame { fault, cause } = fault::whose(&text, &facts);
            Ok(Err(Unbuilt { why, code, errors, fault, cause, log }))
        }
    }
}

/// Names the first link of the source to a file that the sandbox does not show: root follows no link of a source, and
/// make reports such a file as missing.
fn hidden_link(source: &Path) -> Option<String> {
    let source = source.canonicalize().ok()?;
    let links = file::links_below(&source);
    links.into_iter().find_map(|link| {
        let target = link.canonicalize().ok().filter(|to| !to.starts_with(&source) && confine::hides(to))?;
        let (link, target) = (link.strip_prefix(&source).ok()?.display(), target.display());
        Some(format!("{link} is a link to {target}, which a build cannot read: replace the link by a copy"))
    })
}

impl Sandbox<'_> {
    fn all_steps(&self, scratch: &Path, phases: &mut Phases) -> Attempt<Vec<String>, Stop> {
        macro_rules! step {
            ($result:expr) => {
                if let Err(stop) = $result? {
                    return Ok(Err(stop));
                }
            };
        }
        phases.begin("copy");
        self.prepare()?;
        phases.begin("prepare");
        for patch in &self.job.recipe.patches {
            step!(self.patch(patch));
        }
        step!(self.script("pre_build", &self.job.recipe.scripts.pre_build));
        phases.begin("compile");
        step!(self.run_make());
        phases.begin("check");
        step!(self.strip());
        let staged = scratch.join("staged/module");
        file::make_dirs(&staged)?;
        let notes = match self.harvest(scratch, &staged)? {
            Ok(notes) => notes,
            Err(stop) => return Ok(Err(stop)),
        };
        if !self.job.recipe.scripts.post_build.is_empty() {
            step!(self.post_build(&staged));
        }
        Ok(Ok(notes))
    }

    fn build_dir(&self) -> PathBuf {
        self.view.join("build")
    }

    /// Copies the source and creates the log.
    fn prepare(&self) -> Result<()> {
        let owner = self.owner;
        file::make_dirs(&self.view)?;
        file::remove_all(&self.build_dir())?;
        self.copy_source(owner)?;
        // The admin's patches override those of the same name.
        let patches = self.session.layout.module_config(&self.job.module.name).join("patches");
        if let Ok(patches) = patches.canonicalize() {
            file::overlay_tree(&patches, &self.build_dir().join("patches"), owner)?;
        }
        if self.confined {
            let source = self.view.join("source");
            if self.job.recipe.builds_in_source() {
                // Its make writes to the source: to a copy of its own, at the same path.
                file::copy_tree(&self.build_dir(), &source, owner)?;
            } else {
                file::make_link(self.job.source, &source)?;
            }
            file::give(&self.view, owner)?;
        }
        self.note(&format!(
            "DKMS (dkms-rs {}) make.log for {} for kernel {}\n",
            env!("CARGO_PKG_VERSION"),
            self.job.module,
            self.job.kernel.target
        ))
    }

    /// The kernel's installed directory, with the overlay's files over it.
    fn copy_source(&self, owner: Option<u32>) -> Result<()> {
        let (source, to) = (self.job.source, self.build_dir());
        let comes = self.job.layers.map_or_else(|| source.to_owned(), |layers| layers.find(source));
        // The source may be a link to another directory, also to one of a user. The links on the way are examined from
        // the one in the DKMS tree on: `source` is its end.
        let link = Some(self.session.layout.source_link(self.job.module)).filter(|link| link.exists());
        let link = link.unwrap_or_else(|| source.to_owned());
        let real = || file::real_dir(&link).with_context(|| format!("reading {}", link.display()));
        if comes == source {
            return file::copy_real(&real()?, &to, owner);
        }
        if source.is_dir() {
            file::copy_real(&real()?, &to, owner)?;
        }
        file::overlay_tree(&comes, &to, owner)
    }

    fn note(&self, text: &str) -> Result<()> {
        let mut log = file::open_to_append(&self.log)?;
        run::say(&mut log, text);
        Ok(())
    }

    fn patch(&self, patch: &str) -> Attempt<(), Stop> {
        if Path::new(patch).components().any(|part| part.as_os_str() == "..") {
            return Ok(Err(Stop::new(
                format!("patch {patch} is outside the patches directory"),
                Exit::NO_PATCH,
            )));
        }
        let place = self.build_dir().join("patches").join(patch);
        if !place.is_file() {
            return Ok(Err(Stop::new(format!("patch patches/{patch} not found"), Exit::NO_PATCH)));
        }
        let file = run::quoted(&format!("./patches/{patch}"));
        let done =
            self.run_shell(&format!("Applying patch {patch}"), &format!("patch -p1 < {file}"), None)?;
        Ok(self.stopped(&done, &format!("applying patch {patch}"), Exit::PATCH_FAILED))
    }

    fn script(&self, kind: &str, command: &str) -> Attempt<(), Stop> {
        let Some(program) = command.split_whitespace().next() else { return Ok(Ok(())) };
        let (layout, module) = (&self.session.layout, &self.job.module.name);
        let Some(dir) = script_dir::find(layout, module, &self.build_dir(), command) else {
            // As in shell DKMS: a warning, not a failure.
            let why = if self.build_dir().join(program).exists() { "not executable" } else { "not found" };
            let warning = format!("the {kind} script {program} was not run: {why}");
            self.note(&format!("\n{warning}\n"))?;
            self.warnings.borrow_mut().push(warning);
            return Ok(Ok(()));
        };
        let unrunnable = script_dir::unrunnable(&dir, program);
        // With its absolute path, as in shell DKMS: it may change the directory, then look for files beside it.
        let dir = if dir == self.build_dir() { self.canonical.join("build") } else { dir };
        let dir = run::quoted(&dir.display().to_string());
        let text = format!("cd {dir} && {dir}/{command}");
        let done = self.run_shell(&format!("Running the {kind} script"), &text, None)?;
        Ok(self.stopped(&done, &format!("the {kind} script"), Exit::of_script(done.code())).map_err(|stop| {
            let why = unrunnable.map_or(stop.why.clone(), |reason| format!("{}: {reason}", stop.why));
            Stop { why, ..stop }
        }))
    }

    fn run_make(&self) -> Attempt<(), Stop> {
        let make = &self.job.recipe.make;
        let kernel = &self.job.kernel.target.kernel;
        // A quoted 'make', or another command, is shell DKMS's notation for a build that must not run in parallel.
        let (text, makeflags, _lane) = match make.strip_prefix("make") {
            Some(rest) => {
                let lane = self.job.jobs.lane(self.view.join(JOBSERVER), self.owner)?;
                let (option, makeflags) = lane.for_make(self.job.builds, &self.canonical.join(JOBSERVER));
                (format!("make{option} KERNELRELEASE={kernel}{rest}"), makeflags, Some(lane))
            }
            None => (make.clone(), None, None),
        };
        let done = self.run_shell("Building module(s)", &text, makeflags)?;
        if let Err(stop) = self.stopped(&done, "compiling", Exit::BUILD_FAILED) {
            return Ok(Err(stop));
        }
        for module in &self.job.recipe.modules {
            if self.build_dir().join(format!("{}.ko", module.built)).symlink_metadata().is_err() {
                let why = format!("make succeeded but did not create {}.ko", module.built);
                return Ok(Err(Stop::new(why, Exit::WOULD_NOT_LOAD)));
            }
        }
        Ok(Ok(()))
    }

    fn strip(&self) -> Attempt<(), Stop> {
        let files: Vec<String> = self
            .job
            .recipe
            .modules
            .iter()
            .filter(|module| module.strip)
            .map(|module| run::quoted(&format!("./{}.ko", module.built)))
            .collect();
        if files.is_empty() {
            return Ok(Ok(()));
        }
        let program = if self.job.headers.cc.as_deref() == Some("clang") { "llvm-strip" } else { "strip" };
        let done =
            self.run_shell("Removing debug sections", &format!("{program} -g {}", files.join(" ")), None)?;
        if done.timed_out() || done.not_run.is_some() || SIGNAL_CODES.contains(&done.code()) {
            return Ok(self.stopped(&done, "removing debug sections", Exit::WOULD_NOT_LOAD));
        }
        // A module that could not be stripped is still a module; its integrity is checked next.
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_a_file_that_a_build_does_not_see_is_named() {
        // /tmp is another directory for a build.
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let (source, outside) = (dir.path().join("source"), dir.path().join("private.c"));
        file::write_atomic(&source.join("src/own.c"), b"", 0o644).unwrap();
        file::write_atomic(&outside, b"", 0o644).unwrap();
        for (name, target) in [("one", "src/own.c"), ("two", "missing"), ("three", "/usr")] {
            file::make_link(Path::new(target), &source.join(name)).unwrap();
        }
        assert_eq!(hidden_link(&source), None);
        file::make_link(&outside, &source.join("src/linked.c")).unwrap();
        let said = hidden_link(&source).unwrap();
        assert!(said.starts_with("src/linked.c is a link to /tmp/"), "{said}");
        assert!(
            said.ends_with("/private.c, which a build cannot read: replace the link by a copy"),
            "{said}"
        );
    }
}
