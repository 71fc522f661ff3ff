//! The header of an .rpm: an index of tags and the store of their values.
//!
//! Read here and not by the crate `rpm`: that one allocates what a header claims to need and slices where it points, which a hostile
//! file turns into gigabytes and a panic inside the package transaction; it has fifty dependencies beyond ours.

use std::io::Read;

use anyhow::Result;

use crate::archive::Refused;

const MAGIC: [u8; 3] = [0x8e, 0xad, 0xe8];
/// As rpm itself bounds them; the store only by what a list of half a million files needs.
const TAGS: u32 = 0xffff;
const STORE: u32 = 128 << 20;
/// Values that one tag may have: the largest packages have a hundred thousand files. Each value takes more memory here than in
/// the header, where a million empty names are a megabyte.
const VALUES: u32 = 250_000;

/// Types of values.
const INT16: u32 = 3;
const INT32: u32 = 4;
const INT64: u32 = 5;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// A header, as it was read.
#[derive(Debug)]
pub(super) struct Header {
    index: Vec<u8>,
    store: Vec<u8>,
}

impl Header {
    /// Reads one; bytes to the next multiple of 8 are not.
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
        // Of bytes there may be as many as there is room for.
        let many = |entry: &[u8]| matches!(number(entry, 4), INT16..=STRING | STRING_ARRAY..=I18N_STRING);
        let counts = index.chunks_exact(16).filter(|entry| many(entry)).map(|entry| number(entry, 12));
        if counts.max().is_some_and(|count| count > VALUES) {
            return Err(Refused::malformed("has a list that is larger than any"));
        }
        Ok(Self { index, store: exactly(from, u64::from(store))? })
    }

    /// The bytes that it took.
    pub(super) fn size(&self) -> usize {
        16 + self.index.len() + self.store.len()
    }

    /// A tag's type, its values from the first on to the end of the store, and how many they are.
    fn find(&self, tag: u32) -> Option<(u32, &[u8], usize)> {
        let entry = self.index.chunks_exact(16).find(|entry| number(entry, 0) == tag)?;
        let values = self.store.get(number(entry, 8) as usize..)?;
        Some((number(entry, 4), values, number(entry, 12) as usize))
    }

    /// Whether there is such a tag.
    pub(super) fn has(&self, tag: u32) -> bool {
        self.find(tag).is_some()
    }

    /// Strings; none when there is no such tag.
    pub(super) fn strings(&self, tag: u32) -> Vec<&[u8]> {
        match self.find(tag) {
            // The last one ends with a zero, too.
            Some((STRING | STRING_ARRAY | I18N_STRING, values, count)) => {
                values.split(|byte| *byte == 0).take(count.min(values.len())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A string; empty when there is no such tag.
    pub(super) fn string(&self, tag: u32) -> String {
        let first = self.strings(tag).first().copied().unwrap_or_default();
        String::from_utf8_lossy(first).into_owned()
    }

    /// Numbers; none when there is no such tag.
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

/// A number of four bytes; the callers have looked that they are there.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.iter().skip(at).take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// So many bytes. Memory is taken as they come, not as they are promised.
pub(super) fn exactly(from: &mut dyn Read, count: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(count).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == count { Ok(bytes) } else { Err(Refused::truncated()) }
}
