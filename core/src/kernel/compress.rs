//! Module compression: the same as that of the kernel's own modules.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{CompressionLevels, Config, Index};
use crate::sys::file;

/// How module files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// `.ko`
    None,
    /// `.ko.gz`
    Gzip,
    /// `.ko.xz`
    Xz,
    /// `.ko.zst`
    Zstd,
}

/// Larger than any real module; protects the memory from decompression bombs.
const LIMIT: u64 = 512 << 20;

impl Compression {
    /// The compression of the kernel's installed modules; before they are installed, from its configuration.
    pub fn detect(indexed: Option<&Index>, config: Option<&Config>, exists: impl Fn(&str) -> bool) -> Self {
        let own = |path: &&str| path.starts_with("kernel/");
        if let Some(path) = indexed.and_then(|indexed| indexed.paths().find(own)) {
            if exists(path) {
                return Self::of(path);
            }
            // The files were compressed or decompressed after modules.dep was written.
            let stem = path.split_once(".ko").map_or(path, |(stem, _)| stem);
            let now = [Self::None, Self::Gzip, Self::Xz, Self::Zstd]
                .into_iter()
                .find(|kind| exists(&format!("{stem}.ko{}", kind.suffix())));
            return now.unwrap_or_else(|| Self::of(path));
        }
        let on = |option: &str| config.is_some_and(|config| config.on(option));
        match () {
            () if on("CONFIG_MODULE_COMPRESS_XZ") => Self::Xz,
            () if on("CONFIG_MODULE_COMPRESS_ZSTD") => Self::Zstd,
            () if on("CONFIG_MODULE_COMPRESS_GZIP") => Self::Gzip,
            () => Self::None,
        }
    }

    /// By the suffix of a file name.
    pub fn of(path: &str) -> Self {
        [Self::Gzip, Self::Xz, Self::Zstd]
            .into_iter()
            .find(|kind| path.ends_with(kind.suffix()))
            .unwrap_or(Self::None)
    }

    /// The suffix after `.ko`.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// Compresses a module. The kernel's xz decoder supports only crc32 checks.
    pub fn compress(self, content: &[u8], levels: &CompressionLevels) -> Result<Vec<u8>> {
        Ok(match self {
            Self::None => content.to_owned(),
            Self::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(levels.gzip));
                encoder.write_all(content)?;
                encoder.finish()?
            }
            Self::Xz => {
                let mut options = liblzma::stream::LzmaOptions::new_preset(levels.xz)?;
                if let Some(bytes) = levels.xz_dictionary {
                    options.dict_size(bytes);
                }
                let mut filters = liblzma::stream::Filters::new();
                filters.lzma2(&options);
                let stream =
                    liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32)?;
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(content)?;
                encoder.finish()?
            }
            Self::Zstd => zstd::bulk::compress(content, levels.zstd)?,
        })
    }

    /// Decompresses a module.
    pub fn decompress(self, content: &[u8]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        match self {
            Self::None => plain.extend_from_slice(content),
            Self::Gzip => {
                flate2::read::GzDecoder::new(content).take(LIMIT).read_to_end(&mut plain)?;
            }
            Self::Xz => {
                liblzma::read::XzDecoder::new(content).take(LIMIT).read_to_end(&mut plain)?;
            }
            Self::Zstd => {
                zstd::stream::read::Decoder::new(content)?.take(LIMIT).read_to_end(&mut plain)?;
            }
        }
        Ok(plain)
    }
}

/// The content of a module file, decompressed according to its name.
pub fn read_module(path: &Path) -> Result<Vec<u8>> {
    let content = file::content(path).with_context(|| format!("reading {}", path.display()))?;
    Compression::of(&path.to_string_lossy())
        .decompress(&content)
        .with_context(|| format!("decompressing {}", path.display()))
}

/// Why a kernel that decompresses modules itself would reject this file; `None` if it can read it. Programs that load
/// modules leave decompression to such a kernel, whose decoders support less.
pub fn undecompressable(path: &Path) -> Result<Option<String>> {
    let mut start = Vec::new();
    let (file, _) = file::open_regular(path).with_context(|| format!("reading {}", path.display()))?;
    file.take(64).read_to_end(&mut start)?;
    let xz = Compression::of(&path.to_string_lossy()) == Compression::Xz;
    let unsupported = if xz { unsupported_in_xz(&start) } else { None };
    Ok(unsupported.map(|what| format!("compressed with {what}, which the kernel does not support")))
}

/// What the kernel's xz decoder does not support: checks other than CRC32, and delta filters.
fn unsupported_in_xz(start: &[u8]) -> Option<&'static str> {
    const MAGIC: &[u8] = b"\xfd7zXZ\0\0";
    const DELTA: u8 = 3;
    let rest = start.strip_prefix(MAGIC)?;
    let (check, rest) = rest.split_first()?;
    if ![0, 1].contains(check) {
        return Some("a checksum other than CRC32");
    }
    // The CRC of the header; size and flags of the first block, the sizes of its contents, its filters.
    let [_, _, _, _, _, flags, sizes @ ..] = rest else { return None };
    let known = usize::from(flags >> 6 & 1) + usize::from(flags >> 7 & 1);
    let mut numbers = sizes.split_inclusive(|byte| byte & 0x80 == 0).skip(known);
    let filter = numbers.next()?;
    (filter == [DELTA]).then_some("a delta filter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_other_decoders_support() {
        let stream = |check: u8, block: &[u8]| [b"\xfd7zXZ\0\0", &[check, 9, 9, 9, 9][..], block].concat();
        for (start, expected) in [
            (stream(1, &[2, 0, 0x21, 1]), None),
            // Both sizes before the filter.
            (stream(1, &[2, 0xc0, 0x81, 1, 3, 0x21]), None),
            (stream(1, &[2, 1, 3, 1]), Some("a delta filter")),
            (stream(1, &[2, 0xc1, 0x81, 1, 7, 3, 1]), Some("a delta filter")),
            (stream(4, &[2, 0, 0x21, 1]), Some("a checksum other than CRC32")),
            (b"\xfd7zXZ\0\0".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(unsupported_in_xz(&start), expected, "{start:?}");
        }
    }

    #[test]
    fn every_kind_returns_what_it_got() {
        let content: Vec<u8> =
            (0..200_000_u32).flat_map(|n| (n / 7 % 1000 * n % 251).to_le_bytes()).collect();
        let fast = CompressionLevels::parse("-1", "-0", "--fast=9");
        let hard = CompressionLevels::parse("-9", "-6 --extreme --lzma2=dict=64KiB", "-19");
        for kind in [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd] {
            let size = |levels: &CompressionLevels| {
                let packed = kind.compress(&content, levels).unwrap();
                assert_eq!(kind.decompress(&packed).unwrap(), content);
                packed.len()
            };
            assert!(kind == Compression::None || size(&fast) > size(&hard), "{kind:?}");
            assert_eq!(Compression::of(&format!("a.ko{}", kind.suffix())), kind);
        }
    }
}
