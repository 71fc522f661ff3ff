//! Runs shell commands in the environment of a build, and reports how they ended.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use super::{BUILDS_LIMIT, LOG_LIMIT, RESERVE, Sandbox, Stop};
use crate::exit::Exit;
use crate::sys::confine::Spec;
use crate::sys::run::{Done, Exceeded, Output};
use crate::sys::{file, lock, root};

/// Exit codes of a command that was ended by a signal (abort, bus error, kill, segmentation fault, termination, limits
/// of time and size).
pub(super) const SIGNAL_CODES: [i32; 7] = [134, 135, 137, 139, 143, 152, 153];

impl Sandbox<'_> {
    /// Runs a shell command in the build directory. Of the variables of dkms.conf, those that shell DKMS exports are in
    /// the environment: makefiles and scripts rely on them. The others are shell variables.
    pub(super) fn run_shell(&self, what: &str, text: &str, makeflags: Option<String>) -> Result<Done> {
        let (session, job) = (self.session, self.job);
        let layout = &session.layout;
        let path = |path: &Path| path.display().to_string();
        let (target, module) = (&job.kernel.target, job.module);
        let exported = [
            ("kernelver", target.kernel.to_string()),
            ("arch", target.arch.to_string()),
            ("module", module.name.to_string()),
            ("module_version", module.version.to_string()),
        ];
        let environment = session.policy.framework.build_environment(&job.kernel.target);
        let variables = [
            ("kernel_source_dir", path(&job.headers.dir)),
            ("dkms_tree", path(&layout.dkms_tree)),
            ("source_tree", path(&layout.source_tree)),
            ("install_tree", path(&layout.install_tree)),
            ("PACKAGE_NAME", module.name.to_string()),
            ("PACKAGE_VERSION", module.version.to_string()),
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
        let mut env = Vec::new();
        if job.headers.config.clang() {
            // MAKE may call make more than once, and PRE_BUILD may call it, too.
            env.push(("LLVM".to_owned(), "1".to_owned()));
        }
        env.extend(session.options.environment.iter().cloned());
        env.extend([
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            ("HOME".to_owned(), path(&self.canonical.join("build"))),
        ]);
        env.extend(exported.map(|(name, value)| (name.to_owned(), value)));
        for (names, value) in [(["CC", "KERNEL_CC"], &job.headers.cc), (["LD", "KERNEL_LD"], &job.headers.ld)]
        {
            for name in names {
                env.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
            }
        }
        env.extend(makeflags.map(|flags| ("MAKEFLAGS".to_owned(), flags)));
        if self.trusted {
            // A dkms that it starts has another process 1, by which it cannot tell where it is.
            let image = session.guest().then_some((root::ENTERED, "/"));
            let passed = lock::pass_on().into_iter().chain(image);
            env.extend(passed.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        let spec = Spec {
            argv,
            env,
            cwd: self.canonical.join("build"),
            writable: self.writable(),
            visible: [job.source.to_owned(), job.headers.dir.clone(), layout.module_config(&module.name)]
                .into_iter()
                .chain(self.linked_headers())
                .chain(environment)
                .collect(),
            hidden: session.secrets(&job.kernel.target),
            trusted: self.trusted,
            user: self.owner,
            layers: job.layers.cloned(),
            ..Spec::default()
        };
        self.note(&format!("\n{what}\n# command: {text}\n"))?;
        if session.verbose() {
            session.screen.progress(&format!("dkms: {what}: {text}"));
        }
        let began = Instant::now();
        // On a small file system, a part of what is free; on a large one, all but what a build may need.
        let reserve = file::room(&self.view)
            .map_or(0, |free| RESERVE.min(free / 4).max(free.saturating_sub(BUILDS_LIMIT)));
        let done = spec.run(|cmd| {
            cmd.output(Output::Log(self.log.clone()))
                .limit(session.build_limit(&job.module.name))
                .log_limit(LOG_LIMIT)
                .reserve(&self.view, reserve)
                .until(job.stop)
        })?;
        self.note(&format!(
            "\n# exit code: {}\n# elapsed time: {:.1} s\n{}\n",
            done.code(),
            began.elapsed().as_secs_f64(),
            "-".repeat(64)
        ))?;
        Ok(done)
    }

    /// What the headers link to: those of a kernel that was compiled on this machine may be in two directories of a
    /// user.
    fn linked_headers(&self) -> Vec<PathBuf> {
        let kernel = self.session.layout.kernel(&self.job.kernel.target.kernel);
        let links = file::sorted_entries(&self.job.headers.dir).into_iter().chain([kernel.join("source")]);
        links.filter_map(|link| file::link_target(&link).ok().flatten()).collect()
    }

    /// The private directories of the build, and where they appear.
    fn writable(&self) -> Vec<(PathBuf, PathBuf)> {
        let mut writable = vec![(self.view.clone(), self.canonical.clone())];
        if self.job.recipe.builds_in_source() && self.confined {
            writable.push((self.view.join("source"), self.job.source.to_owned()));
        }
        writable
    }

    pub(super) fn stopped(&self, done: &Done, what: &str, code: Exit) -> std::result::Result<(), Stop> {
        let minutes = self.session.build_limit(&self.job.module.name).as_secs() / 60;
        match done.exceeded {
            Some(Exceeded::Time) => {
                let why = format!("{what} timed out after {minutes} minutes (build_minutes in policy.toml)");
                return Err(Stop { killed: true, ..Stop::new(why, code) });
            }
            Some(Exceeded::Log) => {
                let why = format!("{what} was stopped: its log exceeded {} MiB", LOG_LIMIT >> 20);
                return Err(Stop::new(why, code));
            }
            Some(Exceeded::Space) => {
                let why = format!(
                    "{what} was stopped: almost no space left, or builds used more than {} GiB",
                    BUILDS_LIMIT >> 30
                );
                return Err(Stop { killed: true, ..Stop::new(why, code) });
            }
            None => {}
        }
        if let Some(why) = &done.not_run {
            let why = format!("{what} was not run: cannot set up the sandbox: {why}");
            return Err(Stop { killed: true, ..Stop::new(why, code) });
        }
        match done.code() {
            0 => Ok(()),
            status => {
                let why = match done.status.signal() {
                    Some(signal) => format!("{what} was killed by signal {signal}"),
                    None => format!("{what} failed (exit code {status})"),
                };
                let killed = done.status.signal().is_some();
                let (failed, starved) = (done.failed.clone(), done.starved);
                Err(Stop { killed, status, failed, starved, ..Stop::new(why, code) })
            }
        }
    }
}
