//! Reads the metadata of package files in a process without privileges, because decompressors and parsers get untrusted
//! input. That process receives open files, and sends back values.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Package;
use crate::archive::MEMORY;
use crate::sys::confine::{self, Spec};
use crate::sys::inside::{self, Gone, Link};

/// The name of the part of our programs that describes packages.
pub const PART: &str = "package";

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
        let described = link.call(&path, |kind, content| inside::lend([path], kind, &content));
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

/// The sandboxed part.
pub fn serve() -> Result<()> {
    inside::serve(|path: PathBuf| Package::open(&path))
}
