//! Certificates, as far as they must be distinguished.

use std::fmt;

use super::der::{BOOLEAN, Der, INTEGER, OCTETS, OID, SEQUENCE, SET, context};

const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
const SUBJECT_KEY_ID: [u8; 3] = [0x55, 29, 14];
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 29, 19];

/// An X.509 certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The complete certificate, in DER.
    pub der: Vec<u8>,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    key_id: Option<Vec<u8>>,
    /// It may sign other certificates.
    pub ca: bool,
    name: String,
}

/// How a signature identifies its signer's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// By issuer (DER) and serial number.
    Serial {
        /// Its issuer, in DER.
        issuer: Vec<u8>,
        /// Its serial number, big-endian.
        serial: Vec<u8>,
    },
    /// By the identifier of its key.
    KeyId(Vec<u8>),
}

impl Certificate {
    /// Parses a certificate; `None` if it is not one.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut tbs = Der::new(der).enter(SEQUENCE)?.enter(SEQUENCE)?;
        tbs.tagged(context(0));
        let serial = tbs.tagged(INTEGER)?.content.to_owned();
        tbs.tagged(SEQUENCE)?; // the algorithm
        let issuer = tbs.tagged(SEQUENCE)?.whole.to_owned();
        tbs.tagged(SEQUENCE)?; // its validity: kernels do not look at the date
        let subject = tbs.tagged(SEQUENCE)?;
        tbs.tagged(SEQUENCE)?; // the key
        let extensions = tbs.find(|value| value.tag == context(3));
        let extension = |wanted| extension(extensions?.content, wanted);
        let key_id = extension(SUBJECT_KEY_ID).and_then(|mut id| Some(id.tagged(OCTETS)?.content.to_owned()));
        let constraints = extension(BASIC_CONSTRAINTS).and_then(|mut value| value.enter(SEQUENCE));
        let ca = constraints.and_then(|mut value| value.tagged(BOOLEAN)).is_some_and(|ca| ca.content != [0]);
        let name = common_name(subject.whole).unwrap_or_default();
        Some(Self { der: der.to_owned(), issuer, serial, key_id, ca, name })
    }

    /// Whether a signature refers to this certificate.
    pub fn is(&self, signer: &Signer) -> bool {
        match signer {
            Signer::Serial { issuer, serial } => *issuer == self.issuer && *serial == self.serial,
            Signer::KeyId(id) => self.key_id.as_ref() == Some(id),
        }
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        let text = base64(&self.der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem + "-----END CERTIFICATE-----\n"
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "\"{}\", ", self.name.escape_debug())?;
        }
        write!(f, "{}", number(&self.serial))
    }
}

/// Its name; its number if it has none.
impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial { issuer, serial } => match common_name(issuer).filter(|name| !name.is_empty()) {
                Some(name) => write!(f, "\"{}\"", name.escape_debug()),
                None => write!(f, "{}", number(serial)),
            },
            Self::KeyId(id) => write!(f, "{}", number(id)),
        }
    }
}

impl Signer {
    /// Its name and number.
    pub fn full(&self) -> String {
        match self {
            Self::Serial { issuer, serial } if common_name(issuer).is_some_and(|name| !name.is_empty()) => {
                format!("{self}, {}", number(serial))
            }
            _ => self.to_string(),
        }
    }
}

/// The value of an extension, in its octet string.
fn extension(extensions: &[u8], wanted: [u8; 3]) -> Option<Der<'_>> {
    Der::new(extensions).enter(SEQUENCE)?.find_map(|extension| {
        let mut parts = Der::new(extension.content);
        (parts.tagged(OID)?.content == wanted).then_some(())?;
        Some(Der::new(parts.last()?.content))
    })
}

/// In hexadecimal digits. A message names something in any case: what others wrote may have neither name nor number.
fn number(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "(empty)".to_owned();
    }
    let bytes: Vec<String> = bytes.iter().take(20).map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

/// The last common name of a distinguished name.
fn common_name(name: &[u8]) -> Option<String> {
    let parts = Der::new(name).enter(SEQUENCE)?.filter(|part| part.tag == SET);
    let value = |part: super::der::Value<'_>| {
        let mut pair = Der::new(part.content).enter(SEQUENCE)?;
        (pair.tagged(OID)?.content == COMMON_NAME).then_some(())?;
        Some(String::from_utf8_lossy(pair.next()?.content).into_owned())
    };
    parts.filter_map(value).last()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, at| number << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_remainder() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    /// Found by fuzzing: its serial number has no digits, and its names are empty.
    #[test]
    fn a_certificate_without_name_and_number_is_named_nevertheless() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fuzz/seeds/signature/certificate-without-name-and-number"
        );
        let certificate = Certificate::parse(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(certificate.to_string(), "(empty)");
        assert_eq!(Signer::KeyId(Vec::new()).to_string(), "(empty)");
    }

    #[test]
    fn what_is_no_certificate() {
        for bytes in [&b""[..], b"hello", &[SEQUENCE, 2, SEQUENCE, 0]] {
            assert_eq!(Certificate::parse(bytes), None);
        }
    }
}
