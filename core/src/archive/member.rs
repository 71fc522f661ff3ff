//! One member of a tarball: its header, and the extension headers before it, become a checked name and kind.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use tar::{EntryType, Header, PaxExtensions};

use super::Refused;

/// Maximum size of extension headers, which are held in memory; larger than any real one.
const EXTENSION_LIMIT: u64 = 64 << 10;
/// The maximum length of a file name, and of a path.
const NAME_LIMIT: usize = 255;
const PATH_LIMIT: usize = 1024;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A file.
    File {
        /// Whether it is executable.
        executable: bool,
    },
    /// A symbolic link with its target.
    Link(PathBuf),
    /// A hard link to an earlier member.
    Same(PathBuf),
    /// Anything else, with its kind.
    Other(&'static str),
}

/// One member, with all checks that need neither the other members nor its purpose.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its path below the tarball's root; empty for the root.
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) mtime: u64,
    /// Size in bytes.
    pub(crate) size: u64,
    /// A file with the set-user-id or set-group-id bit.
    pub(crate) set_id: bool,
}

/// The fields that extension headers set for the next member.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    any: bool,
}

impl Extensions {
    /// Reads an extension header; false if the entry is a member.
    pub(super) fn take(&mut self, header: &Header, content: impl Read, size: u64) -> Result<bool> {
        let kind = header.entry_type();
        let known = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if !known {
            return Ok(false);
        }
        if size > EXTENSION_LIMIT {
            return Err(Refused::malformed("contains a name longer than 64 KiB"));
        }
        let mut data = Vec::new();
        content.take(size).read_to_end(&mut data)?;
        if data.len() as u64 != size {
            return Err(Refused::malformed("is truncated"));
        }
        if kind.is_pax_global_extensions() {
            // git archive records its commit here. The content must not set a name.
            return if pax(&data)?.any { Err(double()) } else { Ok(true) };
        }
        let new = if kind.is_pax_local_extensions() {
            pax(&data)?
        } else {
            while data.last() == Some(&0) {
                data.pop();
            }
            match kind.is_gnu_longname() {
                true => Self { path: Some(data), link: None, any: true },
                false => Self { path: None, link: Some(data), any: true },
            }
        };
        if self.path.is_some() && new.path.is_some() || self.link.is_some() && new.link.is_some() {
            return Err(double());
        }
        self.any = true;
        self.path = self.path.take().or(new.path);
        self.link = self.link.take().or(new.link);
        Ok(true)
    }

    /// Whether extension headers are pending that no member followed.
    pub(super) fn pending(&self) -> bool {
        self.any
    }
}

fn double() -> anyhow::Error {
    Refused::malformed("contains two names for one file")
}

fn pax(data: &[u8]) -> Result<Extensions> {
    let mut found = Extensions::default();
    for extension in PaxExtensions::new(data) {
        let extension = extension.map_err(|_| Refused::malformed("contains a damaged extended header"))?;
        let value = extension.value_bytes();
        match extension.key_bytes() {
            b"path" => found.path = Some(value.to_owned()),
            b"linkpath" => found.link = Some(value.to_owned()),
            // With two sizes for one file, two readers would read two different tarballs.
            b"size" => return Err(Refused::malformed("contains two sizes for one file")),
            key if key.starts_with(b"GNU.sparse") => return Err(sparse()),
            _ => continue,
        }
        found.any = true;
    }
    Ok(found)
}

fn sparse() -> anyhow::Error {
    Refused::malformed("contains a sparse file, which is not supported")
}

impl Member {
    /// Reads a header, with the pending extensions.
    pub(super) fn read(header: &Header, size: u64, extensions: Extensions) -> Result<Self> {
        let raw = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let shown = String::from_utf8_lossy(&raw).into_owned();
        let path =
            checked_path(&raw).map_err(|why| Refused::malformed(format!("contains {shown:?}, {why}")))?;
        let damaged = |_| Refused::malformed(format!("contains a damaged header for {shown:?}"));
        let mode = header.mode().map_err(damaged)?;
        let target = || -> Result<Vec<u8>> {
            let own =
                extensions.link.clone().or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
            own.filter(|name| !name.is_empty())
                .ok_or_else(|| Refused::malformed(format!("contains a link {shown:?} without a target")))
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if raw.ends_with(b"/") && size == 0 => Kind::Dir,
            EntryType::Regular | EntryType::Continuous => Kind::File { executable: mode & 0o111 != 0 },
            EntryType::Directory => Kind::Dir,
            EntryType::Symlink => {
                let raw = target()?;
                let to = checked(&raw).map_err(|why| bad_link(&shown, &raw, why))?;
                Kind::Link(to.to_owned())
            }
            EntryType::Link => {
                let raw = target()?;
                let to = checked_path(&raw).map_err(|why| {
                    let to = String::from_utf8_lossy(&raw);
                    Refused::malformed(format!("contains a hard link {shown:?} to {to:?}, {why}"))
                })?;
                Kind::Same(to)
            }
            EntryType::GNUSparse => return Err(sparse()),
            EntryType::Char | EntryType::Block => Kind::Other("a device"),
            EntryType::Fifo => Kind::Other("a FIFO"),
            _ => Kind::Other("which has an unsupported file type"),
        };
        let content = matches!(kind, Kind::File { .. });
        if !content && size != 0 {
            return Err(Refused::malformed(format!(
                "contains {shown:?}, which has content but is not a file"
            )));
        }
        if path.as_os_str().is_empty() && kind != Kind::Dir {
            return Err(Refused::malformed("contains a file without a name"));
        }
        let set_id = content && mode & 0o6000 != 0;
        Ok(Self { path, kind, mtime: header.mtime().map_err(damaged)?, size, set_id })
    }

