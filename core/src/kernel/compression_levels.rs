//! Compression levels: framework.conf's options for gzip, xz and zstd, as values.
//!
//! dkms compresses without these programs. It applies options that change the result, ignores those that only change
//! the programs' behavior, and reports the others.

/// The levels of the three formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressionLevels {
    /// gzip: 1 to 9.
    pub gzip: u32,
    /// xz: the preset, 0 to 9, with the bit for `--extreme`.
    pub xz: u32,
    /// xz: the dictionary size in bytes; `None` for that of the preset.
    pub xz_dictionary: Option<u32>,
    /// zstd: up to 22; negative levels are faster.
    pub zstd: i32,
    /// Options that are not known.
    pub unknown: Vec<String>,
}

const EXTREME: u32 = 1 << 31;
/// The preset of the program xz, without an option for it.
const XZ_PROGRAM: u32 = 6;

impl Default for CompressionLevels {
    /// The programs' defaults, except for xz. The kernel's decoder supports a dictionary of up to 1 MiB; a quarter of
    /// it makes the largest modules less than 1 % larger, and reduces an encoder's memory from 13 to 4 MiB. Preset 3 needs a
    /// quarter of the time of preset 6, within a package transaction, and makes modules 5 % larger.
    fn default() -> Self {
        Self { gzip: 6, xz: 3, xz_dictionary: Some(256 << 10), zstd: 3, unknown: Vec::new() }
    }
}

impl CompressionLevels {
    /// Parses the options; an empty text keeps the default.
    pub fn parse(gzip: &str, xz: &str, zstd: &str) -> Self {
        let mut levels = Self::default();
        for word in gzip.split_whitespace() {
            let known = match word {
                "--fast" | "--best" => {
                    levels.gzip = if word == "--best" { 9 } else { 1 };
                    true
                }
                "--quiet" | "--force" | "--no-name" => true,
                _ => letters(word, |letter| match letter.to_digit(10) {
                    Some(0) => false,
                    Some(level) => {
                        levels.gzip = level;
                        true
                    }
                    None => "qfn".contains(letter),
                }),
            };
            if !known {
                levels.unknown.push(format!("compress_gzip_opts: {word}"));
            }
        }
        if !xz.trim().is_empty() {
            levels.xz_options(xz);
        }
        for word in zstd.split_whitespace() {
            let level = |text: &str| text.parse::<i32>().ok();
            let known = match word.strip_prefix("--") {
                Some("rm" | "ultra" | "force" | "quiet" | "no-progress") => true,
                Some("fast") => {
                    levels.zstd = -1;
                    true
                }
                Some(long) => long.strip_prefix("fast=").and_then(level).is_some_and(|fast| {
                    levels.zstd = -fast;
                    fast > 0
                }),
                None => match word.strip_prefix('-') {
                    Some("q" | "f") => true,
                    Some(threads) if threads.starts_with('T') => true,
                    Some(short) => {
                        level(short).filter(|level| (1..=22).contains(level)).is_some_and(|level| {
                            levels.zstd = level;
                            true
                        })
                    }
                    None => false,
                },
            };
            if !known {
                levels.unknown.push(format!("compress_zstd_opts: {word}"));
            }
        }
        levels
    }

    /// The admin's options replace ours completely, as in shell DKMS. The check remains crc32, because the kernel
    /// supports no other.
    fn xz_options(&mut self, options: &str) {
        (self.xz, self.xz_dictionary) = (XZ_PROGRAM, None);
        let mut extreme = 0;
        for word in options.split_whitespace() {
            let known = match word {
                "--extreme" => {
                    extreme = EXTREME;
                    true
                }
                "--best" | "--fast" => {
                    self.xz = if word == "--best" { 9 } else { 0 };
                    true
                }
                "--check=crc32" | "--quiet" | "--force" => true,
                _ if word.starts_with("-T") || word.starts_with("--threads=") => true,
                _ => match word.strip_prefix("--lzma2=") {
                    Some(filter) => filter.split(',').all(|part| self.lzma2(part)),
                    None => letters(word, |letter| {
                        match letter.to_digit(10) {
                            Some(level) => self.xz = level,
                            None if letter == 'e' => extreme = EXTREME,
                            None => return "qfkz".contains(letter),
                        }
                        true
                    }),
                },
            };
            if !known {
                self.unknown.push(format!("compress_xz_opts: {word}"));
            }
        }
        self.xz |= extreme;
    }

