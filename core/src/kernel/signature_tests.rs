//! Signatures that openssl creates in the same way as sign-file, and modifications of them.

use std::path::Path;

use super::*;
use crate::kernel::pkcs7::signers;

fn usual() -> Algorithms {
    Algorithms::of("6.12", None)
}

fn examine(module: &[u8], known: &[Certificate]) -> Result<Signature> {
    super::examine(module, known, &usual())
}

const CONTENT: &[u8] = b"\x7fELF, for all that a signature cares";

/// A key pair in a temporary directory, and signing with it.
struct Key(tempfile::TempDir);

impl Key {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        openssl(
            dir.path(),
            &[
                "req",
                "-new",
                "-x509",
                "-nodes",
                "-newkey",
                "rsa:2048",
                "-keyout",
                "key",
                "-out",
                "pem",
                "-subj",
                &format!("/O=somewhere/CN={name}"),
            ],
        );
        Self(dir)
    }

    fn certificate(&self) -> Certificate {
        read_certificate(&std::fs::read(self.0.path().join("pem")).unwrap()).unwrap()
    }

    /// The PKCS#7 message alone.
    fn pkcs7(&self, options: &[&str]) -> Vec<u8> {
        crate::sys::file::write_atomic(&self.0.path().join("content"), CONTENT, 0o600).unwrap();
        let mut args = vec!["cms", "-sign", "-binary", "-nocerts", "-outform", "DER"];
        if !options.contains(&"-md") {
            args.extend(["-md", "sha256"]);
        }
        args.extend(["-signer", "pem", "-inkey", "key", "-in", "content", "-out", "p7"]);
        args.extend(options);
        openssl(self.0.path(), &args);
        std::fs::read(self.0.path().join("p7")).unwrap()
    }

    /// The signed module.
    fn sign(&self, options: &[&str]) -> Vec<u8> {
        append(&self.pkcs7(options))
    }
}

fn openssl(dir: &Path, args: &[&str]) {
    Cmd::new("openssl").args(args).cwd(dir).check().unwrap();
}

fn append(pkcs7: &[u8]) -> Vec<u8> {
    let length = u32::try_from(pkcs7.len()).unwrap().to_be_bytes();
    [CONTENT, pkcs7, &[0, 0, PKCS7, 0, 0, 0, 0, 0], &length, elf::SIGNATURE].concat()
}

#[test]
fn who_signed_and_whether_this_is_it() {
    let (ours, theirs) = (Key::new("ours"), Key::new("theirs"));
    let known = [theirs.certificate(), ours.certificate()];
    for options in [&["-noattr"][..], &["-noattr", "-keyid"]] {
        let module = ours.sign(options);
        let good = examine(&module, &known).unwrap();
        assert!(matches!(good, Signature::Good(_)), "{options:?}: {good}");
        let unknown = examine(&module, &known[..1]).unwrap();
        assert!(matches!(unknown, Signature::UnknownKey(_)), "{options:?}: {unknown}");
        // A single changed bit anywhere in the content or the signature.
        for at in [0, CONTENT.len() - 1, module.len() - elf::SIGNATURE.len() - TRAILER - 1] {
            let mut changed = module.clone();
            changed[at] ^= 1;
            let changed = examine(&changed, &known).unwrap();
            assert!(matches!(changed, Signature::Changed(_)), "{options:?} at {at}: {changed}");
        }
    }
    let said = examine(&ours.sign(&["-noattr"]), &[]).unwrap().to_string();
    assert_eq!(said, "signed with a key that is not enrolled (\"ours\")");
}

#[test]
fn a_stripped_module_is_an_unsigned_one() {
    let module = Key::new("k").sign(&["-noattr"]);
    assert_eq!(examine(&module[..module.len() - 1], &[]).unwrap(), Signature::None);
    assert_eq!(examine(CONTENT, &[]).unwrap(), Signature::None);
    assert_eq!(examine(b"", &[]).unwrap(), Signature::None);
}

#[test]
fn what_kernels_cannot_read_is_said_to_be_so() {
    let key = Key::new("k");
    let malformed = |module: &[u8]| match examine(module, &[key.certificate()]).unwrap() {
        Signature::Malformed(why) => why,
        other => panic!("{other}"),
    };
    assert_eq!(malformed(&key.sign(&[])), "contains signed attributes, which the kernel rejects");
    assert_eq!(malformed(&key.sign(&["-noattr", "-nodetach"])), "contains embedded content");
    assert_eq!(malformed(&append(b"hello")), "not PKCS#7");
    assert_eq!(malformed(&[b"x", elf::SIGNATURE].concat()), "the file is too short for a signature");
    assert_eq!(examine(elf::SIGNATURE, &[]).unwrap(), Signature::None);
    let module = key.sign(&["-noattr"]);
    let with = |back: usize| {
        let mut broken = module.clone();
        broken[module.len() - elf::SIGNATURE.len() - back] = 9;
        broken
    };
    for (back, why) in [(TRAILER, "reserved fields are not zero"), (4, "longer than the file")] {
        assert_eq!(malformed(&with(back)), why);
    }
    // Kernels treat what they do not know as unsigned.
    let unsupported = |module: &[u8]| matches!(examine(module, &[]).unwrap(), Signature::Unsupported(_));
    assert!(unsupported(&with(TRAILER - 2)));
    assert!(unsupported(&key.sign(&["-noattr", "-md", "sha1"])));
    assert!(!unsupported(&key.sign(&["-noattr", "-md", "sha512"])));
}

#[test]
fn nothing_that_is_cut_off_makes_it_fall() {
    let key = Key::new("k");
    let pkcs7 = key.pkcs7(&["-noattr"]);
    for length in 0..pkcs7.len() {
        assert!(signers(&pkcs7[..length], &usual()).is_err(), "{length}");
        let mut broken = pkcs7.clone();
        broken[length] ^= 0x55;
        let _ = signers(&broken, &usual());
    }
    let der = key.certificate().der;
    for length in 0..der.len() {
        assert_eq!(Certificate::parse(&der[..length]), None, "{length}");
    }
}

#[test]
fn certificates_come_in_both_forms() {
    let certificate = Key::new("k").certificate();
    assert_eq!(read_certificate(&certificate.der).unwrap(), certificate);
    assert_eq!(read_certificate(certificate.pem().as_bytes()).unwrap(), certificate);
    assert!(read_certificate(b"hello").is_err());
}
