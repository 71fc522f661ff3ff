//! The cause of a failed build, determined from facts: the exit status of the step and of its processes, the kernel's OOM
//! counter, the free space. A log can contain any text, so a phrase in it proves nothing. Only the error with which make itself
//! ended is used, and only if the kernel recorded a process that ended so, where such records are available.

use std::path::Path;

use crate::report::{Fault, compiler};
use crate::sys::confine::Failed;
use crate::sys::{cgroup, file};

/// Below this free space, a failure may have been caused by a full disk.
const ROOM: u64 = 64 << 20;

/// Programs that the kernel's build system and common build scripts call. If one of these is missing, the machine lacks
/// it; any other name may be a mistake of the module.
const KNOWN: [&str; 41] = [
    "ar",
    "as",
    "autoconf",
    "automake",
    "awk",
    "bc",
    "bison",
    "cc",
    "clang",
    "cpio",
    "depmod",
    "dwarfdump",
    "file",
    "flex",
    "g++",
    "gcc",
    "gunzip",
    "gzip",
    "kmod",
    "ld",
    "ld.lld",
    "libtool",
    "lz4",
    "m4",
    "make",
    "nm",
    "objcopy",
    "objdump",
    "openssl",
    "pahole",
    "patch",
    "perl",
    "pkg-config",
    "python",
    "python3",
    "rsync",
    "strip",
    "unxz",
    "which",
    "xz",
    "zstd",
];

/// The result of the diagnosis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// The cause.
    pub fault: Fault,
    /// What the machine lacked.
    pub cause: Option<String>,
}

impl Blame {
    fn machine(cause: impl Into<String>) -> Self {
        Self { fault: Fault::Machine, cause: Some(cause.into()) }
    }

    fn on(fault: Fault) -> Self {
        Self { fault, cause: None }
    }
}

/// The facts at the end of a build.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Its shell was killed by a signal, or it exceeded a limit of dkms.
    pub killed: bool,
    /// The exit status of the failed step.
    pub status: i32,
    /// The kernel has killed processes for lack of memory during the build.
    pub out_of_memory: bool,
    /// The file system of the build directory is full.
    pub full: bool,
    /// The processes through which the step failed; `None` if the kernel does not record them.
    pub failed: Option<Vec<Failed>>,
}

impl Facts {
    /// Whether one of the failed processes ended in this way. Without records, the log is used, and the build is
    /// retried.
    fn seen(&self, end: End) -> bool {
        self.failed.as_ref().is_none_or(|failed| {
            failed.iter().any(|failed| match end {
                End::Signal(signal) => failed.signal() == Some(signal),
                End::Status(code) => failed.code() == Some(code),
            })
        })
    }

    /// A process that was killed from outside.
    fn struck(&self) -> Option<(&Failed, i32)> {
        let failed = self.failed.iter().flatten();
        let mut struck = failed.filter_map(|failed| Some((failed, failed.signal()?)));
        struck.find(|(_, signal)| OUTSIDE.contains(signal))
    }
}

/// Signals that are not caused by an error of the program: SIGHUP, SIGKILL, SIGTERM, SIGXCPU.
const OUTSIDE: [i32; 4] = [1, 9, 15, 24];

/// The OOM counter before a build.
#[derive(Debug, Clone, Copy)]
pub struct Before(u64);

impl Before {
    /// Reads the counter.
    pub fn read() -> Self {
        Self(cgroup::killed_for_memory())
    }

    /// The facts about the time since.
    /// `starved`: what the build's own control group counted, if it had one. Other processes do not matter then.
    pub fn facts(self, dir: &Path, starved: Option<bool>) -> Facts {
        let full = file::room(dir).is_some_and(|free| free < ROOM);
        let out_of_memory = starved.unwrap_or_else(|| cgroup::killed_for_memory() > self.0);
        Facts { out_of_memory, full, ..Facts::default() }
    }
}

