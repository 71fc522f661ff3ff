//! Builds one module package for one kernel, in a directory of its own that appears at the place where every
//! dkms.conf expects it, `NAME/VERSION/build` in the registry. Two kernels' builds never meet.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};

use super::sign::Signing;
use super::verify;
use crate::cache;
use crate::conf::{Recipe, script};
use crate::kernel::{Compression, Headers, Kernel, elf};
use crate::layout::Layout;
use crate::report::compiler;
use crate::report::timeline::Phases;
use crate::session::Session;
use crate::sys::confine::{self, Spec};
use crate::sys::jobs::Jobs;
use crate::sys::run::{Done, Exceeded, Output};
use crate::sys::{file, lock, run};
use crate::types::{Fingerprint, ModuleId};

/// More than any real module file.
const MODULE_LIMIT: u64 = 512 << 20;
/// More than any real list of symbols.
const SYMVERS_LIMIT: u64 = 64 << 20;
/// More than any real build says. One that goes on and on would fill the disk.
const LOG_LIMIT: u64 = 64 << 20;
/// As much of a log as is kept: its beginning and its end.
const LOG_KEPT: (u64, u64) = (1 << 20, 3 << 20);

/// What a build needs.
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
    /// The source's directory.
    pub source: &'a Path,
    /// Whether modules get signed.
    pub signing: &'a Signing,
    /// `Module.symvers` of the packages that this one depends on.
    pub symvers: Vec<PathBuf>,
    /// Who should sign it.
    pub signer: Option<&'a str>,
    /// Everything that goes into it.
    pub fingerprint: &'a Fingerprint,
    /// The budget that its make shares with the others.
    pub jobs: &'a Jobs,
    /// How many builds may run beside it, itself among them.
    pub builds: usize,
    /// Becomes true when the whole transaction must end.
    pub stop: &'a Arc<AtomicBool>,
}

/// A finished build that is not in the registry yet.
#[derive(Debug)]
pub struct Built {
    /// The directory to put there: `module/` and `log/`.
    pub staged: PathBuf,
    /// How long it took.
    pub seconds: f64,
    /// Remarks.
    pub notes: Vec<String>,
    /// Who signed it; `None` when nobody did.
    pub signer: Option<String>,
    /// Nothing was compiled: it was built before.
    pub cached: bool,
    /// Deletes the working directory.
    pub scratch: Scratch,
}

/// A build that failed.
#[derive(Debug)]
pub struct Unbuilt {
    /// What failed, as one line.
    pub why: String,
    /// The exit code that shell DKMS documents for it.
    pub code: i32,
    /// The first errors in the log.
    pub errors: Vec<String>,
    /// The log.
    pub log: Vec<u8>,
    /// The machine was not able to, for now: it says nothing about the module.
    pub transient: bool,
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
        // Only for us: what is being built belongs to another user, and nobody else of that user may come near.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&scratch.0)
            .with_context(|| format!("making {}", scratch.0.display()))?;
        Ok(scratch)
    }
}

/// Takes the result of the very same build from before. `Err` says why it cannot be used.
pub fn again(session: &Session, job: &Job<'_>) -> Result<Built> {
    let scratch = Scratch::new(&session.layout)?;
    let staged = scratch.0.join("staged");
    let known = session.cache().take(&cache::key(job.fingerprint, job.signer), &staged)?;
    Ok(Built {
        staged,
        seconds: known.seconds,
        notes: known.notes,
        signer: known.signer,
        cached: true,
        scratch,
    })
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = file::remove_all(&self.0);
    }
}

struct Place<'a> {
    session: &'a Session,
    job: &'a Job<'a>,
    /// What appears as `NAME/VERSION` in the registry; the same as that where nothing can be mounted.
    view: PathBuf,
    /// `NAME/VERSION` in the registry.
    canonical: PathBuf,
    log: PathBuf,
    /// It has namespaces of its own.
    confined: bool,
    /// The user that it runs as, when that is not us.
    owner: Option<u32>,
}

/// Exit codes by which not the command speaks: the confinement could not be made, or a signal ended it (abort, bus
/// error, kill, segmentation fault, termination, limits of time and size).
const STRUCK_DOWN: [i32; 8] = [confine::NOT_RUN, 134, 135, 137, 139, 143, 152, 153];

