//! The header of an .rpm: an index of tags and the store of their values.
//!
//! The crate `rpm` is not used: it allocates what a header claims and slices where it points, which a hostile file
//! turns into gigabytes and a panic inside the package transaction; it has fifty dependencies beyond ours.

use std::io::Read;

use anyhow::Result;

use crate::archive::Refused;

const MAGIC: [u8; 3] = [0x8e, 0xad, 0xe8];
/// The limits of rpm itself; the store is limited by the size of a list of half a million files.
const TAGS: u32 = 0xffff;
const STORE: u32 = 128 << 20;
/// The maximum number of values of one tag: the largest packages have a hundred thousand files. Each value takes more
/// memory here than in the header, where a million empty names are one megabyte.
const VALUES: u32 = 250_000;

/// Types of values.
const INT16: u32 = 3;
const INT32: u32 = 4;
const INT64: u32 = 5;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// A parsed header.
#[derive(Debug)]
pub(super) struct Header {
    index: Vec<u8>,
    store: Vec<u8>,
}

impl Header {
    /// Reads a header, without the padding to a multiple of 8 bytes.
    pub(super) fn read(from: &mut dyn Read) -> Result<Self> {
        let start = exactly(from, 16)?;
        if !start.starts_with(&MAGIC) {
            return Err(Refused::malformed("contains a damaged header"));
        }
        let (tags, store) = (number(&start, 8), number(&start, 12));
        if tags > TAGS || store > STORE {
            return Err(Refused::malformed("contains a header that is too large"));
        }
        let index = exactly(from, u64::from(tags) * 16)?;
        // The number of bytes is limited only by the store.
        let many = |entry: &[u8]| matches!(number(entry, 4), INT16..=STRING | STRING_ARRAY..=I18N_STRING);
        let counts = index.chunks_exact(16).filter(|entry| many(entry)).map(|entry| number(entry, 12));
        if counts.max().is_some_and(|count| count > VALUES) {
            return Err(Refused::malformed("has a list that is larger than any"));
        }
        Ok(Self { index, store: exactly(from, u64::from(store))? })
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> usize {
        16 + self.index.len() + self.store.len()
    }

    /// The type of a tag, the store from its first value on, and the number of values.
    fn find(&self, tag: u32) -> Option<(u32, &[u8], usize)> {
        let entry = self.index.chunks_exact(16).find(|entry| number(entry, 0) == tag)?;
        let values = self.store.get(number(entry, 8) as usize..)?;
        Some((number(entry, 4), values, number(entry, 12) as usize))
    }

    /// Whether it has this tag.
    pub(super) fn has(&self, tag: u32) -> bool {
        self.find(tag).is_some()
    }

    /// Strings; empty without this tag.
    pub(super) fn strings(&self, tag: u32) -> Vec<&[u8]> {
        match self.find(tag) {
            // The last one ends with a zero, too.
            Some((STRING | STRING_ARRAY | I18N_STRING, values, count)) => {
                values.split(|byte| *byte == 0).take(count.min(values.len())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A string; empty without this tag.
    pub(super) fn string(&self, tag: u32) -> String {
        let first = self.strings(tag).first().copied().unwrap_or_default();
        String::from_utf8_lossy(first).into_owned()
    }

    /// Numbers; empty without this tag.
    pub(super) fn numbers(&self, tag: u32) -> Vec<u64> {
        let Some((kind, values, count)) = self.find(tag) else { return Vec::new() };
        let width = match kind {
            INT16 => 2,
            INT32 => 4,
            INT64 => 8,
            _ => return Vec::new(),
        };
        let whole = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        values.chunks_exact(width).take(count).map(whole).collect()
    }
}

/// A number of four bytes; the callers have checked that they exist.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.iter().skip(at).take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Reads this number of bytes. Memory is allocated as they are read, not for the announced number.
pub(super) fn exactly(from: &mut dyn Read, count: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(count).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == count { Ok(bytes) } else { Err(Refused::truncated()) }
}
