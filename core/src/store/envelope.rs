//! The envelope around a manifest: DSSE, the Dead Simple Signing Envelope of in-toto. The signature is over the exact
//! bytes of the payload and its type, which are parsed only after it was verified.

use anyhow::{Context, Result, bail};
use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::key::{PrivateKey, PublicKey};

/// The type of the payload: an in-toto statement.
const TYPE: &str = "application/vnd.in-toto+json";
/// More signatures than a manifest has.
const MOST: usize = 16;

/// The file's format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signed>,
}

/// One signature.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    /// The name of the key: a hint, which decides nothing.
    keyid: String,
    sig: String,
}

/// The signed bytes: DSSE's pre-authentication encoding.
fn message(payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {TYPE} {} ", TYPE.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

/// Signs a payload.
pub fn seal(payload: &[u8], key: &PrivateKey) -> Result<Vec<u8>> {
    let sig = Base64::encode_string(&key.sign(&message(payload)));
    let signatures = vec![Signed { keyid: key.name().to_owned(), sig }];
    let envelope =
        Envelope { payload_type: TYPE.to_owned(), payload: Base64::encode_string(payload), signatures };
    Ok(serde_json::to_vec(&envelope)?)
}

/// The payload, if its signature by one of these keys is valid. The error does not repeat any text of the file.
pub fn open(file: &[u8], keys: &[PublicKey]) -> Result<Vec<u8>> {
    let envelope: Envelope = serde_json::from_slice(file).ok().context("the manifest is malformed")?;
    if envelope.payload_type != TYPE || envelope.signatures.len() > MOST {
        bail!("the manifest is malformed");
    }
    let payload = Base64::decode_vec(&envelope.payload).ok().context("the manifest is malformed")?;
    if envelope.signatures.is_empty() {
        bail!("the manifest is not signed");
    }
    let message = message(&payload);
    let signed = envelope.signatures.iter().any(|signed| {
        let mut bytes = [0; 64];
        let whole = Base64::decode(&signed.sig, &mut bytes).is_ok_and(|content| content.len() == 64);
        whole && keys.iter().any(|key| key.verifies(&message, &bytes))
    });
    if !signed {
        bail!("the manifest is not signed with a trusted key, or was changed");
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::key::generate;

    fn key(seed: u8) -> PrivateKey {
        generate("k", &[seed; 32]).unwrap()
    }

    /// A signature by another implementation: made with OpenSSL's `pkeyutl -sign -rawin` for the key of RFC 8032's first test.
    #[test]
    fn others_sign_the_same() {
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
            0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let key = generate("rfc", &seed).unwrap();
        assert_eq!(key.public().to_string(), "rfc:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
        assert_eq!(message(b"{}"), b"DSSEv1 28 application/vnd.in-toto+json 2 {}");
        assert!(key.public().verifies(&message(b"{}"), &key.sign(&message(b"{}"))));
    }

    #[test]
    fn only_a_trusted_key_opens() {
        let file = seal(b"payload", &key(1)).unwrap();
        assert_eq!(open(&file, &[key(2).public(), key(1).public()]).unwrap(), b"payload");
        for keys in [vec![], vec![key(2).public()]] {
            let why = open(&file, &keys).unwrap_err().to_string();
            assert!(why.contains("not signed with a trusted key"), "{why}");
        }
    }

    #[test]
    fn odd_files_are_errors() {
        let text = String::from_utf8(seal(b"payload", &key(1)).unwrap()).unwrap();
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        for odd in [
            String::new(),
            "{}".into(),
            "null".into(),
            deep.clone(),
            text.replace("\"payload\":", &format!("\"payload\":{deep},\"x\":")),
            text.replace("{\"payloadType\"", "{\"payload\":\"\",\"payloadType\""),
            text.replace("\"signatures\":[", "\"signatures\":[],\"signatures\":["),
            text.replace("in-toto", "IN-TOTO"),
            text.replacen("\"signatures\":[{", "\"signatures\":[{\"x\":1,", 1),
            format!("{text} {text}"),
            text.replace("==", ""),
            text.split("\"signatures\"").next().unwrap().to_owned() + "\"signatures\":[]}",
        ] {
            assert!(open(odd.as_bytes(), &[key(1).public()]).is_err(), "{}", &odd[..odd.len().min(200)]);
        }
    }

    proptest! {
        /// However a manifest is changed, it is refused or has the same payload.
        #[test]
        fn a_changed_file_is_refused(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4)
        ) {
            let payload = b"{\"a\":[1,2,3],\"text\":\"payload\"}";
            let mut file = seal(payload, &key(1)).unwrap();
            for (at, byte, how) in edits {
                let at = at.index(file.len());
                match how {
                    0 => file[at] = byte,
                    1 => file.insert(at, byte),
                    _ => drop(file.remove(at)),
                }
            }
            if let Ok(opened) = open(&file, &[key(1).public()]) {
                prop_assert_eq!(opened, payload);
            }
        }

        #[test]
        fn nothing_panics(file in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(open(&file, &[key(1).public()]).is_err());
        }
    }
}