    fn lzma2(&mut self, part: &str) -> bool {
        match part.split_once('=') {
            Some(("preset", preset)) => {
                let (level, extreme) = match preset.strip_suffix('e') {
                    Some(level) => (level, EXTREME),
                    None => (preset, 0),
                };
                let level = level.parse().ok().filter(|level| *level <= 9);
                self.xz = level.map_or(self.xz, |level: u32| level | extreme);
                level.is_some()
            }
            Some(("dict", size)) => {
                let bytes = bytes(size).filter(|bytes| (4096..=1536 << 20).contains(bytes));
                self.xz_dictionary = bytes.or(self.xz_dictionary);
                bytes.is_some()
            }
            _ => false,
        }
    }
}

/// `-9e`: whether `take` accepts each of the letters.
fn letters(word: &str, take: impl FnMut(char) -> bool) -> bool {
    let letters = word.strip_prefix('-').filter(|letters| !letters.is_empty());
    letters.is_some_and(|letters| letters.chars().all(take))
}

/// `1MiB` → 1048576
fn bytes(text: &str) -> Option<u32> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit {
        "" => 0,
        "KiB" | "Ki" | "k" | "kB" | "K" | "KB" => 10,
        "MiB" | "Mi" | "m" | "M" | "MB" => 20,
        "GiB" | "Gi" | "g" | "G" | "GB" => 30,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_three_programs() {
        let default = CompressionLevels::default;
        let with_dictionary = |bytes| CompressionLevels { xz: 6, xz_dictionary: Some(bytes), ..default() };
        for (gzip, xz, zstd, expected) in [
            ("", "", "", default()),
            // The examples of framework.conf, which are our defaults, and shell DKMS's defaults.
            ("-6", "--check=crc32 --lzma2=preset=3,dict=256KiB", "-3", default()),
            ("-6", "--check=crc32 --lzma2=dict=1MiB -6", "-q --rm -T0 -3", with_dictionary(1 << 20)),
            ("", "--check=crc32 --lzma2=dict=256KiB", "-q --rm -T0", with_dictionary(256 << 10)),
            (
                "-9q",
                "-9e",
                "-19",
                CompressionLevels { gzip: 9, zstd: 19, xz: 9 | EXTREME, xz_dictionary: None, ..default() },
            ),
            ("--best", "", "--ultra -22", CompressionLevels { gzip: 9, zstd: 22, ..default() }),
            ("--fast", "", "--fast=5", CompressionLevels { gzip: 1, zstd: -5, ..default() }),
            ("", "-9 -e -T0", "", CompressionLevels { xz: 9 | EXTREME, xz_dictionary: None, ..default() }),
            (
                "",
                "--lzma2=preset=3e,dict=512KiB",
                "--fast",
                CompressionLevels { xz: 3 | EXTREME, xz_dictionary: Some(512 << 10), zstd: -1, ..default() },
            ),
        ] {
            assert_eq!(CompressionLevels::parse(gzip, xz, zstd), expected, "{gzip} {xz} {zstd}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (gzip, xz, zstd) in [
            ("-0", "", ""),
            ("--rsyncable", "", ""),
            ("9", "", ""),
            ("", "--check=sha256", ""),
            ("", "--lzma2=dict=1", ""),
            ("", "--lzma2=dict=4000000000GiB", ""),
            ("", "--x86", ""),
            ("", "", "-23"),
            ("", "", "--long"),
            ("", "", "--fast=x"),
        ] {
            assert_eq!(CompressionLevels::parse(gzip, xz, zstd).unknown.len(), 1, "{gzip}{xz}{zstd}");
        }
    }
}
