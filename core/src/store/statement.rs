//! What a manifest states about a build, in the form of in-toto's statement with SLSA's provenance, so that other tools
//! can read it: which files came out, what went in, who built it and when.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::is_sha256;
use crate::types::{Fingerprint, ModuleId, Placement, Target};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// Our kind of build, and the version of this format. Manifests of another kind are refused.
const KIND: &str = "urn:dkms-rs:build:1";
/// The name of the object among what a build left.
const OBJECT: &str = "object";
/// More files than any real build has.
const MOST_FILES: usize = 500;
/// The largest total size of a build's files. The largest known drivers have a quarter of it.
pub(super) const FILES_LIMIT: u64 = 1 << 30;

/// A statement about a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    /// The files of the build, in the order of the object.
    subject: Vec<Resource>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Predicate {
    build_definition: Definition,
    run_details: Run,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Definition {
    build_type: String,
    external_parameters: Parameters,
    /// The evaluated recipe and other settings, for auditors. Not used.
    internal_parameters: BTreeMap<String, Value>,
    /// Source, headers and compiler, for auditors. Not used: the fingerprint covers them.
    resolved_dependencies: Vec<Resource>,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    fingerprint: Fingerprint,
    module: String,
    version: String,
    kernel: String,
    arch: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Run {
    builder: Builder,
    metadata: Metadata,
    byproducts: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Builder {
    id: String,
    version: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Metadata {
    /// RFC 3339.
    finished_on: String,
    /// How long the build took.
    seconds: f64,
}

/// A file, or something that went into the build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Its hash, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its size in bytes, version or package, as far as known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, Value>,
}

/// A hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// In lower-case hex.
    pub sha256: String,
}

/// A file with its hash and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its path below the directory of a build, for example `module/a.ko`.
    pub path: String,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

impl FileEntry {
    fn resource(&self) -> Resource {
        Resource {
            name: self.path.clone(),
            digest: Some(Digest { sha256: self.sha256.clone() }),
            annotations: [("size".to_owned(), self.size.into())].into(),
        }
    }

    fn read(resource: &Resource) -> Result<Self> {
        let sha256 = resource.digest.as_ref().map(|digest| digest.sha256.clone());
        let size = resource.annotations.get("size").and_then(Value::as_u64);
        match (sha256.filter(|sha256| is_sha256(sha256)), size) {
            (Some(sha256), Some(size)) => Ok(Self { path: resource.name.clone(), sha256, size }),
            _ => bail!("a file has no hash or no size"),
        }
    }
}

/// The parts of a statement that are used.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The inputs.
    pub fingerprint: Fingerprint,
    /// The module and the kernel.
    pub place: Placement,
    /// Its files, in the order of the object; at least one.
    pub files: Vec<FileEntry>,
    /// The object: its name is its hash, its size is that of the compressed file.
    pub object: FileEntry,
    /// How long the build took.
    pub seconds: f64,
    /// When it ended, RFC 3339.
    pub finished: String,
    /// The builder.
    pub builder: String,
}

/// What is only recorded for auditors.
#[derive(Debug, Default)]
pub struct Provenance {
    /// Settings.
    pub settings: BTreeMap<String, Value>,
    /// Source, headers, compiler.
    pub dependencies: Vec<Resource>,
}

impl Manifest {
    /// The statement, as it is signed.
    pub fn write(&self, provenance: Provenance) -> Result<Vec<u8>> {
        let Self { fingerprint, place, files, object, seconds, finished, builder } = self;
        let Placement { module, target } = place;
        let statement = Statement {
            kind: STATEMENT.into(),
            subject: files.iter().map(FileEntry::resource).collect(),
            predicate_type: PREDICATE.into(),
            predicate: Predicate {
                build_definition: Definition {
                    build_type: KIND.into(),
                    external_parameters: Parameters {
                        fingerprint: fingerprint.clone(),
                        module: module.name.to_string(),
                        version: module.version.to_string(),
                        kernel: target.kernel.to_string(),
                        arch: target.arch.to_string(),
                    },
                    internal_parameters: provenance.settings,
                    resolved_dependencies: provenance.dependencies,
                },
                run_details: Run {
                    builder: Builder {
                        id: builder.clone(),
                        version: [("dkms-rs".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
                    },
                    metadata: Metadata { finished_on: finished.clone(), seconds: *seconds },
                    byproducts: vec![FileEntry { path: OBJECT.into(), ..object.clone() }.resource()],
                },
            },
        };
        Ok(serde_json::to_vec(&statement)?)
    }

    /// Reads a statement whose signature was verified. It is checked nevertheless: its paths are used by root.
    pub fn read(payload: &[u8]) -> Result<Self> {
        let statement: Statement =
            serde_json::from_slice(payload).context("the signed statement is malformed")?;
        let Statement { kind, subject, predicate_type, predicate } = statement;
        let Predicate { build_definition, run_details } = predicate;
        if (kind.as_str(), predicate_type.as_str(), build_definition.build_type.as_str())
            != (STATEMENT, PREDICATE, KIND)
        {
            bail!("the statement is of another kind");
        }
        let Parameters { fingerprint, module, version, kernel, arch } = build_definition.external_parameters;
        if !is_sha256(&fingerprint.0) {
            bail!("the fingerprint is malformed");
        }
        let module = ModuleId { name: module.parse()?, version: version.parse()? };
        let place = Placement { module, target: Target { kernel: kernel.parse()?, arch: arch.parse()? } };
        let files = subject.iter().map(FileEntry::read).collect::<Result<Vec<_>>>()?;
        check_files(&files)?;
        let object = run_details.byproducts.iter().find(|resource| resource.name == OBJECT);
        let object = FileEntry::read(object.context("the statement names no object")?)?;
        if object.size > FILES_LIMIT {
            bail!("the object is larger than {} MiB", FILES_LIMIT >> 20);
        }
        let Metadata { finished_on, seconds } = run_details.metadata;
        let sane = seconds.is_finite() && (0.0..=1e7).contains(&seconds);
        Ok(Self {
            fingerprint,
            place,
            files,
            object,
            seconds: if sane { seconds } else { 0.0 },
            finished: finished_on,
            builder: run_details.builder.id,
        })
    }

    /// The total size of its files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Why this is not the build of this module for this kernel with these inputs: another one under its name, or an older
    /// one.
    pub(super) fn is_of(&self, place: &Placement, fingerprint: &Fingerprint) -> Result<()> {
        for (what, stated, wanted) in [
            ("module", self.place.module.to_string(), place.module.to_string()),
            ("kernel", self.place.target.kernel.to_string(), place.target.kernel.to_string()),
            ("architecture", self.place.target.arch.to_string(), place.target.arch.to_string()),
        ] {
            if stated != wanted {
                bail!("it is the build for another {what}: {stated}");
            }
        }
        if self.fingerprint != *fingerprint {
            bail!("it is a build of other inputs");
        }
        Ok(())
    }
}

/// Paths are used by root: relative, plain, each once, no directory of another's file.
fn check_files(files: &[FileEntry]) -> Result<()> {
    if files.is_empty() || files.len() > MOST_FILES {
        bail!("the statement names {} files", files.len());
    }
    let mut size: u64 = 0;
    let mut seen = BTreeSet::new();
    for file in files {
        let path = Path::new(&file.path);
        let plain = |part: Component<'_>| match part {
            Component::Normal(part) => part.to_str().is_some_and(|part| {
                !part.starts_with(['.', '-']) && part.len() <= 200 && part.bytes().all(crate::types::is_plain)
            }),
            _ => false,
        };
        let canonical = path.components().collect::<std::path::PathBuf>();
        let good = path.components().all(plain)
            && (2..=6).contains(&path.components().count())
            && canonical.as_os_str() == path.as_os_str();
        if !good || !seen.insert(path) {
            bail!("the statement names a file with an unsafe name");
        }
        size = size.saturating_add(file.size);
    }
    if seen.iter().any(|path| path.ancestors().skip(1).any(|above| seen.contains(above))) {
        bail!("the statement names a file with an unsafe name");
    }
    if size > FILES_LIMIT {
        bail!("the files are larger than {} MiB", FILES_LIMIT >> 20);
    }
    Ok(())
}

/// A manifest, for tests.
#[cfg(test)]
pub(super) fn sample() -> Manifest {
    let file = |path: &str, size| FileEntry { path: path.into(), sha256: "ab".repeat(32), size };
    Manifest {
        fingerprint: Fingerprint("12".repeat(32)),
        place: Placement {
            module: "a/1".parse().unwrap(),
            target: Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() },
        },
        files: vec![file("log/make.log", 10), file("module/a.ko", 1000)],
        object: file("object", 300),
        seconds: 1.5,
        finished: "2026-11-30T12:00:00Z".into(),
        builder: "urn:dkms-rs:key:k".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = sample().write(Provenance::default()).unwrap();
        assert_eq!(Manifest::read(&text).unwrap(), sample());
    }

    #[test]
    fn a_signed_statement_is_not_believed_blindly() {
        let text = String::from_utf8(sample().write(Provenance::default()).unwrap()).unwrap();
        let long = "x".repeat(300);
        for (from, to) in [
            ("module/a.ko", "../../etc/passwd"),
            ("module/a.ko", "/etc/passwd"),
            ("module/a.ko", "module/../../x"),
            ("module/a.ko", "module//a.ko"),
            ("module/a.ko", "./module/a.ko"),
            ("module/a.ko", "module/.hidden"),
            ("module/a.ko", "module/-rf"),
            ("module/a.ko", "module/a b"),
            ("module/a.ko", "module/a\\u0000b"),
            ("module/a.ko", "module/a\\nb"),
            ("module/a.ko", "a.ko"),
            ("module/a.ko", ""),
            ("module/a.ko", "log/make.log"),
            ("module/a.ko", "log/make.log/a.ko"),
            ("module/a.ko", long.as_str()),
            ("\"size\":1000", "\"size\":-1"),
            ("\"size\":1000", "\"size\":1e3"),
            ("\"size\":1000", "\"size\":18446744073709551615"),
            ("\"size\":1000", "\"size\":18446744073709551616"),
            ("\"size\":300", "\"size\":2000000000"),
            ("\"size\":1000", "\"length\":1000"),
            ("abababab", "ABABABAB"),
            ("\"fingerprint\":\"12", "\"fingerprint\":\"../"),
            ("\"kernel\":\"6.1\"", "\"kernel\":\"../6.1\""),
            ("\"kernel\":\"6.1\"", "\"kernel\":\"6.1\",\"kernel\":\"6.2\""),
            ("\"module\":\"a\"", "\"module\":\"a/b\""),
            ("\"arch\":\"x86_64\"", "\"arch\":\"\""),
            ("dkms-rs:build:1", "dkms-rs:build:2"),
            ("Statement/v1", "Statement/v2"),
            ("\"subject\":[", "\"subject\":[],\"more\":["),
            ("\"name\":\"object\"", "\"name\":\"objects\""),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            assert!(Manifest::read(changed.as_bytes()).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn a_build_of_something_else_is_named() {
        let wanted = sample();
        let fine = |manifest: &Manifest| manifest.is_of(&wanted.place, &wanted.fingerprint);
        assert!(fine(&wanted).is_ok());
        let target = |kernel: &str, arch: &str| Target {
            kernel: kernel.parse().unwrap(),
            arch: arch.parse().unwrap(),
        };
        for (module, target, fingerprint, why) in [
            ("b/1", target("6.1", "x86_64"), "12", "another module: b/1"),
            ("a/2", target("6.1", "x86_64"), "12", "another module: a/2"),
            ("a/1", target("6.2", "x86_64"), "12", "another kernel: 6.2"),
            ("a/1", target("6.1", "aarch64"), "12", "another architecture: aarch64"),
            ("a/1", target("6.1", "x86_64"), "34", "other inputs"),
        ] {
            let place = Placement { module: module.parse().unwrap(), target };
            let other = Manifest { place, fingerprint: Fingerprint(fingerprint.repeat(32)), ..sample() };
            let said = fine(&other).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }

    proptest! {
        /// Whatever a trusted key has signed: no panic, and no path that leaves the directory of a build.
        #[test]
        fn mutations_are_harmless(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..6)
        ) {
            let mut text = sample().write(Provenance::default()).unwrap();
            for (at, byte, how) in edits {
                let at = at.index(text.len());
                match how {
                    0 => text[at] = byte,
                    1 => text.insert(at, byte),
                    _ => drop(text.remove(at)),
                }
            }
            if let Ok(read) = Manifest::read(&text) {
                for file in &read.files {
                    let path = Path::new(&file.path);
                    prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                }
                prop_assert!(read.size() <= FILES_LIMIT);
            }
        }
    }
}
