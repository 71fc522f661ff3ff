//! .deb files, read with the crate `debian-packaging`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use debian_packaging::binary_package_control::BinaryPackageControlFile;
use debian_packaging::deb::reader::{BinaryPackageEntry, BinaryPackageReader, ControlTarFile};
use dkms_core::layout::merged;
use futures::{AsyncReadExt as _, StreamExt as _};

use crate::facts::{Description, Facts, Node, Tree, sha256};
use crate::machine;

/// A .deb as the crate reads it.
pub struct Deb {
    pub control: BinaryPackageControlFile<'static>,
    /// The other members of the control archive: name → mode and content.
    pub members: BTreeMap<String, (u32, Vec<u8>)>,
    pub data: Vec<Entry>,
}

/// One entry of the data archive.
pub struct Entry {
    pub path: PathBuf,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: u64,
    pub kind: Kind,
}

pub enum Kind {
    Dir,
    File(Vec<u8>),
    Link(PathBuf),
    Same(PathBuf),
    Special,
}

pub fn open(file: &Path) -> Result<Deb> {
    let mut reader = BinaryPackageReader::new(File::open(file)?)?;
    let (mut control, mut members, mut data) = (None, BTreeMap::new(), None);
    while let Some(entry) = reader.next_entry() {
        match entry? {
            BinaryPackageEntry::DebianBinary(version) => {
                if !version.get_ref().starts_with(b"2.") {
                    bail!("format {:?}", String::from_utf8_lossy(version.get_ref()));
                }
            }
            BinaryPackageEntry::Control(mut tar) => {
                for entry in tar.entries()? {
                    let mut entry = entry?;
                    let (name, mode) = (entry.path()?.into_owned(), entry.header().mode()?);
                    let (_, file) = entry.to_control_file()?;
                    if let ControlTarFile::Control(found) = file {
                        control = Some(found);
                    } else if let Some(content) = content(file) {
                        members.insert(plain(&name).display().to_string(), (mode, content));
                    }
                }
            }
            BinaryPackageEntry::Data(tar) => {
                data = Some(futures::executor::block_on(entries(tar.into_inner()))?)
            }
        }
    }
    members.remove("");
    Ok(Deb { control: control.context("no control file")?, members, data: data.context("no data archive")? })
}

fn content(file: ControlTarFile) -> Option<Vec<u8>> {
    match file {
        ControlTarFile::Control(_) => None,
        ControlTarFile::Conffiles(content)
        | ControlTarFile::Triggers(content)
        | ControlTarFile::Shlibs(content)
        | ControlTarFile::Symbols(content)
        | ControlTarFile::Preinst(content)
        | ControlTarFile::Postinst(content)
        | ControlTarFile::Prerm(content)
        | ControlTarFile::Postrm(content)
        | ControlTarFile::Other(_, content) => Some(content),
    }
}

async fn entries<R: futures::AsyncRead + Unpin>(archive: async_tar::Archive<R>) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut entries = archive.entries()?;
    while let Some(entry) = entries.next().await {
        let mut entry = entry?;
        let path = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let target = entry.link_name_bytes().map(|name| PathBuf::from(OsStr::from_bytes(&name)));
        let header = entry.header();
        let (mode, mtime, owner) = (header.mode()?, header.mtime()?, (header.uid()?, header.gid()?));
        let kind = header.entry_type();
        let kind = if kind.is_dir() {
            Kind::Dir
        } else if kind.is_symlink() {
            Kind::Link(target.context("a link without a target")?)
        } else if kind.is_hard_link() {
            Kind::Same(target.context("a hard link without a target")?)
        } else if kind.is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).await?;
            Kind::File(content)
        } else {
            Kind::Special
        };
        found.push(Entry { path: plain(&path), mode, owner, mtime, kind });
    }
    Ok(found)
}

/// Without `./`, a slash at the end or at the beginning.
pub fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect()
}

pub fn read(file: &Path) -> Facts {
    match open(file) {
        Ok(deb) => Facts { description: description(&deb).map_err(text), tree: Ok(tree(&deb)) },
        Err(error) => Facts { description: Err(text(&error)), tree: Err(text(error)) },
    }
}

fn text(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
}

fn description(deb: &Deb) -> Result<Description> {
    let paths = match deb.members.get("md5sums") {
        Some((_, sums)) => sums
            .split(|byte| *byte == b'\n')
            // A sum of 32 digits, two blanks or a blank and a star, the name.
            .filter_map(|line| line.get(34..))
            .map(|name| merged(plain(Path::new(OsStr::from_bytes(name)))))
            .collect(),
        None => {
            let files = deb.data.iter().filter(|entry| !matches!(entry.kind, Kind::Dir));
            files.map(|entry| merged(entry.path.clone())).collect()
        }
    };
    Ok(Description {
        name: deb.control.package()?.to_owned(),
        version: deb.control.version_str()?.to_owned(),
        machine: machine::of_debian(deb.control.architecture()?),
        // In KiB; the field is optional.
        size: deb.control.installed_size().transpose()?.unwrap_or(0) * 1024,
        paths,
    })
}

fn tree(deb: &Deb) -> Tree {
    let mut tree = Tree::new();
    for entry in &deb.data {
        let node = match &entry.kind {
            Kind::Dir => Node::Dir,
            Kind::Link(to) => Node::Link(to.clone()),
            Kind::Special => Node::Special,
            Kind::File(content) => Node::File {
                executable: entry.mode & 0o111 != 0,
                mtime: entry.mtime,
                size: content.len() as u64,
                sha256: sha256(content),
            },
            Kind::Same(first) => match tree.get(&merged(plain(first))) {
                Some(node) => node.clone(),
                None => Node::Special,
            },
        };
        tree.insert(merged(entry.path.clone()), node);
    }
    tree
}
