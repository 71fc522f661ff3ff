//! `dkms check`: would the kernel load the installed modules, or these files?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::args::Args;
use super::invocation::Invocation;
use super::{refuse, unknown};
use crate::check::{self, Assessment, Assumed, Candidate};
use crate::exit::Exit;
use crate::kernel::Cause;
use crate::kernel::certificate::Signer;
use crate::kernel::signature_policy::Verdict;
use crate::session::Session;
use crate::types::{ModuleId, ModuleName, ModuleVersion, Target};

/// What `dkms check --json` prints.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Document<'a> {
    #[cfg_attr(test, schemars(extend("const" = 2)))]
    format: u32,
    modules: Vec<CheckEntry<'a>>,
}

/// A module file for a kernel.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CheckEntry<'a> {
    /// Unless a file was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a ModuleId>,
    #[serde(flatten)]
    target: &'a Target,
    file: &'a PathBuf,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<String>,
    reasons: &'a [String],
    notes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'a String>,
}

pub(super) fn show(session: &Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    let (mut candidates, damaged) = candidates(session, args, invocation)?;
    candidates.extend(damaged.iter().map(|(candidate, _)| candidate.clone()));
    let (secure_boot, config) = match args.secure_boot.as_deref() {
        None => (None, None),
        Some("on") => (Some(true), None),
        Some("off") => (Some(false), None),
        Some(file) if Path::new(file).is_file() => (Some(true), Some(PathBuf::from(file))),
        Some(other) => {
            return refuse(
                Exit::ERROR,
                format!(
                    "--secure-boot is on, off or the configuration of a kernel; there is no file {other}"
                ),
            );
        }
    };
    let assumed = Assumed { secure_boot, config, enrolled: args.enrolled.clone() };
    let nothing = candidates.is_empty();
    let mut assessments = check::check(session, candidates, &assumed)?;
    for one in &mut assessments {
        let file = &one.candidate.file;
        if let Some((_, advice)) = damaged.iter().find(|(candidate, _)| candidate.file == *file) {
            one.advice = Some(advice.clone());
        }
    }
    if args.json {
        let document = Document { format: 2, modules: assessments.iter().map(row).collect() };
        session.screen.answer(&format!("{}\n", serde_json::to_string_pretty(&document)?));
    } else if nothing {
        session.screen.progress("dkms: no matching module is installed");
    } else {
        session.screen.answer(&summary(&assessments));
    }
    Ok(Exit::error_if(assessments.iter().any(|assessment| assessment.verdict != Verdict::Loads)))
}

/// Files to check, and those of them whose package must be installed again, with advice.
type Candidates = (Vec<Candidate>, Vec<(Candidate, String)>);

/// The named files, else those of the installed modules and of damaged packages.
fn candidates(session: &Session, args: &Args, invocation: &Invocation) -> Result<Candidates> {
    for word in invocation.rest.iter().filter(|word| unknown::like_path(word)) {
        if !Path::new(word).is_file() {
            return refuse(Exit::ERROR, format!("{word}: file not found"));
        }
        if !word.contains(".ko") {
            return refuse(Exit::ERROR, format!("{word} is not a module file (its name has no .ko)"));
        }
    }
    let is_file = |word: &&String| word.contains(".ko") && Path::new(word).is_file();
    let files: Vec<&String> = invocation.rest.iter().filter(is_file).collect();
    if !files.is_empty() {
        if files.len() < invocation.rest.len() {
            return refuse(Exit::ERROR, "specify either module files or one module");
        }
        let targets = args.targets(session)?;
        let candidate = |file: &&String, target: &Target| Candidate {
            module: None,
            target: target.clone(),
            file: file.as_str().into(),
        };
        let all = targets.iter().flat_map(|target| files.iter().map(|file| candidate(file, target)));
        return Ok((all.collect(), Vec::new()));
    }
    let name: Option<ModuleName> = invocation.name.as_deref().map(str::parse).transpose()?;
    let version: Option<ModuleVersion> = invocation.version.as_deref().map(str::parse).transpose()?;
    let pairs = args.pairs.wanted()?;
    let snapshot = crate::apply::status_of(session, name.as_ref())?;
    let known = |id: &ModuleId| version.as_ref().is_none_or(|version| *version == id.version);
    if let Some(name) = name.as_ref().filter(|_| !snapshot.modules.keys().any(known)) {
        let word = name.as_str();
        let why = if Path::new(word).exists() {
            format!("{word} is not a module file (its name has no .ko)")
        } else if word.contains(".ko") {
            format!("{word} not found")
        } else {
            let all = crate::apply::status_of(session, None)?;
            unknown::module(&all, word, version.as_ref().map(ModuleVersion::as_str))
        };
        return refuse(Exit::NOT_ADDED, why);
    }
    let wanted = |id: &ModuleId, target: &Target| {
        name.as_ref().is_none_or(|name| *name == id.name)
            && version.as_ref().is_none_or(|version| *version == id.version)
            && pairs.iter().any(|(kernel, arch)| {
                kernel.as_ref().is_none_or(|kernel| *kernel == target.kernel)
                    && arch.as_ref().is_none_or(|arch| *arch == target.arch)
            })
    };
    let damaged = check::damaged_packages(session, &snapshot, wanted);
    Ok((check::installed(session, &snapshot, wanted), damaged))
}

