//! Any bytes as a signed module, as a PKCS#7 message behind a module, and as a certificate: no panic, and a signer that
//! is named is one that the bytes contain.
#![no_main]

use dkms_core::kernel::certificate::Certificate;
use dkms_core::kernel::signature::{Signature, examine};
use dkms_core::kernel::{Algorithms, elf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(certificate) = Certificate::parse(data) {
        assert!(!certificate.to_string().is_empty());
    }
    let algorithms = Algorithms::of("7.0.0", None);
    let signed = |module: &[u8]| examine(module, &[], &algorithms).expect("no program is started without a known key");
    signed(data);
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
    let module = [b"module", data, &[0, 0, 2, 0, 0, 0, 0, 0], &length, elf::SIGNATURE].concat();
    match signed(&module) {
        Signature::None | Signature::Good(_) | Signature::Changed(_) | Signature::Unchecked(..) => {
            panic!("not possible without a known key")
        }
        Signature::Malformed(_) | Signature::Unsupported(_) | Signature::UnknownKey(_) => {}
    }
});
