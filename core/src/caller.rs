//! Who started this process: a user, or a script of a package manager. Determined from the environment and the parent
//! processes; [`managers`](crate::distro::managers) has the rules.

mod build_environment;
pub mod other_root;

use std::path::PathBuf;

use crate::distro::managers::{Argument, FileName, MANAGERS, Manager, Script, Triggers};
use crate::report::Screen;
use crate::sys::environment;
use crate::sys::run::{self, Ancestor};

/// The screen for progress messages.
pub fn screen() -> Screen {
    if set_by_manager() { Screen::package_manager() } else { Screen::person() }
}

/// Whether a package manager has set one of its variables.
fn set_by_manager() -> bool {
    MANAGERS.iter().flat_map(|manager| manager.variables).any(|name| environment::is_set(name))
}

/// Whether a package unregisters its module because another version replaces it. Its script calls the same `dkms
/// remove` as for a removal; only the arguments of the script differ.
pub fn replacing() -> bool {
    replaces(MANAGERS, &run::ancestors(), environment::variable)
}

/// Whether dkms was called by a package's script inside a transaction whose triggers report modules that wait for
/// headers.
pub fn triggers_left() -> bool {
    triggers_follow(MANAGERS, &run::ancestors())
}

/// The variables of the user's environment that builds get. In a package transaction there are none: the same package
/// is built alike on every machine.
pub fn build_environment() -> Vec<(String, String)> {
    let selected = build_environment::select(environment::all());
    // Usually there are none, and the processes above need not be read.
    if selected.is_empty() || set_by_manager() || outermost(MANAGERS, &run::ancestors()).is_some() {
        return Vec::new();
    }
    selected
}

/// The process that runs the calling script: its pid and start time, because pids are reused.
pub fn transaction() -> Option<String> {
    let above = run::ancestors();
    let manager = above.get(1)?;
    Some(format!("{} {}", manager.pid, manager.started))
}

/// The package manager above this process.
pub fn manager() -> Option<String> {
    let above = run::ancestors();
    let manager = outermost(MANAGERS, &above)?;
    Some(format!("{} {}", manager.pid, manager.started))
}

/// The variable with the root directory of a package manager that has not changed to it before it calls its scripts.
fn root_variable() -> &'static str {
    MANAGERS.iter().find_map(|manager| manager.other_root).unwrap_or_default()
}

/// The root directory that a script's call is about: dpkg installs into it and did not change to it.
fn root_of_manager() -> Option<PathBuf> {
    environment::variable(root_variable()).filter(|root| !root.is_empty()).map(PathBuf::from)
}

/// Whether a package manager runs the program that called dkms.
pub fn in_transaction() -> bool {
    set_by_manager() || manager().is_some()
}

/// The outermost package manager of the processes above: a front end starts others.
fn outermost<'a>(managers: &[Manager], above: &'a [Ancestor]) -> Option<&'a Ancestor> {
    above.iter().rev().find(|ancestor| manages(managers, ancestor))
}

/// By the program's name, or by that of the script that an interpreter runs.
fn manages(managers: &[Manager], ancestor: &Ancestor) -> bool {
    let mut names = ancestor.argv.iter().take(2).map(|word| file_name(word));
    names.any(|name| managers.iter().any(|manager| manager.programs.contains(&name)))
}

fn replaces(managers: &[Manager], above: &[Ancestor], variable: impl Fn(&str) -> Option<String>) -> bool {
    let called = |script: &Script, ancestor: &Ancestor| {
        ancestor.argv.windows(2).any(|pair| script.name.fits(&pair[0]) && script.argument.fits(&pair[1]))
    };
    managers.iter().filter_map(|manager| manager.replacing).any(|script| {
        let set = script.variable.is_none_or(|(name, value)| variable(name).as_deref() == Some(value));
        let reach = if script.parent_only { 1 } else { above.len() };
        set && above.iter().take(reach).any(|ancestor| called(&script, ancestor))
    })
}

