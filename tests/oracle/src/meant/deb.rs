//! Our .deb: fields, scripts, conffiles, md5sums, modes, owners.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use md5::{Digest as _, Md5};

use super::files::{self, DIR, FILE, Files, Meant, ROOT, dir};
use super::{payload, repository};
use crate::compare::{Difference, different};
use crate::deb::{self, Deb, Kind};
use crate::facts::sha256;

const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];

pub fn check(file: &Path) -> Result<Vec<Difference>> {
    let deb = deb::open(file)?;
    let mut found = Vec::new();
    fields(&deb, &mut found)?;
    members(&deb, &mut found);
    data(&deb, &mut found)?;
    scripts(&deb, &mut found)?;
    sums(&deb, &mut found);
    Ok(found)
}

/// Every field of the template.
fn fields(deb: &Deb, found: &mut Vec<Difference>) -> Result<()> {
    let template = fs::read_to_string(repository().join("packaging/deb/control"))?;
    let mut count = 0;
    for (name, value) in template.lines().filter_map(|line| line.split_once(": ")) {
        if name.starts_with(' ') {
            continue;
        }
        let theirs = deb.control.field_str(name).unwrap_or_default();
        count += 1;
        // A value that is filled in starts like the template's.
        let same = match value.split('@').collect::<Vec<_>>()[..] {
            [begins, filled_in, ..] if filled_in.chars().all(|c| c.is_ascii_uppercase() || c == '_') => {
                theirs.starts_with(begins) && !theirs.contains('@')
            }
            _ => theirs.lines().next() == Some(value),
        };
        if !same {
            found.push(Difference::new("field", Path::new(name), value, theirs));
        }
    }
    let fields = deb.control.iter_fields().count();
    if fields != count {
        found.push(Difference::new("field", Path::new(""), count, fields));
    }
    Ok(())
}

fn members(deb: &Deb, found: &mut Vec<Difference>) {
    let mut meant: BTreeMap<PathBuf, u32> =
        ["conffiles", "md5sums"].map(|name| (name.into(), 0o644)).into_iter().collect();
    meant.extend(SCRIPTS.map(|name| (name.into(), 0o755)));
    let theirs = deb.members.iter().map(|(name, (mode, _))| (name.into(), *mode)).collect();
    different(&meant, &theirs, "control member", found);
}

fn data(deb: &Deb, found: &mut Vec<Difference>) -> Result<()> {
    let mut meant = files::files(&payload::DEBIAN)?;
    let changelog = Meant { mode: FILE | 0o644, owner: ROOT.to_owned(), sha256: None };
    meant.insert("usr/share/doc/dkms-rs/changelog.gz".into(), changelog);
    let above: Vec<PathBuf> = meant
        .keys()
        .chain([&PathBuf::from("var/lib/dkms/x")])
        .flat_map(|path| path.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>())
        .collect();
    meant.extend(above.into_iter().map(|path| (path, dir())));
    let mut theirs: Files = deb
        .data
        .iter()
        .map(|entry| {
            let (kind, content) = match &entry.kind {
                Kind::Dir => (DIR, None),
                Kind::File(content) => (FILE, Some(sha256(content))),
                _ => (0, None),
            };
            let owner = if entry.owner == (0, 0) { ROOT.to_owned() } else { format!("{:?}", entry.owner) };
            (entry.path.clone(), Meant { mode: kind | entry.mode, owner, sha256: content })
        })
        .collect();
    files::forget_unknown(&mut theirs, &meant);
    different(&meant, &theirs, "packaged file", found);
    Ok(())
}

fn scripts(deb: &Deb, found: &mut Vec<Difference>) -> Result<()> {
    let text = |name: &str| {
        let content = deb.members.get(name).map(|(_, content)| content.as_slice()).unwrap_or_default();
        String::from_utf8_lossy(content).into_owned()
    };
    let configuration: Vec<payload::File> =
        payload::files(&repository(), Path::new("/built"), &payload::DEBIAN)?
            .into_iter()
            .filter(|file| file.path.starts_with("etc/"))
            .collect();
    let listed: String = configuration.iter().map(|file| format!("/{}\n", file.path)).collect();
    if text("conffiles") != listed {
        found.push(Difference::new("conffiles", Path::new(""), listed, text("conffiles")));
    }
    for name in SCRIPTS {
        let template = fs::read_to_string(repository().join("packaging/deb").join(name))?;
        let script = text(name);
        let mut parts = template.split("@CONFFILES.SH@");
        let (begin, end) = (parts.next().unwrap_or_default(), parts.next());
        let same = match end {
            None => script == begin,
            Some(end) => script.starts_with(begin) && script.ends_with(end),
        };
        if !same {
            found.push(Difference::new("script", Path::new(name), template.clone(), script.clone()));
        }
        // The part between contains every conffile.
        for file in configuration.iter().filter(|_| end.is_some()) {
            if !script.contains(&fs::read_to_string(&file.source)?) {
                found.push(Difference::new("script", Path::new(name), "carries it", &file.path));
            }
        }
    }
    Ok(())
}

/// md5sums covers every file except conffiles, and the sums match.
fn sums(deb: &Deb, found: &mut Vec<Difference>) {
    let ours = deb.data.iter().filter_map(|entry| match &entry.kind {
        Kind::File(content) if !entry.path.starts_with("etc") => {
            let sum: String = Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
            Some((entry.path.clone(), sum))
        }
        _ => None,
    });
    let content = deb.members.get("md5sums").map(|(_, content)| content.as_slice()).unwrap_or_default();
    let text = String::from_utf8_lossy(content);
    let theirs = text.lines().filter_map(|line| line.split_once("  "));
    let theirs = theirs.map(|(sum, path)| (path.into(), sum.to_owned()));
    different(&ours.collect(), &theirs.collect(), "md5sums", found);
}
