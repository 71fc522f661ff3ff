//! Compression of tarballs: when reading, determined by the first bytes, as in tar; when writing, by the file name's
//! suffix.

use std::io::{self, BufRead, Read, Write};

use anyhow::Result;
use liblzma::stream::{CONCATENATED, Stream};

use super::Refused;
use crate::exit::Exit;
use crate::kernel::Compression;

/// The memory limit for decoding .xz. The strongest preset needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// Compressions that tar supports and dkms does not, by their first bytes.
const FOREIGN: [(&[u8], &str); 5] = [
    (b"BZh", "bzip2"),
    (b"\x5d\x00\x00", "lzma"),
    (b"LZIP", "lzip"),
    (b"\x89LZO", "lzop"),
    (b"\x1f\x9d", "compress"),
];

/// The decompressed content.
pub(crate) fn reader<'a>(mut packed: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
    let start = packed.fill_buf()?;
    if let Some((_, program)) = FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(Refused::malformed(format!(
            "is compressed with {program}, which is not supported; decompress it first"
        )));
    }
    Ok(if start.starts_with(b"\x1f\x8b") {
        Box::new(flate2::bufread::MultiGzDecoder::new(packed))
    } else if start.starts_with(b"\xfd7zXZ\0") {
        let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
        Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
    } else if start.starts_with(b"\x28\xb5\x2f\xfd") {
        Box::new(zstd::stream::read::Decoder::with_buffer(packed)?)
    } else {
        Box::new(packed)
    })
}

/// The compression for a tarball of this name.
pub(super) fn of_name(name: &str) -> Result<Compression> {
    const FOREIGN: [&str; 10] =
        [".bz2", ".tz2", ".tbz2", ".tbz", ".lz", ".lzma", ".tlz", ".lzo", ".Z", ".taZ"];
    if let Some(suffix) = FOREIGN.iter().find(|suffix| name.ends_with(**suffix)) {
        let why =
            format!("cannot be written: {suffix} is not supported; use .tar, .tar.gz, .tar.xz or .tar.zst");
        return Err(Refused { code: Exit::TARBALL_FAILED, why }.into());
    }
    let short = [
        (".tgz", Compression::Gzip),
        (".taz", Compression::Gzip),
        (".txz", Compression::Xz),
        (".tzst", Compression::Zstd),
    ];
    let short = short.iter().find(|(suffix, _)| name.ends_with(suffix)).map(|(_, kind)| *kind);
    Ok(short.unwrap_or_else(|| Compression::of(name)))
}

/// Compresses what `fill` writes.
pub(crate) fn write<W: Write>(
    kind: Compression,
    to: W,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<W> {
    Ok(match kind {
        Compression::None => {
            let mut to = to;
            fill(&mut to)?;
            to
        }
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::default());
            fill(&mut encoder)?;
            encoder.finish()?
        }
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(to, 6);
            fill(&mut encoder)?;
            encoder.finish()?
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(to, 0)?;
            encoder.include_checksum(true)?;
            fill(&mut encoder)?;
            encoder.finish()?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_how_it_is_written_and_the_content_how_it_is_read() {
        for (name, kind) in [
            ("a.dkms.tar.gz", Compression::Gzip),
            ("a.tgz", Compression::Gzip),
            ("a.tar.xz", Compression::Xz),
            ("a.txz", Compression::Xz),
            ("a.tar.zst", Compression::Zstd),
            ("a.tar", Compression::None),
            ("a", Compression::None),
        ] {
            assert_eq!(of_name(name).unwrap(), kind, "{name}");
            let packed = write(kind, Vec::new(), |to| to.write_all(b"hello")).unwrap();
            let mut text = String::new();
            reader(&packed[..]).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello", "{name}");
        }
        assert!(of_name("a.tar.bz2").unwrap_err().to_string().contains(".bz2"));
        assert!(reader(&b"BZh91AY"[..]).err().unwrap().to_string().contains("bzip2"));
    }
}
