//! Signs modules with the machine owner's key, as the kernel's own sign-file does it.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::kernel::{Headers, elf};
use crate::session::Session;
use crate::sys::file;
use crate::sys::run::{Cmd, which};
use crate::types::{Attempt, Target};

/// Signs for one kernel.
#[derive(Debug)]
pub struct Signer {
    program: PathBuf,
    hash: String,
    key: String,
    certificate: PathBuf,
    /// Its name in the record of what it signed.
    pub identity: String,
}

/// Whether modules get signed.
#[derive(Debug)]
pub enum Signing {
    /// By this signer.
    With(Box<Signer>),
    /// Not at all, because of this; a kernel that demands signatures will refuse them.
    Not(String),
    /// Not at all, because the admin, or the distribution, wants it so.
    Off,
    /// The kernel knows no signatures.
    Unknown,
}

impl Signing {
    /// Who signed, when this was said about it: each module that is not signed has its note.
    pub fn signer(&self, notes: &[String]) -> Option<String> {
        match self {
            Self::With(signer) if notes.is_empty() => Some(signer.identity.clone()),
            _ => None,
        }
    }
}

/// Finds program and keys, making a key pair when there is none. What decides is the kernel's configuration and the
/// admin's, never the place in which we run.
pub fn prepare(session: &Session, target: &Target, headers: &Headers) -> Result<Signing> {
    let Some(hash) = headers.sig_hash.clone() else { return Ok(Signing::Unknown) };
    if session.policy.framework.no_signing {
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
        // Nor is a certificate: the key may be on a medium that is not there now.
        if certificate.exists() {
            let certificate = certificate.display();
            return Ok(Signing::Not(format!("key {key} of certificate {certificate} not found")));
        }
        if !session.policy.row.makes_key {
            return Ok(Signing::Off);
        }
        if let Err(error) = make(session, Path::new(&key), &certificate) {
            return Ok(Signing::Not(format!("no signing key, and generating one failed: {error:#}")));
        }
        let enrol = enrol(session, &certificate);
        session.screen.progress(&format!(
            "dkms: generated a module signing key (MOK); with Secure Boot, enroll it once: {enrol}"
        ));
    }
    // A key is never made anew over one that is there: it may be enrolled, and then nothing else would do.
    let Ok(content) = fs::read(&certificate) else {
        let certificate = certificate.display();
        return Ok(Signing::Not(format!("certificate {certificate} of key {key} not found")));
    };
    let identity = identity(&hash, &content);
    Ok(Signing::With(Box::new(Signer { program, hash, key, certificate, identity })))
}

/// The program that signs: the admin's, else what distribution and headers bring.
fn program(session: &Session, target: &Target, headers: &Headers) -> Option<PathBuf> {
    session.policy.framework.sign_file(target).or_else(|| headers.sign_file.clone())
}

/// The command that enrols a certificate with the firmware.
pub fn enrol(session: &Session, certificate: &Path) -> String {
    session.policy.row.enrol(certificate, |program| which(program).is_some())
}

/// Names hash and certificate, so that a build that was signed otherwise is known.
fn identity(hash: &str, certificate: &[u8]) -> String {
    format!("{hash} {}", crate::sys::hash::hex(certificate))
}

/// The signer that modules should have: its identity when there is one, a word that no build has when one can be
/// made, `None` when modules cannot be signed.
pub fn expected(session: &Session, target: &Target, headers: &Headers) -> Option<String> {
    let hash = headers.sig_hash.as_ref().filter(|_| !session.policy.framework.no_signing)?;
    program(session, target, headers).filter(|program| file::is_executable(program))?;
    let (key, certificate) = pair(session, target);
    match fs::read(&certificate) {
        Ok(content) if key.starts_with("pkcs11:") || Path::new(&key).exists() => {
            Some(identity(hash, &content))
        }
        Err(_) if session.policy.row.makes_key && !Path::new(&key).exists() && which("openssl").is_some() => {
            Some("a key that is still to be made".into())
        }
        _ => None,
    }
}

/// Private key and certificate: the admin's, else the distribution's.
pub fn pair(session: &Session, target: &Target) -> (String, PathBuf) {
    let framework = &session.policy.framework;
    let (key, certificate) = session.policy.row.mok;
    let own = |path: &str| session.layout.keys.join(path).display().to_string();
    let key = framework.signing_key(target).unwrap_or_else(|| own(key));
    let certificate = framework.certificate(target).unwrap_or_else(|| own(certificate));
    (key, certificate.into())
}

/// Makes a key pair where there is none: the distribution's own pair by the distribution's own program, where it has
/// one that does.
pub fn make(session: &Session, key: &Path, certificate: &Path) -> Result<()> {
    let row = &session.policy.row;
    let (words, (variable, value)) = row.new_key;
    let own_pair = (key, certificate) == (Path::new(row.mok.0), Path::new(row.mok.1));
    let maker = words.split_first().filter(|(program, _)| own_pair && which(program).is_some());
    if let Some((program, args)) = maker {
        if let Some(dir) = key.parent() {
            file::make_dirs(dir)?;
        }
        // Whatever it says, what counts is whether the pair is there now.
        Cmd::new(*program).args(args).env(variable, value).run()?;
        if key.exists() && certificate.exists() {
            return Ok(());
        }
    }
    generate(key, certificate)
}

/// The names under which the halves of a new pair are written. They are the same in each run, so that the next one finds what
/// a killed one left.
fn halves(key: &Path, certificate: &Path) -> (PathBuf, PathBuf) {
    let beside = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!(".{name}.new"))
    };
    (beside(key), beside(certificate))
}

/// Ends what a run began that was killed while it made a pair. Both halves were complete and synced before the certificate got
/// its name; from then on the key needs nothing but its own. Before that nothing counts.
pub fn heal(key: &Path, certificate: &Path) -> Result<()> {
    let (new_key, new_certificate) = halves(key, certificate);
    let half_done = new_key.exists() && !new_certificate.exists() && certificate.exists() && !key.exists();
    if half_done {
        return file::name_synced(&new_key, key);
    }
    // The key first: a key without the other half would look like one that only needs its name.
    file::remove_all(&new_key)?;
    file::remove_all(&new_certificate)
}

/// Generates a key pair: RSA with 2048 bits, because Shim and firmware verify no longer ones everywhere; valid for a hundred
/// years, because a kernel does not ask for the date and an expired certificate would only mislead. The certificate is good for
/// modules only, so that a stolen key signs no kernel. The private key is never readable by anyone else, not even for a
/// moment. Whenever this is interrupted, [`heal`] makes a pair or nothing of what it left.
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
    // The certificate's place is there before the key's, also on disk: see `heal`.
    for (path, mode) in [(&new_certificate, 0o644), (&new_key, 0o600)] {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        file.with_context(|| format!("creating {}", path.display()))?;
        file::sync_dir(path.parent().unwrap_or(Path::new("/")))?;
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
            let synced = fs::File::open(path).and_then(|file| file.sync_all());
            synced.with_context(|| format!("syncing {}", path.display()))?;
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
    /// Signs a module's content. `scratch` is a directory that only root can write. `Err` means that we could not
    /// try; what the signing program refuses is a value.
    pub fn sign(&self, content: &[u8], scratch: &Path) -> Attempt<Vec<u8>, String> {
        let path = scratch.join("unsigned.ko");
        file::write_atomic(&path, content, 0o600)?;
        let done =
            Cmd::new(&self.program).args([&self.hash, &self.key]).arg(&self.certificate).arg(&path).run()?;
        let signed = fs::read(&path)?;
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

    /// Every state that a kill can leave, and what becomes of it.
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
