//! Puts builds of this machine into a store.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::envelope;
use super::key::PrivateKey;
use super::object;
use super::reach::Place;
use super::statement::{Digest, FILES_LIMIT, FileEntry, Manifest, Provenance, Resource};
use super::{manifest_path, object_path, web};
use crate::kernel::{Compression, Kernel, signature};
use crate::plan::{Case, Scope};
use crate::session::Session;
use crate::survey;
use crate::sys::confine::handed;
use crate::sys::run::{Cmd, Output};
use crate::sys::{file, hash, time};
use crate::tree::Snapshot;
use crate::types::{Placement, Target};

/// The time limit of an upload.
const UPLOAD: Duration = Duration::from_secs(600);
/// The directory of the modules, in an object.
const MODULES: &str = "module/";
/// The end of a module's name, before that of its compression.
const MODULE: &str = ".ko";

/// How one build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the store now.
    New,
    /// It was in the store.
    Present,
    /// It is not put there, for this reason.
    LeftOut(String),
}

/// Pushes the builds of the DKMS tree that are wanted; calls `tell` with the result of each.
pub fn push(
    session: &Session,
    place: &Place,
    key: &PrivateKey,
    wanted: impl Fn(&Placement) -> bool,
    mut tell: impl FnMut(&Placement, Pushed),
) -> Result<()> {
    let snapshot = Snapshot::load(&session.layout)?;
    let builds = snapshot
        .modules
        .iter()
        .flat_map(|(id, entry)| entry.builds.keys().map(move |target| Placement::of(id, target)));
    let cases: BTreeSet<Placement> = builds.filter(wanted).collect();
    let kernels: BTreeSet<Target> = cases.iter().map(|case| case.target.clone()).collect();
    let scope = Scope { cases: cases.clone(), older: BTreeMap::new(), kernels };
    // The inputs as they are now: only a build that was made of these is pushed, so that what the manifest states about them
    // is true.
    let survey = survey::survey(session, &scope, &snapshot)?;
    for one in &cases {
        let build = snapshot.build(&one.module, &one.target).and_then(|build| build.record.as_ref());
        let (case, kernel) = (survey.cases.get(one), survey.kernels.get(&one.target));
        let foreign = build
            .and_then(|record| record.outside.first())
            .map(|file| format!("it was compiled with {}, which is no part of its source", file.display()));
        let reason = match (build, case) {
            (None, _) => Some("it was not built by dkms-rs"),
            // Other machines may have another file there.
            (Some(_), _) if foreign.is_some() => foreign.as_deref(),
            (Some(record), _) if record.loaded => Some("it is from a tarball"),
            (_, None) => Some("its source or the kernel headers are missing"),
            (Some(record), Some(case)) => match &case.fingerprint {
                None => Some("the kernel headers are missing"),
                Some(_) if manifest_path(&record.fingerprint).is_none() => {
                    Some("it was built with variables of the environment")
                }
                Some(now) if *now != record.fingerprint => Some("it is out of date: its inputs have changed"),
                Some(_) => None,
            },
        };
        match (reason, case, kernel, build) {
            (None, Some(case), Some(kernel), Some(record)) => {
                let source = survey.sources.get(&one.module).context("a module without a source")?;
                let subject = Subject { session, one, case, kernel, source, seconds: record.seconds };
                let pushed = subject
                    .push(place, key)
                    .with_context(|| format!("pushing {} for {}", one.module, one.target.kernel))?;
                tell(one, pushed);
            }
            (reason, ..) => tell(one, Pushed::LeftOut(reason.unwrap_or("it was not examined").to_owned())),
        }
    }
    Ok(())
}

/// A build that is pushed.
struct Subject<'a> {
    session: &'a Session,
    one: &'a Placement,
    case: &'a Case,
    kernel: &'a Kernel,
    source: &'a Path,
    seconds: f64,
}

