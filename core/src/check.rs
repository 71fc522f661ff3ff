//! Would the kernel load these modules? Checks module files as a kernel would, without that kernel: vermagic, symbols,
//! signature. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::kernel::certificate::Certificate;
use crate::kernel::signature::{self, Signature};
use crate::kernel::signature_policy::{Demand, Running, Verdict};
use crate::kernel::{self, Config, Firmware, Kernel, Symbols, elf, read_module};
use crate::session::Session;
use crate::step::{sign, verify};
use crate::sys::file;
use crate::tree::{Snapshot, is_unsigned};
use crate::types::{ModuleId, Target};

/// A module file to check.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The module package that it belongs to, unless it was named as a file.
    pub module: Option<ModuleId>,
    /// The kernel to check it against.
    pub target: Target,
    /// The file.
    pub file: PathBuf,
}

/// The result for one file.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// The file and the kernel that it was checked for.
    pub candidate: Candidate,
    /// Whether it would be loaded.
    pub verdict: Verdict,
    /// Its signature; `None` if the file could not be read.
    pub signature: Option<Signature>,
    /// Why the kernel would reject it, or why that is unknown.
    pub reasons: Vec<String>,
    /// Other remarks.
    pub notes: Vec<String>,
}

/// Assumptions of the user that replace facts about this machine.
#[derive(Debug, Clone, Default)]
pub struct Assumed {
    /// Whether Secure Boot is on.
    pub secure_boot: Option<bool>,
    /// The enrolled certificates; empty for those of this machine.
    pub enrolled: Vec<PathBuf>,
}

/// The files of every selected installed module.
pub fn installed(
    session: &Session,
    snapshot: &Snapshot,
    wanted: impl Fn(&ModuleId, &Target) -> bool,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (id, entry) in &snapshot.modules {
        for (target, build) in
            entry.builds.iter().filter(|(target, build)| build.active && wanted(id, target))
        {
            let dir = session.layout.kernel(&target.kernel);
            candidates.extend(
                build
                    .places(&dir, session.policy.distribution.destination)
                    .into_iter()
                    .map(|file| Candidate { module: Some(id.clone()), target: target.clone(), file }),
            );
        }
    }
    candidates
}

/// Checks each file.
pub fn check(session: &Session, candidates: Vec<Candidate>, assumed: &Assumed) -> Result<Vec<Assessment>> {
    let mut firmware = Firmware::read(&session.layout);
    if assumed.secure_boot.is_some() {
        firmware.secure_boot = assumed.secure_boot;
    }
    if !assumed.enrolled.is_empty() {
        firmware.enrolled =
            Some(assumed.enrolled.iter().map(|path| certificate(path)).collect::<Result<_>>()?);
    }
    let mut kernels = BTreeMap::new();
    for target in candidates.iter().map(|candidate| &candidate.target).collect::<BTreeSet<_>>() {
        kernels.insert(target.clone(), KernelContext::new(session, target, &firmware, assumed)?);
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            kernels.get(&candidate.target).map(|kernel| kernel.assess(session, &candidate))
        })
        .collect()
}

/// Modules that these kernels will reject on this machine because of their signature, according to the records of
/// builds and the list of enrolled keys. No module file is read, so that this can run after every transaction and in
/// `dkms status`. The DKMS tree is read only if a kernel rejects anything.
pub fn foreseen(
    session: &Session,
    targets: &BTreeSet<Target>,
    snapshot: impl FnOnce() -> Result<Snapshot>,
) -> Result<Vec<String>> {
    let layout = &session.layout;
    let firmware = Firmware::read(layout);
    let demand = |target: &Target| {
        let runs = kernel::running().is_some_and(|running| running == target.kernel);
        let running = runs.then(|| Running::read(layout));
        match Demand::of(kernel::config(layout, &target.kernel).as_ref(), running.as_ref(), &firmware) {
            Demand::Refuses(why) => Some(why),
            _ => None,
        }
    };
    let refusing: BTreeMap<&Target, String> =
        targets.iter().filter_map(|target| Some((target, demand(target)?))).collect();
    if refusing.is_empty() {
        return Ok(Vec::new());
    }
    let mut lines = BTreeSet::new();
    for (id, entry) in &snapshot()?.modules {
        for (target, build) in entry.builds.iter().filter(|(_, build)| build.active) {
            let (Some(why), Some(record)) = (refusing.get(target), &build.record) else { continue };
            let kernel = &target.kernel;
            let (_, path) = sign::pair(session, target);
            let built_in = certificate(&layout.headers(kernel).join("certs/signing_key.x509")).ok();
            let known = |ours: &Certificate| {
                built_in.as_ref() == Some(ours)
                    || firmware.enrolled.as_ref().is_none_or(|list| list.contains(ours))
            };
            match record.signer.as_ref().filter(|signer| !is_unsigned(signer)) {
                None => {
                    lines.insert(format!("{id} for {kernel} is unsigned; the kernel will reject it: {why}"));
                }
                Some(_) if certificate(&path).is_ok_and(|ours| !known(&ours)) => {
                    lines.insert(format!(
                        "modules for {kernel} are signed with a key that is not enrolled; the kernel will reject \
                         them: {why}; to enroll the key: {}",
                        sign::enroll(session, &path)
                    ));
                }
                Some(_) => {}
            }
        }
    }
    Ok(lines.into_iter().collect())
}

