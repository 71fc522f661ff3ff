//! Unified kernel images: one EFI program with a kernel, its release and its initramfs as sections.

use std::path::Path;

use anyhow::{Context, Result, bail};
use object::read::pe::PeFile64;
use object::{Object, ObjectSection, ReadCache};

/// Longer than any release.
const RELEASE: u64 = 256;
/// Larger than any initramfs.
const INITRAMFS: u64 = 2 << 30;

/// The release of the kernel in an image; `None` if the file is no unified kernel image.
pub fn release(path: &Path) -> Option<String> {
    let text = section(path, ".uname", RELEASE).ok()?;
    let text = String::from_utf8(text).ok()?;
    Some(text.trim_end_matches('\0').trim().to_owned()).filter(|release| !release.is_empty())
}

/// The initramfs in an image.
pub fn initramfs(path: &Path) -> Result<Vec<u8>> {
    section(path, ".initrd", INITRAMFS)
}

fn section(path: &Path, name: &str, limit: u64) -> Result<Vec<u8>> {
    let read = || -> Result<Vec<u8>> {
        let file = ReadCache::new(crate::sys::file::open_regular(path)?.0);
        let image = PeFile64::parse(&file)?;
        let section = image.section_by_name(name).with_context(|| format!("no section {name}"))?;
        if section.size() > limit {
            bail!("section {name} is too large");
        }
        Ok(section.data()?.to_owned())
    };
    read().with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::write_atomic;

    /// The smallest PE file with these sections, as ukify lays them out.
    fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..2].copy_from_slice(b"MZ");
        head[60] = 64;
        head.extend(b"PE\0\0");
        head.extend(0x8664_u16.to_le_bytes());
        head.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
        head.extend([0; 12]);
        head.extend(112_u16.to_le_bytes());
        head.extend(0x22_u16.to_le_bytes());
        let mut optional = vec![0; 112];
        optional[..2].copy_from_slice(&0x20b_u16.to_le_bytes());
        head.extend(optional);
        let mut at = u32::try_from(head.len() + 40 * sections.len()).unwrap();
        for (name, data) in sections {
            let size = u32::try_from(data.len()).unwrap();
            let mut row = name.as_bytes().to_vec();
            row.resize(8, 0);
            for field in [size, 0x1000 + at, size, at] {
                row.extend(field.to_le_bytes());
            }
            row.resize(40, 0);
            head.extend(row);
            at += size;
        }
        sections.iter().for_each(|(_, data)| head.extend(*data));
        head
    }

    fn read(content: &[u8]) -> (Option<String>, Option<Vec<u8>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.efi");
        write_atomic(&path, content, 0o644).unwrap();
        (release(&path), initramfs(&path).ok())
    }

    #[test]
    fn release_and_initramfs_are_sections() {
        let whole = image(&[(".osrel", b"ID=debian"), (".uname", b"6.12.1-amd64\n\0"), (".initrd", b"cpio")]);
        assert_eq!(read(&whole), (Some("6.12.1-amd64".to_owned()), Some(b"cpio".to_vec())));
        assert_eq!(read(&image(&[(".text", b"x")])), (None, None), "a boot loader");
        assert_eq!(read(b"MZ"), (None, None));
        assert_eq!(read(b""), (None, None));
    }

    #[test]
    fn no_byte_of_an_image_is_trusted() {
        let whole = image(&[(".uname", b"6.1"), (".initrd", b"cpio")]);
        for at in 0..whole.len() {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                read(&damaged);
                read(&damaged[..at]);
            }
        }
    }
}
