//! Keys of a store, each in one line: `NAME:BASE64`. The name helps people to tell keys apart; only the 32 bytes count.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

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

/// `NAME:BASE64` with 32 bytes. The text is not repeated in an error: it may be private.
fn parse(line: &str) -> Result<(String, [u8; 32])> {
    let (name, text) = line.trim().split_once(':').context("a key has the form NAME:BASE64")?;
    let mut bytes = [0; 32];
    // A longer text does not fit into the buffer.
    match Base64::decode(text, &mut bytes) {
        Ok(content) if content.len() == 32 => Ok((checked(name)?, bytes)),
        _ => bail!("a key has the form NAME:BASE64, with 32 bytes"),
    }
}

impl FromStr for PrivateKey {
    type Err = anyhow::Error;
    /// Reads the content of a key file: lines that begin with `#` are comments.
    fn from_str(text: &str) -> Result<Self> {
        let line = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let (name, seed) = parse(line.context("the file contains no key")?)?;
        generate(&name, &seed)
    }
}

impl PrivateKey {
    /// The line that [`from_str`](Self::from_str) reads.
    pub fn line(&self) -> String {
        format!("{}:{}", self.name, Base64::encode_string(self.key.as_bytes()))
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
        let (key, until) = match text.split_once(" until ") {
            Some((key, until)) => (key, Some(until.trim().to_owned())),
            None => (text, None),
        };
        let day = |text: &str| {
            let mask: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            mask == "0000-00-00"
        };
        if until.as_deref().is_some_and(|until| !day(until)) {
            bail!("`until` needs a day: YYYY-MM-DD");
        }
        let (name, bytes) = parse(key)?;
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
            // The neutral element: every message has a valid signature.
            "a:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
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
