//! Reads an untrusted tarball from beginning to end.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tar::Archive;

use super::bound::{Bounded, TooMuch};
use super::member::{Extensions, Member};
use super::{Limits, Refused, codec};
use crate::sys::{file, signal};

/// The callback of [`walk`] for each member and its content. Returns whether to continue.
pub(crate) type Each<'a> = dyn FnMut(Member, &mut dyn Read) -> Result<ControlFlow<()>> + 'a;

/// Calls `each` for each member with its content, until it breaks. Reads at most `allowed` bytes and `members` members.
/// Errors that do not come from this machine are the tarball's: see [`blame`].
pub(crate) fn walk(packed: impl BufRead, allowed: u64, members: usize, each: &mut Each<'_>) -> Result<()> {
    let mut archive = Archive::new(Bounded::new(codec::reader(packed)?, allowed));
    let mut extensions = Extensions::default();
    let mut count = 0;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        signal::check()?;
        count += 1;
        if count > members {
            return Err(Refused::malformed(format!("contains more than {members} files")));
        }
        let (header, size) = (entry.header().clone(), entry.size());
        if extensions.take(&header, &mut entry, size)? {
            continue;
        }
        let member = Member::read(&header, size, std::mem::take(&mut extensions))?;
        if each(member, &mut entry)?.is_break() {
            return Ok(());
        }
    }
    if extensions.pending() {
        return Err(Refused::truncated());
    }
    let mut rest = archive.into_inner();
    if rest.zeros() < 512 {
        return Err(Refused::truncated());
    }
    // The checksum of the compressed data comes last.
    io::copy(&mut rest, &mut io::sink())?;
    Ok(())
}

/// Limits for a list of packages; the largest known one has fifteen thousand entries.
const LIST: Limits = Limits { bytes: 1 << 30, ratio: 200, free: 16 << 20, members: 1 << 20 };

/// The texts of the members whose path is `wanted`, up to 1 MiB each: for package lists that are tarballs.
pub fn texts(tarball: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<(PathBuf, String)>> {
    let (packed, size) = file::open_regular(tarball)?;
    let mut found = Vec::new();
    walk(BufReader::new(packed), LIST.allowed(size), LIST.members, &mut |member, content| {
        if wanted(&member.path) {
            let mut text = String::new();
            content.take(1 << 20).read_to_string(&mut text)?;
            found.push((member.path, text));
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(blame)?;
    Ok(found)
}

/// Distinguishes errors in the tarball from errors of this machine.
pub(crate) fn blame(error: anyhow::Error) -> anyhow::Error {
    let Some(io) = error.downcast_ref::<io::Error>() else { return error };
    if let Some(too_much) = io.get_ref().and_then(|inner| inner.downcast_ref::<TooMuch>()) {
        return Refused::malformed(format!("is a decompression bomb: {too_much}"));
    }
    // Errors of the system have an errno: no space left, no permission.
    if io.raw_os_error().is_some() {
        return error.context("unpacking");
    }
    // The library's text may contain the content of the file, which may be any file that root can read.
    Refused::malformed("is truncated or damaged, or not an archive")
}
