//! Module compression: the same as that of the kernel's own modules.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{CompressionLevels, Config, Index};

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
    let content = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Compression::of(&path.to_string_lossy())
        .decompress(&content)
        .with_context(|| format!("decompressing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