/// A word that the shell takes as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Why a step of the build ended it.
struct Stop {
    why: String,
    code: i32,
    /// By a signal or a limit, not by itself.
    killed: bool,
}

impl Stop {
    fn new(why: String, code: i32) -> Self {
        Self { why, code, killed: false }
    }
}

/// Builds. `Err` means that we broke or were interrupted; a module that does not compile is a value.
pub fn build(
    session: &Session,
    job: &Job<'_>,
    phases: &mut Phases,
) -> Result<std::result::Result<Built, Unbuilt>> {
    let began = Instant::now();
    let layout = &session.layout;
    let scratch = Scratch::new(layout)?;
    let confined = confine::available();
    let trusted = session.policy.admin.unconfined(&job.module.name);
    let canonical = layout.version(job.module);
    let place = Place {
        session,
        job,
        view: if confined { scratch.0.join("view") } else { canonical.clone() },
        canonical,
        log: scratch.0.join("make.log"),
        confined,
        owner: (confined && !trusted).then_some(confine::USER),
    };
    let result = place.all_steps(&scratch.0, phases);
    phases.end();
    if !confined {
        file::remove_all(&place.view.join("build"))?;
    }
    let log = file::read_ends(&place.log, LOG_KEPT).unwrap_or_default();
    match result? {
        Ok(notes) => {
            let staged = scratch.0.join("staged");
            file::write_atomic(&staged.join("log/make.log"), &log, 0o644)?;
            let signer = match job.signing {
                // Each module that is not signed has its note.
                Signing::With(signer) if notes.is_empty() => Some(signer.identity.clone()),
                _ => None,
            };
            Ok(Ok(Built {
                staged,
                seconds: began.elapsed().as_secs_f64(),
                notes,
                signer,
                cached: false,
                scratch,
            }))
        }
        Err(Stop { why, code, killed }) => {
            let text = String::from_utf8_lossy(&log);
            let errors = compiler::errors(&text, &place.canonical.join("build"), 3);
            let transient = killed || compiler::transient(&text);
            Ok(Err(Unbuilt { why, code, errors, transient, log }))
        }
    }
}

