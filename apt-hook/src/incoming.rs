//! The input from apt before a transaction: its protocol for hooks of `DPkg::Pre-Install-Pkgs`, version 3.
//!
//! `VERSION 3`, lines of configuration, an empty line, and then one line per package:
//! `NAME OLD ARCH MULTI-ARCH < NEW ARCH MULTI-ARCH FILE`. FILE is `**CONFIGURE**` or `**REMOVE**` if nothing is
//! unpacked.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The files of the packages that will be unpacked.
pub fn files(mut input: impl Read) -> Result<Vec<PathBuf>> {
    let mut text = Vec::new();
    input.read_to_end(&mut text).context("reading the list of packages from apt")?;
    parse(&String::from_utf8_lossy(&text))
}

fn parse(text: &str) -> Result<Vec<PathBuf>> {
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    if version != "VERSION 3" {
        bail!("unsupported protocol of apt {version:?}: expected \"VERSION 3\"");
    }
    let elsewhere = |line: &str| match line.split_once('=') {
        Some(("Dir", place)) => !["", "/", "%2f", "%2F"].contains(&place),
        Some(("DPkg::Chroot-Directory", place)) => !place.is_empty(),
        _ => false,
    };
    // With another root directory, the packages are not for this system.
    if lines.by_ref().take_while(|line| !line.is_empty()).any(elsewhere) {
        return Ok(Vec::new());
    }
    let packages = lines;
    let file = |line: &str| line.splitn(9, ' ').nth(8).map(str::to_owned);
    Ok(packages.filter_map(file).filter(|file| file.starts_with('/')).map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_unpacked_counts() {
        // As written by apt 3.0.
        let text = "VERSION 3\nAPT::Architecture=amd64\nDir=/\n\n\
            linux-image-amd64 6.12.1-1 amd64 none < 6.12.2-1 amd64 none /var/cache/apt/archives/a.deb\n\
            linux-image-amd64 6.12.1-1 amd64 none < 6.12.2-1 amd64 none **CONFIGURE**\n\
            old-dkms 1 all none > - - none **REMOVE**\n\
            new - - none < 1:2 all foreign /root/my debs/new.deb\n";
        let expected: Vec<PathBuf> =
            vec!["/var/cache/apt/archives/a.deb".into(), "/root/my debs/new.deb".into()];
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn what_is_installed_into_another_root_is_not_ours() {
        for (config, files) in [
            ("Dir=%2f\nDir::State=var/lib/apt\n", 1),
            ("Dir=/target\n", 0),
            ("Dir=/\nDPkg::Chroot-Directory=/target\n", 0),
            ("DPkg::Chroot-Directory=\n", 1),
        ] {
            let text = format!("VERSION 3\n{config}\na - - none < 1 all none /a.deb\n");
            assert_eq!(parse(&text).unwrap().len(), files, "{config}");
        }
    }

    #[test]
    fn another_protocol_is_refused() {
        for other in ["VERSION 2\n\na - < 1 /x.deb\n", "/var/cache/apt/archives/a.deb\n", ""] {
            assert!(parse(other).is_err(), "{other:?}");
        }
    }
}
