//! Would the kernel load these modules? Checks module files as a kernel would, without that kernel: vermagic, symbols,
//! signature. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::kernel::certificate::{Certificate, Signer};
use crate::kernel::signature::{self, Signature};
use crate::kernel::signature_policy::{Demand, Running, Verdict};
use crate::kernel::{
    self, Algorithms, Cause, Config, Firmware, Headers, Kernel, Malformed, Module, Trust, elf, read_module,
};
use crate::marker::{self, Marker};
use crate::session::Session;
use crate::step::sign;
use crate::step::verify::{Exporters, Verifier};
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
    /// The class of the first reason for which the kernel would reject it.
    pub cause: Option<Cause>,
    /// Why the kernel would reject it, or why that is unknown.
    pub reasons: Vec<String>,
    /// Other remarks; if it would be loaded, the first is why.
    pub notes: Vec<String>,
    /// What helps.
    pub advice: Option<String>,
}

/// Assumptions of the user that replace facts about this machine.
#[derive(Debug, Clone, Default)]
pub struct Assumed {
    /// Whether Secure Boot is on.
    pub secure_boot: Option<bool>,
    /// The configuration of the kernel; `None` for its own.
    pub config: Option<PathBuf>,
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
                build.places(&dir, session.policy.destination()).into_iter().map(|file| Candidate {
                    module: Some(id.clone()),
                    target: target.clone(),
                    file,
                }),
            );
        }
    }
    // Those of native packages.
    for marker in marker::all(&session.layout) {
        let Marker { module, target, files, .. } = marker;
        if wanted(&module, &target) {
            let dir = session.layout.kernel(&target.kernel);
            candidates.extend(files.keys().map(|file| Candidate {
                module: Some(module.clone()),
                target: target.clone(),
                file: dir.join(file),
            }));
        }
    }
    candidates
}

/// The files of native packages that are missing or were changed since, with the command that installs them again. A build of dkms
/// may have taken their place.
pub fn damaged_packages(
    session: &Session,
    snapshot: &Snapshot,
    wanted: impl Fn(&ModuleId, &Target) -> bool,
) -> Vec<(Candidate, String)> {
    let mut found = Vec::new();
    for marker in marker::damaged(&session.layout) {
        let Marker { module, target, files, package, .. } = marker;
        if !wanted(&module, &target) || snapshot.active(&module.name, &target).is_some() {
            continue;
        }
        let dir = session.layout.kernel(&target.kernel);
        let advice = session.policy.distribution.advise_reinstall(&package);
        let advice = format!("files of package {package} are missing or were changed; {advice}");
        found.extend(files.keys().map(|file| {
            let (module, target) = (Some(module.clone()), target.clone());
            (Candidate { module, target, file: dir.join(file) }, advice.clone())
        }));
    }
    found
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
        firmware.trusts_enrolled = true;
    }
    let mut of_kernel: BTreeMap<&Target, Vec<&Candidate>> = BTreeMap::new();
    for candidate in &candidates {
        of_kernel.entry(&candidate.target).or_default().push(candidate);
    }
    let mut assessments = BTreeMap::new();
    for (target, candidates) in of_kernel {
        let context = KernelContext::new(session, target, &firmware, assumed)?;
        for (candidate, assessment) in candidates.iter().zip(context.assess(session, &candidates)?) {
            assessments.insert((target.clone(), candidate.file.clone()), assessment);
        }
    }
    let of = |candidate: Candidate| assessments.get(&(candidate.target, candidate.file)).cloned();
    Ok(candidates.into_iter().filter_map(of).collect())
}

/// Modules that a kernel will reject because of their signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejection {
    /// Which modules, for which kernel, and why.
    pub why: String,
    /// The command that enrolls the key with which they are signed.
    pub enroll: Option<String>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        self.enroll.iter().try_for_each(|command| write!(f, "; to enroll the key: {command}"))
    }
}