/// Everything about one kernel that the verdict on its modules depends on.
struct KernelContext {
    kernel: Kernel,
    demand: Demand,
    /// Certificates that it trusts, as far as they are visible from user space.
    known: Vec<Certificate>,
    /// Whether certificates may be enrolled that cannot be read.
    more: bool,
    /// Our own certificate, and the command that enrolls it.
    ours: Option<(Certificate, String)>,
    /// The texts of every `Module.symvers` that its modules may import from.
    symvers: Vec<Vec<u8>>,
}

impl KernelContext {
    fn new(session: &Session, target: &Target, firmware: &Firmware, assumed: &Assumed) -> Result<Self> {
        let layout = &session.layout;
        let kernel = session.kernel(target)?;
        let headers = kernel.headers.as_ref();
        let boot = headers.is_none().then(|| kernel::config(layout, &target.kernel)).flatten();
        let config: Option<&Config> = headers.map(|headers| &headers.config).or(boot.as_ref());
        // With assumptions about another machine, the running kernel does not matter.
        let here = kernel::running().is_some_and(|running| running == target.kernel);
        let running = (here && assumed.secure_boot.is_none()).then(|| Running::read(layout));
        let demand = Demand::of(config, running.as_ref(), firmware);
        let mut known = firmware.enrolled.clone().unwrap_or_default();
        let mut symvers = Vec::new();
        if let Some(headers) = headers {
            // A kernel that was built here has its built-in certificate next to it.
            let own = headers.dir.join("certs/signing_key.x509");
            known.extend(file::read_optional(&own).ok().flatten().and_then(|der| Certificate::parse(&der)));
            let mut files = vec![headers.dir.join("Module.symvers")];
            let snapshot = Snapshot::load(layout)?;
            for (id, entry) in &snapshot.modules {
                if entry.builds.get(target).is_some_and(|build| build.active) {
                    files.push(layout.built_modules(id, target).join("Module.symvers"));
                }
            }
            for file in files {
                symvers.extend(file::read_optional(&file)?);
            }
        }
        let (_, path) = sign::pair(session, target);
        let ours = certificate(&path).ok().map(|certificate| (certificate, sign::enroll(session, &path)));
        Ok(Self { kernel, demand, known, more: firmware.enrolled.is_none(), ours, symvers })
    }

    fn assess(&self, session: &Session, candidate: &Candidate) -> Result<Assessment> {
        let mut assessment = Assessment {
            candidate: candidate.clone(),
            verdict: Verdict::Loads,
            signature: None,
            reasons: Vec::new(),
            notes: Vec::new(),
        };
        let content = match read_module(&candidate.file) {
            Ok(content) => content,
            Err(error) => {
                let missing = !candidate.file.exists();
                let verdict = if missing { Verdict::Refused } else { Verdict::Unknown };
                assessment.add(verdict, if missing { "file not found".into() } else { format!("{error:#}") });
                return Ok(assessment);
            }
        };
        self.content(&content, &mut assessment);
        let signature = signature::examine(&content, &self.known)
            .with_context(|| format!("checking the signature of {}", candidate.file.display()))?;
        let (mut verdict, mut why) = self.demand.judge(&signature);
        if let Signature::UnknownKey(signer) = &signature {
            if self.more && verdict == Verdict::Refused {
                verdict = Verdict::Unknown;
                why = format!("signed by {signer}; the list of enrolled keys cannot be read");
            }
            match &self.ours {
                Some((ours, enroll)) if ours.is(signer) && verdict != Verdict::Loads => {
                    why.push_str(&format!("; to enroll this machine's key: {enroll}"));
                }
                _ if verdict == Verdict::Refused => {
                    assessment.notes.push("keys built into the kernel cannot be checked".into());
                }
                _ => {}
            }
        }
        if verdict == Verdict::Loads {
            assessment.notes.push(why)
        } else {
            assessment.add(verdict, why)
        }
        assessment.signature = Some(signature);
        if session.options.headers.is_none() && self.kernel.headers.is_none() {
            assessment
                .notes
                .push("symbol versions were not checked: kernel headers are not installed".into());
        }
        Ok(assessment)
    }

