//! The firmware's state: Secure Boot and the enrolled certificates. Read from the variables that shim sets for the
//! kernel; starts no process, and writes nothing.

use std::path::Path;

use super::certificate::Certificate;
use crate::layout::Layout;
use crate::sys::file;

/// The vendor GUID of most variables: EFI global.
const EFI: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// The vendor GUID of the firmware's lists of keys.
const IMAGE_SECURITY: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
/// The vendor GUID of shim's variables.
const SHIM: &str = "605dab50-e046-4300-abb6-3dd810dd8b23";
/// `EFI_CERT_X509_GUID` in its memory representation.
const X509: [u8; 16] =
    [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];

/// The state of the firmware.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firmware {
    /// Whether Secure Boot is on; `None` if the variables cannot be read.
    pub secure_boot: Option<bool>,
    /// Certificates that are enrolled; `None` if the list cannot be read.
    pub enrolled: Option<Vec<Certificate>>,
    /// Shim tells the kernel that the owner of the machine trusts them.
    pub trusts_enrolled: bool,
    /// Certificates of the firmware itself, `db`.
    pub own: Vec<Certificate>,
    /// Revoked certificates, of the firmware and of shim.
    pub revoked: Vec<Certificate>,
}

impl Firmware {
    /// Reads it. A machine without EFI has no Secure Boot.
    pub fn read(layout: &Layout) -> Self {
        if !layout.firmware().is_dir() {
            return Self { secure_boot: Some(false), enrolled: Some(Vec::new()), ..Self::default() };
        }
        // Shim's switch: the firmware verifies, but shim and the kernel do not.
        let switched_off = variable(layout, "MokSBStateRT", SHIM).is_some_and(|value| value == [1]);
        let secure_boot = variable(layout, "SecureBoot", EFI).map(|value| value == [1] && !switched_off);
        let enrolled = variable(layout, "MokListRT", SHIM).map(|list| certificates(&list));
        let all = |name, owner| certificates(&variable(layout, name, owner).unwrap_or_default());
        Self {
            secure_boot,
            enrolled,
            trusts_enrolled: variable(layout, "MokListTrustedRT", SHIM).is_some(),
            own: all("db", IMAGE_SECURITY),
            revoked: [all("dbx", IMAGE_SECURITY), all("MokListXRT", SHIM)].concat(),
        }
    }
}

/// A variable's value: from the kernel's copy for root, else from the firmware, where it follows four bytes of
/// attributes.
fn variable(layout: &Layout, name: &str, owner: &str) -> Option<Vec<u8>> {
    let read = |path: &Path| file::read_optional(path).ok().flatten();
    read(&layout.mok_variable(name)).or_else(|| {
        let value = read(&layout.efi_variable(name, owner))?;
        value.get(4..).map(<[u8]>::to_owned)
    })
}

/// The certificates in a sequence of `EFI_SIGNATURE_LIST`s. Hashes in it do not apply to modules.
fn certificates(mut lists: &[u8]) -> Vec<Certificate> {
    let mut found = Vec::new();
    while let Some((head, _)) = lists.split_first_chunk::<28>() {
        let number = |at: usize| {
            let bytes = head[at..].first_chunk().copied().unwrap_or_default();
            usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
        };
        let (all, header, each) = (number(16), number(20), number(24));
        let entries = lists.get(..all).and_then(|list| list.get(28_usize.checked_add(header)?..));
        let Some(entries) = entries else { break };
        if head.starts_with(&X509) && each > 16 {
            let ders = entries.chunks_exact(each).map(|entry| &entry[16..]);
            found.extend(ders.filter_map(Certificate::parse));
        }
        lists = &lists[all..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate with only the mandatory fields.
    fn certificate(serial: u8) -> Vec<u8> {
        let tbs = [2, 1, serial, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0];
        [&[0x30, 15, 0x30, 13][..], &tbs].concat()
    }

    fn list(kind: [u8; 16], entries: &[Vec<u8>]) -> Vec<u8> {
        let each = entries[0].len() + 16;
        let mut list = kind.to_vec();
        for number in [28 + each * entries.len(), 0, each] {
            list.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        for entry in entries {
            list.extend([7; 16]);
            list.extend(entry);
        }
        list
    }

    #[allow(clippy::disallowed_methods)] // a test lays out its own machine
    fn machine(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join("firmware/efi").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let layout = Layout { sys: dir.path().into(), ..Layout::default() };
        (dir, layout)
    }

    #[test]
    fn lists_of_certificates_and_hashes() {
        let lists = [
            list(X509, &[certificate(1)]),
            list([3; 16], &[vec![0; 32], vec![1; 32]]),
            list(X509, &[certificate(2), certificate(3)]),
        ]
        .concat();
        let wanted: Vec<_> = [1, 2, 3].iter().filter_map(|n| Certificate::parse(&certificate(*n))).collect();
        assert_eq!(certificates(&lists), wanted);
        for length in 0..lists.len() {
            assert!(certificates(&lists[..length]).len() < 3, "{length}");
        }
        assert_eq!(certificates(&[0; 28]), [], "a list of no length ends it");
    }

    #[test]
    fn both_places_and_neither() {
        let moks = list(X509, &[certificate(1)]);
        let behind = [&[6, 0, 0, 0][..], &moks].concat();
        let efi = format!("efivars/SecureBoot-{EFI}");
        let shim = format!("efivars/MokListRT-{SHIM}");
        let state = format!("efivars/MokSBStateRT-{SHIM}");
        let (on, off): (&[u8], &[u8]) = (&[6, 0, 0, 0, 1], &[6, 0, 0, 0, 0]);
        for (files, secure_boot, enrolled) in [
            (
                vec![("mok-variables/SecureBoot", &[1][..]), ("mok-variables/MokListRT", &moks)],
                Some(true),
                Some(1),
            ),
            (vec![(efi.as_str(), on), (&shim, &behind)], Some(true), Some(1)),
            (vec![(efi.as_str(), on), (&state, on)], Some(false), None),
            (vec![(efi.as_str(), off)], Some(false), None),
            (vec![("systab", &[])], None, None),
            (vec![], Some(false), Some(0)),
        ] {
            let (_dir, layout) = machine(&files);
            let firmware = Firmware::read(&layout);
            assert_eq!(firmware.secure_boot, secure_boot, "{files:?}");
            assert_eq!(firmware.enrolled.map(|list| list.len()), enrolled, "{files:?}");
        }
    }
}
