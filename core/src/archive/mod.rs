//! Tarballs: what `mktarball` writes and `ldtarball` reads, in shell DKMS's format.
//!
//! ```text
//! dkms_main_tree/KERNEL/ARCH/{log,module}/…     builds
//! dkms_source_tree/…                            the source, or instead:
//! dkms_binaries_only/{dkms.conf,PACKAGE_NAME,PACKAGE_VERSION}
//! ```
//!
//! A tarball without `dkms_main_tree` is a plain source with a dkms.conf.
//!
//! The author of a tarball is not trusted. [`Unpacked::open`] has it unpacked by a process without privileges, into a
//! directory that only root can enter, and returns it after all checks: a tarball that violates a rule leaves no files
//! behind.

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
pub use bound::{Limits, MEMORY};
pub(crate) use codec::{reader as decompressed, write as compressed};
pub use contents::{Contents, contents};
pub use member::Kind;
pub(crate) use member::{Member, checked, checked_path};
pub use read::{Listing, PART, Unpacked, serve, unpack};
pub use walk::texts;
pub(crate) use walk::{Each, blame, walk};
pub(crate) use write::Writer;
pub use write::{Packing, destination, file_name, pack};

use serde::{Deserialize, Serialize};

use crate::exit::Exit;

/// Why a tarball cannot be read or written, with the exit code that shell DKMS documents for this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("it {why}")]
pub struct Refused {
    /// The exit code.
    pub code: Exit,
    /// The reason, as a clause whose subject is the tarball.
    pub why: String,
}

impl Refused {
    /// Not a tarball of a DKMS module, or an untrustworthy one.
    pub(crate) fn malformed(why: impl Into<String>) -> anyhow::Error {
        Self { code: Exit::BAD_TARBALL, why: why.into() }.into()
    }

    pub(crate) fn truncated() -> anyhow::Error {
        Self::malformed("is truncated")
    }
}
