//! Continues in another system's root directory: there, the programs, the configuration and the modules are that system's.

use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Error, Result};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use crate::sys::confine::{self, Device};
use crate::sys::{file, lock};

/// Set in a system that was entered: it is prepared here, and does not run here.
pub const ENTERED: &str = "DKMS_ROOT";

/// The program of this process, also where its file is out of reach.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// A program that every system has.
const SHELL: &str = "/bin/sh";

/// A directory that cannot be entered, for a reason that has a remedy.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unusable {
    why: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Unusable {
    fn because(why: impl Into<String>, remedy: &'static str) -> Error {
        Self { why: why.into(), remedy }.into()
    }

    /// A system for another architecture, whose programs this machine cannot run.
    fn foreign(machine: &str) -> Error {
        Self::because(
            format!("its programs are for {machine}, which this machine cannot run without qemu-user-static"),
            "install that to continue here, or cross-compile a package for it (dkms mkpackage --arch); \
             otherwise its modules are built when it starts",
        )
    }
}

/// Whether a directory can be a system's root directory, as far as this is visible before it is entered.
fn examine(root: &Path) -> Result<()> {
    const NO_SYSTEM: &str = "give the directory with the files of an unpacked system";
    match file::kind_of(root, false) {
        None if root.is_symlink() => {
            return Err(Unusable::because("it is a symbolic link to nothing", NO_SYSTEM));
        }
        None => return Err(Unusable::because("it does not exist", NO_SYSTEM)),
        Some(kind) if kind != file::A_DIRECTORY => {
            return Err(Unusable::because(format!("it is {kind}, not a directory"), NO_SYSTEM));
        }
        Some(_) => {}
    }
    // Builds need it, and it can only be mounted on a directory.
    match file::kind_of(&root.join("proc"), true) {
        Some(kind) if kind != file::A_DIRECTORY => Err(Unusable::because(
            format!("its /proc is {kind}, not a directory"),
            "move that aside, and make it an empty directory",
        )),
        _ => Ok(()),
    }
}

/// Replaces this process by a program of the system in `root`, or by this program if that system does not have it. Returns only
/// if this fails. `dropped`: a variable that names the directory.
pub fn enter(root: &Path, program: &Path, words: &[String], dropped: &str) -> Error {
    // Out of reach afterwards, if the system has no /proc.
    let own = machine(Path::new(THIS_PROGRAM));
    match examine(root).and_then(|()| change_to(root)).and_then(|()| select(program, own)) {
        Ok(program) => execute(program, own, words, dropped),
        Err(error) => error,
    }
}

/// Whether a directory is the root directory of this process.
pub fn is_own(root: &Path) -> bool {
    root.canonicalize().is_ok_and(|root| root == Path::new("/"))
}

/// Changes the root directory. With the privileges for that, in a mount namespace of its own, with what builds need and a
/// directory that was just unpacked does not have.
#[allow(clippy::disallowed_methods)] // this is the place
#[allow(deprecated)] // the deprecation is about CLONE_FILES, which is not among our flags
fn change_to(root: &Path) -> Result<()> {
    let root = root.canonicalize()?;
    let mounts = rustix::thread::unshare(UnshareFlags::NEWNS).is_ok() && confine::detach_mounts().is_ok();
    if mounts {
        // Sandboxes are mount namespaces, and these begin at a mount point.
        let _ = rustix::mount::mount_bind_recursive(&root, &root);
    }
    let devices = if mounts { confine::devices().unwrap_or_default() } else { Vec::new() };
    rustix::process::chroot(&root).map_err(|errno| match errno {
        Errno::PERM => Error::msg("the root directory cannot be changed without privileges"),
        errno => Error::new(errno),
    })?;
    rustix::process::chdir("/")?;
    if mounts {
        complete(&devices);
    }
    Ok(())
}

/// Mounts /proc and /dev where the system has none. Without them, builds are less confined; this is reported there.
fn complete(devices: &[Device]) {
    let is_dir = |path: &str| Path::new(path).symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if is_dir("/proc") && !Path::new("/proc/self").exists() {
        let _ = confine::mount_proc();
    }
    let null = Path::new("/dev/null").metadata();
    if is_dir("/dev") && !null.is_ok_and(|meta| meta.file_type().is_char_device()) {
        let _ = confine::mount_dev(devices);
    }
}