fn row(assessment: &Assessment) -> CheckEntry<'_> {
    let Candidate { module, target, file } = &assessment.candidate;
    let signer = assessment.signature.as_ref().and_then(|signature| signature.signer());
    CheckEntry {
        module: module.as_ref(),
        target,
        file,
        verdict: assessment.verdict,
        cause: assessment.cause.filter(|_| assessment.verdict == Verdict::Refused),
        signature: assessment.signature.as_ref().map(|signature| signature.word()),
        signer: signer.map(Signer::full),
        reasons: &assessment.reasons,
        notes: &assessment.notes,
        advice: assessment.advice.as_ref(),
    }
}

/// One line for the files of a module and kernel with the same result, then how many there are of each, and what helps.
fn summary(assessments: &[Assessment]) -> String {
    let mut groups: Vec<(&Assessment, Vec<String>)> = Vec::new();
    for one in assessments {
        let file = one.candidate.file.file_name().unwrap_or(one.candidate.file.as_os_str());
        let file = file.to_string_lossy().into_owned();
        match groups.iter_mut().find(|(first, _)| first.candidate.module.is_some() && same(first, one)) {
            Some((_, files)) => files.push(file),
            None => groups.push((one, vec![file])),
        }
    }
    let mut text: String = groups.iter().map(|(first, files)| line(first, files)).collect();
    if groups.len() > 1 {
        let count = |verdict, words: &str| {
            let number = groups.iter().filter(|(first, _)| first.verdict == verdict).count();
            (number > 0).then(|| format!("{number} {words}"))
        };
        let counts = [
            count(Verdict::Loads, "would load"),
            count(Verdict::Refused, "would be rejected"),
            count(Verdict::Unknown, "unknown"),
        ];
        text.push_str(&format!("{}\n", counts.into_iter().flatten().collect::<Vec<_>>().join(", ")));
    }
    let advice: BTreeSet<&String> = assessments.iter().filter_map(|one| one.advice.as_ref()).collect();
    text.extend(advice.into_iter().map(|advice| format!("{advice}\n")));
    text
}

/// Whether two files of a module for a kernel have the same result.
fn same(a: &Assessment, b: &Assessment) -> bool {
    let key = |one: &Assessment| (one.candidate.module.clone(), one.candidate.target.clone(), one.verdict);
    key(a) == key(b) && a.reasons == b.reasons && a.notes == b.notes
}

fn line(assessment: &Assessment, files: &[String]) -> String {
    let Candidate { module, target, file } = &assessment.candidate;
    let what = match module {
        Some(id) => {
            let files = match files {
                [file] => file.clone(),
                files => format!("{} files", files.len()),
            };
            format!("{id}, {}, {}, {files}", target.kernel, target.arch)
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
    use crate::kernel::signature::Signature;
    use crate::page::{documented, fields, values};

    #[test]
    fn the_shipped_schema_is_that_of_the_document() {
        crate::shipped::expect::<Document<'_>>("check");
    }

    /// A value as JSON output names it.
    fn word(value: &impl Serialize) -> String {
        serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn every_verdict_and_signature_is_described() {
        let section = ".SS check \\-\\-json";
        let verdicts = [Verdict::Loads, Verdict::Unknown, Verdict::Refused];
        assert_eq!(values(section, "modules[].verdict"), verdicts.iter().map(word).collect());
        assert_eq!(values(section, "modules[].cause"), Cause::ALL.iter().map(word).collect());
        let signer = || Signer::KeyId(Vec::new());
        // A new value is added to this list when the match below requires it.
        let next = |signature: Option<&Signature>| match signature {
            None => Some(Signature::None),
            Some(Signature::None) => Some(Signature::Malformed("")),
            Some(Signature::Malformed(_)) => Some(Signature::Unsupported("")),
            Some(Signature::Unsupported(_)) => Some(Signature::UnknownKey(signer())),
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
        let module = "a/1".parse().unwrap();
        let advice = "advice".into();
        let row = CheckEntry {
            module: Some(&module),
            target: &target,
            file: &PathBuf::from("/a.ko"),
            verdict: Verdict::Loads,
            cause: Some(Cause::Signature),
            signature: Some("good"),
            signer: Some("signer".into()),
            reasons: &["reason".into()],
            notes: &["note".into()],
            advice: Some(&advice),
        };
        let document = serde_json::to_value(Document { format: 2, modules: vec![row] }).unwrap();
        assert_eq!(documented(".SS check \\-\\-json"), fields(&document));
    }
}
