//! Signs modules with the machine owner's key, in the same way as the kernel's sign-file.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::kernel::certificate::Certificate;
use crate::kernel::{Headers, elf};
use crate::session::Session;
use crate::sys::file;
use crate::sys::run::{Cmd, which};
use crate::types::{Attempt, Target};

/// The signer for one kernel.
#[derive(Debug)]
pub struct Signer {
    program: PathBuf,
    hash: String,
    key: String,
    certificate: PathBuf,
    /// Its identity in the record of what it signed.
    pub identity: String,
}

/// Whether modules get signed.
#[derive(Debug)]
pub enum Signing {
    /// With this signer.
    With(Box<Signer>),
    /// No, for this reason; a kernel that requires signatures will reject the modules.
    Not(String),
    /// No, according to the admin or the distribution.
    Off,
    /// The kernel does not support signatures.
    Unknown,
}

impl Signing {
    /// The signer of modules with these remarks: each unsigned module has a remark.
    pub fn signer(&self, notes: &[String]) -> Option<String> {
        match self {
            Self::With(signer) if notes.is_empty() => Some(signer.identity.clone()),
            _ => None,
        }
    }
}

/// What is wrong with an existing half of the pair: with it, nothing could be signed.
pub fn damaged(key: &str, certificate: &Path) -> Option<String> {
    let wrong = |path: &Path, whole: &dyn Fn(&[u8]) -> bool| match file::content(path) {
        Ok(content) if whole(&content) => None,
        Ok(_) => Some(format!("{} is damaged", path.display())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => None,
        Err(error) => Some(format!("{} cannot be read: {error}", path.display())),
    };
    // The kernel's sign-file reads either.
    let is_certificate =
        |content: &[u8]| Certificate::parse(content).is_some() || is_pem(content, "CERTIFICATE-----");
    let is_key = |content: &[u8]| is_pem(content, "PRIVATE KEY-----");
    let token = key.starts_with("pkcs11:");
    wrong(certificate, &is_certificate).or_else(|| if token { None } else { wrong(Path::new(key), &is_key) })
}

/// Whether a file has a whole block in PEM whose label ends like this.
fn is_pem(content: &[u8], label: &str) -> bool {
    let text = String::from_utf8_lossy(content);
    let line =
        |begin: &str| text.lines().any(|line| line.starts_with(begin) && line.trim_end().ends_with(label));
    line("-----BEGIN ") && line("-----END ")
}

/// Finds program and keys, and generates a key pair if there is none. Depends on the configuration of the kernel and
/// the admin; only in a chroot or container, where an image may be prepared, no key pair is generated.
pub fn prepare(session: &Session, target: &Target, headers: &Headers) -> Result<Signing> {
    let Some(hash) = headers.sig_hash.clone() else { return Ok(Signing::Unknown) };
    if !session.signs() {
        return Ok(Signing::Off);
    }
    let Some(program) = program(session, target, headers) else {
        return Ok(Signing::Not("the kernel headers contain no sign-file program".into()));
    };
    if !file::is_executable(&program) {
        let program = program.display();
        return Ok(Signing::Not(format!(
            "the signing program {program} does not exist or is not executable"
        )));
    }
    let (key, certificate) = pair(session, target);
    if !key.starts_with("pkcs11:") && !Path::new(&key).exists() {
        if let Err(error) = heal(Path::new(&key), &certificate) {
            return Ok(Signing::Not(format!("no signing key: {error:#}")));
        }
    }
    if !key.starts_with("pkcs11:") && !Path::new(&key).exists() {
        // The same holds for a certificate: the key may be on a medium that is not present now.
        if certificate.exists() {
            let certificate = certificate.display();
            return Ok(Signing::Not(format!("key {key} of certificate {certificate} not found")));
        }
        if !session.makes_key() {
            if session.policy.distribution.makes_key {
                // Not for each kernel.
                static SAID: std::sync::Once = std::sync::Once::new();
                SAID.call_once(|| {
                    session.screen.progress(
                        "dkms: modules are not signed: no key is generated in a chroot or container \
                         (try_sign_modules=true in framework.conf changes this)",
                    );
                });
            }
            return Ok(Signing::Off);
        }
        if let Err(error) = ensure_pair(session, Path::new(&key), &certificate) {
            return Ok(Signing::Not(format!("no signing key, and generating one failed: {error:#}")));
        }
        let enroll = enroll(session, &certificate);
        session.screen.progress(&format!(
            "dkms: generated a module signing key (MOK); with Secure Boot, enroll it once: {enroll}"
        ));
    }
    if let Some(why) = damaged(&key, &certificate) {
        return Ok(Signing::Not(format!("{why}; restore it, or see `dkms doctor`")));
    }
    // An existing key is never replaced: it may be enrolled.
    let Ok(content) = file::content(&certificate) else {
        let certificate = certificate.display();
        return Ok(Signing::Not(format!("certificate {certificate} of key {key} not found")));
    };
    let identity = identity(&hash, &content);
    Ok(Signing::With(Box::new(Signer { program, hash, key, certificate, identity })))
}

/// The signing program: the admin's, else that of the distribution or the headers.
fn program(session: &Session, target: &Target, headers: &Headers) -> Option<PathBuf> {
    session.policy.framework.sign_file(target).or_else(|| headers.sign_file.clone())
}

/// The command that enrolls a certificate with the firmware.
pub fn enroll(session: &Session, certificate: &Path) -> String {
    session.policy.distribution.enroll(certificate, |program| which(program).is_some())
}

/// Contains hash algorithm and certificate, so that a build with another signature is recognized.
fn identity(hash: &str, certificate: &[u8]) -> String {
    format!("{hash} {}", crate::sys::hash::hex(certificate))
}

/// The signer that modules should have: its identity if there is one, a text that no build has if one can be generated,
/// `None` if modules cannot be signed.
pub fn expected(session: &Session, target: &Target, headers: &Headers) -> Option<String> {
    let hash = headers.sig_hash.as_ref().filter(|_| session.signs())?;
    program(session, target, headers).filter(|program| file::is_executable(program))?;
    let (key, certificate) = pair(session, target);
    // What is signed stays as it is.
    if damaged(&key, &certificate).is_some() {
        return None;
    }
    match file::content(&certificate) {
        Ok(content) if key.starts_with("pkcs11:") || Path::new(&key).exists() => {
            Some(identity(hash, &content))
        }
        Err(_) if !Path::new(&key).exists() && session.makes_key() && which("openssl").is_some() => {
            Some("a key that is still to be made".into())
        }
        _ => None,
    }
}

/// Private key and certificate.
pub fn pair(session: &Session, target: &Target) -> (String, PathBuf) {
    session.key_pair(target)
}

/// Generates a missing key pair: the distribution's own pair with its own program, if it has one.
pub fn ensure_pair(session: &Session, key: &Path, certificate: &Path) -> Result<()> {
    let distribution = &session.policy.distribution;
    let (words, (variable, value)) = distribution.new_key;
    let own_pair = (key, certificate) == (Path::new(distribution.mok.0), Path::new(distribution.mok.1));
    let maker = words.split_first().filter(|(program, _)| own_pair && which(program).is_some());
    if let Some((program, args)) = maker {
        if let Some(dir) = key.parent() {
            file::make_dirs(dir)?;
        }
        // Whatever the program reports, only the existence of the pair counts.
        Cmd::new(*program).args(args).env(variable, value).run()?;
        if key.exists() && certificate.exists() {
            return Ok(());
        }
    }
    generate(key, certificate)
}

/// The temporary names of the halves of a new pair. They are the same in each run, so that the next one finds those of
/// a killed run.
fn halves(key: &Path, certificate: &Path) -> (PathBuf, PathBuf) {
    let beside = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!(".{name}.new"))
    };
    (beside(key), beside(certificate))
}