/// Modules that these kernels will reject on this machine because of their signature, according to the records of
/// builds and the list of enrolled keys. No module file is read, so that this can run after every transaction and in
/// `dkms status`. The DKMS tree is read only if a kernel rejects anything.
pub fn foreseen(
    session: &Session,
    targets: &BTreeSet<Target>,
    snapshot: impl FnOnce() -> Result<Snapshot>,
) -> Result<Vec<Rejection>> {
    let layout = &session.layout;
    // The firmware is that of the machine on which an image is made.
    if targets.is_empty() || session.guest() {
        return Ok(Vec::new());
    }
    let firmware = Firmware::read(layout);
    let demand = |target: &Target| {
        let runs = session.running().is_some_and(|running| running == target.kernel);
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
    let mut found = BTreeSet::new();
    let fleet = session.fleet_key().unwrap_or_default();
    for (id, entry) in &snapshot()?.modules {
        for (target, build) in entry.builds.iter().filter(|(_, build)| build.active) {
            let (Some(why), Some(record)) = (refusing.get(target), &build.record) else { continue };
            let kernel = &target.kernel;
            let theirs = fleet.as_ref().filter(|fleet| record.signer.as_ref() == Some(&fleet.identity));
            let path = match (theirs, &session.policy.admin.store().signed_by) {
                (Some(_), Some(path)) => path.clone(),
                _ => sign::pair(session, target).1,
            };
            let built_in = certificate(&layout.headers(kernel).join("certs/signing_key.x509")).ok();
            let known = |ours: &Certificate| {
                built_in.as_ref() == Some(ours)
                    || firmware.enrolled.as_ref().is_none_or(|list| list.contains(ours))
            };
            match record.signer.as_ref().filter(|signer| !is_unsigned(signer)) {
                None => {
                    let why = format!("{id} for {kernel} is unsigned; the kernel will reject it: {why}");
                    found.insert(Rejection { why, enroll: None });
                }
                Some(_) if certificate(&path).is_ok_and(|ours| !known(&ours)) => {
                    let why = format!(
                        "modules for {kernel} are signed with a key that is not enrolled; the kernel will reject \
                         them: {why}"
                    );
                    found.insert(Rejection { why, enroll: Some(sign::enroll(session, &path)) });
                }
                Some(_) => {}
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Everything about one kernel that the verdict on its modules depends on.
struct KernelContext {
    kernel: Kernel,
    demand: Demand,
    /// Modules that its command line forbids.
    blacklist: Vec<String>,
    algorithms: Algorithms,
    /// Certificates that it trusts, as far as they are visible from user space.
    trust: Trust,
    /// Whether certificates may be enrolled that cannot be read.
    more: bool,
    /// The signer of the kernel's own modules, whose key is built into it.
    built_in: Option<Signer>,
    /// Where these modules are.
    own_dir: PathBuf,
    /// The kernel reads compressed modules.
    decompresses: bool,
    /// Our own certificate, and the command that enrolls it.
    ours: Option<(Certificate, String)>,
    /// Every `Module.symvers` that its modules may import from, except for the kernel's.
    symvers: Vec<PathBuf>,
}

/// What was found in a candidate's file.
struct Examined {
    module: Result<Module, Malformed>,
    /// The machine in its header.
    machine: Option<u16>,
    signature: Signature,
    /// Why the kernel cannot decompress it.
    packed: Option<String>,
    /// The kernel does not even read it.
    empty: bool,
}

impl KernelContext {
    fn new(session: &Session, target: &Target, firmware: &Firmware, assumed: &Assumed) -> Result<Self> {
        let layout = &session.layout;
        let kernel = session.kernel(target)?;
        let headers = kernel.headers.as_ref();
        let other = match &assumed.config {
            Some(path) => {
                Some(Config::new(file::content(path).with_context(|| format!("reading {}", path.display()))?))
            }
            None if headers.is_none() => kernel::config(layout, &target.kernel),
            None => None,
        };
        let config: Option<&Config> = other.as_ref().or(headers.map(|headers| &headers.config));
        // With assumptions about another machine, the running kernel does not matter.
        let here = session.running().is_some_and(|running| running == target.kernel);
        let running = (here && assumed.secure_boot.is_none()).then(|| Running::read(layout));
        let demand = Demand::of(config, running.as_ref(), firmware);
        let release = target.kernel.as_str();
        let mut trust = Trust::of(firmware, config, release);
        let mut symvers = Vec::new();
        if let Some(headers) = headers {
            // A kernel that was built here has its built-in certificate next to it.
            let own = headers.dir.join("certs/signing_key.x509");
            trust
                .known
                .extend(file::read_optional(&own).ok().flatten().and_then(|der| Certificate::parse(&der)));
            for (id, entry) in &Snapshot::load(layout)?.modules {
                if entry.builds.get(target).is_some_and(|build| build.active) {
                    symvers.push(layout.built_modules(id, target).join("Module.symvers"));
                }
            }
        }
        let (_, path) = sign::pair(session, target);
        let ours = certificate(&path).ok().map(|certificate| (certificate, sign::enroll(session, &path)));
        Ok(Self {
            demand,
            blacklist: running.map(|running| running.blacklist).unwrap_or_default(),
            algorithms: Algorithms::of(release, config),
            trust,
            more: firmware.enrolled.is_none(),
            own_dir: layout.kernel(&target.kernel).canonicalize().unwrap_or_default().join("kernel"),
            built_in: kernel::own_signer(layout, &kernel, &Algorithms::of(release, config)),
            decompresses: config.is_some_and(|config| config.on("CONFIG_MODULE_DECOMPRESS")),
            ours,
            symvers,
            kernel,
        })
    }

    /// Checks the candidates for this kernel as a set: they may import from each other.
    fn assess(&self, session: &Session, candidates: &[&Candidate]) -> Result<Vec<Assessment>> {
        let mut assessments = Vec::new();
        let mut examined = Vec::new();
        for candidate in candidates {
            let mut assessment = Assessment::of(candidate);
            let found = match self.examine(&candidate.file) {
                Ok(found) => Some(found?),
                Err(error) => {
                    let (verdict, cause) = match () {
                        () if !candidate.file.exists() => (Verdict::Refused, Some(Cause::File)),
                        // It can be read, but not decompressed.
                        () if file::open_regular(&candidate.file).is_ok() => {
                            (Verdict::Refused, Some(Cause::Compression))
                        }
                        () => (Verdict::Unknown, None),
                    };
                    let missing = cause == Some(Cause::File);
                    assessment.add(
                        verdict,
                        cause,
                        if missing { "file not found".into() } else { format!("{error:#}") },
                    );
                    None
                }
            };
            assessments.push(assessment);
            examined.push(found);
        }
        let mut modules = Vec::new();
        for (candidate, found) in candidates.iter().zip(&examined) {
            if let Some(Ok(module)) = found.as_ref().map(|found| &found.module) {
                let name = candidate.file.file_name().unwrap_or_default().to_string_lossy();
                modules.push((elf::module_name(&name), module.clone()));
            }
        }
        let list = self.kernel.headers.as_ref().map(Headers::symvers).unwrap_or_default();
        let exporters = Exporters { kernel: &list, others: &self.symvers, installed: true };
        let verifier = Verifier::new(&session.layout, &self.kernel, exporters, &modules)?;
        for (assessment, found) in assessments.iter_mut().zip(examined) {
            if let Some(found) = found {
                self.judge(session, found, &verifier, assessment);
            }
        }
        Ok(assessments)
    }

    /// The outer error: the file cannot be read.
    fn examine(&self, file: &Path) -> Result<Result<Examined>> {
        let content = read_module(file)?;
        let signature = signature::examine(&content, &self.trust.known, &self.algorithms)
            .with_context(|| format!("checking the signature of {}", file.display()));
        let packed = if self.decompresses { kernel::undecompressable(file)? } else { None };
        let (module, machine) = (Module::read(&content), Module::machine(&content));
        Ok(signature.map(|signature| Examined {
            module,
            machine,
            signature,
            packed,
            empty: content.is_empty(),
        }))
    }

    /// The verdict.
    fn judge(&self, session: &Session, found: Examined, verifier: &Verifier, assessment: &mut Assessment) {
        let unread = found.packed.is_some() || found.empty;
        if let Some(why) = found.packed {
            assessment.add(Verdict::Refused, Some(Cause::Compression), why);
        }
        let signed = self.signature(&found.signature, assessment);
        match &found.module {
            Err(why) => {
                let reason = verifier.malformed(why.clone(), found.machine);
                assessment.add(Verdict::Refused, Some(reason.cause()), reason.to_string());
            }
            Ok(module) => self.module(session, module, verifier, assessment),
        }
        let (verdict, why) = signed;
        match verdict {
            Verdict::Loads => assessment.notes.insert(0, why),
            Verdict::Unknown => assessment.add(verdict, None, why),
            Verdict::Refused => {
                assessment.add(verdict, Some(Cause::Signature), why);
                // A kernel looks at the signature first, a reader at what cannot be mended by one.
                if !unread {
                    assessment.cause = Some(Cause::Signature);
                }
            }
        }
        assessment.signature = Some(found.signature);
    }

    fn signature(&self, signature: &Signature, assessment: &mut Assessment) -> (Verdict, String) {
        let (mut verdict, mut why) = self.demand.judge(signature);
        let Some(signer) = signature.signer() else { return (verdict, why) };
        if self.demand != Demand::Ignores && self.trust.revoked.iter().any(|revoked| revoked.is(signer)) {
            return (Verdict::Refused, format!("signed with a revoked key ({signer})"));
        }
        if !matches!(signature, Signature::UnknownKey(_)) {
            return (verdict, why);
        }
        if self.demand != Demand::Ignores && self.built_in.as_ref() == Some(signer) {
            let own =
                assessment.candidate.file.canonicalize().is_ok_and(|file| file.starts_with(&self.own_dir));
            return if own {
                (Verdict::Loads, format!("one of the kernel's own modules, signed by {signer}"))
            } else {
                let why = format!(
                    "signed with the key of the kernel's own modules ({signer}), which cannot be read"
                );
                (Verdict::Unknown, why)
            };
        }
        let unused = self.trust.unused.iter().find(|(certificate, _)| certificate.is(signer));
        if verdict == Verdict::Refused {
            if let Some((_, reason)) = unused {
                why = format!("signed by {signer}: {reason}");
            } else if self.trust.doubtful.iter().any(|certificate| certificate.is(signer)) {
                verdict = Verdict::Unknown;
                why = format!(
                    "signed by {signer}, which is enrolled; whether this kernel uses enrolled keys for modules is \
                     unknown"
                );
            } else if self.more {
                verdict = Verdict::Unknown;
                why = format!("signed by {signer}; the list of enrolled keys cannot be read");
            }
        }
        match &self.ours {
            Some((ours, enroll)) if ours.is(signer) && verdict != Verdict::Loads && unused.is_none() => {
                assessment.advice = Some(format!("to enroll this machine's key: {enroll}"));
            }
            _ if verdict == Verdict::Refused && unused.is_none() => {
                assessment.notes.push("keys built into the kernel cannot be checked".into());
            }
            _ => {}
        }
        (verdict, why)
    }

    /// Checks everything but the signature.
    fn module(&self, session: &Session, module: &Module, verifier: &Verifier, assessment: &mut Assessment) {
        if self.blacklist.contains(&module.name) {
            let why = "the kernel command line forbids it (module_blacklist)";
            assessment.add(Verdict::Refused, Some(Cause::Blacklist), why.into());
        }
        let judgement = verifier.judge(module);
        for why in judgement.unknown {
            assessment.add(Verdict::Unknown, None, why);
        }
        if let Some(reason) = judgement.refused {
            assessment.add(Verdict::Refused, Some(reason.cause()), reason.to_string());
        }
        assessment.notes.extend(judgement.remarks);
        if session.options.headers.is_none() && self.kernel.headers.is_none() {
            assessment
                .notes
                .push("symbol versions were not checked: kernel headers are not installed".into());
        }
    }
}

impl Assessment {
    fn of(candidate: &Candidate) -> Self {
        Self {
            candidate: candidate.clone(),
            verdict: Verdict::Loads,
            signature: None,
            cause: None,
            reasons: Vec::new(),
            notes: Vec::new(),
            advice: None,
        }
    }

    fn add(&mut self, verdict: Verdict, cause: Option<Cause>, why: String) {
        self.verdict = self.verdict.max(verdict);
        self.cause = self.cause.or(cause);
        self.reasons.push(why);
    }
}

fn certificate(path: &Path) -> Result<Certificate> {
    let content = file::content(path).with_context(|| format!("reading certificate {}", path.display()))?;
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
            let found = foreseen(session, &snapshot().unwrap().targets(), snapshot).unwrap();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (signer, said) in [("null", "is unsigned"), (r#""sha256 x (did not sign)""#, "is unsigned")] {
            let (_dir, session) = machine(signer);
            let lines = all(&session);
            assert!(lines.len() == 1 && lines[0].contains(said), "{lines:?}");
            assert_eq!(
                foreseen(&session, &BTreeSet::new(), || unreachable!()).unwrap(),
                [],
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
