//! The metadata of a module file: `.modinfo` and `__versions`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

/// The metadata of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// `vermagic`
    pub vermagic: String,
    /// `version`; empty if it is not set.
    pub version: String,
    /// `srcversion`; empty if it is not set.
    pub srcversion: String,
    /// CRCs of the imported symbols, if the module was built with modversions.
    pub imports: BTreeMap<String, u32>,
}

/// The end of every signed module.
pub const SIGNATURE: &[u8] = b"~Module signature appended~\n";

/// Whether a module's content ends with a signature.
pub fn is_signed(content: &[u8]) -> bool {
    without_mark(content).is_some()
}

/// A signed module's content without its last line; `None` if it is not signed.
pub fn without_mark(content: &[u8]) -> Option<&[u8]> {
    content.strip_suffix(SIGNATURE)
}

/// Reads an uncompressed module file.
pub fn read(content: &[u8]) -> Result<ModInfo> {
    let file = object::File::parse(content).context("not an ELF file")?;
    let Some(section) = file.section_by_name(".modinfo") else {
        bail!("not a kernel module: no .modinfo section")
    };
    let text = section.data().context("the .modinfo section cannot be read")?;
    let mut info = ModInfo::default();
    for entry in text.split(|byte| *byte == 0) {
        let entry = String::from_utf8_lossy(entry);
        match entry.split_once('=') {
            Some(("vermagic", value)) => info.vermagic = value.to_owned(),
            Some(("version", value)) => info.version = value.to_owned(),
            Some(("srcversion", value)) => info.srcversion = value.to_owned(),
            _ => {}
        }
    }
    if let Some(section) = file.section_by_name("__versions") {
        // struct modversion_info: an unsigned long, then the name, 64 bytes together on every architecture.
        let long = if file.is_64() { 8 } else { 4 };
        let data = section.data().context("the __versions section cannot be read")?;
        for entry in data.chunks_exact(64) {
            let crc: Option<[u8; 4]> = if file.is_little_endian() {
                entry.get(..4).and_then(|crc| crc.try_into().ok())
            } else {
                entry.get(long - 4..long).and_then(|crc| crc.try_into().ok())
            };
            let name = entry[long..].split(|byte| *byte == 0).next().unwrap_or_default();
            if let Some(crc) = crc {
                let crc =
                    if file.is_little_endian() { u32::from_le_bytes(crc) } else { u32::from_be_bytes(crc) };
                info.imports.insert(String::from_utf8_lossy(name).into_owned(), crc);
            }
        }
    }
    Ok(info)
}

/// The name of a module in the kernel: dashes are underscores.
pub fn canonical_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The module in a file: `kernel/a/b-c.ko.xz` → `b_c`.
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    canonical_name(file.split_once(".ko").map_or(file, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_says_so() {
        assert!(read(b"hello").unwrap_err().to_string().contains("not an ELF"));
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(read(&own).unwrap_err().to_string().contains("not a kernel module"));
    }

    #[test]
    fn files_are_called_like_modules_or_not() {
        assert_eq!(module_name("updates/dkms/hid-digimend-kye.ko.xz"), "hid_digimend_kye");
    }
}
