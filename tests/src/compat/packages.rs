//! The packages of the archive that contain modules for dkms.

use crate::Root;

/// One binary package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, with epoch.
    pub version: String,
}

/// Every package that depends on dkms, whatever its name is, sorted; in all components of the archive.
pub fn all(root: &Root) -> Vec<Package> {
    let listed = root.run("apt-cache --important rdepends dkms").ok().stdout;
    let names = dependents(&listed);
    let shown = root.run(&format!("apt-cache show --no-all-versions {}", names.join(" "))).ok().stdout;
    names.into_iter().map(|name| package(&shown, name)).collect()
}

/// The names of `apt-cache rdepends`: indented, alternatives marked with a bar.
fn dependents(listed: &str) -> Vec<String> {
    let name = |line: &str| line.strip_prefix(' ').map(|l| l.trim_start_matches([' ', '|']).to_owned());
    let mut names: Vec<String> = listed.lines().filter_map(name).collect();
    names.sort();
    names.dedup();
    names
}

fn package(shown: &str, name: String) -> Package {
    let stanza = shown.split("\n\n").find(|s| field(s, "Package") == Some(&name));
    let version = stanza.and_then(|s| field(s, "Version")).unwrap_or_default().to_owned();
    Package { name, version }
}

/// The first field of this name in a control stanza.
pub fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::{Package, dependents, package};

    #[test]
    fn names_with_bars_and_twice() {
        let listed = "dkms\nReverse Depends:\n  zfs-dkms\n |acpi-call-dkms\n  zfs-dkms\n";
        assert_eq!(dependents(listed), ["acpi-call-dkms", "zfs-dkms"]);
    }

    #[test]
    fn a_package_of_its_own_stanza() {
        let shown = "Package: a-dkms\nVersion: 1:2-3\n\nPackage: b-dkms\nSource: b (7)\nVersion: 4\n";
        let found = package(shown, "b-dkms".to_owned());
        assert_eq!(found, Package { name: "b-dkms".to_owned(), version: "4".to_owned() });
    }
}
