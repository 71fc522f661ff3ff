//! Assembles a package's files below a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{man, third_party, tool};

/// The dkms release whose interface our packages provide: module packages depend on `dkms (>= …)`.
pub const PROVIDED: &str = "3.4.3";

/// Directories that are empty in the package.
pub const EMPTY_DIRECTORIES: [&str; 1] = ["var/lib/dkms"];

pub const DOCUMENTATION: &str = "usr/share/doc/dkms-rs";

/// Writes one file of the package below `root`, with exactly this mode.
pub fn write(root: &Path, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let target = root.join(path);
    let parent = target.parent().with_context(|| format!("{path} has no directory"))?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    fs::write(&target, content).with_context(|| format!("writing {}", target.display()))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", target.display()))
}

/// Makes every directory accessible for all users.
pub fn directory_modes(directory: &Path) -> Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("setting the mode of {}", directory.display()))?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            directory_modes(&path)?;
        }
    }
    Ok(())
}

/// Writes manual pages, licences of the libraries in the programs, and documentation. `copyright`: our own licence.
pub fn documentation(repository: &Path, root: &Path, copyright: &str, programs: &[&str]) -> Result<()> {
    let copyright = fs::read(repository.join(copyright)).with_context(|| format!("reading {copyright}"))?;
    write(root, &format!("{DOCUMENTATION}/copyright"), &copyright, 0o644)?;
    let mut texts = vec![("third-party", third_party::notices(repository, programs)?.into_bytes())];
    for (name, source) in [("CHANGELOG.md", "CHANGELOG.md"), ("README.md", "README.md")] {
        texts.push((name, fs::read(repository.join(source)).with_context(|| format!("reading {source}"))?));
    }
    for (name, text) in texts {
        compressed(root, &format!("{DOCUMENTATION}/{name}"), &text)?;
    }
    for (path, text) in man::pages(repository)? {
        compressed(root, path, text.as_bytes())?;
    }
    Ok(())
}

/// Writes `PATH.gz`.
pub fn compressed(root: &Path, path: &str, content: &[u8]) -> Result<()> {
    write(root, path, content, 0o644)?;
    // -n: the header contains neither name nor time.
    tool::run(Command::new("gzip").arg("-9n").arg(root.join(path)))?;
    Ok(())
}

/// Files below a directory, as paths relative to it.
pub fn list(root: &Path, below: &str, paths: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a file name is not UTF-8")?;
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() { list(root, &path, paths)? } else { paths.push(path) }
    }
    Ok(())
}

/// Replaces `@NAME@` by its value.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}
