//! The ar archive of a .deb: members, each after a header of 60 characters.

use std::io::{Read, Seek, SeekFrom};

use anyhow::Result;

use crate::archive::Refused;

pub(super) const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;
/// A .deb has three members, and may have a few that dpkg does not know.
const PARTS: usize = 16;

/// The position of one member.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) at: u64,
    pub(super) size: u64,
}

/// Lists the members of an archive of `size` bytes.
pub(super) fn parts(file: &mut (impl Read + Seek), size: u64) -> Result<Vec<Part>> {
    let mut at = MAGIC.len() as u64;
    let mut parts = Vec::new();
    while at < size {
        let part = header(file, at)?;
        let end = part.at.saturating_add(part.size);
        if end > size {
            return Err(Refused::truncated());
        }
        if parts.len() >= PARTS {
            return Err(Refused::malformed(format!("contains more than {PARTS} parts")));
        }
        parts.push(part);
        // Members begin at even offsets.
        at = end + end % 2;
    }
    Ok(parts)
}

fn header(file: &mut (impl Read + Seek), at: u64) -> Result<Part> {
    file.seek(SeekFrom::Start(at))?;
    let mut header = Vec::new();
    file.take(HEADER as u64).read_to_end(&mut header)?;
    if header.len() < HEADER {
        return Err(Refused::truncated());
    }
    let text = |from: usize, to: usize| {
        header.get(from..to).and_then(|field| std::str::from_utf8(field).ok()).map(str::trim_end)
    };
    let size = text(48, 58).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match (text(0, 16), size.and_then(|digits| digits.parse().ok()), header.ends_with(b"`\n")) {
        (Some(name), Some(size), true) => {
            let name = name.strip_suffix('/').unwrap_or(name).to_owned();
            Ok(Part { name, at: at + HEADER as u64, size })
        }
        _ => Err(Refused::malformed("contains a damaged header between its parts")),
    }
}

/// The content of a member.
pub(super) fn content<'a, R: Read + Seek>(file: &'a mut R, part: &Part) -> Result<std::io::Take<&'a mut R>> {
    file.seek(SeekFrom::Start(part.at))?;
    Ok(file.take(part.size))
}