    /// Checks vermagic and symbols.
    fn content(&self, content: &[u8], assessment: &mut Assessment) {
        let refused = match &self.kernel.headers {
            Some(headers) => {
                let mut symbols = Symbols::wanted(elf::read(content).unwrap_or_default().imports.keys());
                // Reading from memory does not fail.
                self.symvers.iter().for_each(|list| drop(symbols.read(list.as_slice())));
                verify::verify(content, &self.kernel, headers, &symbols).err()
            }
            // Without headers, only the kernel release at the beginning of its vermagic is known.
            None => match elf::read(content) {
                Ok(info) => {
                    let any = kernel::Vermagic { release: String::new(), flags: Vec::new() };
                    any.refuses(self.kernel.target.kernel.as_str(), &info.vermagic)
                }
                Err(error) => Some(format!("{error:#}")),
            },
        };
        if let Some(why) = refused {
            assessment.add(Verdict::Refused, why);
        }
    }
}

impl Assessment {
    fn add(&mut self, verdict: Verdict, why: String) {
        self.verdict = self.verdict.max(verdict);
        self.reasons.push(why);
    }
}

fn certificate(path: &Path) -> Result<Certificate> {
    let content = std::fs::read(path).with_context(|| format!("reading certificate {}", path.display()))?;
    signature::read_certificate(&content).with_context(|| format!("reading certificate {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::policy::{Framework, Policy};
    use crate::report::Screen;
    use crate::session::Options;

    const TARGET: &str = "6.1.0-9-amd64/x86_64";

    /// A machine with Secure Boot and no enrolled key; one module is installed, with this signer in its record.
    fn machine(signer: &str) -> (tempfile::TempDir, Session) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let put = |name: &str, content: &[u8]| {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            file::write_atomic(&at(name), content, 0o600).unwrap();
        };
        put("sys/firmware/efi/mok-variables/SecureBoot", &[1]);
        put("sys/firmware/efi/mok-variables/MokListRT", &[]);
        put("modules/6.1.0-9-amd64/modules.dep", b"");
        put(&format!("lib/m/1/{TARGET}/module/m.ko"), b"");
        put(
            &format!("lib/.dkms-rs/records/m/1/{TARGET}.json"),
            format!(r#"{{"fingerprint": "f", "signer": {signer}}}"#).as_bytes(),
        );
        let link = at("lib/m/kernel-6.1.0-9-amd64-x86_64");
        std::os::unix::fs::symlink(format!("1/{TARGET}"), link).unwrap();
        let layout = Layout {
            dkms_tree: at("lib"),
            keys: at("lib"),
            etc: at("etc"),
            sys: at("sys"),
            install_tree: at("modules"),
            ..Layout::default()
        };
        let policy = Policy::load(&layout, Framework::default(), "");
        let (screen, options) = (Screen::package_manager(), Options::default());
        (dir, Session::new(layout, policy, options, screen))
    }

    #[test]
    fn what_secure_boot_will_refuse_is_foreseen_without_reading_modules() {
        let all = |session: &Session| {
            let snapshot = || Snapshot::load(&session.layout);
            foreseen(session, &snapshot().unwrap().targets(), snapshot).unwrap()
        };
        for (signer, said) in [("null", "is unsigned"), (r#""sha256 x (did not sign)""#, "is unsigned")] {
            let (_dir, session) = machine(signer);
            let lines = all(&session);
            assert!(lines.len() == 1 && lines[0].contains(said), "{lines:?}");
            assert_eq!(
                foreseen(&session, &BTreeSet::new(), || unreachable!()).unwrap(),
                [""; 0],
                "this kernel is not asked about"
            );
        }
        let (dir, session) = machine(r#""sha256 x""#);
        assert_eq!(all(&session), [""; 0], "nothing is known about the certificate");
        let (key, path) = (dir.path().join("lib/mok.key"), dir.path().join("lib/mok.pub"));
        sign::ensure_pair(&session, &key, &path).unwrap();
        let lines = all(&session);
        assert!(
            lines.len() == 1 && lines[0].contains(&format!("mokutil --import {}", path.display())),
            "{lines:?}"
        );
        std::fs::remove_file(session.layout.mok_variable("SecureBoot")).unwrap();
        assert_eq!(all(&session), [""; 0], "Secure Boot is not enabled");
    }
}
