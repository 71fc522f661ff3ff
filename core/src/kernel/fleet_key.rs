//! A key that signs modules on the machine that builds for others, and whose certificate all of them have enrolled.

use std::path::Path;

use anyhow::{Context, Result};

use super::certificate::Certificate;
use super::signature::{self, Signature};
use super::{Algorithms, Kernel};
use crate::sys::hash;

/// Its certificate.
#[derive(Debug, Clone)]
pub struct FleetKey {
    /// The certificate.
    pub certificate: Certificate,
    /// Its identity in the record of what it signed. No key of this machine has it.
    pub identity: String,
}

impl FleetKey {
    /// Reads the certificate, in DER or PEM.
    pub fn load(path: &Path) -> Result<Self> {
        let read = || signature::read_certificate(&crate::sys::file::content(path)?);
        let certificate = read().with_context(|| format!("reading certificate {}", path.display()))?;
        let identity = format!("fleet {}", hash::hex(certificate.pem().as_bytes()));
        Ok(Self { certificate, identity })
    }

    /// Whether an uncompressed module has a signature of it that this kernel can verify, and was not changed since.
    pub fn has_signed(&self, module: &[u8], kernel: &Kernel) -> bool {
        let config = kernel.headers.as_ref().map(|headers| &headers.config);
        let algorithms = Algorithms::of(kernel.target.kernel.as_str(), config);
        let known = std::slice::from_ref(&self.certificate);
        matches!(signature::examine(module, known, &algorithms), Ok(Signature::Good(_)))
    }
}
