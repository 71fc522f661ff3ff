//! Names and versions of packages: each format allows other characters than DKMS. Pure.

use crate::types::{KernelRelease, ModuleName, ModuleVersion};

/// A name in lower case, of the characters that all formats allow. It begins with a letter or digit.
fn plain(word: &str) -> String {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let text = word.to_ascii_lowercase();
    let text: String = text.chars().map(|c| if valid(c) { c } else { '-' }).collect();
    let text = text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if text.is_empty() { "dkms".to_owned() } else { text.to_owned() }
}

/// `NAME-modules-KERNEL`. apt keeps packages whose name ends with `-modules-KERNEL` as long as it keeps that kernel.
pub(super) fn deb(name: &ModuleName, kernel: &KernelRelease) -> String {
    format!("{}-modules-{}", plain(name.as_str()), plain(kernel.as_str()))
}

/// `NAME-modules-FLAVOUR`, which follows the newest kernel of a flavour.
pub(super) fn deb_meta(name: &ModuleName, kernel: &KernelRelease) -> String {
    match flavour(kernel.as_str()) {
        ("", _) => format!("{}-modules", plain(name.as_str())),
        (flavour, _) => format!("{}-modules-{}", plain(name.as_str()), plain(flavour)),
    }
}

/// The flavour of a kernel release, and its version: the parts that begin with a digit.
fn flavour(kernel: &str) -> (&str, &str) {
    let digit = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    let mut at = 0;
    for part in kernel.split('-') {
        if !digit(part) {
            return (
                kernel.get(at..).unwrap_or_default(),
                kernel.get(..at.saturating_sub(1)).unwrap_or_default(),
            );
        }
        at += part.len() + 1;
    }
    ("", kernel)
}

/// `kmod-NAME-KERNEL`
pub(super) fn rpm(name: &ModuleName, kernel: &KernelRelease) -> String {
    let plain = |text: &str| text.replace([':', '@', '^', '~'], "_");
    format!("kmod-{}-{}", plain(name.as_str()), plain(kernel.as_str()))
}

/// Words with which a version begins before its release. All formats but DKMS sort them so after a tilde only.
const BEFORE: [&str; 5] = ["alpha", "beta", "dev", "pre", "rc"];

