//! Tarballs: what `mktarball` writes and `ldtarball` reads, in shell DKMS's form.
//!
//! ```text
//! dkms_main_tree/KERNEL/ARCH/{log,module}/…     finished builds
//! dkms_source_tree/…                            the source, or in its place:
//! dkms_binaries_only/{dkms.conf,PACKAGE_NAME,PACKAGE_VERSION}
//! ```
//!
//! A tarball without `dkms_main_tree` is somebody's source with a dkms.conf in it.
//!
//! Whoever made a tarball is not trusted. [`Unpacked::open`] reads it into a directory that nobody else can enter, and
//! what it gives back has been checked whole: a tarball that breaks one rule leaves nothing behind.

mod bound;
mod codec;
mod contents;
mod member;
mod read;
#[cfg(test)]
mod tests;
mod walk;
mod write;

pub(crate) use bound::Bounded;
pub use bound::Limits;
pub(crate) use codec::reader as decompressed;
pub use contents::{Contents, contents};
pub use member::Kind;
pub(crate) use member::{Member, checked, checked_path};
pub use read::{Listing, Unpacked, unpack};
pub use walk::texts;
pub(crate) use walk::{Each, blame, walk};
pub use write::{Packing, destination, file_name, pack};

use crate::exit::Exit;

/// Why a tarball is not read, or cannot be written, with the exit code that shell DKMS documents for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// The exit code.
    pub code: Exit,
    /// The reason, as half a sentence whose subject is the tarball.
    pub why: String,
}

impl Refused {
    /// No tarball of a DKMS module, or none that can be trusted.
    pub(crate) fn malformed(why: impl Into<String>) -> anyhow::Error {
        Self { code: Exit::BAD_TARBALL, why: why.into() }.into()
    }

    pub(crate) fn truncated() -> anyhow::Error {
        Self::malformed("is truncated")
    }
}
