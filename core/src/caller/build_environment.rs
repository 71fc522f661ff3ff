//! The variables of a user's environment that a build gets: as with shell DKMS, all but a few. `LLVM=1 dkms build …` is
//! a way to configure a build.
//!
//! A build runs as another user in a sandbox, so that a variable gives it no privileges; none reaches a program that
//! runs as root. What is left out is listed here by its reason.

/// Shell DKMS unsets these.
const FLAGS: &[&str] = &["CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS"];

/// dkms sets these, or manages what they control: the jobs of make, messages in English, directories that exist in the
/// sandbox.
#[rustfmt::skip] // one name on each line would be a page
const MANAGED: &[&str] = &[
    "GNUMAKEFLAGS", "HOME", "LANG", "LANGUAGE", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "OLDPWD",
    "PATH", "PWD", "SHLVL", "TEMP", "TMP", "TMPDIR", "_",
];

/// They change how a shell reads the commands of dkms, and which libraries its programs load.
#[rustfmt::skip] // one name on each line would be a page
const INTERPRETED: &[&str] = &[
    "BASHOPTS", "CDPATH", "ENV", "GLOBIGNORE", "IFS", "POSIXLY_CORRECT", "PROMPT_COMMAND", "PS1", "PS2",
    "PS3", "PS4", "SHELLOPTS",
];

/// The terminal, the desktop and the login: they do not change a build, and differ from one login to the next.
#[rustfmt::skip] // one name on each line would be a page
const LOGIN: &[&str] = &[
    "BROWSER", "COLORTERM", "COLUMNS", "DEBIAN_FRONTEND", "DESKTOP_SESSION", "DISPLAY", "EDITOR", "FORCE_COLOR",
    "HOSTNAME", "ICEAUTHORITY", "INFOPATH", "INVOCATION_ID", "JAVA_HOME", "JOURNAL_STREAM", "LINES", "LOGNAME",
    "MAIL", "MANAGERPID", "MANPAGER", "MANPATH", "MANWIDTH", "NO_COLOR", "NOTIFY_SOCKET", "PAGER", "PROMPT",
    "RPROMPT", "SHELL", "STY", "TERM", "TZ", "USER", "USERNAME", "VISUAL", "WINDOWID", "WINDOWPATH", "XAUTHORITY",
    "container",
];

/// Variables of our tests. A released program does not know them.
const TESTS: &[&str] = if cfg!(debug_assertions) { &["DKMS_UNCONFINED", "FAILPOINTS"] } else { &[] };

/// Beginnings of names of the kinds MANAGED, INTERPRETED and LOGIN, and of the variables between processes of dkms.
#[rustfmt::skip] // one name on each line would be a page
const BEGINNINGS: &[&str] = &[
    "ALACRITTY_", "BASH_", "CLICOLOR", "CONDA_", "DBUS_", "DEBCONF_", "DKMS_ALLOW", "DKMS_CONFINE", "DKMS_LOCK_",
    "DPKG_", "FZF_", "GDM", "GNOME_", "GPG_", "GREP_", "GTK_", "HIST", "IBUS_", "KDE_", "KITTY_", "KONSOLE_", "LC_",
    "LD_", "LESS", "LISTEN_", "LS_", "MEMORY_PRESSURE_", "NVM_", "PYENV_", "QT_", "SESSION_", "SSH_", "STARSHIP_",
    "SUDO_", "SYSTEMD_", "TERM_", "TMUX", "VSCODE_", "VTE_", "WATCHDOG_", "WAYLAND_", "WSL", "WT_", "XDG_", "XTERM_",
    "ZSH",
];

/// A name that contains one of these may hold a secret: every user can read the log of a build.
#[rustfmt::skip] // one name on each line would be a page
const SECRETS: &[&str] = &[
    "AUTH", "COOKIE", "CREDENTIAL", "KBUILD_SIGN", "PASS", "PRIVATE", "PROXY", "SECRET", "TOKEN", "_KEY",
    "_PIN",
];

/// The variables that a build gets, sorted by name.
pub(super) fn select(all: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut selected: Vec<_> = all.into_iter().filter(|(name, _)| reaches(name)).collect();
    selected.sort();
    selected
}

fn reaches(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first)
        && name.chars().all(|c| first(c) || c.is_ascii_digit())
        && ![FLAGS, MANAGED, INTERPRETED, LOGIN, TESTS].concat().contains(&name)
        && !BEGINNINGS.iter().any(|start| name.starts_with(start))
        && !SECRETS.iter().any(|part| upper.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_configures_a_build_reaches_it() {
        for name in [
            "LLVM",
            "LLVM_IAS",
            "KCFLAGS",
            "KCPPFLAGS",
            "IGNORE_CC_MISMATCH",
            "CCACHE_DIR",
            "FOO",
            "ARCH",
            "CROSS_COMPILE",
            "LD",
            "V",
            "KERNELDIR",
            "KBUILD_EXTRA_SYMBOLS",
            "http",
            "foo_bar",
            "DKMS_BUILD",
        ] {
            assert!(reaches(name), "{name}");
        }
    }

    #[test]
    fn what_is_dangerous_secret_or_of_the_login_does_not() {
        for name in [
            "CC",
            "CFLAGS",
            "PATH",
            "HOME",
            "MAKEFLAGS",
            "LC_ALL",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "BASH_ENV",
            "BASH_FUNC_x%%",
            "SHELLOPTS",
            "IFS",
            "KBUILD_SIGN_PIN",
            "GITHUB_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "SSH_AUTH_SOCK",
            "DB_PASSWORD",
            "https_proxy",
            "SUDO_USER",
            "TERM",
            "DISPLAY",
            "XDG_RUNTIME_DIR",
            "a.b",
            "1a",
            "",
            "DKMS_LOCK_HOLDER",
            "DKMS_ALLOW",
            "NO_COLOR",
            "CLICOLOR_FORCE",
            "TZ",
            "LS_OPTIONS",
            "GREP_COLORS",
            "MANPATH",
            "container",
            "JAVA_HOME",
            "VSCODE_IPC_HOOK",
        ] {
            assert!(!reaches(name), "{name}");
        }
    }
}
