//! Debian's packages: an ar archive of `debian-binary`, `control.tar.*` and `data.tar.*`. The crate `debian-packaging`
//! is
//! not used: its three hundred dependencies are too many for a program that root runs inside apt.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;

use anyhow::Result;

use super::ar::{self, Part};
use super::paths::Paths;
use super::{DESCRIPTION, Each, Metadata};
use crate::archive::{Kind, Limits, Refused, walk};

/// The member with this name, with any compression.
fn part<'a>(parts: &'a [Part], name: &str) -> Result<&'a Part> {
    let is = |part: &Part| {
        part.name == name || part.name.strip_prefix(name).is_some_and(|end| end.starts_with('.'))
    };
    parts.iter().find(|part| is(part)).ok_or_else(|| Refused::malformed(format!("contains no {name}")))
}

/// The members, after checking that it is a .deb in the format that dpkg has written since 1995.
fn parts(file: &mut File, size: u64) -> Result<Vec<Part>> {
    let parts = ar::parts(file, size)?;
    let mut version = String::new();
    if let Some(first) = parts.first().filter(|part| part.name == "debian-binary") {
        ar::content(file, first)?.take(16).read_to_string(&mut version)?;
    }
    if !version.starts_with("2.") {
        return Err(Refused::malformed("is not a Debian package of format 2"));
    }
    Ok(parts)
}

/// The description in the control archive. If it has no list of files, the data archive is read completely.
pub(super) fn describe(file: &mut File, size: u64) -> Result<Metadata> {
    let parts = parts(file, size)?;
    let control = part(&parts, "control.tar")?;
    let (mut fields, mut sums) = (None, None);
    let packed = BufReader::new(ar::content(file, control)?);
    walk(packed, DESCRIPTION.allowed(control.size), DESCRIPTION.members, &mut |member, content| {
        let into = match member.path.to_str() {
            Some("control") => &mut fields,
            Some("md5sums") => &mut sums,
            _ => return Ok(ControlFlow::Continue(())),
        };
        if matches!(member.kind, Kind::File { .. }) {
            let mut text = Vec::new();
            content.read_to_end(&mut text)?;
            *into = Some(text);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut said = control_fields(&fields.ok_or_else(|| Refused::malformed("contains no control file"))?);
    let mut paths = Paths::default();
    match sums {
        Some(sums) => {
            // A line that begins with a backslash has a name with line feeds: such files are not needed.
            for line in sums.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"\\")) {
                let name = line.iter().position(|byte| *byte == b' ').and_then(|at| line.get(at + 1..));
                let name =
                    name.map(|name| name.strip_prefix(b" ").or(name.strip_prefix(b"*")).unwrap_or(name));
                name.filter(|name| !name.is_empty()).map_or(Ok(()), |name| paths.push(name))?;
            }
        }
        None => {
            let limits = Limits::default();
            let allowed = limits.allowed(size);
            content(file, size, allowed, limits.members, &mut |member, _| {
                if member.kind != Kind::Dir {
                    paths.push(member.path.as_os_str().as_encoded_bytes())?;
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
    }
    said.paths = paths.into_list();
    Ok(said)
}

/// The required fields of a control file.
fn control_fields(text: &[u8]) -> Metadata {
    let text = String::from_utf8_lossy(text);
    let field = |name: &str| {
        let value = text.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        value.unwrap_or_default().to_owned()
    };
    Metadata {
        name: field("Package"),
        version: field("Version"),
        machine: field("Architecture"),
        // In KiB.
        size: field("Installed-Size").parse().unwrap_or(0_u64).saturating_mul(1024),
        paths: Vec::new(),
    }
}

/// Passes on the content of the data archive.
pub(super) fn content(
    file: &mut File,
    size: u64,
    allowed: u64,
    members: usize,
    each: &mut Each<'_>,
) -> Result<()> {
    let parts = parts(file, size)?;
    let data = part(&parts, "data.tar")?;
    walk(BufReader::new(ar::content(file, data)?), allowed, members, each)
}
