//! Signs module files, and compresses them as the kernel does. Done by root with installed programs, and never in a
//! pre-build.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Job;
use crate::kernel::{Compression, Module, signature};
use crate::session::Session;
use crate::step::sign::Signing;
use crate::sys::file;

/// Signs and compresses one module and writes it to `staged`. A module that could not be signed gets a remark.
pub(super) fn one(
    session: &Session,
    job: &Job<'_>,
    compression: Compression,
    scratch: &Path,
    (name, content): (&str, Vec<u8>),
    staged: &Path,
    notes: &mut Vec<String>,
) -> Result<()> {
    let content = match job.signing {
        Signing::With(signer) => match signer.sign(&content, scratch)? {
            Ok(signed) => signed,
            Err(why) => {
                notes.push(format!("{name} is unsigned: {why}"));
                content
            }
        },
        Signing::Not(why) => {
            if notes.is_empty() {
                notes.push(format!("unsigned: {why}"));
            }
            content
        }
        Signing::Off | Signing::Unknown => content,
    };
    write(session, compression, (name, &content), staged)
}

fn write(
    session: &Session,
    compression: Compression,
    (name, content): (&str, &[u8]),
    staged: &Path,
) -> Result<()> {
    let levels = &session.policy.framework.compression;
    let packed = compression.compress(content, levels).context("compressing")?;
    file::write_unsynced(&staged.join(format!("{name}.ko{}", compression.suffix())), &packed)
}

/// Completes the modules of a pre-build or of a store, in place; returns remarks, and the signer. They are verified again,
/// because the pre-build verified them against files of a package.
pub(super) fn all(
    session: &Session,
    job: &Job<'_>,
    scratch: &Path,
    staged: &Path,
) -> Result<(Vec<String>, Option<String>)> {
    let mut notes = Vec::new();
    let mut modules = Vec::new();
    for path in file::sorted_entries(staged) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some((stem, _)) = name.rsplit_once(".ko") else { continue };
        let content = file::content(&path).with_context(|| format!("reading {}", path.display()))?;
        modules.push((stem.to_owned(), Compression::of(name).decompress(&content)?, path));
    }
    let read = |(name, content, _): &(String, Vec<u8>, _)| Some((name.clone(), Module::read(content).ok()?));
    let verifier = job.verifier(session, &modules.iter().filter_map(read).collect::<Vec<_>>())?;
    let fleet = session.fleet_key().unwrap_or_default().filter(|fleet| {
        modules.iter().all(|(_, content, _)| fleet.has_signed(content, job.kernel)) && !job.unfinished
    });
    for (name, mut content, path) in modules {
        if let Err(why) = verifier.verify(&content) {
            bail!("{name}.ko would be rejected: {why}");
        }
        file::remove_all(&path)?;
        if fleet.is_some() {
            write(session, job.kernel.compression, (&name, &content), staged)?;
            continue;
        }
        // A pre-build does not sign, and leaves everything as it is. Otherwise, a signature of a store that is not kept is
        // replaced.
        if !job.unfinished {
            content.truncate(signature::without(&content).len());
        }
        one(session, job, job.kernel.compression, scratch, (&name, content), staged, &mut notes)?;
    }
    let signer = match fleet {
        Some(fleet) => Some(fleet.identity),
        None => job.signing.signer(&notes),
    };
    Ok((notes, signer))
}
