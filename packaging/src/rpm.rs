//! The rpm package. `rpmbuild` writes it; this file determines its content.
//!
//! The `rpm` crate is not used because it writes file triggers with rpm's default priority only, and ours must run
//! after a package's scripts (`-P 100`).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::payload;
use crate::staging::{EMPTY_DIRECTORIES, PROVIDED, directory_modes, documentation, fill, list, write};
use crate::tool;

/// Workspace packages whose programs are in the package.
const PROGRAMS: [&str; 2] = ["dkms-core", "dkms-dnf-plugin"];

/// Directories that no other package owns.
const OWN_DIRECTORIES: [&str; 6] = [
    "etc/dkms",
    "etc/dkms/framework.conf.d",
    "usr/lib/dkms",
    "usr/share/dkms",
    "usr/share/dkms/schemas",
    "usr/share/doc/dkms-rs",
];

/// Writes `OUT/dkms-rs-VERSION-1.ARCH.rpm` and returns its path. The same inputs give the same bytes when
/// `SOURCE_DATE_EPOCH` is set.
pub fn make(binaries: &Path, out: &Path) -> Result<PathBuf> {
    let repository =
        fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).context("finding this tree")?;
    let version = env!("CARGO_PKG_VERSION");
    fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let staging =
        tempfile::Builder::new().prefix(".rpm-").tempdir_in(out).context("creating the staging directory")?;
    let staging = fs::canonicalize(staging.path()).map(|path| (path, staging)).context("finding it")?;
    let (place, _alive) = staging;
    let root = place.join("root");
    for file in &payload::files(&repository, binaries, &payload::RPM)? {
        let content = fs::read(&file.source).with_context(|| format!("reading {}", file.source.display()))?;
        write(&root, &file.path, &content, file.mode)?;
    }
    for directory in EMPTY_DIRECTORIES {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("creating {directory}"))?;
    }
    documentation(&repository, &root, "packaging/deb/copyright", &PROGRAMS)?;
    directory_modes(&root)?;

    let spec = fs::read_to_string(repository.join("packaging/rpm/dkms-rs.spec.in"))
        .context("reading packaging/rpm/dkms-rs.spec.in")?;
    let files = file_list(&root)?;
    let root_name = root.display().to_string();
    let spec =
        fill(&spec, &[("VERSION", version), ("PROVIDED", PROVIDED), ("ROOT", &root_name), ("FILES", &files)]);
    write(&place, "dkms-rs.spec", spec.as_bytes(), 0o644)?;
    let arch = tool::text(Command::new("rpm").args(["--eval", "%{_target_cpu}"]))?;
    let define = |name: &str, path: &str| format!("{name} {}", place.join(path).display());
    tool::run(
        Command::new("rpmbuild")
            .args(["-bb", "--quiet"])
            // rpm's database on this machine is not used; Debian has none.
            .args(["--define", &define("_topdir", "top"), "--define", &define("_dbpath", "db")])
            .args(["--define", &define("_rpmdir", "made"), "--define", "_rpmfilename %{NAME}.rpm"])
            .arg(place.join("dkms-rs.spec")),
    )?;
    let package = out.join(format!("dkms-rs-{version}-1.{arch}.rpm"));
    fs::rename(place.join("made/dkms-rs.rpm"), &package)
        .with_context(|| format!("writing {}", package.display()))?;
    Ok(package)
}

/// The section `%files`: files in `/etc` are not overwritten.
fn file_list(root: &Path) -> Result<String> {
    let mut paths = Vec::new();
    list(root, "", &mut paths)?;
    paths.sort();
    let mut text = String::from("%defattr(-,root,root)\n");
    for directory in OWN_DIRECTORIES.iter().chain(&EMPTY_DIRECTORIES) {
        writeln!(text, "%dir /{directory}")?;
    }
    for path in paths {
        let kind = if path.starts_with("etc/") {
            "%config(noreplace) "
        } else if path.starts_with("usr/share/doc/") || path.starts_with("usr/share/man/") {
            "%doc "
        } else {
            ""
        };
        writeln!(text, "{kind}/{path}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(out: &Path) -> PathBuf {
        let binaries = out.join("bin");
        fs::create_dir_all(&binaries).unwrap();
        for name in ["dkms", "dkms-dnf-plugin"] {
            fs::write(binaries.join(name), "#!/bin/sh\n").unwrap();
        }
        make(&binaries, &out.join("dist")).unwrap()
    }

    fn query(package: &Path, what: &[&str]) -> String {
        tool::text(Command::new("rpm").args(["-qp", "--nosignature"]).args(what).arg(package)).unwrap()
    }

    #[test]
    fn stands_in_for_dkms_and_keeps_configuration() {
        let out = tempfile::tempdir().unwrap();
        let package = build(out.path());
        assert!(query(&package, &["--provides"]).lines().any(|line| line == "dkms = 3.4.3"));
        assert_eq!(query(&package, &["--conflicts"]), "dkms");
        let kept = query(&package, &["--qf", "[%{FILEFLAGS:fflags} %{FILENAMES}\n]"]);
        assert!(kept.lines().any(|line| line.trim() == "cn /etc/dkms/policy.toml"), "{kept}");
        assert_eq!(
            fs::read_dir(out.path().join("dist")).unwrap().count(),
            1,
            "the staging directory is gone"
        );
    }

    #[test]
    fn the_triggers_come_after_the_scripts_of_packages() {
        let out = tempfile::tempdir().unwrap();
        let package = build(out.path());
        let priorities =
            query(&package, &["--qf", "[%{FILETRIGGERPRIORITIES} ]|[%{TRANSFILETRIGGERPRIORITIES} ]"]);
        // The first at the end of a transaction installs dnf4's plugin, and has nothing to do with scripts.
        assert_eq!(priorities, "100 100 |1000000 100");
    }
}
