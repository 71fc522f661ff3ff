//! Tarballs as text, including invalid ones.
//!
//! One member per line: `path/` is a directory, `path -> target` a symbolic and `path => target` a hard link,
//! `path = text` a file; `path char`, `block` and `fifo` are special files; `type:X` sets a type flag and `mode:NNNN`
//! an octal mode.

use tar::{EntryType, Header};

/// The mtime of every member.
pub const TIME: i64 = 1_600_000_000;

/// A tarball under construction.
pub struct Tar(Vec<u8>);

impl Tar {
    /// A tarball with these members.
    pub fn new(members: &str) -> Self {
        let mut tar = Self(Vec::new());
        members.lines().map(str::trim_start).filter(|line| !line.is_empty()).for_each(|line| tar.add(line));
        tar
    }

    /// Adds a member.
    pub fn add(&mut self, line: &str) {
        if let Some((path, text)) = line.split_once(" = ").or_else(|| Some((line.strip_suffix(" =")?, ""))) {
            self.member(path, EntryType::Regular, 0o644, "", text.replace("\\n", "\n").as_bytes());
        } else if let Some((path, target)) = line.split_once(" -> ") {
            self.member(path, EntryType::Symlink, 0o777, target, b"");
        } else if let Some((path, target)) = line.split_once(" => ") {
            self.member(path, EntryType::Link, 0o644, target, b"");
        } else if line.ends_with('/') {
            self.member(line, EntryType::Directory, 0o755, "", b"");
        } else {
            let (path, what) = line.split_once(' ').unwrap();
            let (kind, mode) = match what.split_once(':') {
                Some(("type", flag)) => (EntryType::new(flag.as_bytes()[0]), 0o644),
                Some((_, mode)) => (EntryType::Regular, u32::from_str_radix(mode, 8).unwrap()),
                None if what == "char" => (EntryType::Char, 0o644),
                None if what == "block" => (EntryType::Block, 0o644),
                None => (EntryType::Fifo, 0o644),
            };
            self.member(path, kind, mode, "", b"");
        }
    }

    /// A member with this type flag and content.
    pub fn raw(&mut self, name: &str, flag: u8, content: &[u8]) {
        self.member(name, EntryType::new(flag), 0o644, "", content);
    }

    fn member(&mut self, name: &str, kind: EntryType, mode: u32, target: &str, content: &[u8]) {
        if name.len() > 99 {
            self.raw("././@LongLink", b'L', &[name.as_bytes(), b"\0"].concat());
        }
        let mut header = Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        for (field, text) in [(&mut gnu.name, name), (&mut gnu.linkname, target)] {
            let length = text.len().min(99);
            field[..length].copy_from_slice(&text.as_bytes()[..length]);
        }
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(TIME as u64);
        header.set_uid(1234);
        header.set_gid(1234);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// The complete tarball.
    pub fn bytes(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}