/// Determines the cause.
pub fn whose(log: &str, facts: &Facts) -> Blame {
    if facts.out_of_memory {
        return Blame::machine("the machine ran out of memory");
    }
    if facts.killed {
        return Blame::on(Fault::Machine);
    }
    if facts.full {
        return Blame::machine("no space left in the build directory");
    }
    if let Some((failed, signal)) = facts.struck() {
        return Blame::machine(format!("{} was killed by signal {signal}", name(failed)));
    }
    let ended = made(log).or_else(|| (facts.status != 0).then(|| (status(facts.status), log)));
    match ended.filter(|(end, _)| facts.seen(*end)) {
        Some((End::Signal(signal), _)) => Blame::machine(format!("a program was killed by signal {signal}")),
        Some((End::Status(126 | 127), before)) => match missing(before) {
            Some(library) if library.starts_with("lib") && library.contains(".so") => {
                Blame::machine(format!("{library} is not installed"))
            }
            Some(program) if KNOWN.contains(&program) => {
                Blame::machine(format!("{program} is not installed"))
            }
            _ => Blame::on(Fault::Unknown),
        },
        _ if compiler::diagnosed(log) => Blame::on(Fault::Module),
        _ => Blame::on(Fault::Unknown),
    }
}

/// A program's name. A program can set it, so only plain names are shown.
fn name(failed: &Failed) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    let name = failed.program.as_str();
    if !name.is_empty() && name.bytes().all(plain) { name } else { "a program" }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Status(i32),
    Signal(i32),
}

/// A shell returns 128 plus the number of the signal that killed a program.
fn status(code: i32) -> End {
    if (129..=128 + 64).contains(&code) { End::Signal(code - 128) } else { End::Status(code) }
}

/// Signals that kill a program from outside, as make names them.
const SIGNALS: [(&str, i32); 5] =
    [("Killed", 9), ("Terminated", 15), ("Bus error", 7), ("Aborted", 6), ("Segmentation fault", 11)];

/// How the first program ended whose failure make did not ignore, and the log before that: `make[1]: *** [x.mk:3: a.o]
/// Error 2`. For an ignored failure, make prints no stars.
fn made(log: &str) -> Option<(End, &str)> {
    let mut at = 0;
    for line in log.split_inclusive('\n') {
        let before = &log[..at];
        at += line.len();
        let line = line.trim_end();
        let Some((make, rest)) = line.split_once(": *** [") else { continue };
        let make = make.split('[').next().unwrap_or_default();
        let Some((_, end)) = rest.rsplit_once("] ").filter(|_| make.ends_with("make")) else { continue };
        let end = end.trim_end_matches(" (core dumped)");
        if let Some(code) = end.strip_prefix("Error ").and_then(|code| code.parse().ok()) {
            return Some((status(code), before));
        }
        if let Some((_, signal)) = SIGNALS.iter().find(|(name, _)| *name == end) {
            return Some((End::Signal(*signal), before));
        }
    }
    None
}

