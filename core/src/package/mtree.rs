//! pacman's packages: a tarball that begins with `.PKGINFO`, the description, and `.MTREE`, the list of files.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;

use super::paths::{Paths, plain};
use super::{DESCRIPTION, Each, Metadata};
use crate::archive::{Bounded, Kind, Limits, Refused, walk};

/// The description in the first files. Without `.MTREE`, the tarball is read completely.
pub(super) fn describe(file: File, size: u64) -> Result<Metadata> {
    let (mut info, mut listed) = (None, None);
    let mut paths = Paths::default();
    let limits = Limits::default();
    let packed = BufReader::new(file);
    walk(packed, limits.allowed(size), limits.members, &mut |member, content| {
        match (member.path.to_str(), &member.kind) {
            (Some(".PKGINFO"), Kind::File { .. }) => info = Some(text(content, member.size)?),
            (Some(".MTREE"), Kind::File { .. }) => listed = Some(mtree(content, member.size)?),
            _ if !own(&member.path) && member.kind != Kind::Dir => {
                if info.is_none() {
                    return Err(Refused::malformed("is not a package: .PKGINFO is missing"));
                }
                paths.push(member.path.as_os_str().as_encoded_bytes())?;
            }
            _ => {}
        }
        Ok(if info.is_some() && listed.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    let info = info.ok_or_else(|| Refused::malformed("is not a supported package format"))?;
    let field = |name: &str| {
        let value = info.lines().find_map(|line| {
            let (field, value) = line.split_once('=')?;
            (field.trim() == name).then(|| value.trim())
        });
        value.unwrap_or_default().to_owned()
    };
    Ok(Metadata {
        name: field("pkgname"),
        version: field("pkgver"),
        machine: field("arch"),
        size: field("size").parse().unwrap_or(0),
        paths: listed.unwrap_or(paths).into_list(),
    })
}

/// Files for the package manager, which are not installed.
fn own(path: &Path) -> bool {
    path.parent() == Some(Path::new("")) && path.as_os_str().as_encoded_bytes().starts_with(b".")
}

fn text(content: &mut dyn Read, size: u64) -> Result<String> {
    if size > 1 << 20 {
        return Err(Refused::malformed("contains more than 1 MiB of metadata"));
    }
    let mut text = Vec::new();
    content.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The paths in an mtree(5) list, which is compressed with gzip.
fn mtree(content: &mut dyn Read, size: u64) -> Result<Paths> {
    let mut list = Vec::new();
    let unpacked = flate2::read::MultiGzDecoder::new(content);
    Bounded::new(unpacked, DESCRIPTION.allowed(size)).read_to_end(&mut list)?;
    let mut paths = Paths::default();
    let mut default = None;
    for line in list.split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let Some(first) = words.next() else { continue };
        let kind = words.find_map(|word| word.strip_prefix(b"type=")).map(<[u8]>::to_owned);
        match first {
            b"/set" => default = kind.or(default),
            _ if !first.starts_with(b"./") => {}
            name => {
                if kind.as_ref().or(default.as_ref()).is_some_and(|kind| kind == b"dir") {
                    continue;
                }
                let name = unescaped(name);
                if !own(&plain(&name)?) {
                    paths.push(&name)?;
                }
            }
        }
    }
    Ok(paths)
}

/// A name in an mtree: `\` and three octal digits are one byte.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        plain.push(digits.unwrap_or(*first));
        rest = if digits.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain
}

/// Passes on what is installed.
pub(super) fn content(file: File, allowed: u64, members: usize, each: &mut Each<'_>) -> Result<()> {
    walk(BufReader::new(file), allowed, members, &mut |member, content| {
        if own(&member.path) { Ok(ControlFlow::Continue(())) } else { each(member, content) }
    })
}
