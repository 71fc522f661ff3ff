//! The PKCS#7 message of a signed module, read as strictly as the kernel's parser reads it (`crypto/asymmetric_keys`).

use super::certificate::Signer;
use super::der::{Der, INTEGER, OCTETS, OID, SEQUENCE, SET, Value, context, implicit};
use super::{Config, since};

/// Why a kernel does not verify a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unverified {
    /// It rejects the module, even if it requires no signature.
    Malformed(&'static str),
    /// It lacks an algorithm, and treats the module as unsigned.
    Unsupported(&'static str),
}

use Unverified::{Malformed, Unsupported};

const UNREADABLE: Unverified = Malformed("not PKCS#7");
const ATTRIBUTES: Unverified = Malformed("contains signed attributes, which the kernel rejects");

/// 1.2.840.113549.1.7.2 and .1
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];

/// Hash algorithms.
const HASHES: [(&[u8], Hash); 9] = [
    (&[0x2b, 0x0e, 3, 2, 0x1a], Hash::Sha1),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 4], Hash::Sha256),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1], Hash::Sha256),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2], Hash::Sha512),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3], Hash::Sha512),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 8], Hash::Sha3),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 9], Hash::Sha3),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 10], Hash::Sha3),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 12], Hash::Shake),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    /// And SHA-224.
    Sha256,
    /// And SHA-384.
    Sha512,
    Sha3,
    /// Of ML-DSA.
    Shake,
}

/// Beginnings of the names of signature algorithms.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const ECDSA: [&[u8]; 3] = [
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4],
    // ECDSA with SHA-3.
    &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 10],
    &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 11],
];
const ML_DSA: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3];
/// The last number of the names of the three variants of ML-DSA.
const ML_DSA_VARIANTS: [u8; 3] = [17, 18, 19];

/// The algorithms that a kernel supports for signatures of modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithms {
    sha1: bool,
    sha512: bool,
    sha3: bool,
    ml_dsa: bool,
    /// It accepts signed attributes with ML-DSA.
    ml_dsa_attributes: bool,
}

impl Algorithms {
    /// Of a kernel with this release and configuration. If that is unknown, the usual ones are.
    pub fn of(release: &str, config: Option<&Config>) -> Self {
        let has = |option| config.is_none_or(|config| config.get(option).is_some_and(|value| value != "n"));
        Self {
            // Since 6.7, PKCS#7 with SHA-1 is not read any more, but with SHA-3.
            sha1: !since(release, (6, 7)) && has("CONFIG_CRYPTO_SHA1"),
            sha512: has("CONFIG_CRYPTO_SHA512"),
            sha3: since(release, (6, 7)) && has("CONFIG_CRYPTO_SHA3"),
            ml_dsa: since(release, (7, 0)) && has("CONFIG_CRYPTO_MLDSA"),
            ml_dsa_attributes: config
                .is_some_and(|config| config.on("CONFIG_PKCS7_WAIVE_AUTHATTRS_REJECTION_FOR_MLDSA")),
        }
    }

    fn hash(&self, algorithm: Value<'_>) -> Result<(), Unverified> {
        let name = identifier(algorithm)?;
        let known = HASHES.iter().find(|(oid, _)| *oid == name.content).map(|(_, hash)| *hash);
        let supported = match known {
            Some(Hash::Sha1) => self.sha1,
            Some(Hash::Sha256) => true,
            Some(Hash::Sha512) => self.sha512,
            Some(Hash::Sha3) => self.sha3,
            Some(Hash::Shake) => self.ml_dsa,
            None => false,
        };
        if supported { Ok(()) } else { Err(Unsupported("its hash algorithm")) }
    }

    /// Whether the algorithm is ML-DSA.
    fn signature(&self, algorithm: Value<'_>) -> Result<bool, Unverified> {
        let name = identifier(algorithm)?.content;
        if name == RSA || ECDSA.iter().any(|known| name.starts_with(known)) {
            return Ok(false);
        }
        let variant = name.strip_prefix(ML_DSA).filter(|rest| self.ml_dsa && rest.len() == 1);
        match variant.is_some_and(|rest| ML_DSA_VARIANTS.contains(&rest[0])) {
            true => Ok(true),
            false => Err(Unsupported("its signature algorithm")),
        }
    }
}

