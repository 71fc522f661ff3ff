//! `dkms check`: would the kernel load the installed modules, or these files?

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::args::Args;
use super::invocation::Invocation;
use super::refuse;
use crate::check::{self, Assessment, Assumed, Candidate};
use crate::exit::Exit;
use crate::kernel::signature_policy::Verdict;
use crate::session::Session;
use crate::types::{ModuleId, ModuleName, ModuleVersion, Target};

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    modules: Vec<CheckEntry<'a>>,
}

#[derive(Serialize)]
struct CheckEntry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a ModuleName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a ModuleVersion>,
    #[serde(flatten)]
    target: &'a Target,
    file: &'a PathBuf,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    reasons: &'a [String],
    notes: &'a [String],
}

pub(super) fn show(session: &Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    let candidates = candidates(session, args, invocation)?;
    let assumed = Assumed {
        secure_boot: args.secure_boot.as_ref().map(|word| word == "on"),
        enrolled: args.enrolled.clone(),
    };
    let nothing = candidates.is_empty();
    let assessments = check::check(session, candidates, &assumed)?;
    if args.json {
        let document = Document { format: 1, modules: assessments.iter().map(row).collect() };
        session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(&document)?));
    } else if nothing {
        session.screen.progress("dkms: no matching module is installed");
    } else {
        for assessment in &assessments {
            session.screen.answer(&line(assessment));
        }
    }
    Ok(Exit::error_if(assessments.iter().any(|assessment| assessment.verdict != Verdict::Loads)))
}

/// The named files, else those of the installed modules.
fn candidates(session: &Session, args: &Args, invocation: &Invocation) -> Result<Vec<Candidate>> {
    let is_file = |word: &&String| word.contains(".ko") && Path::new(word).is_file();
    let files: Vec<&String> = invocation.rest.iter().filter(is_file).collect();
    if !files.is_empty() {
        if files.len() < invocation.rest.len() {
            return refuse(Exit::ERROR, "specify either module files or one module");
        }
        let targets = args.targets()?;
        let candidate = |file: &&String, target: &Target| Candidate {
            module: None,
            target: target.clone(),
            file: file.as_str().into(),
        };
        return Ok(targets
            .iter()
            .flat_map(|target| files.iter().map(|file| candidate(file, target)))
            .collect());
    }
    let name: Option<ModuleName> = invocation.name.as_deref().map(str::parse).transpose()?;
    let version: Option<ModuleVersion> = invocation.version.as_deref().map(str::parse).transpose()?;
    let pairs = args.pairs.wanted()?;
    let snapshot = crate::apply::status_of(session, name.as_ref())?;
    let known = |id: &ModuleId| version.as_ref().is_none_or(|version| *version == id.version);
    if let Some(name) = name.as_ref().filter(|_| !snapshot.modules.keys().any(known)) {
        return refuse(
            Exit::NOT_ADDED,
            format!("{name} is not in the DKMS tree in this version; `dkms status` lists what is"),
        );
    }
    Ok(check::installed(session, &snapshot, |id: &ModuleId, target: &Target| {
        version.as_ref().is_none_or(|version| *version == id.version)
            && pairs.iter().any(|(kernel, arch)| {
                kernel.as_ref().is_none_or(|kernel| *kernel == target.kernel)
                    && arch.as_ref().is_none_or(|arch| *arch == target.arch)
            })
    }))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Loads => "loads",
        Verdict::Unknown => "unknown",
        Verdict::Refused => "refused",
    }
}

fn row(assessment: &Assessment) -> CheckEntry<'_> {
    let Candidate { module, target, file } = &assessment.candidate;
    let signer = assessment.signature.as_ref().and_then(|signature| signature.signer());
    CheckEntry {
        name: module.as_ref().map(|id| &id.name),
        version: module.as_ref().map(|id| &id.version),
        target,
        file,
        verdict: word(assessment.verdict),
        signature: assessment.signature.as_ref().map(|signature| signature.word()),
        signer: signer.map(ToString::to_string),
        reasons: &assessment.reasons,
        notes: &assessment.notes,
    }
}

fn line(assessment: &Assessment) -> String {
    let Candidate { module, target, file } = &assessment.candidate;
    let what = match module {
        Some(id) => {
            let file = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
            format!("{id}, {}, {}, {file}", target.kernel, target.arch)
        }
        None => format!("{}, {}", file.display(), target.kernel),
    };
    let said = match assessment.verdict {
        Verdict::Loads => assessment.notes.join("; "),
        _ => assessment.reasons.join("; "),
    };
    let verdict = match assessment.verdict {
        Verdict::Loads => "would load",
        Verdict::Unknown => "unknown",
        Verdict::Refused => "would be rejected",
    };
    format!("{what}: {verdict}: {said}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::certificate::Signer;
    use crate::kernel::signature::Signature;
    use crate::page::{documented, fields, values};

    #[test]
    fn every_verdict_and_signature_is_described() {
        let section = ".SS check \\-\\-json";
        let verdicts = [Verdict::Loads, Verdict::Unknown, Verdict::Refused];
        assert_eq!(values(section, "modules[].verdict"), verdicts.map(|one| word(one).to_owned()).into());
        let signer = || Signer::KeyId(Vec::new());
        // A new value is added to this list when the match below requires it.
        let next = |signature: Option<&Signature>| match signature {
            None => Some(Signature::None),
            Some(Signature::None) => Some(Signature::Malformed("")),
            Some(Signature::Malformed(_)) => Some(Signature::UnknownKey(signer())),
            Some(Signature::UnknownKey(_)) => Some(Signature::Changed(signer())),
            Some(Signature::Changed(_)) => Some(Signature::Good(signer())),
            Some(Signature::Good(_)) => Some(Signature::Unchecked(signer(), String::new())),
            Some(Signature::Unchecked(..)) => None,
        };
        let all = std::iter::successors(next(None), |signature| next(Some(signature)));
        assert_eq!(values(section, "modules[].signature"), all.map(|one| one.word().to_owned()).collect());
    }

    #[test]
    fn every_field_is_described() {
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let (name, version) = ("a".parse().unwrap(), "1".parse().unwrap());
        let row = CheckEntry {
            name: Some(&name),
            version: Some(&version),
            target: &target,
            file: &PathBuf::from("/a.ko"),
            verdict: "loads",
            signature: Some("good"),
            signer: Some("signer".into()),
            reasons: &["reason".into()],
            notes: &["note".into()],
        };
        let document = serde_json::to_value(Document { format: 1, modules: vec![row] }).unwrap();
        assert_eq!(documented(".SS check \\-\\-json"), fields(&document));
    }
}
