//! What the sandbox denied to a failed build, according to its log: the build itself often does not report this.

/// Texts that a line of the log must contain, all of them, and what was denied then.
const SIGNS: [(&[&str], &str); 16] = [
    (&["Read-only file system"], "writing outside its build directory"),
    (&["Could not resolve host"], "network access"),
    (&["Temporary failure in name resolution"], "network access"),
    (&["Network is unreachable"], "network access"),
    (&["Name or service not known"], "network access"),
    (&["Address family not supported"], "a kind of socket"),
    (&["must be root"], "running as root"),
    (&["must be run as root"], "running as root"),
    (&["are you root"], "running as root"),
    (&["Operation not permitted"], "a privileged operation"),
    (&[" /run/", "No such file or directory"], "access to /run"),
    (&[" /home/", "No such file or directory"], "access to a home directory"),
    (&[" /root/", "No such file or directory"], "access to a home directory"),
    (&[" /home/", "Permission denied"], "access to a home directory"),
    (&[" /root/", "Permission denied"], "access to a home directory"),
    (&[" /dev/", "No such file or directory"], "access to a device"),
];

/// The number of lines at the end of the log that are examined: a much earlier attempt of a configure script is not the
/// cause.
const LAST: usize = 40;

/// What was denied, with the line that shows it; `None` if no line does.
pub fn refused(log: &str) -> Option<String> {
    let tells = |line: &str| {
        // Some programs quote a path, others do not.
        let line = line.replace(['\'', '"', '`', '\u{2018}'], " ");
        let sign = SIGNS.iter().find(|(parts, _)| parts.iter().all(|part| line.contains(part)));
        sign.map(|(_, what)| *what)
    };
    // The cause is near the end of the log. The log also contains the commands that were run.
    let lines = log.lines().rev().take(LAST).filter(|line| !line.starts_with('#'));
    let (what, line) = lines.filter_map(|line| Some((tells(line)?, line))).last()?;
    Some(format!("the build sandbox refused {what}: {}", super::plain(line.trim())))
}

/// The setting that lets a module be built without a sandbox.
pub fn permission(module: &str) -> String {
    format!("if you trust this module, allow it in /etc/dkms/policy.toml: unconfined = [\"{module}\"]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_named() {
        for (log, expected) in [
            (
                "make\ntouch: cannot touch '/opt/x': Read-only file system\n",
                "writing outside its build directory: touch",
            ),
            ("curl: (6) Could not resolve host: example.org\n", "network access: curl"),
            ("This script must be run as root\n", "running as root"),
            ("cat: /run/x/config: No such file or directory\n", "access to /run"),
            (
                "install: cannot create '/home/me/x': No such file or directory\n",
                "access to a home directory",
            ),
        ] {
            let said = refused(log).unwrap_or_default();
            assert!(said.starts_with("the build sandbox refused ") && said.contains(expected), "{said}");
        }
    }

    #[test]
    fn a_compile_error_is_none_of_it() {
        for log in [
            "a.c:1:2: error: 'x' undeclared\n",
            "# command: must be root\n",
            "x.h: No such file or directory\n",
            "",
        ] {
            assert_eq!(refused(log), None, "{log}");
        }
    }
}
