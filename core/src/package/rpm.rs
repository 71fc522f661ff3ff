//! rpm's packages: a lead, a header of signatures, the header, and a compressed cpio archive. See `rpm-package-format(5)`.

use std::fs::File;
use std::io::{BufReader, Read};

use anyhow::Result;

use super::header::{Header, exactly};
use super::paths::Paths;
use super::{Each, Metadata, cpio};
use crate::archive::{Bounded, Refused, decompressed};

pub(super) const MAGIC: &[u8] = &[0xed, 0xab, 0xee, 0xdb];

/// Tags of the header.
mod tag {
    pub(super) const NAME: u32 = 1000;
    pub(super) const VERSION: u32 = 1001;
    pub(super) const RELEASE: u32 = 1002;
    pub(super) const EPOCH: u32 = 1003;
    pub(super) const SIZE: u32 = 1009;
    pub(super) const ARCH: u32 = 1022;
    pub(super) const OLD_FILE_NAMES: u32 = 1027;
    pub(super) const FILE_SIZES: u32 = 1028;
    pub(super) const FILE_MODES: u32 = 1030;
    pub(super) const FILE_MTIMES: u32 = 1034;
    pub(super) const FILE_FLAGS: u32 = 1037;
    pub(super) const SOURCE_RPM: u32 = 1044;
    pub(super) const FILE_INODES: u32 = 1096;
    pub(super) const SOURCE_PACKAGE: u32 = 1106;
    pub(super) const DIR_INDEXES: u32 = 1116;
    pub(super) const BASE_NAMES: u32 = 1117;
    pub(super) const DIR_NAMES: u32 = 1118;
    pub(super) const LONG_FILE_SIZES: u32 = 5008;
    pub(super) const LONG_SIZE: u32 = 5009;
}

/// A file that belongs to a package and is not in it.
const GHOST: u64 = 1 << 6;

/// A file in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// With a slash at the end.
    pub(super) name: Vec<u8>,
    pub(super) mode: u64,
    pub(super) mtime: u64,
    pub(super) size: u64,
    /// The same for all names of one file.
    pub(super) inode: Option<u64>,
    pub(super) ghost: bool,
}

impl Listed {
    fn is_dir(&self) -> bool {
        self.mode & cpio::TYPE == cpio::DIR
    }
}

/// Reads the header; the file is then positioned at the payload.
fn header(file: &mut dyn Read) -> Result<Header> {
    exactly(file, 96)?;
    let signatures = Header::read(file)?;
    exactly(file, (signatures.size().next_multiple_of(8) - signatures.size()) as u64)?;
    let header = Header::read(file)?;
    if is_source(&header) {
        return Err(Refused::malformed("is a source package"));
    }
    Ok(header)
}

/// The rule of librpm: older versions of rpm wrote no tag, but the files of a source package are in a directory without a name.
fn is_source(header: &Header) -> bool {
    header.has(tag::SOURCE_PACKAGE) || !header.has(tag::SOURCE_RPM) && header.strings(tag::DIR_NAMES) == [b""]
}

/// The files that a header lists.
fn files(header: &Header) -> Result<Vec<Listed>> {
    let (bases, dirs) = (header.strings(tag::BASE_NAMES), header.strings(tag::DIR_NAMES));
    let (indexes, old) = (header.numbers(tag::DIR_INDEXES), header.strings(tag::OLD_FILE_NAMES));
    let modes = header.numbers(tag::FILE_MODES);
    let (mtimes, inodes) = (header.numbers(tag::FILE_MTIMES), header.numbers(tag::FILE_INODES));
    let (flags, sizes) = (header.numbers(tag::FILE_FLAGS), header.numbers(tag::FILE_SIZES));
    let long = header.numbers(tag::LONG_FILE_SIZES);
    let mut bytes = 0;
    let count = if bases.is_empty() { old.len() } else { bases.len() };
    let mut files = Vec::new();
    for at in 0..count {
        let damaged = || Refused::malformed("contains a damaged file list");
        let name = match bases.get(at) {
            Some(base) => {
                let dir = indexes
                    .get(at)
                    .and_then(|dir| dirs.get(usize::try_from(*dir).ok()?))
                    .ok_or_else(damaged)?;
                // Each name is stored once, but may be referenced many times.
                bytes += dir.len() + base.len();
                if bytes > NAMES {
                    return Err(Refused::malformed("contains a file list that is too large"));
                }
                [*dir, *base].concat()
            }
            None => old.get(at).ok_or_else(damaged)?.to_vec(),
        };
        let of = |numbers: &[u64]| numbers.get(at).copied();
        files.push(Listed {
            name,
            mode: of(&modes).ok_or_else(damaged)?,
            mtime: of(&mtimes).unwrap_or(0),
            size: of(&long).or(of(&sizes)).unwrap_or(0),
            inode: of(&inodes),
            ghost: of(&flags).is_some_and(|flags| flags & GHOST != 0),
        });
    }
    Ok(files)
}

/// The maximum size of all names together.
const NAMES: usize = 32 << 20;

/// The description in the header.
pub(super) fn describe(file: &mut File) -> Result<Metadata> {
    let header = header(&mut BufReader::new(file))?;
    let mut paths = Paths::default();
    for file in files(&header)?.iter().filter(|file| !file.ghost && !file.is_dir()) {
        paths.push(relative(&file.name)?)?;
    }
    let epoch = header.numbers(tag::EPOCH).first().map(|epoch| format!("{epoch}:")).unwrap_or_default();
    let (version, release) = (header.string(tag::VERSION), header.string(tag::RELEASE));
    let size = [tag::LONG_SIZE, tag::SIZE].into_iter().find_map(|tag| header.numbers(tag).first().copied());
    Ok(Metadata {
        name: header.string(tag::NAME),
        version: format!("{epoch}{version}-{release}"),
        machine: header.string(tag::ARCH),
        size: size.unwrap_or(0),
        paths: paths.into_list(),
    })
}

/// A name of the header, which begins with a slash, relative to the root.
pub(super) fn relative(name: &[u8]) -> Result<&[u8]> {
    name.strip_prefix(b"/").ok_or_else(|| {
        Refused::malformed(format!(
            "contains {:?}, which is not an absolute path",
            String::from_utf8_lossy(name)
        ))
    })
}

/// Passes on the content of the payload.
pub(super) fn content(file: &mut File, allowed: u64, members: usize, each: &mut Each<'_>) -> Result<()> {
    let mut file = BufReader::new(file);
    let header = header(&mut file)?;
    let mut payload = Bounded::new(decompressed(file)?, allowed);
    cpio::walk(&mut payload, &files(&header)?, members, each)
}
