//! The signature at the end of a module, verified without the kernel: its signer, whether the signer's certificate is
//! known, and whether the content is unchanged. The cryptography is done by the program `openssl`, which also generates
//! the keys. A cryptographic library in every program that runs as root would be a large dependency for this one check.

use std::fmt;

use anyhow::{Result, bail};

use super::certificate::{Certificate, Signer};
use super::elf;
use super::pkcs7::{self, Algorithms, Unverified};
use crate::sys::memfd::MemoryFile;
use crate::sys::run::{Cmd, which};

/// `struct module_signature`, between the signature and the last line.
const TRAILER: usize = 12;
/// Its `id_type` for PKCS#7, the only one that kernels accept since 4.3.
const PKCS7: u8 = 2;

/// The state of a module's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// Unsigned.
    None,
    /// A signature that no kernel can read.
    Malformed(&'static str),
    /// A signature that this kernel cannot verify: it lacks this.
    Unsupported(&'static str),
    /// Signed with a certificate that is not among the known ones.
    UnknownKey(Signer),
    /// Modified after signing.
    Changed(Signer),
    /// Valid.
    Good(Signer),
    /// Signed with a known certificate, but the content could not be verified.
    Unchecked(Signer, String),
}

impl Signature {
    /// The signer, if there is one.
    pub fn signer(&self) -> Option<&Signer> {
        match self {
            Self::None | Self::Malformed(_) | Self::Unsupported(_) => None,
            Self::UnknownKey(signer)
            | Self::Changed(signer)
            | Self::Good(signer)
            | Self::Unchecked(signer, _) => Some(signer),
        }
    }

    /// The name in JSON output.
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Malformed(_) => "malformed",
            Self::Unsupported(_) => "unsupported",
            Self::UnknownKey(_) => "unknown-key",
            Self::Changed(_) => "changed",
            Self::Good(_) => "good",
            Self::Unchecked(..) => "unchecked",
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "unsigned"),
            Self::Malformed(why) => write!(f, "malformed signature: {why}"),
            Self::Unsupported(what) => write!(f, "signed, but the kernel does not support {what}"),
            Self::UnknownKey(signer) => write!(f, "signed with a key that is not enrolled ({signer})"),
            Self::Changed(signer) => {
                write!(f, "modified after signing by {signer}")
            }
            Self::Good(signer) => write!(f, "signed by {signer}"),
            Self::Unchecked(signer, why) => {
                write!(f, "signed by {signer}; the signature could not be verified: {why}")
            }
        }
    }
}

/// The parts of a signed module.
#[derive(Debug)]
struct Parts<'a> {
    content: &'a [u8],
    pkcs7: &'a [u8],
}

impl From<Unverified> for Signature {
    fn from(why: Unverified) -> Self {
        match why {
            Unverified::Malformed(why) => Self::Malformed(why),
            Unverified::Unsupported(what) => Self::Unsupported(what),
        }
    }
}

/// Examines an uncompressed module. `known` are the trusted certificates.
pub fn examine(module: &[u8], known: &[Certificate], algorithms: &Algorithms) -> Result<Signature> {
    let parts = match split(module) {
        Ok(Some(parts)) => parts,
        Ok(None) => return Ok(Signature::None),
        Err(why) => return Ok(why.into()),
    };
    let signers = match pkcs7::signers(parts.pkcs7, algorithms) {
        Ok(signers) => signers,
        Err(why) => return Ok(why.into()),
    };
    let Some(first) = signers.first().cloned() else { return Ok(Signature::Malformed("no signer")) };
    let certificate_of = |signer: &Signer| known.iter().find(|certificate| certificate.is(signer));
    match signers.into_iter().find_map(|signer| Some((certificate_of(&signer)?, signer))) {
        None => Ok(Signature::UnknownKey(first)),
        Some((certificate, signer)) => verify(&parts, certificate, signer),
    }
}

/// A module without its signature, if it has a readable one.
pub fn without(module: &[u8]) -> &[u8] {
    match split(module) {
        Ok(Some(parts)) => parts.content,
        _ => elf::without_mark(module).unwrap_or(module),
    }
}

/// Separates content and signature. The checks are those of the kernel's `mod_check_sig`.
fn split(module: &[u8]) -> Result<Option<Parts<'_>>, Unverified> {
    let Some(signed) = elf::without_mark(module) else { return Ok(None) };
    let Some((rest, trailer)) = signed.split_last_chunk::<TRAILER>() else {
        return Err(Unverified::Malformed("the file is too short for a signature"));
    };
    let [algo, hash, id_type, signer, key_id, pad @ .., a, b, c, d] = trailer;
    let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
    let Some(at @ 1..) = rest.len().checked_sub(length) else {
        return Err(Unverified::Malformed("longer than the file"));
    };
    if *id_type != PKCS7 {
        return Err(Unverified::Unsupported("signatures that are not PKCS#7"));
    }
    if [algo, hash, signer, key_id].into_iter().chain(pad).any(|byte| *byte != 0) {
        return Err(Unverified::Malformed("reserved fields are not zero"));
    }
    Ok(Some(Parts { content: &rest[..at], pkcs7: &rest[at..] }))
}

/// Whether the content was signed with this certificate, and is unchanged.
fn verify(parts: &Parts<'_>, certificate: &Certificate, signer: Signer) -> Result<Signature> {
    let Some(openssl) = which("openssl") else {
        return Ok(Signature::Unchecked(signer, "openssl is not installed".into()));
    };
    let signature = MemoryFile::new(parts.pkcs7)?;
    let content = MemoryFile::new(parts.content)?;
    let pem = MemoryFile::new(certificate.pem().as_bytes())?;
    let copy = MemoryFile::new(b"")?; // openssl hands out what it has verified
    // -noverify: only this certificate counts; its issuer and expiry are not checked. -nointern: certificates in the
    // signature are not used.
    let done = Cmd::new(openssl)
        .args(["cms", "-verify", "-binary", "-noverify", "-nointern", "-inform", "DER"])
        .arg("-in")
        .arg(signature.path())
        .arg("-content")
        .arg(content.path())
        .arg("-certfile")
        .arg(pem.path())
        .arg("-out")
        .arg(copy.path())
        .run()?;
    match done.code() {
        0 => Ok(Signature::Good(signer)),
        // cms(1): verification failed, although everything could be read.
        4 => Ok(Signature::Changed(signer)),
        code => {
            let said = String::from_utf8_lossy(&done.output);
            let said = said.lines().last().unwrap_or("no output").to_owned();
            Ok(Signature::Unchecked(signer, format!("openssl cms failed (exit code {code}): {said}")))
        }
    }
}

/// Reads a certificate in DER or PEM.
pub fn read_certificate(content: &[u8]) -> Result<Certificate> {
    if let Some(certificate) = Certificate::parse(content) {
        return Ok(certificate);
    }
    let Some(openssl) = which("openssl") else {
        bail!("not a DER certificate; other formats require openssl, which is not installed")
    };
    let given = MemoryFile::new(content)?;
    let der = Cmd::new(openssl)
        .args(["x509", "-outform", "DER", "-in"])
        .arg(given.path())
        .output(crate::sys::run::Output::Split)
        .run()?;
    match Certificate::parse(&der.output) {
        Some(certificate) if der.status.success() => Ok(certificate),
        _ => bail!("not an X.509 certificate"),
    }
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