/// The signers of a message.
pub fn signers(pkcs7: &[u8], algorithms: &Algorithms) -> Result<Vec<Signer>, Unverified> {
    let mut message = Der::new(pkcs7).enter(SEQUENCE).ok_or(UNREADABLE)?;
    let kind = message.tagged(OID).ok_or(UNREADABLE)?;
    if kind.content != SIGNED_DATA {
        return Err(Malformed("not signed data"));
    }
    let signed = message.enter(context(0)).and_then(|mut content| content.enter(SEQUENCE));
    let mut signed = signed.ok_or(UNREADABLE)?;
    let version = signed.tagged(INTEGER).ok_or(UNREADABLE)?;
    if ![&[1][..], &[3]].contains(&version.content) {
        return Err(Malformed("unknown version of signed data"));
    }
    let hashes = signed.tagged(SET).ok_or(UNREADABLE)?;
    for hash in all(hashes.content, SEQUENCE)? {
        identifier(hash)?;
    }
    let mut content = signed.enter(SEQUENCE).ok_or(UNREADABLE)?;
    let kind = content.tagged(OID).ok_or(UNREADABLE)?;
    if content.next().is_some() {
        return Err(Malformed("contains embedded content"));
    }
    if kind.content != DATA {
        return Err(Malformed("not a signature of data"));
    }
    signed.tagged(context(0)); // certificates
    signed.tagged(context(1)); // revocations
    let infos = signed.tagged(SET).ok_or(UNREADABLE)?;
    end(signed)?;
    all(infos.content, SEQUENCE)?.into_iter().map(|info| signer(info, algorithms)).collect()
}

/// The signer of one signature, and whether the kernel can verify it.
fn signer(info: Value<'_>, algorithms: &Algorithms) -> Result<Signer, Unverified> {
    let mut info = Der::new(info.content);
    let version = info.tagged(INTEGER).ok_or(UNREADABLE)?.content;
    let named = info.tagged(SEQUENCE);
    let id = match named {
        Some(id) => id,
        None => info.tagged(KEY_ID).ok_or(UNREADABLE)?,
    };
    let signer = match (named.is_some(), version) {
        (true, [1]) => {
            let mut id = Der::new(id.content);
            let (issuer, serial) = (id.tagged(SEQUENCE), id.tagged(INTEGER));
            let (Some(issuer), Some(serial)) = (issuer, serial) else { return Err(UNREADABLE) };
            end(id)?;
            name(issuer)?;
            Signer::Serial { issuer: issuer.whole.to_owned(), serial: serial.content.to_owned() }
        }
        (false, [3]) => Signer::KeyId(id.content.to_owned()),
        _ => return Err(Malformed("unknown form of signer")),
    };
    algorithms.hash(info.tagged(SEQUENCE).ok_or(UNREADABLE)?)?;
    let attributes = info.tagged(context(0)).is_some();
    let ml_dsa = algorithms.signature(info.tagged(SEQUENCE).ok_or(UNREADABLE)?)?;
    info.tagged(OCTETS).ok_or(UNREADABLE)?;
    info.tagged(context(1)); // attributes that are not signed
    end(info)?;
    if attributes && !(ml_dsa && algorithms.ml_dsa_attributes) {
        return Err(ATTRIBUTES);
    }
    Ok(signer)
}

/// The tag of a key identifier, in place of a signer's name.
const KEY_ID: u8 = implicit(0);

/// The values with this tag of which the bytes must consist.
fn all(bytes: &[u8], tag: u8) -> Result<Vec<Value<'_>>, Unverified> {
    let mut rest = Der::new(bytes);
    let mut values = Vec::new();
    while !rest.is_empty() {
        values.push(rest.tagged(tag).ok_or(UNREADABLE)?);
    }
    Ok(values)
}

fn end(rest: Der<'_>) -> Result<(), Unverified> {
    if rest.is_empty() { Ok(()) } else { Err(UNREADABLE) }
}

/// An identifier and one value at most, as algorithms have it.
fn identifier(value: Value<'_>) -> Result<Value<'_>, Unverified> {
    let mut parts = Der::new(value.content);
    let identifier = parts.tagged(OID).ok_or(UNREADABLE)?;
    parts.next();
    end(parts)?;
    Ok(identifier)
}

/// A distinguished name: sets of identifiers, each with one value.
fn name(name: Value<'_>) -> Result<(), Unverified> {
    for part in all(name.content, SET)? {
        for pair in all(part.content, SEQUENCE)? {
            let mut pair = Der::new(pair.content);
            pair.tagged(OID).and_then(|_| pair.next()).ok_or(UNREADABLE)?;
            end(pair)?;
        }
    }
    Ok(())
}
