//! How far a tarball may expand.

use std::io::{self, Read};

/// The memory limit of a process that reads tarballs or package files. Decompressors need windows of up to 128 MiB, and
/// file lists have at most 64 MiB.
pub const MEMORY: u64 = 512 << 20;

/// Limits for unpacking an untrusted tarball.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum in bytes, whatever the size of the tarball.
    pub bytes: u64,
    /// Maximum as a multiple of the tarball's size. Sources compress to a fifth, logs to a thirtieth, a bomb to a
    /// thousandth.
    pub ratio: u64,
    /// Bytes that any tarball may have: small ones with repetitive files compress better than the ratio allows.
    pub free: u64,
    /// Maximum number of files, directories and links.
    pub members: usize,
}

impl Default for Limits {
    /// Enough for builds of the largest drivers for dozens of kernels, and for sources of the size of the kernel's.
    fn default() -> Self {
        Self { bytes: 4 << 30, ratio: 200, free: 16 << 20, members: 200_000 }
    }
}

impl Limits {
    /// The limit in bytes for a tarball of this size.
    pub fn allowed(&self, packed: u64) -> u64 {
        self.bytes.min(packed.saturating_mul(self.ratio).saturating_add(self.free))
    }
}

/// The content of the I/O error of a [`Bounded`] reader whose limit is exceeded.
#[derive(Debug, thiserror::Error)]
#[error("it expands to more than {} MiB", .allowed >> 20)]
pub(crate) struct TooMuch {
    pub(crate) allowed: u64,
}

/// Passes on at most a given number of bytes, and counts the zeros at their end.
#[derive(Debug)]
pub(crate) struct Bounded<R> {
    inner: R,
    allowed: u64,
    passed: u64,
    zeros: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(inner: R, allowed: u64) -> Self {
        Self { inner, allowed, passed: 0, zeros: 0 }
    }

    /// The number of zeros at the end of the bytes passed on so far.
    pub(crate) fn zeros(&self) -> u64 {
        self.zeros
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        self.passed = self.passed.saturating_add(count as u64);
        if self.passed > self.allowed {
            return Err(io::Error::other(TooMuch { allowed: self.allowed }));
        }
        match read.iter().rposition(|byte| *byte != 0) {
            Some(last) => self.zeros = (count - last - 1) as u64,
            None => self.zeros += count as u64,
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_tarball_may_grow_more_than_a_large_one() {
        let limits = Limits { bytes: 1000, ratio: 2, free: 100, members: 1 };
        for (packed, allowed) in [(0, 100), (50, 200), (450, 1000), (u64::MAX, 1000)] {
            assert_eq!(limits.allowed(packed), allowed, "{packed}");
        }
    }

    #[test]
    fn one_byte_too_many_is_an_error_and_zeros_are_counted() {
        let mut bounded = Bounded::new(&[1, 0, 0][..], 3);
        io::copy(&mut bounded, &mut io::sink()).unwrap();
        assert_eq!(bounded.zeros(), 2);
        let error = io::copy(&mut Bounded::new(&[0; 4][..], 3), &mut io::sink()).unwrap_err();
        assert!(error.get_ref().is_some_and(|inner| inner.is::<TooMuch>()));
    }
}
