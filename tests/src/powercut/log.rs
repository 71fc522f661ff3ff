//! The format of QEMU's `blklogwrites`, which is that of the kernel's target dm-log-writes: a sector with the number of
//! entries, then for each entry a sector with its place, followed by what was written.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// Something that a file system asked of its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The number of the volume.
    pub volume: usize,
    /// What it was.
    pub kind: Kind,
}

/// A write or a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Bytes at an offset.
    Write(u64, Vec<u8>),
    /// Everything that was written before survives a power cut.
    Flush,
}

/// One entry of a log.
struct Entry {
    /// Where its own sector is in the log.
    at: u64,
    sector: u64,
    sectors: u64,
    flags: u64,
}

fn number(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().unwrap())
}

fn bytes_at(file: &File, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// The entries of the log that begins at `start`.
fn entries(file: &File, start: u64) -> Vec<Entry> {
    let head = bytes_at(file, start, SECTOR);
    assert_eq!(number(&head, 0), MAGIC, "the log has the format of dm-log-writes");
    let count = number(&head, 2);
    let mut at = start + SECTOR;
    let mut found = Vec::new();
    for _ in 0..count {
        let head = bytes_at(file, at, SECTOR);
        let entry =
            Entry { at, sector: number(&head, 0), sectors: number(&head, 1), flags: number(&head, 2) };
        assert_eq!(entry.flags & DISCARD, 0, "the file systems are mounted without discard");
        at += SECTOR + entry.sectors * SECTOR;
        found.push(entry);
    }
    found
}

/// Reads the logs of all volumes, which lie one after another in `logs`, in the order in which `order` recorded them.
pub fn read(logs: &Path, order: &Path, volumes: usize, size: u64) -> Vec<Event> {
    let (logs, order) = (File::open(logs).unwrap(), File::open(order).unwrap());
    // When each sector of the logs was written first, but for the numbers of entries, which change with each entry.
    let mut first = std::collections::HashMap::new();
    for (time, entry) in entries(&order, 0).iter().enumerate() {
        for sector in entry.sector..entry.sector + entry.sectors {
            first.entry(sector).or_insert(time);
        }
    }
    let mut found: Vec<(usize, Event)> = Vec::new();
    for volume in 0..volumes {
        for entry in entries(&logs, size * volume as u64) {
            let time = first.get(&(entry.at / SECTOR)).copied().expect("each entry was recorded");
            if entry.sectors > 0 {
                let content = bytes_at(&logs, entry.at + SECTOR, entry.sectors * SECTOR);
                found.push((time, Event { volume, kind: Kind::Write(entry.sector * SECTOR, content) }));
            }
            if entry.flags & FLUSH != 0 {
                found.push((time, Event { volume, kind: Kind::Flush }));
            }
        }
    }
    found.sort_by_key(|(time, _)| *time);
    found.into_iter().map(|(_, event)| event).collect()
}
