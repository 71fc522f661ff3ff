//! Keys of a store, each in one line: `NAME:BASE64`. The name helps people to tell keys apart; only the bytes count. A private key
//! has 64 of them, its public key follows the seed: neither is ever taken for the other.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::sys::time;

/// The bytes of a private key, and those of a public one.
const PRIVATE: usize = 64;
const PUBLIC: usize = 32;

/// A key that signs manifests.
pub struct PrivateKey {
    name: String,
    key: SigningKey,
}

/// A key whose signatures are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
    /// The last day on which it is trusted, `YYYY-MM-DD`.
    until: Option<String>,
}

/// A new key, from 32 random bytes.
pub fn generate(name: &str, seed: &[u8; 32]) -> Result<PrivateKey> {
    Ok(PrivateKey { name: checked(name)?, key: SigningKey::from_bytes(seed) })
}

/// The name of a key appears in file names and messages.
fn checked(name: &str) -> Result<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        bail!("{name:?} is not a name of a key: 1 to 64 letters, digits and . _ -");
    }
    Ok(name.to_owned())
}

/// `NAME:BASE64` with this number of bytes. The text is not repeated in an error: it may be private.
fn parse<const SIZE: usize>(line: &str) -> Result<(String, [u8; SIZE])> {
    let (name, text) = line.trim().split_once(':').context("a key has the form NAME:BASE64")?;
    let mut bytes = [0; PRIVATE];
    // A longer text does not fit into the buffer.
    let content = Base64::decode(text, &mut bytes).ok();
    match content.map(|content| (content.len(), content.try_into())) {
        Some((_, Ok(content))) => Ok((checked(name)?, content)),
        Some((PUBLIC, _)) => bail!("this is a public key; a private one is needed here"),
        Some((PRIVATE, _)) => bail!("this is a private key; the public one is needed here"),
        _ => bail!("a key has the form NAME:BASE64, with {SIZE} bytes"),
    }
}

/// The key in the content of a key file: lines that begin with `#` are comments.
fn line_of(text: &str) -> Result<&str> {
    let line = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'));
    line.context("there is no key")
}

impl FromStr for PrivateKey {
    type Err = anyhow::Error;
    /// Reads the content of a key file.
    fn from_str(text: &str) -> Result<Self> {
        let (name, bytes) = parse::<PRIVATE>(line_of(text)?)?;
        let key = SigningKey::from_keypair_bytes(&bytes).ok();
        Ok(Self { name, key: key.context("the two halves of the key do not belong together")? })
    }
}

impl PrivateKey {
    /// The line that [`from_str`](Self::from_str) reads.
    pub fn line(&self) -> String {
        format!("{}:{}", self.name, Base64::encode_string(&self.key.to_keypair_bytes()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that verifies its signatures.
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key(), until: None }
    }

    /// Signs a message.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.name)
    }
}

impl FromStr for PublicKey {
    type Err = anyhow::Error;
    /// Reads `NAME:BASE64`, or `NAME:BASE64 until YYYY-MM-DD`.
    fn from_str(text: &str) -> Result<Self> {
        let text = line_of(text)?;
        let (key, until) = match text.split_once(" until ") {
            Some((key, until)) => (key, Some(until.trim().to_owned())),
            None => (text, None),
        };
        if let Some(until) = until.as_deref().filter(|until| !time::is_day(until)) {
            bail!("`until {until}` is not a day: YYYY-MM-DD");
        }
        let (name, bytes) = parse::<PUBLIC>(key)?;
        let key = VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak());
        Ok(Self { name, key: key.context("the bytes are not a public ed25519 key")?, until })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, Base64::encode_string(self.key.as_bytes()))
    }
}

impl PublicKey {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is still trusted on this day, `YYYY-MM-DD`.
    pub fn valid_on(&self, today: &str) -> bool {
        self.until.as_deref().is_none_or(|until| today <= until)
    }

    /// Whether a signature of this message is valid; strictly: one message has one signature per key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_line() {
        let private = generate("fleet-2026", &[7; 32]).unwrap();
        let public = private.public();
        assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        let file = format!("# a comment\n\n{}\n", private.line());
        assert_eq!(file.parse::<PrivateKey>().unwrap().public(), public);
        assert!(!format!("{private:?}").contains(&private.line()[12..]), "{private:?}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = generate("a", &[7; 32]).unwrap().public().to_string();
        for text in [
            "",
            "a",
            "a:",
            ":AAAA",
            "a b:AAAA",
            "a:AAAA",
            &good[2..],
            &good[..good.len() - 4],
            &format!("{good}AAAA"),
            &good.replace('=', ""),
            &format!("{good} until tomorrow"),
            &format!("{good} until 2027-1-1"),
            &format!("{good} until 2027-02-30"),
            &format!("{good} until 2027-13-01"),
            &format!("{good} until "),
            // The neutral element: every message has a valid signature.
            "a:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_private_key_is_no_public_one_and_the_reverse() {
        let key = generate("a", &[7; 32]).unwrap();
        let (private, public) = (key.line(), key.public().to_string());
        let public_error = public.parse::<PrivateKey>().unwrap_err().to_string();
        assert_eq!(public_error, "this is a public key; a private one is needed here");
        let file = format!("# Private: keep it secret\n{private}\n");
        let private_error = file.parse::<PublicKey>().unwrap_err().to_string();
        assert_eq!(private_error, "this is a private key; the public one is needed here");
        // Two halves of different keys.
        let other = generate("a", &[8; 32]).unwrap().line();
        let mixed = format!("{}{}", &private[..40], &other[40..]);
        assert!(mixed.parse::<PrivateKey>().is_err());
    }

    #[test]
    fn a_key_can_end() {
        let text = generate("a", &[7; 32]).unwrap().public().to_string();
        let key: PublicKey = format!("{text} until 2027-01-31").parse().unwrap();
        for (day, valid) in [("2026-12-31", true), ("2027-01-31", true), ("2027-02-01", false)] {
            assert_eq!(key.valid_on(day), valid, "{day}");
        }
        assert!(text.parse::<PublicKey>().unwrap().valid_on("9999-12-31"));
    }
}
