//! Packages of every format from one list of files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::archive::Limits;
use crate::package::{Package, Unpacking};
use crate::sys::private::Private;

pub(super) const MTIME: u64 = 1_000_000;

#[derive(Clone, Debug)]
pub(in crate::package) enum What {
    Dir,
    File(Vec<u8>),
    Program(&'static str),
    SetId(&'static str),
    Link(&'static str),
    Same(&'static str),
    Device,
    Fifo,
}
pub(in crate::package) use What::{Device, Dir, Fifo, Link, Program, Same, SetId};

pub(in crate::package) fn file(text: &str) -> What {
    What::File(text.into())
}

pub(in crate::package) type Item = (String, What);

pub(in crate::package) fn items(list: &[(&str, What)]) -> Vec<Item> {
    list.iter().map(|(path, what)| ((*path).to_owned(), what.clone())).collect()
}

impl What {
    fn content(&self) -> &[u8] {
        match self {
            Self::File(content) => content,
            Self::Program(text) | Self::SetId(text) => text.as_bytes(),
            _ => b"",
        }
    }

    fn mode(&self) -> u32 {
        match self {
            Self::Dir => 0o040_755,
            Self::File(_) | Self::Same(_) => 0o100_644,
            Self::Program(_) => 0o100_755,
            Self::SetId(_) => 0o104_755,
            Self::Link(_) => 0o120_777,
            Self::Device => 0o060_600,
            Self::Fifo => 0o010_600,
        }
    }
}

/// Every form of a package.
pub(super) const FORMS: [Form; 5] =
    [Form::Deb, Form::DebWithoutSums, Form::Rpm, Form::RpmStripped, Form::Pacman];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::package) enum Form {
    Deb,
    DebWithoutSums,
    Rpm,
    RpmStripped,
    Pacman,
}

impl Form {
    pub(in crate::package) fn is_rpm(self) -> bool {
        matches!(self, Self::Rpm | Self::RpmStripped)
    }

    /// A package of this form; its payload may be compressed.
    pub(in crate::package) fn make(self, items: &[Item], compressed: bool) -> Vec<u8> {
        match self {
            Self::Deb => deb(items, true, compressed),
            Self::DebWithoutSums => deb(items, false, compressed),
            Self::Rpm => rpm(items, false, compressed),
            Self::RpmStripped => rpm(items, true, compressed),
            Self::Pacman => pacman(items, compressed),
        }
    }
}

fn xz(plain: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 0).unwrap()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// One member with this exact name: the crate's own writer rejects invalid ones.
fn member(name: &str, what: &What) -> Vec<u8> {
    let mut header = Header::new_gnu();
    let mut out = Vec::new();
    let (kind, link) = match what {
        Dir => (EntryType::Directory, ""),
        Link(target) => (EntryType::Symlink, *target),
        Same(first) => (EntryType::Link, *first),
        Device => (EntryType::Block, ""),
        Fifo => (EntryType::Fifo, ""),
        _ => (EntryType::Regular, ""),
    };
    if name.len() > 100 {
        let mut long = Header::new_gnu();
        long.as_mut_bytes()[..13].copy_from_slice(b"././@LongLink");
        long.set_entry_type(EntryType::GNULongName);
        long.set_size(name.len() as u64 + 1);
        long.set_mode(0);
        long.set_mtime(0);
        long.set_cksum();
        out.extend(long.as_bytes());
        out.extend(padded(&[name.as_bytes(), &[0]].concat()));
    }
    let short = &name.as_bytes()[..name.len().min(100)];
    header.as_mut_bytes()[..short.len()].copy_from_slice(short);
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(what.mode() & 0o7777);
    header.set_mtime(MTIME);
    header.set_size(what.content().len() as u64);
    header.set_cksum();
    out.extend(header.as_bytes());
    out.extend(padded(what.content()));
    out
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content
}

pub(in crate::package) fn tarball(items: &[Item]) -> Vec<u8> {
    let mut tar: Vec<u8> = items.iter().flat_map(|(path, what)| member(path, what)).collect();
    tar.extend([0; 1024]);
    tar
}

pub(in crate::package) fn ar(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in parts {
        out.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes(),
        );
        out.extend(*content);
        if out.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

fn deb(items: &[Item], sums: bool, compressed: bool) -> Vec<u8> {
    let control = "Package: some\nVersion: 1:2.0-3\nArchitecture: arm64\nInstalled-Size: 7\nDescription: x\n Version: no\n";
    let mut parts = items_of_control(control);
    if sums {
        let is_file = |what: &What| matches!(what, What::File(_) | Program(_) | SetId(_) | Same(_));
        let lines: String = items
            .iter()
            .filter(|(_, what)| is_file(what))
            .map(|(path, _)| format!("d41d8cd98f00b204e9800998ecf8427e  {path}\n"))
            .collect();
        parts.push(("./md5sums".into(), file(&lines)));
    }
    let data = tarball(&items.iter().map(|(path, what)| (dotted(path), what.clone())).collect::<Vec<_>>());
    let (data, name) = if compressed { (xz(&data), "data.tar.xz") } else { (data, "data.tar") };
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &gzip(&tarball(&parts))), (name, &data)])
}

fn items_of_control(control: &str) -> Vec<Item> {
    items(&[("./", Dir), ("./control", file(control))])
}

/// The notation of names by dpkg-deb and rpmbuild; absolute names are kept.
fn dotted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("./{path}") }
}