fn triggers_follow(managers: &[Manager], above: &[Ancestor]) -> bool {
    managers.iter().any(|row| {
        let Some(Triggers { off }) = row.triggers else { return false };
        let manager = above.iter().find(|ancestor| manages(std::slice::from_ref(row), ancestor));
        manager.is_some_and(|manager| !manager.argv.iter().any(|word| word == off))
    })
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

impl FileName {
    fn fits(self, path: &str) -> bool {
        let name = file_name(path);
        match self {
            Self::Suffix(suffix) => {
                name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

impl Argument {
    fn fits(self, word: &str) -> bool {
        match self {
            Self::Word(words) => words.contains(&word),
            Self::VersionsRemaining => word.parse::<u32>().is_ok_and(|remaining| remaining > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn above(argvs: &[&[&str]]) -> Vec<Ancestor> {
        let argv = |argv: &&[&str]| argv.iter().map(|word| (*word).to_owned()).collect();
        argvs.iter().map(|words| Ancestor { pid: 1, argv: argv(words), started: 0 }).collect()
    }

    #[test]
    fn a_package_manager_above_is_a_transaction() {
        for (argv, expected) in [
            (&["/usr/bin/dpkg", "--configure", "a-dkms"][..], true),
            (&["/usr/bin/python3", "/usr/bin/dnf-3", "upgrade"], true),
            (&["pacman", "-U", "a"], true),
            (&["-bash"], false),
            (&["sudo", "dkms", "install", "dpkg/1"], false),
        ] {
            assert_eq!(outermost(MANAGERS, &above(&[&["sh"], argv])).is_some(), expected, "{argv:?}");
        }
    }

    #[test]
    fn triggers_follow_where_a_program_runs_them() {
        for (argv, expected) in [
            (&["rpm", "-i", "kernel.rpm"][..], true),
            (&["/usr/bin/python3", "/usr/bin/dnf-3", "upgrade"], true),
            (&["/usr/lib/zypp/zypp-rpm"], true),
            (&["rpm", "-i", "--notriggers", "kernel.rpm"], false),
            (&["/bin/sh", "/var/tmp/rpm-tmp.7IYq0N", "1"], false),
            (&["bash", "-c", "kernel-install add 6.12 rpm"], false),
            (&[], false),
        ] {
            assert_eq!(triggers_follow(MANAGERS, &above(&[&["sh"], argv])), expected, "{argv:?}");
        }
    }

    #[test]
    fn only_an_upgrade_keeps_what_is_installed() {
        let prerm = |name: &str| (name == "DPKG_MAINTSCRIPT_NAME").then(|| "prerm".to_owned());
        for (argv, expected) in [
            (&["/bin/sh", "/var/lib/dpkg/info/a-dkms.prerm", "upgrade"][..], true),
            (&["/bin/sh", "/var/lib/dpkg/tmp.ci/prerm", "upgrade"], true),
            (&["/bin/sh", "/var/lib/dpkg/info/a-dkms.prerm", "remove"], false),
            (&["/bin/sh", "/root/upgrade", "prerm"], false),
            (&["/bin/sh", "/root/notprerm", "upgrade"], false),
        ] {
            assert_eq!(replaces(MANAGERS, &above(&[&["sh"], argv]), prerm), expected, "{argv:?}");
            assert!(!replaces(MANAGERS, &above(&[&["sh"], argv]), |_| None), "{argv:?}: not called by dpkg");
        }
        for (argv, expected) in [
            (&["/bin/sh", "/var/tmp/rpm-tmp.7IYq0N", "1", ""][..], true),
            (&["/bin/sh", "/var/tmp/rpm-tmp.7IYq0N", "0", ""], false),
            (&["/bin/sh", "/root/remove", "1", ""], false),
        ] {
            assert_eq!(replaces(MANAGERS, &above(&[argv]), |_| None), expected, "{argv:?}");
            assert!(!replaces(MANAGERS, &above(&[&["sh"], argv]), |_| None), "{argv:?}: not the parent");
        }
    }
}
