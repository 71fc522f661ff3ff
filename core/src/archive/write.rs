//! Writes a tarball as shell DKMS does. The same content gives the same bytes: the tarball contains nothing of the
//! machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tar::{Builder, EntryType, Header};

use super::{Refused, codec};
use crate::exit::Exit;
use crate::sys::file::{self, Staged};
use crate::types::{ModuleId, Target};

/// The content of a tarball to write.
#[derive(Debug)]
pub struct Packing<'a> {
    /// The module.
    pub module: &'a ModuleId,
    /// Its source's directory; `None` for binaries only.
    pub source: Option<&'a Path>,
    /// Its dkms.conf, for binaries only.
    pub conf: &'a Path,
    /// Its builds.
    pub builds: BTreeMap<Target, PathBuf>,
}

/// The name that shell DKMS gives a tarball. `targets` is `None` for a source-only tarball.
pub fn file_name(module: &ModuleId, targets: Option<&[Target]>) -> String {
    let list = match targets {
        None => "source-only".to_owned(),
        Some(targets) => {
            let names: Vec<_> =
                targets.iter().map(|target| format!("kernel{}-{}", target.kernel, target.arch)).collect();
            names.join("-")
        }
    };
    // As shell DKMS counts, including the line end.
    let list = if list.len() >= 200 { "manykernels".to_owned() } else { list };
    format!("{}-{}-{list}.dkms.tar.gz", module.name, module.version)
}

/// Writes the tarball atomically. Returns remarks about files that were left out, or that readers will reject.
pub fn pack(packing: &Packing<'_>, to: &Path) -> Result<Vec<String>> {
    let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kind = codec::of_name(&name)?;
    let mut remarks = Vec::new();
    let staged = Staged::with(to, 0o644, |file| {
        let done =
            codec::write(kind, io::BufWriter::new(&*file), |packed| fill(packing, packed, &mut remarks))?;
        done.into_inner().map_err(io::IntoInnerError::into_error).map(|_| ())
    });
    staged.and_then(Staged::commit).map_err(|error| match error.downcast_ref::<Refused>() {
        Some(_) => error,
        None => {
            Refused { code: Exit::TARBALL_FAILED, why: format!("could not be written: {error:#}") }.into()
        }
    })?;
    Ok(remarks)
}

fn fill(packing: &Packing<'_>, packed: &mut dyn Write, remarks: &mut Vec<String>) -> io::Result<()> {
    let mut tar = Writer::new(packed);
    tar.dir(Path::new("./"), 0)?;
    tar.dir(Path::new("./dkms_main_tree"), 0)?;
    let mut last = None;
    for (target, dir) in &packing.builds {
        let kernel = Path::new("./dkms_main_tree").join(target.kernel.as_str());
        if last != Some(&target.kernel) {
            tar.dir(&kernel, 0)?;
        }
        last = Some(&target.kernel);
        tar.tree(dir, &kernel.join(target.arch.as_str()))?;
    }
    match packing.source {
        Some(source) => tar.tree(&source.canonicalize()?, Path::new("./dkms_source_tree"))?,
        None => {
            let root = Path::new("./dkms_binaries_only");
            tar.dir(root, 0)?;
            let (name, version) =
                (format!("{}\n", packing.module.name), format!("{}\n", packing.module.version));
            tar.file(&root.join("PACKAGE_NAME"), name.as_bytes(), 0o644, 0)?;
            tar.file(&root.join("PACKAGE_VERSION"), version.as_bytes(), 0o644, 0)?;
            tar.file(&root.join("dkms.conf"), &file::content(packing.conf)?, 0o644, 0)?;
        }
    }
    remarks.append(&mut tar.remarks);
    tar.finish()
}

/// Writes a tarball whose files belong to root.
pub(crate) struct Writer<'a> {
    builder: Builder<&'a mut dyn Write>,
    remarks: Vec<String>,
}

impl<'a> Writer<'a> {
    /// A tarball that is written here.
    pub(crate) fn new(packed: &'a mut dyn Write) -> Self {
        Self { builder: Builder::new(packed), remarks: Vec::new() }
    }

    /// Writes the end.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.builder.finish()
    }

    fn header(kind: EntryType, mode: u32, mtime: i64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header
    }

    /// Adds a directory.
    pub(crate) fn dir(&mut self, path: &Path, mtime: i64) -> io::Result<()> {
        let name = format!("{}/", path.display().to_string().trim_end_matches('/'));
        self.builder.append_data(&mut Self::header(EntryType::Directory, 0o755, mtime), name, io::empty())
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &Path, content: &[u8], mode: u32, mtime: i64) -> io::Result<()> {
        let mut header = Self::header(EntryType::Regular, mode, mtime);
        header.set_size(content.len() as u64);
        self.builder.append_data(&mut header, path, content)
    }

    /// A directory with its content. Omits set-user-id bits, and everything except files, directories and links.
    fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let meta = from.symlink_metadata()?;
        if meta.is_dir() {
            self.dir(to, meta.mtime())?;
            for entry in file::sorted_entries(from) {
                self.tree(&entry, &to.join(entry.file_name().unwrap_or_default()))?;
            }
            return Ok(());
        }
        if meta.is_symlink() {
            let target = fs::read_link(from)?;
            let inside = to.strip_prefix("./").unwrap_or(to);
            let root: PathBuf = inside.components().take(1).collect();
            if target.is_absolute() || super::member::leads_out(inside, &target, &root) {
                let target = target.display();
                self.remarks
                    .push(format!("{} points to {target}; `dkms ldtarball` will reject it", from.display()));
            }
            let mut header = Self::header(EntryType::Symlink, 0o777, meta.mtime());
            return self.builder.append_link(&mut header, to, target);
        }
        if meta.is_file() {
            let mode = if meta.mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            return self.file(to, &file::content(from)?, mode, meta.mtime());
        }
        self.remarks.push(format!("skipped {}: not a file, directory or link", from.display()));
        Ok(())
    }
}

/// The path of a tarball: `wanted` if it contains a directory, else this name in the DKMS tree.
pub fn destination(default: &Path, wanted: Option<&Path>, name: &str) -> Result<PathBuf> {
    let to = match wanted {
        Some(path) if path.components().count() > 1 => path.to_owned(),
        Some(path) => default.join(path),
        None => default.join(name),
    };
    let dir = to.parent().unwrap_or(Path::new("/"));
    file::make_dirs(dir).map_err(|error| {
        anyhow::Error::from(Refused { code: Exit::UNWRITABLE, why: format!("cannot be written: {error:#}") })
    })?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_lists_the_kernels_until_they_are_too_many() {
        let id: ModuleId = "a/1".parse().unwrap();
        let target =
            |kernel: &str| Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let two = [target("6.1"), target("6.2")];
        for (targets, expected) in [
            (None, "a-1-source-only.dkms.tar.gz"),
            (Some(&two[..1]), "a-1-kernel6.1-x86_64.dkms.tar.gz"),
            (Some(&two[..]), "a-1-kernel6.1-x86_64-kernel6.2-x86_64.dkms.tar.gz"),
            (Some(&[][..]), "a-1-.dkms.tar.gz"),
        ] {
            assert_eq!(file_name(&id, targets), expected);
        }
        // One byte below shell DKMS's limit, and at the limit.
        for (length, many) in [(199, false), (200, true)] {
            let kernel = "6".repeat(length - "kernel-x86_64".len());
            assert_eq!(file_name(&id, Some(&[target(&kernel)])).contains("manykernels"), many, "{length}");
        }
    }
}
