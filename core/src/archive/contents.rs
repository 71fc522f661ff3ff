//! The kind of a tarball, determined from its listing alone.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Refused;
use super::member::Kind;
use super::read::Listing;
use crate::exit::Exit;
use crate::types::{Arch, KernelRelease, Target};

const MAIN: &str = "dkms_main_tree";
const SOURCE: &str = "dkms_source_tree";
const BINARIES: &str = "dkms_binaries_only";

/// The content of a tarball, as paths below its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Written by `mktarball`; otherwise a plain source.
    pub made: bool,
    /// The source's directory; `None` for binaries only.
    pub source: Option<PathBuf>,
    /// The dkms.conf.
    pub conf: PathBuf,
    /// Files that repeat the module's name and version.
    pub claims: Option<(PathBuf, PathBuf)>,
    /// Builds.
    pub builds: BTreeMap<Target, PathBuf>,
}

/// Determines the kind of a tarball. An unknown entry is an error, and is not skipped.
pub fn contents(listing: &Listing) -> Result<Contents> {
    let is_file = |path: &Path| matches!(listing.get(path), Some(Kind::File { .. }));
    if listing.get(Path::new(MAIN)) != Some(&Kind::Dir) {
        return plain(listing);
    }
    let builds = builds(listing)?;
    let source = PathBuf::from(SOURCE);
    if is_file(&source.join("dkms.conf")) {
        let conf = source.join("dkms.conf");
        return Ok(Contents { made: true, source: Some(source), conf, claims: None, builds });
    }
    let binaries = Path::new(BINARIES);
    let conf = binaries.join("dkms.conf");
    if !is_file(&conf) {
        let why = format!("contains no dkms.conf in {SOURCE} or {BINARIES}");
        return Err(Refused { code: Exit::OTHER_MODULE, why }.into());
    }
    let claims = (binaries.join("PACKAGE_NAME"), binaries.join("PACKAGE_VERSION"));
    let claims = (is_file(&claims.0) && is_file(&claims.1)).then_some(claims);
    Ok(Contents { made: true, source: None, conf, claims, builds })
}

/// A plain source: the directory of its dkms.conf.
fn plain(listing: &Listing) -> Result<Contents> {
    let mut confs: Vec<&PathBuf> = listing
        .iter()
        .filter(|(path, kind)| path.ends_with("dkms.conf") && matches!(kind, Kind::File { .. }))
        .map(|(path, _)| path)
        .collect();
    confs.sort_by_key(|path| path.components().count());
    let depth = |path: &PathBuf| path.components().count();
    match confs.as_slice() {
        [] => Err(Refused::malformed("contains no dkms.conf")),
        [one, two, ..] if depth(one) == depth(two) => {
            Err(Refused::malformed(format!("contains several modules: {one:?} and {two:?}")))
        }
        [conf, ..] => Ok(Contents {
            made: false,
            source: Some(conf.parent().unwrap_or(Path::new("")).to_owned()),
            conf: (*conf).clone(),
            claims: None,
            builds: BTreeMap::new(),
        }),
    }
}