    /// The additional checks for a module's tarball; a distribution's package may contain more.
    pub(super) fn strict(&self) -> Result<()> {
        let path = &self.path;
        match &self.kind {
            Kind::Other(what) => Err(Refused::malformed(format!("contains {path:?}, {what}"))),
            Kind::Link(target) => checked_target(target)
                .map_err(|why| bad_link(&path.to_string_lossy(), target.as_os_str().as_bytes(), why)),
            _ if self.set_id => {
                Err(Refused::malformed(format!("contains {path:?} with a set-user-id or set-group-id bit")))
            }
            _ => Ok(()),
        }
    }
}

fn bad_link(link: &str, target: &[u8], why: &str) -> anyhow::Error {
    let target = String::from_utf8_lossy(target);
    Refused::malformed(format!("contains a link {link:?} to {target:?}, {why}"))
}

/// The checks for every name.
pub(crate) fn checked(raw: &[u8]) -> Result<&Path, &'static str> {
    if raw.len() > PATH_LIMIT {
        return Err("which is longer than 1024 bytes");
    }
    if raw.iter().any(|byte| byte.is_ascii_control()) {
        return Err("which contains a control character");
    }
    let path = Path::new(OsStr::from_bytes(raw));
    if path.components().any(|part| part.as_os_str().len() > NAME_LIMIT) {
        return Err("which has a component longer than 255 bytes");
    }
    Ok(path)
}

/// A normalized path below the tarball's root.
pub(crate) fn checked_path(raw: &[u8]) -> Result<PathBuf, &'static str> {
    let mut plain = PathBuf::new();
    for part in checked(raw)?.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("which leaves the archive through \"..\""),
            Component::RootDir | Component::Prefix(_) => return Err("which is an absolute path"),
        }
    }
    Ok(plain)
}

/// Checks a link's target: `..` is allowed only at its beginning, so that the text alone shows whether it stays inside,
/// whatever other links are on its way.
fn checked_target(path: &Path) -> Result<(), &'static str> {
    let mut below = false;
    for part in path.components() {
        match part {
            Component::RootDir | Component::Prefix(_) => return Err("which is an absolute path"),
            Component::ParentDir if below => return Err("which contains \"..\" after a directory name"),
            Component::ParentDir | Component::CurDir => {}
            Component::Normal(_) => below = true,
        }
    }
    Ok(())
}

/// Whether a link at `path` leads out of the tree at `root`.
pub(super) fn leads_out(path: &Path, target: &Path, root: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(root) else { return true };
    let depth = inside.components().count().saturating_sub(1);
    target.components().filter(|part| *part == Component::ParentDir).count() > depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_or_refused() {
        for (raw, expected) in [
            ("./a/./b//c/", Ok("a/b/c")),
            ("./", Ok("")),
            ("..a/b..", Ok("..a/b..")),
            ("a/../b", Err("..")),
            ("..", Err("..")),
            ("/etc/passwd", Err("absolute")),
            ("a\nb", Err("control")),
        ] {
            match (checked_path(raw.as_bytes()), expected) {
                (Ok(path), Ok(plain)) => assert_eq!(path, Path::new(plain), "{raw:?}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{raw:?}: {why}"),
                other => panic!("{raw:?}: {other:?}"),
            }
        }
        assert!(checked_path("a/".repeat(600).as_bytes()).is_err());
        assert!(checked_path("a".repeat(256).as_bytes()).is_err());
    }

    #[test]
    fn a_link_stays_in_its_tree_or_leads_out() {
        for (path, target, out) in [
            ("s/a", "b", false),
            ("s/d/a", "../b", false),
            ("s/a", "../b", true),
            ("s/d/a", "../../m/b", true),
            ("m/a", "b", true),
        ] {
            assert_eq!(
                leads_out(Path::new(path), Path::new(target), Path::new("s")),
                out,
                "{path} -> {target}"
            );
        }
        assert!(checked_target(Path::new("d/../../x")).is_err());
        assert!(checked_target(Path::new("/x")).is_err());
    }
}
