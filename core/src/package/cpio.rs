//! The cpio archive of an .rpm: "newc", and rpm's own form in which an entry contains only the index of the file in the
//! header.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;

use super::Each;
use super::header::exactly;
use super::paths::plain;
use super::rpm::{Listed, relative};
use crate::archive::{Kind, Member, Refused, checked};
use crate::sys::signal;

/// The file type in a mode.
pub(super) const TYPE: u64 = 0o170_000;
pub(super) const DIR: u64 = 0o040_000;
const REGULAR: u64 = 0o100_000;
const LINK: u64 = 0o120_000;

/// The maximum length of a name, and of a link's target.
const NAME: u64 = 1025;
const END: &[u8] = b"TRAILER!!!";

/// One entry, before its content.
struct Entry {
    path: PathBuf,
    mode: u64,
    mtime: u64,
    size: u64,
    /// Its inode, if the file may have several names: the content follows the last of them.
    shared: Option<u64>,
}

/// Passes on the members in the form of a tarball: the content of a file comes with the first of its names.
pub(super) fn walk(
    payload: &mut dyn Read,
    files: &[Listed],
    members: usize,
    each: &mut Each<'_>,
) -> Result<()> {
    let mut archive = Counted { inner: payload, at: 0 };
    let groups = groups(files);
    let mut waiting: BTreeMap<u64, Vec<Member>> = BTreeMap::new();
    let mut count = 0;
    while let Some(entry) = entry(&mut archive, files, &groups)? {
        signal::check()?;
        count += 1;
        if count > members {
            return Err(Refused::malformed(format!("contains more than {members} files")));
        }
        let shared = entry.shared.filter(|_| entry.mode & TYPE == REGULAR);
        let member = member(entry, &mut archive)?;
        let size = member.size;
        let mut names = match shared {
            Some(inode) if size == 0 => {
                waiting.entry(inode).or_default().push(member);
                continue;
            }
            Some(inode) => waiting.remove(&inode).unwrap_or_default(),
            None => Vec::new(),
        };
        names.push(member);
        let mut content = (&mut archive).take(size);
        if hand_out(names, size, &mut content, each)?.is_break() {
            return Ok(());
        }
        io::copy(&mut content, &mut io::sink())?;
        if content.limit() != 0 {
            return Err(Refused::truncated());
        }
        archive.pad()?;
    }
    // The checksum of the compressed data comes last.
    io::copy(&mut archive, &mut io::sink())?;
    for names in waiting.into_values() {
        if hand_out(names, 0, &mut io::empty(), each)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Passes on all names of one file.
fn hand_out(
    names: Vec<Member>,
    size: u64,
    content: &mut dyn Read,
    each: &mut Each<'_>,
) -> Result<ControlFlow<()>> {
    let mut first: Option<PathBuf> = None;
    for mut member in names {
        let flow = match &first {
            None => {
                first = Some(member.path.clone());
                member.size = size;
                each(member, content)?
            }
            Some(first) => {
                member.kind = Kind::Same(first.clone());
                member.size = 0;
                each(member, &mut io::empty())?
            }
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The number of names of each inode, and which of them comes last.
fn groups(files: &[Listed]) -> BTreeMap<u64, (usize, usize)> {
    let mut groups = BTreeMap::new();
    for (at, file) in files.iter().enumerate().filter(|(_, file)| file.mode & TYPE == REGULAR && !file.ghost)
    {
        if let Some(inode) = file.inode {
            let group = groups.entry(inode).or_insert((0, at));
            *group = (group.0 + 1, at);
        }
    }
    groups
}

/// The next entry; `None` at the end.
fn entry(
    archive: &mut Counted<'_>,
    files: &[Listed],
    groups: &BTreeMap<u64, (usize, usize)>,
) -> Result<Option<Entry>> {
    let damaged = || Refused::malformed("contains a damaged payload");
    let magic = exactly(archive, 6)?;
    if magic == b"07070X" {
        let at = hex(&exactly(archive, 8)?).ok_or_else(damaged)? as usize;
        archive.pad()?;
        let file = files.get(at).ok_or_else(damaged)?;
        let group = file.inode.and_then(|inode| Some((inode, groups.get(&inode)?)));
        let (shared, last) = match group {
            Some((inode, (count, last))) if *count > 1 => (Some(inode), *last == at),
            _ => (None, true),
        };
        let content = matches!(file.mode & TYPE, REGULAR | LINK) && last;
        let size = if content { file.size } else { 0 };
        let path = plain(relative(&file.name)?)?;
        return Ok(Some(Entry { path, mode: file.mode, mtime: file.mtime, size, shared }));
    }
    if magic != b"070701" && magic != b"070702" {
        return Err(damaged());
    }
    // Inode, mode, two owners, number of names, time, size, four of devices, length of the name, checksum.
    let fields: Option<Vec<u64>> = exactly(archive, 104)?.chunks_exact(8).map(hex).collect();
    let fields = fields.ok_or_else(damaged)?;
    let field = |number: usize| fields.get(number).copied().unwrap_or(0);
    let length = field(11);
    if length == 0 || length > NAME {
        return Err(Refused::malformed("contains a file name that is empty or longer than 1024 bytes"));
    }
    let name = exactly(archive, length)?;
    let name = name.strip_suffix(&[0]).ok_or_else(damaged)?;
    if name == END {
        return Ok(None);
    }
    archive.pad()?;
    let shared = (field(4) > 1).then_some(field(0));
    Ok(Some(Entry { path: plain(name)?, mode: field(1), mtime: field(5), size: field(6), shared }))
}

/// The member of an entry. The target of a link is its content.
fn member(entry: Entry, archive: &mut Counted<'_>) -> Result<Member> {
    let Entry { path, mode, mtime, size, .. } = entry;
    let member = |kind, size, set_id| Member { path: path.clone(), kind, mtime, size, set_id };
    Ok(match mode & TYPE {
        REGULAR => member(Kind::File { executable: mode & 0o111 != 0 }, size, mode & 0o6000 != 0),
        LINK => {
            let bad = |why: &str| Refused::malformed(format!("contains a link {path:?} {why}"));
            if size == 0 || size > NAME {
                return Err(bad("without a target"));
            }
            let target = exactly(archive, size)?;
            let target = checked(&target).map_err(|why| bad(&format!("to something {why}")))?;
            member(Kind::Link(target.to_owned()), 0, false)
        }
        _ if size != 0 => {
            return Err(Refused::malformed(format!(
                "contains {path:?}, which has content but is not a file"
            )));
        }
        DIR => member(Kind::Dir, 0, false),
        0o020_000 | 0o060_000 => member(Kind::Other("a device"), 0, false),
        0o010_000 => member(Kind::Other("a FIFO"), 0, false),
        _ => member(Kind::Other("which has an unsupported file type"), 0, false),
    })
}

fn hex(digits: &[u8]) -> Option<u64> {
    let digits =
        std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u64::from_str_radix(digits, 16).ok()
}

/// Counts the bytes that were read, because everything is aligned to four bytes.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    at: u64,
}

impl Counted<'_> {
    fn pad(&mut self) -> Result<()> {
        let missing = self.at.next_multiple_of(4) - self.at;
        exactly(self, missing).map(|_| ())
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}
