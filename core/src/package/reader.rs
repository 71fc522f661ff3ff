//! Reads the metadata of package files in a process without privileges, because decompressors and parsers get untrusted
//! input. That process receives open files, and sends back values.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Package;
use crate::sys::confine::{self, Spec};
use crate::sys::file;
use crate::sys::inside::{self, Answer, Gone, Link};

/// The name of the part of our programs that describes packages.
pub const PART: &str = "package";
/// The memory limit of a process that reads package files. Decompressors of packages need windows of up to 128 MiB, and
/// file lists have at most 64 MiB.
pub const MEMORY: u64 = 512 << 20;

/// Reads package files one after the other.
#[derive(Debug, Default)]
pub struct Reader(Option<Link>);

impl Reader {
    /// Reads the metadata of a package; for root, in a process without privileges.
    pub fn describe(&mut self, path: &Path) -> Result<Package> {
        if !confine::drops_privileges() || inside::here() {
            return Package::open(path);
        }
        let link = match &mut self.0 {
            Some(link) => link,
            none => none.insert(Link::start(PART, &Spec { memory: Some(MEMORY), ..Spec::default() })?),
        };
        let described = link.call(&path, |kind, content| allowed([path], kind, &content));
        if let Err(error) = &described {
            // It may have ended, or wait for another answer. The next file gets a new process.
            self.0 = None;
            if error.is::<Gone>() {
                let why = || format!("{}, which needs too much memory or is damaged", super::reading(path));
                return described.with_context(why);
            }
        }
        described
    }
}

/// Answers a request to open one of these files; other requests are errors.
pub fn allowed<'p>(paths: impl IntoIterator<Item = &'p Path>, kind: &str, content: &Value) -> Result<Answer> {
    let asked = inside::asks_to_open(kind, content).map(PathBuf::from);
    let Some(path) = paths.into_iter().find(|path| asked.as_deref() == Some(*path)) else {
        bail!("the sandboxed dkms asks for {kind} {content}, which is not available");
    };
    Ok(match file::open_regular(path) {
        Ok((file, _)) => Answer::File(file),
        Err(error) => Answer::Value(error.to_string().into()),
    })
}

/// Opens a package file; also returns its size.
pub(super) fn opened(path: &Path) -> Result<(File, u64)> {
    match inside::open(path) {
        Some(file) => {
            let file = file?;
            let size = file.metadata()?.len();
            Ok((file, size))
        }
        None => Ok(file::open_regular(path)?),
    }
}

/// The sandboxed part.
pub fn serve() -> Result<()> {
    inside::serve(|path: PathBuf| Package::open(&path))
}
