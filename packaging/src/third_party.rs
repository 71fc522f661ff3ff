//! The licences of the libraries in the binaries: their terms require that the notice is distributed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::tool;

/// Name, version, licence and licence texts of every library in the packaged programs, as one text.
pub fn notices(repository: &Path, programs: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Without a platform, cargo would also fetch dependencies for other systems.
    let compiler = tool::text(Command::new("rustc").arg("-vV"))?;
    let host =
        compiler.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let mut metadata = Command::new(&cargo);
    metadata.current_dir(repository).args([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        host,
    ]);
    let metadata = tool::run(&mut metadata)?;
    let metadata: Value =
        serde_json::from_slice(&metadata).context("parsing the output of cargo metadata")?;
    let mut tree = Command::new(&cargo);
    tree.current_dir(repository).args([
        "tree",
        "--locked",
        "--offline",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    for program in programs {
        tree.args(["--package", program]);
    }
    let linked: BTreeSet<(String, String)> =
        tool::text(&mut tree)?.lines().filter_map(name_and_version).collect();

    let mut text =
        String::from("Libraries that are linked into the programs of dkms-rs, and their licences.\n");
    for package in metadata["packages"].as_array().context("cargo metadata without packages")? {
        let field = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
        // Members of this workspace have no source.
        if package["source"].is_null() || !linked.contains(&(field("name"), field("version"))) {
            continue;
        }
        write!(text, "\n==== {} {} ({})\n", field("name"), field("version"), field("license"))?;
        let manifest = field("manifest_path");
        let directory = Path::new(&manifest).parent().context("a manifest without a directory")?;
        for file in licence_files(directory)? {
            let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            write!(text, "\n{}\n", String::from_utf8_lossy(&content).trim_end())?;
        }
    }
    Ok(text)
}

/// `name v1.2.3 (…)` as `cargo tree` prints it.
fn name_and_version(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.split_once(" v")?;
    let version = rest.split_whitespace().next()?;
    Some((name.to_owned(), version.to_owned()))
}

fn licence_files(directory: &Path) -> Result<BTreeSet<std::path::PathBuf>> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file()
            && ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT"]
                .iter()
                .any(|stem| name.starts_with(stem))
        {
            files.insert(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_tree() {
        assert_eq!(name_and_version("anyhow v1.0.1 (*)"), Some(("anyhow".to_owned(), "1.0.1".to_owned())));
        assert_eq!(name_and_version(""), None);
    }
}