fn pacman(items: &[Item], compressed: bool) -> Vec<u8> {
    let info = "# made\npkgname = some\npkgbase = other\npkgver = 1:2.0-3\nsize = 7168\narch = aarch64\n";
    let mut list = String::from("#mtree\n/set type=file uid=0 gid=0 mode=644\n./.PKGINFO time=1.0 size=1\n");
    for (path, what) in items {
        let path = path.replace(' ', "\\040");
        list += &match what {
            Dir => format!("./{path} time=1.0 mode=755 type=dir\n"),
            Link(target) => format!("./{path} time=1.0 mode=777 type=link link={target}\n"),
            _ => format!("./{path} time=1.0 size=1\n"),
        };
    }
    let mut all =
        vec![(".MTREE".to_owned(), What::File(gzip(list.as_bytes()))), (".PKGINFO".into(), file(info))];
    all.extend(items.iter().cloned());
    if compressed { zstd(&tarball(&all)) } else { tarball(&all) }
}

/// A tag with its type, the number of its values, and the values.
pub(in crate::package) type Tag = (u32, u32, u32, Vec<u8>);

pub(in crate::package) fn header(tags: &[Tag]) -> Vec<u8> {
    let (mut index, mut store) = (Vec::new(), Vec::new());
    for (tag, kind, count, values) in tags {
        let width = match kind {
            3 => 2,
            4 => 4,
            5 => 8,
            _ => 1,
        };
        store.resize(store.len().next_multiple_of(width), 0);
        for number in [*tag, *kind, store.len() as u32, *count] {
            index.extend(number.to_be_bytes());
        }
        store.extend(values);
    }
    let mut out = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    out.extend((tags.len() as u32).to_be_bytes());
    out.extend((store.len() as u32).to_be_bytes());
    out.extend(index);
    out.extend(store);
    out
}

fn strings(tag: u32, list: &[String]) -> Tag {
    (tag, 8, list.len() as u32, list.iter().flat_map(|text| [text.as_bytes(), &[0]].concat()).collect())
}

fn numbers(tag: u32, list: &[u32]) -> Tag {
    (tag, 4, list.len() as u32, list.iter().flat_map(|number| number.to_be_bytes()).collect())
}

pub(in crate::package) fn tags(items: &[Item]) -> Vec<Tag> {
    let one = |tag: u32, text: &str| (tag, 6, 1, [text.as_bytes(), &[0]].concat());
    let split = |path: &String| {
        let path = format!("/{path}");
        let at = path.rfind('/').unwrap() + 1;
        (path[..at].to_owned(), path[at..].to_owned())
    };
    let (dirs, bases): (Vec<_>, Vec<_>) = items.iter().map(|(path, _)| split(path)).unzip();
    let files = inodes(items);
    let sizes = items.iter().enumerate().map(|(at, (_, what))| match what {
        Link(target) => target.len() as u32,
        _ => files[at].content.len() as u32,
    });
    let modes: Vec<u8> = items.iter().flat_map(|(_, what)| (what.mode() as u16).to_be_bytes()).collect();
    let count = items.len() as u32;
    vec![
        one(1000, "some"),
        one(1001, "2.0"),
        one(1002, "3"),
        numbers(1003, &[1]),
        numbers(1009, &[7168]),
        one(1022, "aarch64"),
        numbers(1028, &sizes.collect::<Vec<_>>()),
        (1030, 3, count, modes),
        numbers(1034, &vec![MTIME as u32; items.len()]),
        numbers(1037, &vec![0; items.len()]),
        numbers(1096, &files.iter().map(|file| file.inode).collect::<Vec<_>>()),
        numbers(1116, &(0..count).collect::<Vec<_>>()),
        strings(1117, &bases),
        strings(1118, &dirs),
    ]
}

struct Inode<'a> {
    inode: u32,
    names: u32,
    last: bool,
    content: &'a [u8],
}

/// The items that are names of the same file.
fn inodes(items: &[Item]) -> Vec<Inode<'_>> {
    let number = |(at, (path, what)): (usize, &Item)| match what {
        Same(first) => items.iter().position(|(path, _)| path == first).unwrap_or(at),
        _ => items.iter().position(|(other, what)| other == path && !matches!(what, Same(_))).unwrap_or(at),
    };
    let of: Vec<usize> = items.iter().enumerate().map(number).collect();
    let inode = |at: usize| Inode {
        inode: of[at] as u32 + 1,
        names: of.iter().filter(|number| **number == of[at]).count() as u32,
        last: of.iter().rposition(|number| *number == of[at]) == Some(at),
        content: items[of[at]].1.content(),
    };
    (0..items.len()).map(inode).collect()
}