/// A version with a tilde before such a word: `1.1-rc1` comes before `1.1`.
fn before_release(version: &str) -> String {
    let (mut text, mut rest) = (String::new(), version);
    while let Some(c) = rest.chars().next() {
        let digit = text.ends_with(|c: char| c.is_ascii_digit());
        let word = rest.trim_start_matches(['-', '_', '.']);
        let one = rest.len() - word.len() <= 1;
        let begins = |begin: &&&str| {
            let (start, after) = (word.get(..begin.len()), word.get(begin.len()..).unwrap_or_default());
            start.is_some_and(|start| start.eq_ignore_ascii_case(begin))
                && !after.starts_with(|c: char| c.is_ascii_alphabetic())
        };
        match BEFORE.iter().find(begins).filter(|_| digit && one) {
            Some(begin) => {
                text.push('~');
                text.push_str(begin);
                rest = &word[begin.len()..];
            }
            None => {
                text.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    text
}

/// A version as rpm and pacman have them, without an epoch and a release.
pub(super) fn rpm_version(version: &str) -> String {
    let version = before_release(version);
    let text: String = version.chars().map(|c| if "-:@".contains(c) { '_' } else { c }).collect();
    let text = text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if text.is_empty() { "0".to_owned() } else { text.to_owned() }
}

/// `kmod-NAME` or `kmod-NAME-FLAVOUR`, which follows the newest kernel of a flavour.
pub(super) fn rpm_meta(name: &ModuleName, kernel: &KernelRelease) -> String {
    let plain = |text: &str| text.replace([':', '@', '^', '~'], "_");
    match rpm_flavour(kernel.as_str()) {
        "" => format!("kmod-{}", plain(name.as_str())),
        flavour => format!("kmod-{}-{}", plain(name.as_str()), plain(flavour)),
    }
}

/// The release of that package: higher with each kernel, whatever the version of the module.
pub(super) fn rpm_meta_release(kernel: &KernelRelease) -> String {
    let text = kernel.as_str();
    let flavour = rpm_flavour(text);
    let text = text.strip_suffix(flavour).unwrap_or(text);
    rpm_version(text.trim_end_matches(['-', '+']))
}

/// RHEL has flavours after a plus, as in `5.14.0-427.el9.x86_64+rt`, and openSUSE after a dash.
fn rpm_flavour(kernel: &str) -> &str {
    match flavour(kernel) {
        ("", _) => kernel.rsplit_once('+').map_or("", |(_, flavour)| flavour),
        (flavour, _) => flavour,
    }
}

/// `NAME-modules-PKGBASE`
pub(super) fn pacman(name: &ModuleName, pkgbase: &str) -> String {
    format!("{}-modules-{pkgbase}", plain(name.as_str()))
}

/// The version: higher with each version of the module and of the kernel. pacman compares parts that are separated by any
/// character, so that in `1.0_6.12` the kernel would be compared with the last part of `1.0.1_6.12`. A letter is lower than a
/// further part, and this one is higher than those of `1.0rc1`.
pub(super) fn pacman_version(version: &ModuleVersion, kernel: &KernelRelease) -> String {
    let plain = |text: &str| {
        // A letter directly after a digit comes before the release.
        let text =
            BEFORE.iter().fold(rpm_version(text), |text, word| text.replace(&format!("~{word}"), word));
        text.replace(['^', '~', '-'], "_")
    };
    format!("{}z{}-1", plain(version.as_str()), plain(kernel.as_str()))
}

/// The version of the package of one of Arch's kernels: `6.17.1-arch1-1` is that of `linux` 6.17.1.arch1-1, and
/// `6.12.58-1-lts` that of `linux-lts` 6.12.58-1.
pub(super) fn pacman_kernel_version(kernel: &KernelRelease, pkgbase: &str) -> Option<String> {
    let suffix = pkgbase.strip_prefix("linux").unwrap_or_default();
    let text = kernel.as_str();
    let text = text.strip_suffix(suffix).unwrap_or(text);
    let (version, release) = text.rsplit_once('-')?;
    release
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| format!("{}-{release}", version.replace('-', ".")))
}

/// A version as Debian has them, without a Debian revision: it begins with a digit.
pub(super) fn deb_version(version: &str) -> String {
    let version = before_release(version);
    let version = version.as_str();
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) if !epoch.is_empty() && epoch.chars().all(|c| c.is_ascii_digit()) => {
            (format!("{epoch}:"), rest)
        }
        _ => (String::new(), version),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || ".+~".contains(c);
    // What follows a dash would be a Debian revision.
    let map = |c: char| match c {
        '-' | '^' => '+',
        c if valid(c) => c,
        _ => '.',
    };
    let text: String = rest.chars().map(map).collect();
    let after_v = text.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let text = after_v.unwrap_or(&text);
    let begins = text.starts_with(|c: char| c.is_ascii_digit());
    if begins {
        format!("{epoch}{text}")
    } else {
        format!("{epoch}0+{}", text.trim_start_matches(['.', '+', '~']))
    }
}

/// The version of the package that follows the newest kernel: higher with each of the two. The kernel's is a Debian revision, which
/// counts only if all before it is equal.
pub(super) fn deb_meta_version(version: &ModuleVersion, kernel: &KernelRelease) -> String {
    let (_, kernel) = flavour(kernel.as_str());
    let kernel = deb_version(kernel).replace(':', ".");
    format!("{}-{kernel}", deb_version(version.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, kernel, expected, meta) in [
            (
                "v4l2loopback",
                "6.12.117+deb13-amd64",
                "v4l2loopback-modules-6.12.117+deb13-amd64",
                "v4l2loopback-modules-amd64",
            ),
            (
                "NVidia_Current",
                "6.1.0-40-cloud-amd64",
                "nvidia-current-modules-6.1.0-40-cloud-amd64",
                "nvidia-current-modules-cloud-amd64",
            ),
            (
                "r8125_v2@1",
                "6.8.0-60-generic",
                "r8125-v2-1-modules-6.8.0-60-generic",
                "r8125-v2-1-modules-generic",
            ),
            ("_x", "6.1", "x-modules-6.1", "x-modules"),
            ("~^_", "6.1~rc1", "dkms-modules-6.1-rc1", "dkms-modules"),
        ] {
            let (name, kernel) = (name.parse().unwrap(), kernel.parse().unwrap());
            assert_eq!((deb(&name, &kernel).as_str(), deb_meta(&name, &kernel).as_str()), (expected, meta));
        }
    }

    #[test]
    fn versions() {
        for (version, expected) in [
            ("0.15.0", "0.15.0"),
            ("0~20230205+git", "0~20230205+git"),
            ("2.6.9-1cvs2004", "2.6.9+1cvs2004"),
            ("1:2.3.4", "1:2.3.4"),
            ("1:", "1:0+"),
            ("a:1", "0+a.1"),
            ("0.3^20240425git29ec357", "0.3+20240425git29ec357"),
            ("r5.g1234", "0+r5.g1234"),
            ("v1.2", "1.2"),
            ("version_2@x", "0+version.2.x"),
            ("~1", "0+1"),
            ("3.4-rc1", "3.4~rc1"),
            ("3.4_beta2", "3.4~beta2"),
            ("3.4rc1", "3.4~rc1"),
            ("3.4~rc1", "3.4~rc1"),
            ("3.4.dev-2", "3.4~dev+2"),
            ("3.4-RC1", "3.4~rc1"),
            ("3.4-preview", "3.4+preview"),
            ("3.4-1rc", "3.4+1~rc"),
            ("rc1", "0+rc1"),
        ] {
            assert_eq!(deb_version(version), expected, "{version}");
        }
        for (kernel, expected) in [
            ("6.12.117+deb13-amd64", "1.0-6.12.117+deb13"),
            ("6.1.0-40-amd64", "1.0-6.1.0+40"),
            ("6.12.9", "1.0-6.12.9"),
        ] {
            assert_eq!(deb_meta_version(&"1.0".parse().unwrap(), &kernel.parse().unwrap()), expected);
        }
    }

    #[test]
    fn names_and_versions_of_rpm() {
        for (name, expected) in
            [("v4l2loopback", "kmod-v4l2loopback-6.1-1.fc43"), ("a~b", "kmod-a_b-6.1-1.fc43")]
        {
            assert_eq!(rpm(&name.parse().unwrap(), &"6.1-1.fc43".parse().unwrap()), expected);
        }
        for (version, expected) in [
            ("1.0", "1.0"),
            ("2.6.9-1cvs", "2.6.9_1cvs"),
            ("1:2", "1_2"),
            ("1^git", "1^git"),
            ("~1", "1"),
            ("1.1-rc1", "1.1~rc1"),
            ("~", "0"),
        ] {
            assert_eq!(rpm_version(version), expected);
        }
    }

    #[test]
    fn the_rpm_that_follows_the_newest_kernel() {
        for (kernel, expected) in [
            ("6.17.4-300.fc43.x86_64", ("kmod-a", "6.17.4_300.fc43.x86_64")),
            ("5.14.0-427.el9.x86_64+rt", ("kmod-a-rt", "5.14.0_427.el9.x86_64")),
            ("6.4.0-150600.23-default", ("kmod-a-default", "6.4.0_150600.23")),
            ("6.12.117+deb13-cloud-amd64", ("kmod-a-cloud-amd64", "6.12.117+deb13")),
        ] {
            let (name, kernel) = ("a".parse().unwrap(), kernel.parse().unwrap());
            let found = (rpm_meta(&name, &kernel), rpm_meta_release(&kernel));
            assert_eq!((found.0.as_str(), found.1.as_str()), expected);
        }
    }

    #[test]
    fn flavours() {
        for (kernel, expected) in [
            ("6.12.117+deb13-amd64", ("amd64", "6.12.117+deb13")),
            ("6.12.117+deb13-cloud-amd64", ("cloud-amd64", "6.12.117+deb13")),
            ("6.1.0-40-amd64", ("amd64", "6.1.0-40")),
            ("6.12.1", ("", "6.12.1")),
            ("6.12.1-2", ("", "6.12.1-2")),
        ] {
            assert_eq!(flavour(kernel), expected, "{kernel}");
        }
    }
}