/// The program that a shell or make did not find, or the missing library of a program, in the last lines of a log.
fn missing(log: &str) -> Option<&str> {
    log.lines().rev().take(5).find_map(|line| {
        if let Some((_, library)) = line.split_once(": error while loading shared libraries: ") {
            return library.split(':').next();
        }
        let line = line
            .strip_suffix(": not found")
            .or_else(|| line.strip_suffix(": command not found"))
            .or_else(|| line.strip_suffix(": No such file or directory"))?;
        line.rsplit(": ").next().map(|name| name.rsplit('/').next().unwrap_or(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_decide_and_no_phrase_does() {
        let error = "a.c:1:2: error: x\n";
        let failed = || Facts { status: 2, ..Facts::default() };
        let machine = |why: &str| Blame::machine(why);
        for (log, facts, expected) in [
            (error.to_owned(), failed(), Blame::on(Fault::Module)),
            // An optional tool is missing, and the compiler reports an error.
            (
                format!(
                    "make: optional: No such file or directory\nmake: [Makefile:3: all] Error 127 (ignored)\n{error}make: *** [Makefile:4: a.o] Error 1\n"
                ),
                failed(),
                Blame::on(Fault::Module),
            ),
            (format!("echo No space left on device\n{error}"), failed(), Blame::on(Fault::Module)),
            (
                format!("{error}make[2]: *** [x.mk:1: a.o] Error 1\nmake: *** [b] Error 137\n"),
                failed(),
                Blame::on(Fault::Module),
            ),
            (
                "mkdir: cannot create '/x': Read-only file system\nmake: *** [Makefile:1: all] Error 1\n"
                    .into(),
                failed(),
                Blame::on(Fault::Unknown),
            ),
            (
                "make[3]: *** [scripts/Makefile:9: a.ko] Error 137\nmake: *** [all] Error 2\n".into(),
                failed(),
                machine("a program was killed by signal 9"),
            ),
            (
                "make: *** [Makefile:3: all] Killed\n".into(),
                failed(),
                machine("a program was killed by signal 9"),
            ),
            (
                "make: *** [Makefile:3: all] Segmentation fault (core dumped)\n".into(),
                failed(),
                machine("a program was killed by signal 11"),
            ),
            (
                "/bin/sh: 1: pahole: not found\nmake: *** [all] Error 127\n".into(),
                failed(),
                machine("pahole is not installed"),
            ),
            (
                "/bin/sh: line 1: bc: command not found\nmake[1]: *** [Makefile:3: x] Error 127\n".into(),
                failed(),
                machine("bc is not installed"),
            ),
            (
                "make: bison: No such file or directory\nmake: *** [Makefile:3: x] Error 127\n".into(),
                failed(),
                machine("bison is not installed"),
            ),
            (
                "/bin/sh: 1: my-own-tool: not found\nmake: *** [all] Error 127\n".into(),
                failed(),
                Blame::on(Fault::Unknown),
            ),
            (
                "bash: line 1: flex: command not found\n".into(),
                Facts { status: 127, ..failed() },
                machine("flex is not installed"),
            ),
            (
                String::new(),
                Facts { status: 137, ..failed() },
                machine("a program was killed by signal 9"),
            ),
            (String::new(), failed(), Blame::on(Fault::Unknown)),
            (error.to_owned(), Facts { killed: true, ..failed() }, Blame::on(Fault::Machine)),
            (
                error.to_owned(),
                Facts { out_of_memory: true, ..failed() },
                machine("the machine ran out of memory"),
            ),
            (
                error.to_owned(),
                Facts { full: true, ..failed() },
                machine("no space left in the build directory"),
            ),
            (
                "scripts/mod/modpost: error while loading shared libraries: libelf.so.1: cannot open shared object \
                 file: No such file or directory\nmake: *** [all] Error 127\n"
                    .into(),
                failed(),
                machine("libelf.so.1 is not installed"),
            ),
        ] {
            assert_eq!(whose(&log, &facts), expected, "{log}");
        }
    }

    /// A step that failed with 2, and how the processes below it ended.
    fn recorded(ends: &[(&str, i32)]) -> Facts {
        let one = |(program, status): &(&str, i32)| Failed { program: (*program).into(), status: *status };
        Facts { status: 2, failed: Some(ends.iter().map(one).collect()), ..Facts::default() }
    }

    #[test]
    fn what_is_said_needs_the_kernels_record() {
        let two = ("make", 2 << 8);
        let machine = |why: &str| Blame::machine(why);
        let killed = "make: *** [Makefile:3: all] Error 137\n";
        let missing = "/bin/sh: 1: bc: not found\nmake: *** [all] Error 127\n";
        let compiler = "gcc: fatal error: Killed signal terminated program cc1\nmake: *** [a.o] Error 1\n";
        for (log, facts, expected) in [
            (killed, recorded(&[two, ("ld", 9)]), machine("ld was killed by signal 9")),
            ("", recorded(&[("make", 9)]), machine("make was killed by signal 9")),
            ("", recorded(&[two, ("\u{1b}[2J", 15)]), machine("a program was killed by signal 15")),
            (compiler, recorded(&[two, ("gcc", 1 << 8), ("cc1", 9)]), machine("cc1 was killed by signal 9")),
            // The log contains only text about it.
            (killed, recorded(&[two, ("sh", 1 << 8)]), Blame::on(Fault::Unknown)),
            (missing, recorded(&[two, ("sh", 1 << 8)]), Blame::on(Fault::Unknown)),
            (missing, recorded(&[two, ("sh", 127 << 8)]), machine("bc is not installed")),
            // A script whose exit status looks like that of a killed program.
            ("", Facts { status: 137, ..recorded(&[("bash", 137 << 8)]) }, Blame::on(Fault::Unknown)),
            // A crash counts only if make ended with it.
            ("", recorded(&[two, ("conftest", 11)]), Blame::on(Fault::Unknown)),
            (
                "make: *** [Makefile:3: all] Segmentation fault (core dumped)\n",
                recorded(&[two, ("objtool", 0x80 | 11)]),
                machine("a program was killed by signal 11"),
            ),
        ] {
            assert_eq!(whose(log, &facts), expected, "{log} {facts:?}");
        }
    }
}
