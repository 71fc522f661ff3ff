//! Which certificates a kernel trusts for modules. An enrolled key is only trusted if the kernel was configured for it:
//! otherwise it is in a keyring that is used for kexec, and not for modules.

use super::certificate::Certificate;
use super::{Config, Firmware};
use crate::distro;

/// The certificates of a machine, as one kernel uses them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Trusted for modules.
    pub known: Vec<Certificate>,
    /// Enrolled, but not used for modules, for this reason.
    pub unused: Vec<(Certificate, &'static str)>,
    /// Enrolled, and whether the kernel uses it is unknown.
    pub doubtful: Vec<Certificate>,
    /// A module that was signed with one of these is rejected.
    pub revoked: Vec<Certificate>,
}

const NO_KEYRING: &str = "enrolled, but this kernel does not use enrolled keys for modules";
const NO_CA: &str =
    "enrolled, but this kernel accepts enrolled keys for modules only from certificate authorities";

impl Trust {
    /// Of a kernel with this release and configuration. If that is unknown, it trusts enrolled keys, as kernels of
    /// distributions do.
    pub fn of(firmware: &Firmware, config: Option<&Config>, release: &str) -> Self {
        let on = |option: &str| config.is_some_and(|config| config.on(option));
        let mut trust = Self::default();
        if on("CONFIG_SYSTEM_REVOCATION_LIST") {
            trust.revoked.clone_from(&firmware.revoked);
        }
        let enrolled = firmware.enrolled.iter().flatten();
        let machine = on("CONFIG_INTEGRITY_MACHINE_KEYRING") && on("CONFIG_SECONDARY_TRUSTED_KEYRING");
        let platform = on("CONFIG_INTEGRITY_PLATFORM_KEYRING");
        // Patched kernels also use the keyring with all keys of shim and the firmware.
        let patched = platform && distro::uses_platform_keys(release);
        if config.is_none() || patched {
            trust.known.extend(enrolled.chain(&firmware.own).cloned());
        } else if machine && firmware.trusts_enrolled {
            let only_ca = on("CONFIG_INTEGRITY_CA_MACHINE_KEYRING");
            for certificate in enrolled {
                match only_ca && !certificate.ca {
                    true => trust.unused.push((certificate.clone(), NO_CA)),
                    false => trust.known.push(certificate.clone()),
                }
            }
        } else if platform {
            trust.doubtful.extend(enrolled.cloned());
        } else {
            trust.unused.extend(enrolled.cloned().map(|certificate| (certificate, NO_KEYRING)));
        }
        trust
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate with only the mandatory fields.
    fn certificate() -> Certificate {
        Certificate::parse(&[0x30, 15, 0x30, 13, 2, 1, 1, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0])
            .unwrap()
    }

    #[test]
    fn an_enrolled_key_is_not_trusted_by_every_kernel() {
        const MACHINE: &str =
            "INTEGRITY_MACHINE_KEYRING SECONDARY_TRUSTED_KEYRING INTEGRITY_PLATFORM_KEYRING";
        for (release, options, trusts_enrolled, expected) in [
            ("6.18.2-arch1-1", MACHINE, true, "known"),
            // Shim is configured not to trust its list.
            ("6.18.2-arch1-1", MACHINE, false, "doubtful"),
            ("6.18.2-arch1-1", "INTEGRITY_PLATFORM_KEYRING", true, "doubtful"),
            ("6.18.2-cachyos", "MODULE_SIG", true, "unused"),
            ("6.18.2-arch1-1", "INTEGRITY_MACHINE_KEYRING", true, "unused"),
            ("6.18.2-x", &format!("{MACHINE} INTEGRITY_CA_MACHINE_KEYRING"), true, "unused"),
            ("5.14.0-70.el9.x86_64", "INTEGRITY_PLATFORM_KEYRING", false, "known"),
        ] {
            let text: String = options.split(' ').map(|option| format!("CONFIG_{option}=y\n")).collect();
            let firmware =
                Firmware { enrolled: Some(vec![certificate()]), trusts_enrolled, ..Firmware::default() };
            let trust = Trust::of(&firmware, Some(&Config::new(text)), release);
            let found = match (trust.known.len(), trust.unused.len(), trust.doubtful.len()) {
                (1, 0, 0) => "known",
                (0, 1, 0) => "unused",
                (0, 0, 1) => "doubtful",
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{release} {options}");
        }
    }

    #[test]
    fn revoked_certificates_count_if_the_kernel_reads_them() {
        let firmware = Firmware { revoked: vec![certificate()], ..Firmware::default() };
        let revoked = |text: &str| Trust::of(&firmware, Some(&Config::new(text)), "6.12").revoked.len();
        assert_eq!((revoked("CONFIG_SYSTEM_REVOCATION_LIST=y\n"), revoked("")), (1, 0));
    }
}
