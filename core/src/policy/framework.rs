//! framework.conf: shell DKMS's own settings.

use std::path::PathBuf;

use anyhow::Result;

use crate::conf::evaluate;
use crate::layout::Layout;
use crate::types::Target;

/// The settings that we use.
const NAMES: &str = "source_tree dkms_tree install_tree autoinstall_all_kernels parallel_jobs sign_file \
    mok_signing_key mok_certificate post_transaction";

/// Settings of framework.conf and its drop-ins; empty texts are unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Framework {
    /// Build new module packages for all kernels, not only the running and the newest one.
    pub all_kernels: bool,
    /// Upper limit of parallel jobs.
    pub parallel_jobs: Option<usize>,
    /// The signing program; `$kernelver` is replaced.
    sign_file: String,
    mok_signing_key: String,
    mok_certificate: String,
    /// Run after a transaction that changed something.
    pub post_transaction: String,
    /// Why the files could not be used.
    pub broken: Option<String>,
}

impl Framework {
    /// Reads the files and moves the layout's trees to where they say.
    pub fn load(layout: &mut Layout) -> Result<Self> {
        let files: Vec<PathBuf> = layout.framework().into_iter().filter(|path| path.exists()).collect();
        if files.is_empty() {
            return Ok(Self::default());
        }
        let raw = match evaluate::framework(&files, NAMES, &layout.evaluated())? {
            Ok(raw) => raw,
            Err(error) => return Ok(Self { broken: Some(error.to_string()), ..Self::default() }),
        };
        for (name, place) in [
            ("dkms_tree", &mut layout.dkms_tree),
            ("source_tree", &mut layout.source_tree),
            ("install_tree", &mut layout.install_tree),
        ] {
            if raw.get(name).starts_with('/') {
                *place = raw.get(name).into();
            }
        }
        let text = |name: &str| raw.get(name).to_owned();
        Ok(Self {
            all_kernels: !raw.get("autoinstall_all_kernels").is_empty(),
            parallel_jobs: raw.get("parallel_jobs").parse().ok(),
            sign_file: text("sign_file"),
            mok_signing_key: text("mok_signing_key"),
            mok_certificate: text("mok_certificate"),
            post_transaction: text("post_transaction"),
            broken: None,
        })
    }

    /// The admin's signing program for a kernel.
    pub fn sign_file(&self, target: &Target) -> Option<PathBuf> {
        expanded(&self.sign_file, target).map(PathBuf::from)
    }

    /// The admin's signing key for a kernel: a path, or a `pkcs11:` URI.
    pub fn signing_key(&self, target: &Target) -> Option<String> {
        expanded(&self.mok_signing_key, target)
    }

    /// The admin's certificate for a kernel.
    pub fn certificate(&self, target: &Target) -> Option<String> {
        expanded(&self.mok_certificate, target)
    }
}

fn expanded(text: &str, target: &Target) -> Option<String> {
    let text =
        text.replace("${kernelver}", target.kernel.as_str()).replace("$kernelver", target.kernel.as_str());
    Some(text).filter(|text| !text.is_empty())
}
