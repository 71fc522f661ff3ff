//! Signs modules with the machine owner's key, as the kernel's own sign-file does it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::kernel::Headers;
use crate::session::Session;
use crate::sys::file;
use crate::sys::run::{Cmd, which};
use crate::types::Target;

/// Signs for one kernel.
#[derive(Debug)]
pub struct Signer {
    program: PathBuf,
    hash: String,
    key: String,
    certificate: PathBuf,
}

/// Whether modules get signed.
#[derive(Debug)]
pub enum Signing {
    /// By this signer.
    With(Signer),
    /// Not at all, because of this; a kernel that demands signatures will refuse them.
    Not(String),
    /// The kernel knows no signatures.
    Unknown,
}

/// Finds program and keys, making a key pair when there is none.
pub fn prepare(session: &Session, target: &Target, headers: &Headers) -> Result<Signing> {
    let Some(hash) = headers.sig_hash.clone() else { return Ok(Signing::Unknown) };
    let framework = &session.policy.framework;
    let Some(program) = framework.sign_file(target).or_else(|| headers.sign_file.clone()) else {
        return Ok(Signing::Not("the headers bring no sign-file".into()));
    };
    let (key, certificate) = session.policy.row.mok;
    let key = framework.signing_key(target).unwrap_or_else(|| own(session, key));
    let certificate: PathBuf =
        framework.certificate(target).unwrap_or_else(|| own(session, certificate)).into();
    if !key.starts_with("pkcs11:") && (!Path::new(&key).is_file() || !certificate.is_file()) {
        if which("openssl").is_none() {
            return Ok(Signing::Not("there is no signing key, and no openssl to make one".into()));
        }
        generate(Path::new(&key), &certificate)?;
        session.screen.progress(&format!(
            "dkms: made a key pair to sign modules with. Under Secure Boot, enrol it once: mokutil --import {}",
            certificate.display()
        ));
    }
    if !certificate.is_file() {
        return Ok(Signing::Not(format!("the certificate {} does not exist", certificate.display())));
    }
    Ok(Signing::With(Signer { program, hash, key, certificate }))
}

/// The default key lies in the registry, wherever that is.
fn own(session: &Session, path: &str) -> String {
    match path.strip_prefix("/var/lib/dkms/") {
        Some(name) => session.layout.dkms_tree.join(name).display().to_string(),
        None => path.to_owned(),
    }
}

/// Makes a key pair. The certificate is good for modules only, so that a stolen key signs no kernel; the private
/// key is never readable by anybody else, not even for a moment.
#[allow(clippy::disallowed_methods)] // both files are complete before they get their names
pub fn generate(key: &Path, certificate: &Path) -> Result<()> {
    for path in [key, certificate] {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
    }
    let (new_key, new_certificate) = (file::temp_beside(key), file::temp_beside(certificate));
    let made = (|| -> Result<()> {
        fs::File::create_new(&new_key)?.set_permissions(fs::Permissions::from_mode(0o600))?;
        Cmd::new("openssl")
            .args(["req", "-new", "-x509", "-nodes", "-days", "36500", "-newkey", "rsa:2048"])
            .args(["-subj", "/CN=DKMS module signing key", "-outform", "DER"])
            .args(["-addext", "extendedKeyUsage=codeSigning,1.3.6.1.4.1.2312.16.1.2"])
            .arg("-keyout")
            .arg(&new_key)
            .arg("-out")
            .arg(&new_certificate)
            .check()
            .context("making a signing key")?;
        fs::set_permissions(&new_key, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new_key, key)?;
        fs::rename(&new_certificate, certificate)?;
        file::sync_dir(key.parent().unwrap_or(Path::new("/")))
    })();
    if made.is_err() {
        let _ = fs::remove_file(&new_key);
        let _ = fs::remove_file(&new_certificate);
    }
    made
}

impl Signer {
    /// Signs a module's content. `scratch` is a directory that only root can write.
    pub fn sign(&self, content: &[u8], scratch: &Path) -> Result<Vec<u8>> {
        let path = scratch.join("unsigned.ko");
        file::write_atomic(&path, content, 0o600)?;
        let result =
            Cmd::new(&self.program).args([&self.hash, &self.key]).arg(&self.certificate).arg(&path).check();
        let signed = result.and_then(|_| Ok(fs::read(&path)?));
        file::remove_all(&path)?;
        let signed = signed.context("signing")?;
        if !signed.ends_with(b"~Module signature appended~\n") {
            bail!("{} left no signature", self.program.display());
        }
        Ok(signed)
    }
}