/// The program to continue with. A script of this name is another dkms. `own`: the architecture of this program.
fn select(program: &Path, own: Option<u16>) -> Result<&Path> {
    if machine(program).is_some() {
        return Ok(program);
    }
    let Some(theirs) = machine(Path::new(SHELL)) else {
        return Err(Unusable::because(
            "it is not a system: it has no /bin/sh",
            "give the directory with the files of an unpacked system",
        ));
    };
    let install = |why: &str| Unusable::because(why, "install dkms-rs in it");
    let this = Path::new(THIS_PROGRAM);
    // The kernel may know an emulator for it, or run both.
    if own.is_some_and(|own| own != theirs) {
        let runs = runs(SHELL, "sh", &["-c", ":"]);
        return Err(if runs { install("it has no dkms-rs") } else { Unusable::foreign(&name(theirs)) });
    }
    if !this.exists() {
        return Err(install("it has neither dkms-rs nor /proc"));
    }
    // Its C library may be too old or another one.
    if !runs(THIS_PROGRAM, confine::TRIAL, &[]) {
        return Err(install("it has no dkms-rs, and the one that is running needs libraries which it lacks"));
    }
    Ok(this)
}

/// Whether a program starts under this name and succeeds. What a loader says is not for the user, who gets the remedy. Through
/// pipes: there may be no /dev/null.
#[allow(clippy::disallowed_methods)] // this is the place
fn runs(program: &str, name: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    let trial = command.arg0(name).args(args).env_clear().stdin(Stdio::piped()).output();
    trial.is_ok_and(|done| done.status.success())
}

#[allow(clippy::disallowed_methods)] // this is the place
fn execute(program: &Path, own: Option<u16>, words: &[String], dropped: &str) -> Error {
    let foreign = machine(program).filter(|other| own.is_some_and(|own| own != *other));
    let mut command = Command::new(program);
    command
        .args(words)
        .env_remove(dropped)
        .env_remove(lock::HOLDER)
        .env_remove(lock::SPACE)
        .env(ENTERED, "/");
    // Its name decides whether this program is a helper of a sandbox.
    let error = command.arg0("dkms").exec();
    match (error.raw_os_error().map(Errno::from_raw_os_error), foreign) {
        // Without an emulator, or with one that is not in this root directory.
        (Some(Errno::NOEXEC | Errno::NOENT), Some(other)) => Unusable::foreign(&name(other)),
        _ => Error::new(error).context(format!("starting {}", program.display())),
    }
}

/// The number of the architecture in the header of an ELF file; `None` if it is not one.
fn machine(path: &Path) -> Option<u16> {
    let mut header = [0; 20];
    file::open_regular(path).and_then(|(mut file, _)| file.read_exact(&mut header)).ok()?;
    of_header(&header)
}

fn of_header(header: &[u8; 20]) -> Option<u16> {
    let number = [header[18], header[19]];
    match (header.starts_with(b"\x7fELF"), header[5]) {
        (true, 1) => Some(u16::from_le_bytes(number)),
        (true, 2) => Some(u16::from_be_bytes(number)),
        _ => None,
    }
}

/// The name of an architecture, as `uname -m` prints it.
fn name(machine: u16) -> String {
    let known = [
        (3, "i686"),
        (8, "mips"),
        (20, "ppc"),
        (21, "ppc64"),
        (22, "s390x"),
        (40, "arm"),
        (62, "x86_64"),
        (183, "aarch64"),
        (243, "riscv64"),
        (258, "loongarch64"),
    ];
    let found = known.iter().find(|(number, _)| *number == machine);
    found.map_or_else(|| format!("machine {machine}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_architecture_of_a_program_is_read_from_its_header() {
        let header = |order: u8, number: [u8; 2]| {
            let mut header = [0; 20];
            header[..4].copy_from_slice(b"\x7fELF");
            header[5] = order;
            header[18..].copy_from_slice(&number);
            header
        };
        for (header, expected) in [
            (header(1, [62, 0]), Some("x86_64")),
            (header(1, [183, 0]), Some("aarch64")),
            (header(2, [0, 22]), Some("s390x")),
            (header(1, [1, 2]), Some("machine 513")),
            (header(0, [62, 0]), None),
            (*b"#!/bin/sh\nexit 0\n  \n", None),
        ] {
            assert_eq!(of_header(&header).map(name).as_deref(), expected, "{header:?}");
        }
        assert_eq!(machine(Path::new(SHELL)), machine(Path::new(THIS_PROGRAM)));
    }

    #[test]
    fn what_is_no_root_directory_is_named_before_it_is_entered() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        for name in ["system", "bare", "odd"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::create_dir(at("system/proc")).unwrap();
        std::fs::write(at("odd/proc"), "").unwrap();
        for (name, expected) in [
            ("system", ""),
            ("bare", ""),
            ("missing", "it does not exist"),
            ("link", "it is a symbolic link to nothing"),
            ("file", "it is a regular file, not a directory"),
            ("odd", "its /proc is a regular file, not a directory"),
        ] {
            let why = examine(&at(name)).err().map(|error| error.to_string());
            assert_eq!(why.unwrap_or_default(), expected, "{name}");
        }
    }

    #[test]
    fn the_own_root_directory_is_not_another_one() {
        for (path, own) in
            [("/", true), ("//.", true), ("/usr/..", true), ("/usr", false), ("/missing", false)]
        {
            assert_eq!(is_own(Path::new(path)), own, "{path}");
        }
    }
}
