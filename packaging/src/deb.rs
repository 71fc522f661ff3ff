//! The Debian package. `dpkg-deb` writes the archive; this file determines its content.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::conffiles::{self, Conffile};
use crate::payload;
use crate::staging::{
    DOCUMENTATION, EMPTY_DIRECTORIES, PROVIDED, compressed, directory_modes, documentation, fill, list, write,
};
use crate::tool;

/// Workspace packages whose programs are in the archive.
const PROGRAMS: [&str; 2] = ["dkms-core", "dkms-apt-hook"];

/// Writes `OUT/dkms-rs_VERSION_ARCH.deb` and returns its path.
///
/// The same inputs give the same bytes when `SOURCE_DATE_EPOCH` is set: dpkg-deb sorts, clamps times and sets owners.
pub fn make(binaries: &Path, out: &Path) -> Result<PathBuf> {
    let repository =
        fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).context("finding this tree")?;
    let version = env!("CARGO_PKG_VERSION");
    // Debian's variable for programs that were cross-compiled; its tools read it, too.
    let arch = match std::env::var("DEB_HOST_ARCH") {
        Ok(arch) => arch,
        Err(_) => tool::text(Command::new("dpkg").arg("--print-architecture"))?,
    };
    fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;

    let staging =
        tempfile::Builder::new().prefix(".deb-").tempdir_in(out).context("creating the staging directory")?;
    let root = staging.path().join("root");
    let files = payload::files(&repository, binaries, &payload::DEBIAN)?;
    for file in &files {
        let content = fs::read(&file.source).with_context(|| format!("reading {}", file.source.display()))?;
        write(&root, &file.path, &content, file.mode)?;
    }
    for directory in EMPTY_DIRECTORIES {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("creating {directory}"))?;
    }
    documentation(&repository, &root, "packaging/deb/copyright", &PROGRAMS)?;
    let template = fs::read_to_string(repository.join("packaging/deb/control"));
    let template = template.context("reading packaging/deb/control")?;
    compressed(&root, &format!("{DOCUMENTATION}/changelog"), changelog(&template, version)?.as_bytes())?;

    let shlibs = shared_libraries(staging.path(), &files)?;
    let size = installed_size(&root)?;
    let sums = md5sums(&root)?;
    let control = fill(
        &template,
        &[
            ("VERSION", version),
            ("ARCH", &arch),
            ("PROVIDED", PROVIDED),
            ("SHLIBS", &shlibs),
            ("INSTALLED_SIZE", &size),
        ],
    );
    write(&root, "DEBIAN/control", control.as_bytes(), 0o644)?;
    write(&root, "DEBIAN/md5sums", &sums, 0o644)?;
    maintainer_scripts(&repository, &root, &files)?;
    directory_modes(&root)?;

    let package = out.join(format!("dkms-rs_{version}_{arch}.deb"));
    tool::run(
        // One thread and one compressor, because both affect the bytes.
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"])
            .arg(&root)
            .arg(&package),
    )?;
    Ok(package)
}

/// Debian's changelog, in Debian's format: the changes are in ours.
fn changelog(control: &str, version: &str) -> Result<String> {
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("packaging/deb/control names no maintainer")?;
    let seconds = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| "0".to_owned());
    let date = tool::text(Command::new("date").args(["-u", "-R", "-d"]).arg(format!("@{seconds}")))?;
    Ok(format!(
        "dkms-rs ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- {maintainer}  {date}\n"
    ))
}

/// `, libc6 (>= …), …` for the programs that are ELF files, as Debian's own tool computes it from their symbols.
fn shared_libraries(staging: &Path, files: &[payload::File]) -> Result<String> {
    let mut programs = Vec::new();
    for file in files {
        let mut magic = [0; 4];
        let readable = fs::File::open(&file.source).and_then(|mut opened| opened.read_exact(&mut magic));
        if readable.is_ok() && magic == *b"\x7fELF" {
            programs.push(
                fs::canonicalize(&file.source)
                    .with_context(|| format!("finding {}", file.source.display()))?,
            );
        }
    }
    if programs.is_empty() {
        return Ok(String::new());
    }
    // The tool requires a source package.
    write(staging, "debian/control", b"Source: dkms-rs\n\nPackage: dkms-rs\nArchitecture: any\n", 0o644)?;
    let answer = tool::text(Command::new("dpkg-shlibdeps").current_dir(staging).arg("-O").args(programs))?;
    let (_, libraries) =
        answer.split_once("shlibs:Depends=").context("dpkg-shlibdeps did not name the libraries")?;
    Ok(format!(", {}", libraries.trim()))
}

