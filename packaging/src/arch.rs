//! The files of Arch's package. `packaging/arch/PKGBUILD` calls this from its `package()`; makepkg writes the archive.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::staging::{directory_modes, write};
use crate::{man, payload, third_party};

/// Workspace packages whose programs are in the archive.
const PROGRAMS: [&str; 2] = ["dkms-core", "dkms-alpm-hook"];

const DOCUMENTATION: &str = "usr/share/doc/dkms-rs";

/// Paths that differ from Debian's.
const MOVED: [(&str, &str); 2] =
    [("usr/sbin/", "usr/bin/"), ("usr/share/zsh/vendor-completions/", "usr/share/zsh/site-functions/")];

/// Writes the installed files below `root`. Manual pages are compressed by makepkg.
pub fn make(binaries: &Path, root: &Path) -> Result<PathBuf> {
    let repository =
        fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).context("finding this tree")?;
    for file in payload::files(&repository, binaries, &payload::ARCH)? {
        let content = fs::read(&file.source).with_context(|| format!("reading {}", file.source.display()))?;
        write(root, &place(&file.path), &content, file.mode)?;
    }
    fs::create_dir_all(root.join("var/lib/dkms")).context("creating var/lib/dkms")?;
    for (path, text) in man::pages(&repository)? {
        write(root, path, text.as_bytes(), 0o644)?;
    }
    let notices = third_party::notices(&repository, &PROGRAMS)?;
    write(root, &format!("{DOCUMENTATION}/third-party"), notices.as_bytes(), 0o644)?;
    for name in ["README.md", "CHANGELOG.md"] {
        let text = fs::read(repository.join(name)).with_context(|| format!("reading {name}"))?;
        write(root, &format!("{DOCUMENTATION}/{name}"), &text, 0o644)?;
    }
    directory_modes(root)?;
    Ok(root.to_owned())
}

/// A file's path on Arch.
fn place(path: &str) -> String {
    let moved = MOVED.iter().find_map(|(from, to)| Some(format!("{to}{}", path.strip_prefix(from)?)));
    moved.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_what_pacman_and_people_call() {
        let out = tempfile::tempdir().unwrap();
        let (binaries, root) = (out.path().join("bin"), out.path().join("root"));
        fs::create_dir_all(&binaries).unwrap();
        for name in ["dkms", "dkms-alpm-hook", "dkms-alpm-headers"] {
            fs::write(binaries.join(name), "#!/bin/sh\n").unwrap();
        }
        make(&binaries, &root).unwrap();
        for path in [
            "etc/dkms/framework.conf",
            "etc/dkms/policy.toml",
            "usr/bin/dkms",
            "usr/lib/dkms/alpm-headers",
            "usr/lib/dkms/alpm-hook",
            "usr/lib/systemd/system/dkms.service",
            "usr/share/libalpm/hooks/00-dkms-incoming.hook",
            "usr/share/libalpm/hooks/70-dkms-install.hook",
            "usr/share/libalpm/hooks/70-dkms-upgrade.hook",
            "usr/share/libalpm/hooks/71-dkms-remove.hook",
            "usr/share/man/man8/dkms.8",
            "usr/share/zsh/site-functions/_dkms",
            "usr/share/doc/dkms-rs/third-party",
        ] {
            assert!(root.join(path).is_file(), "{path}");
        }
        for path in ["etc/kernel", "usr/sbin", "usr/lib/dkms/apt-hook"] {
            assert!(!root.join(path).exists(), "{path} is Debian's");
        }
    }

    #[test]
    fn the_recipe_names_this_version_and_all_configuration() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let recipe = fs::read_to_string(repository.join("packaging/arch/PKGBUILD")).unwrap();
        assert!(recipe.contains(concat!("pkgver=", env!("CARGO_PKG_VERSION"), "\n")), "{recipe}");
        let files = payload::files(&repository, Path::new("/nowhere"), &payload::ARCH).unwrap();
        for file in files.iter().filter(|file| file.path.starts_with("etc/")) {
            assert!(recipe.contains(&file.path), "{} is not in backup", file.path);
        }
    }
}
