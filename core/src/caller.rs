//! Who calls: a person, or a package manager in the middle of something.

use crate::package::fetched::Call;
use crate::report::Screen;
use crate::sys::run;

/// Variables that say that standard output may be debconf's.
const PACKAGE_MANAGERS: [&str; 4] =
    ["DPKG_MAINTSCRIPT_NAME", "DEBIAN_HAS_FRONTEND", "DEBCONF_REDIR", "DEB_MAINT_PARAMS"];

/// Where progress goes.
pub fn screen() -> Screen {
    if PACKAGE_MANAGERS.iter().any(|name| std::env::var_os(name).is_some()) {
        Screen::package_manager()
    } else {
        Screen::person()
    }
}

/// Whether a package that unregisters its module does so to be replaced by another version of itself. Its
/// maintainer script says the same `dkms remove` then as for its end; only the script's own arguments tell.
pub fn replacing() -> bool {
    let above = run::ancestors();
    let prerm = || above.iter().any(|ancestor| is_prerm_upgrade(&ancestor.argv));
    std::env::var("DPKG_MAINTSCRIPT_NAME").is_ok_and(|name| name == "prerm") && prerm()
        || above.first().is_some_and(|ancestor| is_rpm_upgrade(&ancestor.argv))
}

/// rpm gives a script the number of its package's versions that will be there: `/bin/sh /var/tmp/rpm-tmp.x1Y2 1`. A
/// `%post` that removes what an earlier installation left is not told apart, and need not be: it adds at once.
fn is_rpm_upgrade(argv: &[String]) -> bool {
    // The kernel ends the last word, too: an empty one follows.
    let [_, script, stay, ..] = argv else { return false };
    let script = script.rsplit('/').next().unwrap_or_default();
    script.starts_with("rpm-tmp.") && stay.parse::<u32>().is_ok_and(|stay| stay > 0)
}

/// Whether pacman was called to remove packages, and for nothing else. Its hooks are not told; what they are told when a
/// source or a kernel leaves is the same when another version takes its place.
pub fn removing() -> bool {
    pacman().is_some_and(|call| is_removal(&call.words))
}

/// How pacman was called, when it is pacman that calls us and no other program that does what it does.
pub fn pacman() -> Option<Call> {
    let ancestors = run::ancestors();
    let pacman = ancestors.into_iter().find(|ancestor| is_pacman(&ancestor.argv))?;
    // It is in its root while its hooks run.
    let dirs = run::directories(pacman.pid);
    Some(Call { words: pacman.argv, dirs })
}

fn is_pacman(argv: &[String]) -> bool {
    argv.first().is_some_and(|program| program.rsplit('/').next() == Some("pacman"))
}

fn is_removal(argv: &[String]) -> bool {
    let options = argv.iter().skip(1).take_while(|word| *word != "--");
    options.into_iter().any(|word| {
        let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        word == "--remove" || short.is_some_and(|letters| letters.contains('R'))
    })
}

/// Whether a script of a package runs us inside a transaction of rpm, whoever began that. rpm runs the triggers of packages at
/// its end, unless it was told not to.
pub fn rpm_has_triggers_left() -> bool {
    let ancestors = run::ancestors();
    let rpm = ancestors.iter().find(|ancestor| is_rpm(&ancestor.argv));
    rpm.is_some_and(|rpm| !rpm.argv.iter().any(|word| word == "--notriggers"))
}

/// Programs that install by rpm's library.
const RPM: [&str; 10] = [
    "rpm",
    "dnf",
    "dnf-3",
    "dnf5",
    "dnf5daemon-server",
    "microdnf",
    "yum",
    "zypper",
    "zypp-rpm",
    "packagekitd",
];

/// By the program's name, or the script's that an interpreter runs.
fn is_rpm(argv: &[String]) -> bool {
    argv.iter().take(2).any(|word| RPM.contains(&word.rsplit('/').next().unwrap_or_default()))
}

fn is_prerm_upgrade(argv: &[String]) -> bool {
    argv.windows(2).any(|pair| {
        let script = pair[0].rsplit('/').next().unwrap_or_default();
        (script == "prerm" || script.ends_with(".prerm"))
            && matches!(pair[1].as_str(), "upgrade" | "failed-upgrade" | "deconfigure")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rpm_is_known_by_its_users() {
        for (argv, expected) in [
            (&["rpm", "-i", "kernel.rpm"][..], true),
            (&["/usr/bin/python3", "/usr/bin/dnf-3", "upgrade"], true),
            (&["/usr/lib/zypp/zypp-rpm"], true),
            (&["/bin/sh", "/var/tmp/rpm-tmp.7IYq0N", "1"], false),
            (&["bash", "-c", "kernel-install add 6.12 rpm"], false),
            (&[], false),
        ] {
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(is_rpm(&argv), expected, "{argv:?}");
        }
    }

    #[test]
    fn only_an_upgrade_keeps_what_is_installed() {
        for (argv, expected) in [
            (["/bin/sh", "/var/lib/dpkg/info/a-dkms.prerm", "upgrade"], true),
            (["/bin/sh", "/var/lib/dpkg/tmp.ci/prerm", "upgrade"], true),
            (["/bin/sh", "/var/lib/dpkg/info/a-dkms.prerm", "remove"], false),
            (["/bin/sh", "/root/upgrade", "prerm"], false),
        ] {
            assert_eq!(is_prerm_upgrade(&argv.map(str::to_owned)), expected, "{argv:?}");
        }
        for (argv, expected) in [
            (["/bin/sh", "/var/tmp/rpm-tmp.7IYq0N", "1", ""], true),
            (["/bin/sh", "/var/tmp/rpm-tmp.7IYq0N", "0", ""], false),
            (["/bin/sh", "/root/remove", "1", ""], false),
        ] {
            assert_eq!(is_rpm_upgrade(&argv.map(str::to_owned)), expected, "{argv:?}");
        }
    }

    #[test]
    fn pacman_says_with_its_first_option_what_it_is_about() {
        for (line, expected) in [
            ("pacman -R a-dkms", true),
            ("/usr/bin/pacman --noconfirm -Rns a-dkms", true),
            ("pacman --remove a-dkms", true),
            ("pacman -Syu", false),
            ("pacman -S --root /mnt R", false),
            ("pacman -S -- -R", false),
        ] {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert!(is_pacman(&argv) && is_removal(&argv) == expected, "{line}");
        }
    }
}
