//! The object of a build: its files, one after the other, compressed with zstd. Where one ends, the signed manifest says:
//! there is no format in it that would have to be parsed.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::statement::{FileEntry, Manifest};
use crate::sys::{file, hash};

/// zstd's default.
const LEVEL: i32 = 3;

/// Packs files, given by path and content; returns the object and the entries of a manifest.
pub fn pack(files: &[(String, Vec<u8>)]) -> Result<(Vec<u8>, Vec<FileEntry>)> {
    let mut all = Vec::new();
    let mut entries = Vec::new();
    for (path, content) in files {
        all.extend_from_slice(content);
        let (path, sha256) = (path.clone(), hash::hex(content));
        entries.push(FileEntry { path, sha256, size: content.len() as u64 });
    }
    Ok((zstd::bulk::compress(&all, LEVEL)?, entries))
}

/// The files of an object, which must be exactly those of the manifest. Nothing is decompressed whose hash is wrong, and
/// no more than the manifest states.
pub(super) fn unpack(object: &[u8], manifest: &Manifest) -> Result<Vec<(String, Vec<u8>)>> {
    if hash::hex(object) != manifest.object.sha256 {
        bail!("the hash of the object does not match the manifest");
    }
    let size = manifest.size();
    let mut all = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(object).context("decompressing the object")?;
    decoder.take(size + 1).read_to_end(&mut all).context("decompressing the object")?;
    if all.len() as u64 != size {
        bail!("the object does not have the size of its files");
    }
    let mut rest = all.as_slice();
    let mut files = Vec::new();
    for entry in &manifest.files {
        let (content, more) =
            rest.split_at_checked(entry.size as usize).context("the object is too short")?;
        if hash::hex(content) != entry.sha256 {
            bail!("the hash of {} does not match the manifest", entry.path);
        }
        files.push((entry.path.clone(), content.to_owned()));
        rest = more;
    }
    Ok(files)
}

/// Writes the files below a new directory, unsynced.
pub(super) fn write(files: &[(String, Vec<u8>)], to: &Path) -> Result<()> {
    files.iter().try_for_each(|(path, content)| file::write_unsynced(&to.join(path), content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::statement::sample;

    #[test]
    fn files_come_back_and_nothing_else() {
        let files =
            vec![("log/make.log".to_owned(), b"log".to_vec()), ("module/a.ko".to_owned(), vec![7; 5000])];
        let (object, entries) = pack(&files).unwrap();
        let entry = |content: &[u8]| FileEntry {
            path: "object".into(),
            sha256: hash::hex(content),
            size: content.len() as u64,
        };
        let good = Manifest { files: entries, object: entry(&object), ..sample() };
        assert_eq!(unpack(&object, &good).unwrap(), files);
        let longer = |files: &[FileEntry], by: u64| {
            let mut files = files.to_vec();
            files[1].size += by;
            files
        };
        // A bomb whose hash is the stated one.
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], LEVEL).unwrap();
        for (object, manifest) in [
            (&object[1..], good.clone()),
            (&object[..object.len() - 1], good.clone()),
            (b"".as_slice(), good.clone()),
            (b"".as_slice(), Manifest { object: entry(b""), ..good.clone() }),
            (b"no zstd".as_slice(), Manifest { object: entry(b"no zstd"), ..good.clone() }),
            (bomb.as_slice(), Manifest { object: entry(&bomb), ..good.clone() }),
            (object.as_slice(), Manifest { files: longer(&good.files, 1), ..good.clone() }),
            (object.as_slice(), Manifest { files: good.files[..1].to_vec(), ..good.clone() }),
            (
                object.as_slice(),
                Manifest { files: good.files.iter().rev().cloned().collect(), ..good.clone() },
            ),
        ] {
            assert!(unpack(object, &manifest).is_err(), "{manifest:?}");
        }
    }
}