impl Subject<'_> {
    fn push(&self, place: &Place, key: &PrivateKey) -> Result<Pushed> {
        let fingerprint = self.case.fingerprint.as_ref().context("a build without a fingerprint")?;
        let path = manifest_path(fingerprint).context("a build without a fingerprint")?;
        let files = self.files()?;
        let (content, entries) = object::pack(&files)?;
        let sha256 = hash::hex(&content);
        if let Place::Dir(dir) = place {
            // Replacing it would only change what other machines have verified. Two logs of the same build differ.
            let modules = |files: &[FileEntry]| -> Vec<FileEntry> {
                files.iter().filter(|file| file.path.starts_with(MODULES)).cloned().collect()
            };
            if serves(dir, &path, key).is_some_and(|there| modules(&there.files) == modules(&entries)) {
                return Ok(Pushed::Present);
            }
        }
        let manifest = Manifest {
            fingerprint: fingerprint.clone(),
            place: self.one.clone(),
            files: entries,
            object: FileEntry { path: String::new(), sha256: sha256.clone(), size: content.len() as u64 },
            seconds: self.seconds,
            finished: time::rfc3339(),
            builder: format!("urn:dkms-rs:key:{}", key.name()),
        };
        let statement = manifest.write(self.provenance()?)?;
        // What others would refuse is found here.
        Manifest::read(&statement)?;
        let object = object_path(&sha256).context("an object without a hash")?;
        let envelope = envelope::seal(&statement, key)?;
        // The manifest last: who finds it, finds its object.
        put(self.session, place, &object, &content)?;
        put(self.session, place, &path, &envelope)?;
        Ok(Pushed::New)
    }

    /// The files of the build: modules uncompressed, and unsigned, as every machine signs them with its own key, except for
    /// those that the key has signed whose certificate all machines trust.
    fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let Placement { module, target } = self.one;
        let dir = self.session.layout.built(module, target);
        let mut files = Vec::new();
        let mut left = FILES_LIMIT;
        let fleet = self.session.fleet_key()?;
        for path in file::files_below(&dir, &[]) {
            let relative = path.strip_prefix(&dir)?;
            let name = relative.to_str().context("a file with an odd name")?;
            // Marks of shell DKMS, and a file without a directory, which no build leaves.
            if relative.components().count() < 2 || name.split('/').any(|part| part.starts_with('.')) {
                continue;
            }
            let content = file::read_untrusted(&dir, relative, left)?;
            left -= content.len() as u64;
            files.push(match name.strip_prefix(MODULES).and_then(|module| module.rsplit_once(MODULE)) {
                Some((stem, suffix)) if [".gz", ".xz", ".zst", ""].contains(&suffix) => {
                    let plain = Compression::of(name).decompress(&content)?;
                    let kept = fleet.as_ref().is_some_and(|fleet| fleet.has_signed(&plain, self.kernel));
                    let unsigned = signature::without(&plain).to_owned();
                    (format!("{MODULES}{stem}{MODULE}"), if kept { plain } else { unsigned })
                }
                _ => (name.to_owned(), content),
            });
        }
        if files.is_empty() {
            bail!("{} contains no files", dir.display());
        }
        files.sort();
        Ok(files)
    }

    /// What auditors want to know.
    fn provenance(&self) -> Result<Provenance> {
        let recipe = self.case.recipe.as_ref().map_err(|why| anyhow::anyhow!("{why}"))?;
        let headers = self.kernel.headers.as_ref().context("a build without headers")?;
        let inputs = survey::inputs(self.session, &self.one.module, recipe, self.kernel, self.source)?;
        let hashed = |name: String, key: &str| Resource {
            name,
            digest: inputs
                .get(key)
                .and_then(Value::as_str)
                .map(|sha256| Digest { sha256: sha256.to_owned() }),
            ..Resource::default()
        };
        let module = &self.one.module;
        let mut dependencies = vec![hashed(format!("source of {module}"), "sources")];
        let kernel = headers.package().map(|package| ("package-id".to_owned(), Value::from(package)));
        dependencies.push(Resource {
            annotations: kernel.into_iter().collect(),
            ..hashed(format!("headers of {}, with compiler and linker", self.one.target.kernel), "headers")
        });
        if let Some(compiler) = &headers.compiler {
            let done = Cmd::new(compiler).arg("--version").output(Output::Split).run()?;
            let version = String::from_utf8_lossy(&done.output).lines().next().unwrap_or_default().to_owned();
            dependencies.push(Resource {
                name: compiler.display().to_string(),
                annotations: [("version".to_owned(), Value::from(version))].into(),
                ..Resource::default()
            });
        }
        let mut settings: BTreeMap<String, Value> = BTreeMap::new();
        for key in ["recipe", "compression", "unconfined", "dkms_tree", "own", "rustc", "format"] {
            settings.extend(inputs.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        settings.insert("environment".into(), headers.environment.clone().into());
        Ok(Provenance { settings, dependencies })
    }
}

/// The manifest that a store has of a build, if its signature is one of this key, and its object is there. Anything else,
/// such as a manifest with the signature of another key or a damaged object, is replaced.
fn serves(dir: &Path, manifest: &str, key: &PrivateKey) -> Option<Manifest> {
    let read = |path: &str| {
        let mut content = Vec::new();
        file::open_data(&dir.join(path), FILES_LIMIT).ok()?.read_to_end(&mut content).ok()?;
        Some(content)
    };
    let there = read(manifest)?;
    let there = Manifest::read(&envelope::open(&there, &[key.public()]).ok()?).ok()?;
    let object = read(&object_path(&there.object.sha256)?)?;
    (hash::hex(&object) == there.object.sha256).then_some(there)
}

/// Writes a file of a store, completely or not at all.
fn put(session: &Session, place: &Place, path: &str, content: &[u8]) -> Result<()> {
    match place {
        Place::Dir(dir) => {
            // What is in it may belong to a web server's user.
            file::make_dirs(dir)?;
            file::write_beneath(dir, Path::new(path), content)
        }
        Place::Web(base) | Place::Bucket(base) => {
            let url = format!("{base}/{path}");
            let source = handed(0);
            let logins = handed(1);
            let mut args = vec!["--upload-file", &source, "--max-redirs", "0"];
            let signature = format!("aws:amz:{}:s3", region(base));
            if matches!(place, Place::Bucket(_)) {
                args.extend(["--aws-sigv4", &signature]);
            }
            let mut handed = vec![content.to_owned()];
            // The process that speaks to the server may not open this file.
            if let Some(netrc) = file::read_optional(&session.layout.store_logins())? {
                handed.push(netrc);
                args.extend(["--netrc-file", &logins]);
            }
            // A redirect is no error for curl, but nothing was stored.
            let mark = web::mark();
            args.extend(["--write-out", &mark, "--url", &url]);
            let size = content.len() as u64 + (1 << 20);
            let done = web::run(session, &args, handed, (size, UPLOAD), std::slice::from_ref(&url))?;
            let text = String::from_utf8_lossy(&done.errors);
            if done.code() == 0 {
                let status = web::status(&text).unwrap_or_default();
                if !status.starts_with('2') {
                    bail!("{base}: it answers with the status {status}; nothing was stored");
                }
            } else {
                bail!("{base}: {}", web::fault(&done, &text, UPLOAD, &[]));
            }
            Ok(())
        }
    }
}

/// The region of a bucket, from its server's name: `s3.REGION.DOMAIN`, perhaps after the bucket. Servers that have none accept
/// the default.
fn region(base: &str) -> &str {
    let host = base.split_once("://").map_or(base, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    let mut labels = host.split('.').skip_while(|label| *label != "s3").skip(1);
    match (labels.next(), labels.nth(1)) {
        (Some(region), Some(_)) => region,
        _ => "us-east-1",
    }
}

#[cfg(test)]
mod tests {
    use super::region;

    #[test]
    fn the_region_is_in_the_name_of_the_server() {
        for (url, expected) in [
            ("https://s3.eu-central-1.amazonaws.com/bucket/s3.x.y.z", "eu-central-1"),
            ("https://bucket.s3.eu-central-003.example.com", "eu-central-003"),
            ("https://s3.amazonaws.com/bucket", "us-east-1"),
            ("https://s3.example.org/bucket", "us-east-1"),
            ("http://127.0.0.1:9000/bucket", "us-east-1"),
            ("http://[::1]/bucket", "us-east-1"),
            ("https://minio.example.org:9000/s3/a.b.c", "us-east-1"),
        ] {
            assert_eq!(region(url), expected, "{url}");
        }
    }
}