/// `dkms_main_tree/KERNEL/ARCH`.
fn builds(listing: &Listing) -> Result<BTreeMap<Target, PathBuf>> {
    let mut builds = BTreeMap::new();
    for (path, kind) in listing {
        let Ok(below) = path.strip_prefix(MAIN) else { continue };
        let parts: Vec<&str> = below.iter().map(OsStr::to_str).map(Option::unwrap_or_default).collect();
        let wrong = |why: String| Refused::malformed(format!("contains {path:?}: {why}"));
        if parts.len() <= 2 && *kind != Kind::Dir {
            return Err(wrong("a build must be a directory KERNEL/ARCH".into()));
        }
        match parts.as_slice() {
            [] => {}
            [kernel] => {
                kernel.parse::<KernelRelease>().map_err(|error| wrong(error.to_string()))?;
                if !kernel.starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(wrong("a kernel release must begin with a digit".into()));
                }
            }
            [_, arch] => {
                arch.parse::<Arch>().map_err(|error| wrong(error.to_string()))?;
            }
            [kernel, arch, "module", file] if file.contains(".ko") && matches!(kind, Kind::File { .. }) => {
                let target = Target { kernel: kernel.parse()?, arch: arch.parse()? };
                builds.insert(target, Path::new(MAIN).join(kernel).join(arch));
            }
            _ if matches!(kind, Kind::Link(_)) => {
                return Err(wrong("a build must not contain links".into()));
            }
            _ => {}
        }
    }
    Ok(builds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `path/` is a directory, `path -> target` a link, anything else a file.
    fn listing(text: &str) -> Listing {
        let mut listing = Listing::new();
        for word in text.split(';').map(str::trim) {
            let (path, kind) = match (word.split_once(" -> "), word.strip_suffix('/')) {
                (Some((path, target)), _) => (path, Kind::Link(target.into())),
                (None, Some(dir)) => (dir, Kind::Dir),
                (None, None) => (word, Kind::File { executable: false }),
            };
            for dir in Path::new(path).ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()) {
                listing.entry(dir.to_owned()).or_insert(Kind::Dir);
            }
            listing.insert(path.into(), kind);
        }
        listing
    }

    #[test]
    fn what_mktarball_makes() {
        let found = contents(&listing(
            "dkms_main_tree/6.1/x86_64/module/a.ko.xz; dkms_main_tree/6.1/x86_64/log/make.log; \
             dkms_main_tree/6.2/x86_64/log/make.log; dkms_source_tree/dkms.conf; dkms_source_tree/old/dkms.conf",
        ))
        .unwrap();
        assert_eq!((found.made, found.source), (true, Some("dkms_source_tree".into())));
        // A directory without a module is not a build.
        let kernels: Vec<_> = found.builds.keys().map(|target| target.kernel.as_str()).collect();
        assert_eq!(kernels, ["6.1"]);
        let found = contents(&listing(
            "dkms_main_tree/; dkms_binaries_only/dkms.conf; dkms_binaries_only/PACKAGE_NAME; dkms_binaries_only/PACKAGE_VERSION",
        ))
        .unwrap();
        assert!(found.source.is_none() && found.claims.is_some());
    }

    #[test]
    fn the_uppermost_dkms_conf_is_a_sources() {
        let found = contents(&listing("a-1/dkms.conf; a-1/tests/dkms.conf")).unwrap();
        assert_eq!((found.made, found.source), (false, Some("a-1".into())));
        assert_eq!(contents(&listing("dkms.conf")).unwrap().source, Some("".into()));
    }

    #[test]
    fn what_is_none_of_it_is_refused() {
        for (text, code, part) in [
            ("a/Makefile", 3, "no dkms.conf"),
            ("a/dkms.conf -> x", 3, "no dkms.conf"),
            ("a/dkms.conf; b/dkms.conf", 3, "several"),
            ("dkms_main_tree/", 7, "no dkms.conf"),
            ("dkms_main_tree/; dkms_source_tree/dkms.conf -> Makefile", 7, "no dkms.conf"),
            ("dkms_main_tree/6.1 -> x; dkms_source_tree/dkms.conf", 3, "directory"),
            ("dkms_main_tree/-rf/x86_64/module/a.ko", 3, "dash"),
            ("dkms_main_tree/build/x86_64/module/a.ko", 3, "digit"),
            ("dkms_main_tree/6.1/a b/module/a.ko", 3, "white space"),
            ("dkms_main_tree/6.1/x86_64/module/a.ko -> b.ko", 3, "must not contain links"),
        ] {
            let error = contents(&listing(text)).unwrap_err();
            let refused = error.downcast_ref::<Refused>().unwrap();
            assert!(refused.code.number() == code && refused.why.contains(part), "{text}: {refused:?}");
        }
    }
}