/// Completes a key pair after a killed run. Both halves were complete and synced before the certificate was renamed;
/// from then on, only the key has to be renamed. Before that, both are deleted.
pub fn heal(key: &Path, certificate: &Path) -> Result<()> {
    let (new_key, new_certificate) = halves(key, certificate);
    let half_done = new_key.exists() && !new_certificate.exists() && certificate.exists() && !key.exists();
    if half_done {
        return file::name_synced(&new_key, key);
    }
    // The key first: a key without the other half would look like one that only has to be renamed.
    file::remove_all(&new_key)?;
    file::remove_all(&new_certificate)
}

/// Generates a key pair: RSA with 2048 bits, because Shim and firmware do not support longer ones everywhere; valid for
/// a hundred years, because a kernel does not check the date and an expired certificate would only be misleading. The
/// certificate is valid for modules only, so that a stolen key cannot sign a kernel. The private key is at no time
/// readable by others. If this is interrupted, [`heal`] completes or deletes the pair.
#[allow(clippy::disallowed_methods)] // both files are complete and synced before they get their names
pub fn generate(key: &Path, certificate: &Path) -> Result<()> {
    if which("openssl").is_none() {
        bail!("openssl is not installed");
    }
    let dirs = [key, certificate].map(|path| path.parent().unwrap_or(Path::new("/")));
    for dir in dirs {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    heal(key, certificate)?;
    let (new_key, new_certificate) = halves(key, certificate);
    // The certificate's directory is created before the key's, also on disk: see `heal`.
    for (path, mode) in [(&new_certificate, 0o644), (&new_key, 0o600)] {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        file.with_context(|| format!("creating {}", path.display()))?;
        file::sync(path.parent().unwrap_or(Path::new("/")))?;
    }
    let made = (|| -> Result<()> {
        Cmd::new("openssl")
            .args(["req", "-new", "-x509", "-nodes", "-days", "36500", "-newkey", "rsa:2048"])
            .args(["-subj", "/CN=DKMS module signing key", "-outform", "DER"])
            .args(["-addext", "extendedKeyUsage=codeSigning,1.3.6.1.4.1.2312.16.1.2"])
            .arg("-keyout")
            .arg(&new_key)
            .arg("-out")
            .arg(&new_certificate)
            .check()
            .context("generating a signing key")?;
        fs::set_permissions(&new_key, fs::Permissions::from_mode(0o600))?;
        for path in [&new_key, &new_certificate] {
            file::sync(path)?;
        }
        Ok(())
    })();
    if made.is_err() {
        let _ = fs::remove_file(&new_key);
        let _ = fs::remove_file(&new_certificate);
        return made;
    }
    for (new, name) in [(&new_certificate, certificate), (&new_key, key)] {
        fail::fail_point!("sign:before-rename");
        file::name_synced(new, name)?;
    }
    Ok(())
}

impl Signer {
    /// Signs a module's content. `scratch` is a directory that only root can write. `Err` means that signing could not
    /// be attempted; a failure of the signing program is a value.
    pub fn sign(&self, content: &[u8], scratch: &Path) -> Attempt<Vec<u8>, String> {
        let path = scratch.join("unsigned.ko");
        file::write_unsynced(&path, content)?;
        let done =
            Cmd::new(&self.program).args([&self.hash, &self.key]).arg(&self.certificate).arg(&path).run()?;
        let signed = file::content(&path)?;
        file::remove_all(&path)?;
        if done.status.success() && elf::is_signed(&signed) {
            return Ok(Ok(signed));
        }
        let said = String::from_utf8_lossy(&done.output);
        let said = said.lines().last().unwrap_or("no signature was added");
        Ok(Err(format!("{} failed (exit code {}): {said}", self.program.display(), done.code())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_file_is_no_half_of_a_pair() {
        let dir = tempfile::tempdir().unwrap();
        let (key, certificate) = (dir.path().join("mok.key"), dir.path().join("mok.pub"));
        generate(&key, &certificate).unwrap();
        let fault = || damaged(&key.display().to_string(), &certificate);
        assert_eq!(fault(), None);
        for path in [&key, &certificate] {
            let whole = fs::read(path).unwrap();
            for damage in [&whole[..0], &whole[..whole.len() / 2], &vec![0; whole.len()][..]] {
                file::write_atomic(path, damage, 0o600).unwrap();
                assert_eq!(fault(), Some(format!("{} is damaged", path.display())));
            }
            file::remove_all(path).unwrap();
            assert_eq!(fault(), None, "a missing one is another matter");
            file::make_dirs(path).unwrap();
            assert!(fault().unwrap().contains("cannot be read"));
            file::remove_all(path).unwrap();
            file::write_atomic(path, &whole, 0o600).unwrap();
        }
        let pem = Certificate::parse(&fs::read(&certificate).unwrap()).unwrap().pem();
        file::write_atomic(&certificate, pem.as_bytes(), 0o644).unwrap();
        assert_eq!(fault(), None, "the kernel's sign-file reads this, too");
    }

    /// Every state that a kill can leave, and the result.
    #[test]
    fn a_kill_leaves_a_pair_or_nothing() {
        let names = [".mok.pub.new", ".mok.key.new", "mok.pub", "mok.key"];
        for (left, becomes) in [
            (&[][..], &[][..]),
            (&[".mok.pub.new"], &[]),
            (&[".mok.pub.new", ".mok.key.new"], &[]),
            (&["mok.pub", ".mok.key.new"], &["mok.pub", "mok.key"]),
            (&["mok.pub", "mok.key"], &["mok.pub", "mok.key"]),
            // The admin's own certificate, whose key is elsewhere.
            (&["mok.pub"], &["mok.pub"]),
            (&["mok.pub", ".mok.pub.new", ".mok.key.new"], &["mok.pub"]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for name in left {
                file::write_atomic(&dir.path().join(name), name.as_bytes(), 0o600).unwrap();
            }
            heal(&dir.path().join("mok.key"), &dir.path().join("mok.pub")).unwrap();
            let there: Vec<&str> = names.into_iter().filter(|name| dir.path().join(name).exists()).collect();
            assert_eq!(there, becomes, "{left:?}");
        }
    }
}