impl Place<'_> {
    fn all_steps(
        &self,
        scratch: &Path,
        phases: &mut Phases,
    ) -> Result<std::result::Result<Vec<String>, Stop>> {
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
        step!(self.make());
        phases.begin("check");
        step!(self.strip());
        let staged = scratch.join("staged/module");
        fs::create_dir_all(&staged)?;
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

    /// Copies the source and begins the log.
    fn prepare(&self) -> Result<()> {
        let owner = self.owner;
        fs::create_dir_all(&self.view)?;
        file::remove_all(&self.build_dir())?;
        file::copy_tree(self.job.source, &self.build_dir(), owner)?;
        // The admin's patches take the place of those of the same name.
        let patches = self.session.layout.module_config(&self.job.module.name).join("patches");
        if let Ok(patches) = patches.canonicalize() {
            file::overlay_tree(&patches, &self.build_dir().join("patches"), owner)?;
        }
        if self.confined {
            std::os::unix::fs::symlink(self.job.source, self.view.join("source"))?;
            lchown(&self.view, owner, owner)?;
        }
        self.note(&format!(
            "DKMS (dkms-rs {}) make.log for {} for kernel {}\n",
            env!("CARGO_PKG_VERSION"),
            self.job.module,
            self.job.kernel.target
        ))
    }

    fn note(&self, text: &str) -> Result<()> {
        let mut log = fs::File::options().append(true).create(true).open(&self.log)?;
        run::say(&mut log, text);
        Ok(())
    }

    /// Runs shell text in the build directory. The variables of dkms.conf are shell variables, not exported:
    /// make would take `arch` or `module` for its own.
    fn shell(&self, what: &str, text: &str, makeflags: Option<String>) -> Result<Done> {
        let (session, job) = (self.session, self.job);
        let layout = &session.layout;
        let path = |path: &Path| path.display().to_string();
        let environment = session.policy.framework.build_environment(&job.kernel.target);
        let variables = [
            ("kernelver", job.kernel.target.kernel.to_string()),
            ("arch", job.kernel.target.arch.to_string()),
            ("kernel_source_dir", path(&job.headers.dir)),
            ("dkms_tree", path(&layout.dkms_tree)),
            ("source_tree", path(&layout.source_tree)),
            ("install_tree", path(&layout.install_tree)),
            ("module", job.module.name.to_string()),
            ("module_version", job.module.version.to_string()),
            ("PACKAGE_NAME", job.module.name.to_string()),
            ("PACKAGE_VERSION", job.module.version.to_string()),
            ("parallel_jobs", job.jobs.limit().to_string()),
            ("build_environment", environment.as_deref().map(path).unwrap_or_default()),
        ];
        const PREAMBLE: &str = r#"
            for fd in /proc/self/fd/*; do case ${fd##*/} in [012]|*[!0-9]*) ;; *) eval "exec ${fd##*/}>&-" ;; esac; done
            while [[ $1 != -- ]]; do printf -v "${1%%=*}" %s "${1#*=}"; shift; done
            [[ ! $build_environment || -r $build_environment ]] || echo "$build_environment cannot be read"
            [[ ! -r $build_environment ]] || eval "$( (. "$build_environment" &>/dev/null; export -p) )"
            eval "$2""#;
        let mut argv: Vec<String> = ["bash", "--noprofile", "--norc", "-c", PREAMBLE, "dkms"]
            .iter()
            .map(|word| (*word).to_owned())
            .collect();
        argv.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
        argv.extend(["--".to_owned(), text.to_owned()]);
        let mut env = vec![
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            ("HOME".to_owned(), path(&self.canonical.join("build"))),
        ];
        for (names, value) in [(["CC", "KERNEL_CC"], &job.headers.cc), (["LD", "KERNEL_LD"], &job.headers.ld)]
        {
            for name in names {
                env.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
            }
        }
        env.extend(makeflags.map(|flags| ("MAKEFLAGS".to_owned(), flags)));
        if self.owner.is_none() {
            env.extend(lock::pass_on().map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        let spec = Spec {
            argv,
            env,
            cwd: self.canonical.join("build"),
            writable: vec![(self.view.clone(), self.canonical.clone())],
            visible: vec![
                job.source.to_owned(),
                job.headers.dir.clone(),
                layout.module_config(&job.module.name),
                job.jobs.path().to_owned(),
            ]
            .into_iter()
            .chain(environment)
            .collect(),
            trusted: self.owner.is_none(),
        };
        self.note(&format!("\n{what}\n# command: {text}\n"))?;
        if session.options.verbose {
            session.screen.progress(&format!("dkms: {what}: {text}"));
        }
        let began = Instant::now();
        let command = spec
            .command()?
            .output(Output::Log(self.log.clone()))
            .limit(session.build_limit(&job.module.name))
            .log_limit(LOG_LIMIT)
            .until(job.stop);
        let done = command.run()?;
        self.note(&format!(
            "\n# exit code: {}\n# elapsed time: {:.1} s\n{}\n",
            done.code(),
            began.elapsed().as_secs_f64(),
            "-".repeat(64)
        ))?;
        Ok(done)
    }

    fn stopped(&self, done: &Done, what: &str, code: i32) -> std::result::Result<(), Stop> {
        let minutes = self.session.build_limit(&self.job.module.name).as_secs() / 60;
        match done.exceeded {
            Some(Exceeded::Time) => {
                let why = format!(
                    "{what} took longer than {minutes} minutes (build_minutes in policy.toml) and was stopped"
                );
                return Err(Stop { why, code, killed: true });
            }
            Some(Exceeded::Log) => {
                let why =
                    format!("{what} wrote more than {} MiB to its log and was stopped", LOG_LIMIT >> 20);
                return Err(Stop::new(why, code));
            }
            None => {}
        }
        match done.code() {
            0 => Ok(()),
            status => {
                let why = format!("{what} failed (exit code {status})");
                Err(Stop { why, code, killed: STRUCK_DOWN.contains(&status) })
            }
        }
    }

    fn patch(&self, patch: &str) -> Result<std::result::Result<(), Stop>> {
        if Path::new(patch).components().any(|part| part.as_os_str() == "..") {
            return Ok(Err(Stop::new(format!("the patch {patch} leaves the directory of patches"), 5)));
        }
        let place = self.build_dir().join("patches").join(patch);
        if !place.is_file() {
            return Ok(Err(Stop::new(format!("the patch patches/{patch} does not exist"), 5)));
        }
        let file = quoted(&format!("./patches/{patch}"));
        let done = self.shell(&format!("Applying patch {patch}"), &format!("patch -p1 < {file}"), None)?;
        Ok(self.stopped(&done, &format!("applying patch {patch}"), 6))
    }

    fn script(&self, kind: &str, command: &str) -> Result<std::result::Result<(), Stop>> {
        let Some(program) = command.split_whitespace().next() else { return Ok(Ok(())) };
        let (layout, module) = (&self.session.layout, &self.job.module.name);
        let Some(dir) = script::directory(layout, module, &self.build_dir(), command) else {
            // As shell DKMS has it: a warning, not an end.
            self.note(&format!("\nThe {kind} script {program} is not executable and was not run.\n"))?;
            return Ok(Ok(()));
        };
        let text = if dir == self.build_dir() {
            format!("./{command}")
        } else {
            let dir = quoted(&dir.display().to_string());
            format!("cd {dir} && {dir}/{command}")
        };
        let done = self.shell(&format!("Running the {kind} script"), &text, None)?;
        Ok(self.stopped(&done, &format!("the {kind} script"), done.code()))
    }

    fn make(&self) -> Result<std::result::Result<(), Stop>> {
        let make = &self.job.recipe.make;
        let kernel = &self.job.kernel.target.kernel;
        // A quoted 'make', or another command, is shell DKMS's way to say that it must not run in parallel.
        let (text, makeflags) = match make.strip_prefix("make") {
            Some(rest) => {
                let (option, makeflags) = self.job.jobs.for_make(self.job.builds);
                (format!("make{option} KERNELRELEASE={kernel}{rest}"), makeflags)
            }
            None => (make.clone(), None),
        };
        let done = self.shell("Building module(s)", &text, makeflags)?;
        if let Err(stop) = self.stopped(&done, "compiling", 10) {
            return Ok(Err(stop));
        }
        for module in &self.job.recipe.modules {
            if self.build_dir().join(format!("{}.ko", module.built)).symlink_metadata().is_err() {
                let why = format!("make succeeded, but {}.ko was not made", module.built);
                return Ok(Err(Stop::new(why, 7)));
            }
        }
        Ok(Ok(()))
    }

    fn strip(&self) -> Result<std::result::Result<(), Stop>> {
        let files: Vec<String> = self
            .job
            .recipe
            .modules
            .iter()
            .filter(|module| module.strip)
            .map(|module| quoted(&format!("./{}.ko", module.built)))
            .collect();
        if files.is_empty() {
            return Ok(Ok(()));
        }
        let program = if self.job.headers.cc.as_deref() == Some("clang") { "llvm-strip" } else { "strip" };
        let done =
            self.shell("Removing debug sections", &format!("{program} -g {}", files.join(" ")), None)?;
        if done.timed_out() || STRUCK_DOWN.contains(&done.code()) {
            return Ok(self.stopped(&done, "removing debug sections", 7));
        }
        // A module that could not be made smaller is a module all the same; whether it is whole is checked next.
        Ok(Ok(()))
    }

    /// Where a link leads that was made inside, seen from outside: absolute ones name the canonical place.
    fn seen(&self, relative: PathBuf) -> PathBuf {
        let target = fs::read_link(self.view.join(&relative)).ok();
        let inside = target.and_then(|target| Some(target.strip_prefix(&self.canonical).ok()?.to_owned()));
        inside.unwrap_or(relative)
    }

    /// Takes the modules out of the hands of whoever built them: checks, signs and compresses each.
    fn harvest(&self, scratch: &Path, staged: &Path) -> Result<std::result::Result<Vec<String>, Stop>> {
        let job = self.job;
        let name = Path::new("build/Module.symvers");
        let exists = self.view.join(name).exists();
        let own = exists.then(|| file::read_untrusted(&self.view, name, SYMVERS_LIMIT)).transpose()?;
        let mut texts = verify::known_symbols(&self.job.headers.dir, &self.job.symvers)?;
        texts.extend(own.as_ref().map(|text| String::from_utf8_lossy(text).into_owned()));
        let symbols: BTreeMap<&str, u32> = texts.iter().flat_map(|text| elf::parse_symvers(text)).collect();
        let mut notes = Vec::new();
        let strength = &self.session.policy.framework.strength;
        for module in &job.recipe.modules {
            let built = self.seen(Path::new("build").join(format!("{}.ko", module.built)));
            let content = file::read_untrusted(&self.view, &built, MODULE_LIMIT)?;
            if let Err(why) = verify::verify(&content, job.kernel, job.headers, &symbols) {
                return Ok(Err(Stop::new(format!("{}.ko would not load: {why}", module.built), 7)));
            }
            let content = match job.signing {
                Signing::With(signer) => match signer.sign(&content, scratch)? {
                    Ok(signed) => signed,
                    Err(why) => {
                        notes.push(format!("{} is not signed: {why}", module.dest_name));
                        content
                    }
                },
                Signing::Not(why) => {
                    if notes.is_empty() {
                        notes.push(format!("not signed: {why}"));
                    }
                    content
                }
                Signing::Off | Signing::Unknown => content,
            };
            let compression = job.kernel.compression;
            let packed = compression.compress(&content, strength).context("compressing")?;
            let name = format!("{}.ko{}", module.dest_name, compression.suffix());
            file::write_atomic(&staged.join(name), &packed, 0o644)?;
        }
        if let Some(own) = own {
            file::write_atomic(&staged.join("Module.symvers"), &own, 0o644)?;
        }
        Ok(Ok(notes))
    }

    /// POST_BUILD may change what was built, in the place where it will be: it gets a copy there, and what it
    /// leaves is checked again.
    fn post_build(&self, staged: &Path) -> Result<std::result::Result<(), Stop>> {
        let job = self.job;
        let target = &job.kernel.target;
        let owner = self.owner;
        let dir = self.view.join(target.kernel.as_str()).join(target.arch.as_str());
        if self.confined {
            // Whatever the build put there, links among it, must not be followed now.
            file::remove_all(&self.view.join(target.kernel.as_str()))?;
            fs::create_dir_all(&dir)?;
            for dir in [self.view.join(target.kernel.as_str()), dir.clone()] {
                lchown(&dir, owner, owner)?;
            }
            file::copy_tree(staged, &dir.join("module"), owner)?;
        }
        let made = !dir.exists();
        fs::create_dir_all(&dir)?;
        let stopped = self.script("post_build", &job.recipe.scripts.post_build)?;
        if stopped.is_ok() {
            self.keep_besides(staged)?;
        }
        if made {
            // Without a directory of its own, an empty build would be seen in the registry until this one takes its place.
            file::remove_all(&dir)?;
            let _ = fs::remove_dir(self.view.join(target.kernel.as_str()));
        }
        if stopped.is_err() || !self.confined {
            return Ok(stopped);
        }
        let texts = verify::known_symbols(&self.job.headers.dir, &self.job.symvers)?;
        let symbols: BTreeMap<&str, u32> = texts.iter().flat_map(|text| elf::parse_symvers(text)).collect();
        for path in file::sorted_entries(staged) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let place =
                Path::new(target.kernel.as_str()).join(target.arch.as_str()).join("module").join(name);
            let content = file::read_untrusted(&self.view, &place, MODULE_LIMIT)?;
            if name.contains(".ko") {
                let plain = Compression::of(name).decompress(&content);
                let checked = plain
                    .map_err(|error| format!("{error:#}"))
                    .and_then(|plain| verify::verify(&plain, job.kernel, job.headers, &symbols));
                if let Err(why) = checked {
                    return Ok(Err(Stop::new(
                        format!("after the post_build script {name} would not load: {why}"),
                        7,
                    )));
                }
            }
            file::write_atomic(&path, &content, 0o644)?;
        }
        Ok(Ok(()))
    }

    /// What POST_BUILD left beside the modules stays beside them: zfs puts there what others build upon.
    fn keep_besides(&self, staged: &Path) -> Result<()> {
        let target = &self.job.kernel.target;
        let dir = Path::new(target.kernel.as_str()).join(target.arch.as_str());
        for path in file::sorted_entries(&self.view.join(&dir)) {
            let regular = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
            let ours = |name: &&OsStr| ["log", "module"].iter().any(|own| name == own);
            if let Some(name) = path.file_name().filter(|name| regular && !ours(name)) {
                let content = file::read_untrusted(&self.view, &dir.join(name), SYMVERS_LIMIT)?;
                file::write_atomic(&staged.with_file_name(name), &content, 0o644)?;
            }
        }
        Ok(())
    }
}