fn rpm(items: &[Item], stripped: bool, compressed: bool) -> Vec<u8> {
    let mut cpio = Vec::new();
    let align = |cpio: &mut Vec<u8>| cpio.resize(cpio.len().next_multiple_of(4), 0);
    for (at, ((path, what), file)) in items.iter().zip(inodes(items)).enumerate() {
        let content = match what {
            Link(target) => target.as_bytes(),
            _ if file.last => file.content,
            _ => b"",
        };
        if stripped {
            cpio.extend(format!("07070X{at:08x}").bytes());
        } else {
            newc(&mut cpio, &dotted(path), file.inode, what.mode(), file.names, content.len());
        }
        align(&mut cpio);
        cpio.extend(content);
        align(&mut cpio);
    }
    newc(&mut cpio, "TRAILER!!!", 0, 0, 1, 0);
    align(&mut cpio);
    let mut out = lead();
    out.extend(header(&tags(items)));
    out.extend(if compressed { zstd(&cpio) } else { cpio });
    out
}

/// The bytes before the header: the lead and an empty signature header.
pub(in crate::package) fn lead() -> Vec<u8> {
    let mut out = vec![0xed, 0xab, 0xee, 0xdb];
    out.resize(96, 0);
    // Five bytes: the next header begins at a multiple of eight.
    out.extend(header(&[(1, 7, 5, vec![0; 5])]));
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn newc(cpio: &mut Vec<u8>, name: &str, inode: u32, mode: u32, names: u32, size: usize) {
    let fields = [inode, mode, 0, 0, names, MTIME as u32, size as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    cpio.extend(b"070701");
    cpio.extend(fields.iter().flat_map(|field| format!("{field:08X}").into_bytes()));
    cpio.extend(name.bytes());
    cpio.push(0);
}

/// A directory for packages and their unpacked files.
pub(in crate::package) struct Place(TempDir);

/// The unpacked files: path → type and content.
pub(in crate::package) type Found = BTreeMap<String, String>;

impl Place {
    pub(in crate::package) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(in crate::package) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        crate::sys::file::write_atomic(&path, content, 0o644).unwrap();
        path
    }

    pub(in crate::package) fn open(&self, content: &[u8]) -> Result<Package, String> {
        Package::open(&self.write("package", content)).map_err(|error| format!("{error:#}"))
    }

    /// Unpacks packages into one directory: the result, or the reason of an error.
    pub(in crate::package) fn unpack(
        &self,
        packages: &[Vec<u8>],
        limits: &Limits,
        take: &dyn Fn(&Path) -> bool,
    ) -> Result<Found, String> {
        let private = Private::new(&self.0.path().join("in")).unwrap();
        let mut unpacking = Unpacking::new(&private, Path::new("over")).within(limits.clone());
        for (number, content) in packages.iter().enumerate() {
            let file = self.write(&format!("package{number}"), content);
            let result = unpacking.take(&unknown(file), take);
            // In any case, there is no link before the end.
            no_links(private.path());
            result.map_err(|error| format!("{error:#}"))?;
        }
        unpacking.finish().unwrap();
        Ok(look(&private.path().join("over")))
    }
}

/// A package file whose description was not read.
pub(in crate::package) fn unknown(file: PathBuf) -> Package {
    Package { file, name: "a".into(), version: "1".into(), machine: None, size: 0, paths: Vec::new() }
}

pub(in crate::package) fn no_links(dir: &Path) {
    for entry in crate::sys::file::sorted_entries(dir) {
        assert!(!entry.is_symlink(), "{entry:?}");
        if entry.is_dir() {
            no_links(&entry);
        }
    }
}

/// The content of a directory; modes and times must be as expected.
pub(in crate::package) fn look(dir: &Path) -> Found {
    let mut found = Found::new();
    look_below(dir, dir, &mut found);
    found
}

fn look_below(dir: &Path, root: &Path, found: &mut Found) {
    use std::os::unix::fs::MetadataExt;
    for path in crate::sys::file::sorted_entries(dir) {
        let meta = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if meta.is_dir() {
            assert_eq!(meta.mode() & 0o7777, 0o755, "{name}");
            look_below(&path, root, found);
            found.insert(name, "dir".into());
        } else if meta.is_symlink() {
            found.insert(name, format!("-> {}", std::fs::read_link(&path).unwrap().display()));
        } else {
            assert!(meta.is_file() && meta.nlink() == 1, "{name}");
            assert_eq!(meta.mtime(), MTIME as i64, "{name}");
            let program = match meta.mode() & 0o7777 {
                0o755 => "x ",
                0o644 => "",
                mode => panic!("{name}: {mode:o}"),
            };
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            found.insert(name, format!("{program}{text}"));
        }
    }
}
