//! The names of architectures in package formats.

use anyhow::Result;

use crate::archive::Refused;
use crate::types::Arch;

/// Names for packages for any architecture.
const ANY: [&str; 3] = ["all", "noarch", "any"];

/// Names that differ from `uname -m`. A name means the same in all formats.
const MACHINES: [(&str, &str); 27] = [
    ("amd64", "x86_64"),
    ("x32", "x86_64"),
    ("x86_64_v2", "x86_64"),
    ("x86_64_v3", "x86_64"),
    ("x86_64_v4", "x86_64"),
    ("i386", "i686"),
    ("i486", "i686"),
    ("i586", "i686"),
    ("pentium4", "i686"),
    ("athlon", "i686"),
    ("arm64", "aarch64"),
    ("armhf", "armv7l"),
    ("armv7h", "armv7l"),
    ("armv7hl", "armv7l"),
    ("armv7hnl", "armv7l"),
    ("armv6h", "armv6l"),
    ("armv6hl", "armv6l"),
    ("armel", "armv5tel"),
    ("ppc64el", "ppc64le"),
    ("ppc64p7", "ppc64"),
    ("powerpc", "ppc"),
    ("loong64", "loongarch64"),
    ("mips64el", "mips64"),
    ("mipsel", "mips"),
    ("sparc64v", "sparc64"),
    ("hppa", "parisc"),
    ("s390", "s390x"),
];

/// The architecture as printed by `uname -m`; `None`: any. An unknown name is kept.
pub(super) fn of(word: &str) -> Result<Option<Arch>> {
    if ANY.contains(&word) {
        return Ok(None);
    }
    let known = MACHINES.iter().find(|(theirs, _)| *theirs == word).map_or(word, |(_, ours)| ours);
    known.parse().map(Some).map_err(|error| Refused::malformed(format!("has no valid architecture: {error}")))
}

/// The name of an architecture for Debian.
pub(crate) fn in_deb(machine: &Arch) -> &str {
    const OF_DEBIAN: [&str; 10] =
        ["amd64", "i386", "arm64", "armhf", "armel", "ppc64el", "powerpc", "loong64", "mips64el", "hppa"];
    let known =
        MACHINES.iter().find(|(theirs, ours)| *ours == machine.as_str() && OF_DEBIAN.contains(theirs));
    known.map_or(machine.as_str(), |(theirs, _)| theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_names_are_read_as_what_they_were_written_for() {
        for (machine, expected) in [
            ("x86_64", "amd64"),
            ("i686", "i386"),
            ("aarch64", "arm64"),
            ("armv7l", "armhf"),
            ("ppc64le", "ppc64el"),
            ("riscv64", "riscv64"),
            ("s390x", "s390x"),
        ] {
            let machine: Arch = machine.parse().unwrap();
            assert_eq!(in_deb(&machine), expected);
            assert_eq!(of(expected).unwrap(), Some(machine));
        }
    }
}