/// In KiB, as in Debian: files rounded up, one for each directory.
fn installed_size(root: &Path) -> Result<String> {
    fn kib(directory: &Path) -> Result<u64> {
        let mut sum = 1;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            sum += if metadata.is_dir() { kib(&entry.path())? } else { metadata.len().div_ceil(1024) };
        }
        Ok(sum)
    }
    Ok(kib(root).with_context(|| format!("measuring {}", root.display()))?.to_string())
}

fn md5sums(root: &Path) -> Result<Vec<u8>> {
    let mut paths = Vec::new();
    list(root, "", &mut paths)?;
    // dpkg has the checksums of configuration files elsewhere.
    paths.retain(|path| !path.starts_with("etc/"));
    paths.sort();
    tool::run(Command::new("md5sum").current_dir(root).arg("--").args(paths))
}

fn maintainer_scripts(repository: &Path, root: &Path, files: &[payload::File]) -> Result<()> {
    let mut conffiles = Vec::new();
    let mut listed = String::new();
    for file in files.iter().filter(|file| file.path.starts_with("etc/")) {
        let content =
            fs::read_to_string(&file.source).with_context(|| format!("reading {}", file.source.display()))?;
        writeln!(listed, "/{}", file.path)?;
        conffiles.push(Conffile { path: format!("/{}", file.path), content });
    }
    write(root, "DEBIAN/conffiles", listed.as_bytes(), 0o644)?;

    let sources = repository.join("packaging/deb");
    let read = |name: &str| {
        fs::read_to_string(sources.join(name)).with_context(|| format!("reading packaging/deb/{name}"))
    };
    let library = read("conffiles.sh")?;
    for name in ["preinst", "postinst", "prerm", "postrm"] {
        let script = conffiles::script(&read(name)?, &library, &conffiles)?;
        write(root, &format!("DEBIAN/{name}"), script.as_bytes(), 0o755)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The archive with stub programs, with its fields.
    fn build(out: &Path) -> PathBuf {
        let binaries = out.join("bin");
        fs::create_dir_all(&binaries).unwrap();
        for name in ["dkms", "dkms-apt-hook"] {
            fs::write(binaries.join(name), "#!/bin/sh\n").unwrap();
        }
        make(&binaries, &out.join("dist")).unwrap()
    }

    fn field(package: &Path, name: &str) -> String {
        tool::text(Command::new("dpkg-deb").arg("--field").arg(package).arg(name)).unwrap()
    }

    #[test]
    fn stands_in_for_debians_dkms() {
        let out = tempfile::tempdir().unwrap();
        let package = build(out.path());
        assert_eq!(field(&package, "Provides"), "dkms (= 3.4.3)");
        assert_eq!(field(&package, "Conflicts"), "dkms");
        assert_eq!(field(&package, "Replaces"), "dkms");
        assert_eq!(field(&package, "Version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(field(&package, "Depends"), "kmod, dpkg-dev, make | build-essential, patch");
        assert_eq!(
            fs::read_dir(out.path().join("dist")).unwrap().count(),
            1,
            "the staging directory is gone"
        );
    }

    #[test]
    fn the_changelog_has_debians_format() {
        let out = tempfile::tempdir().unwrap();
        let member = "./usr/share/doc/dkms-rs/changelog.gz";
        let read = format!("dpkg-deb --fsys-tarfile \"$1\" | tar -xO {member} | gunzip");
        let script = format!("{read} >\"$2\" && dpkg-parsechangelog -l \"$2\" -S Version");
        let mut command = Command::new("sh");
        command.args(["-ec", &script, "sh"]).arg(build(out.path())).arg(out.path().join("changelog"));
        assert_eq!(tool::text(&mut command).unwrap(), env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn owners_modes_and_conffiles() {
        let out = tempfile::tempdir().unwrap();
        let package = build(out.path());
        let listing = tool::text(Command::new("dpkg-deb").arg("--contents").arg(&package)).unwrap();
        for line in listing.lines() {
            assert!(line.contains(" root/root "), "{line}");
            assert!(
                line.starts_with("drwxr-xr-x")
                    || line.starts_with("-rwxr-xr-x")
                    || line.starts_with("-rw-r--r--"),
                "{line}"
            );
        }
        let conffiles =
            tool::text(Command::new("dpkg-deb").args(["--info"]).arg(&package).arg("conffiles")).unwrap();
        assert_eq!(
            conffiles.lines().count(),
            listing.lines().filter(|line| line.starts_with('-') && line.contains(" ./etc/")).count()
        );
    }
}
