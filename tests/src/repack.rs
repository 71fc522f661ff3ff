//! The same package with a higher version: upgrades without waiting for Debian to publish one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Kernel, Root, host};

/// Unpacks a .deb, appends `suffix` to its version, lets `edit` change the tree (control files are in `DEBIAN/`), and
/// packs it again. Returns the path of the result in the root, under `/opt/repacked`.
pub fn repack(root: &Root, deb: &Path, suffix: &str, edit: impl FnOnce(&Path)) -> String {
    let work = root.path("/opt/repacking");
    let tree = work.join("tree");
    fs::create_dir_all(&work).unwrap();
    host::run_host(&format!("dpkg-deb -R '{}' '{}'", deb.display(), tree.display()));
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let old = field(&text, "Version").to_owned();
    let new = format!("{old}{suffix}");
    // Related packages may keep the old version: exact dependencies on it become lower bounds.
    let newer = |line: &str| match line.split(':').next() {
        Some("Version") => format!("Version: {new}\n"),
        // Only an exact version is allowed here.
        Some("Provides") => format!("{line}\n"),
        _ => format!("{}\n", line.replace(&format!("(= {old})"), &format!("(>= {old})"))),
    };
    let text: String = text.lines().map(newer).collect();
    let name = field(&text, "Package").to_owned();
    fs::write(&control, text).unwrap();
    edit(&tree);
    pack(root, &tree, &format!("{name}_{}", new.replace(':', "%3a")))
}

/// Packs a tree into `/opt/repacked/NAME.deb` of the root and removes the tree.
pub fn pack(root: &Root, tree: &Path, name: &str) -> String {
    let inside = format!("/opt/repacked/{name}.deb");
    let out = root.path(&inside);
    fs::create_dir_all(out.parent().unwrap()).unwrap();
    host::run_host(&format!(
        "dpkg-deb --root-owner-group -Znone -b '{}' '{}'",
        tree.display(),
        out.display()
    ));
    fs::remove_dir_all(tree).unwrap();
    inside
}

fn field<'a>(control: &'a str, name: &str) -> &'a str {
    let value = control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("no {name} in\n{control}"))
}

/// The kernel's image with a higher version, otherwise the same.
pub fn newer_image(root: &Root, kernel: &Kernel, suffix: &str) -> String {
    let deb = root.download(&[&kernel.image()]).remove(0);
    repack(root, &deb, suffix, |_| {})
}

/// The kernel's headers with a higher version; `changed` modifies an input of module builds without breaking them.
pub fn newer_headers(root: &Root, kernel: &Kernel, suffix: &str, changed: bool) -> String {
    let deb = root.download(&[&kernel.headers()]).remove(0);
    repack(root, &deb, suffix, |tree| {
        if changed {
            let headers = tree.join(format!("usr/src/{}", kernel.headers()));
            append(&headers.join("include/generated/autoconf.h"), "#define CONFIG_DKMS_TESTS 1\n");
            append(&headers.join(".config"), "CONFIG_DKMS_TESTS=y\n");
        }
    })
}

/// The kernel's headers as those of another architecture.
pub fn foreign_headers(root: &Root, kernel: &Kernel) -> String {
    let deb = root.download(&[&kernel.headers()]).remove(0);
    repack(root, &deb, "+arm", |tree| {
        replace(&tree.join("DEBIAN/control"), &[("Architecture: amd64\n", "Architecture: arm64\n")]);
    })
}

fn append(path: &Path, text: &str) {
    let old = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    fs::write(path, old + text).unwrap();
}

/// A real `*-dkms` package with a higher upstream version; `broken` makes it fail to compile.
///
/// `name` and `old` are the module's name and version as in `/usr/src/NAME-VERSION`.
pub fn newer_module_package(
    root: &Root,
    package: &str,
    name: &str,
    old: &str,
    new: &str,
    broken: bool,
) -> String {
    let deb = root.download(&[package]).remove(0);
    repack(root, &deb, &format!("+to{new}"), |tree| {
        let sources = tree.join(format!("usr/src/{name}-{new}"));
        fs::rename(tree.join(format!("usr/src/{name}-{old}")), &sources).unwrap();
        replace(
            &sources.join("dkms.conf"),
            &[(&format!("PACKAGE_VERSION=\"{old}\""), &format!("PACKAGE_VERSION=\"{new}\""))],
        );
        for script in ["postinst", "prerm"] {
            let from = format!("DKMS_VERSION={old}\n");
            replace(&tree.join("DEBIAN").join(script), &[(&from, &format!("DKMS_VERSION={new}\n"))]);
        }
        if broken {
            for file in c_files(&sources) {
                append(&file, "\nint dkms_tests_break(void) { return no_such_symbol_here; }\n");
            }
        }
    })
}

fn replace(path: &Path, pairs: &[(&str, &str)]) {
    let mut text = fs::read_to_string(path).unwrap();
    for (from, to) in pairs {
        assert!(text.contains(from), "{} has no {from:?}\n{text}", path.display());
        text = text.replace(from, to);
    }
    fs::write(path, text).unwrap();
}

fn c_files(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().flatten().map(|e| e.path());
    files.filter(|p| p.extension().is_some_and(|e| e == "c")).collect()
}
