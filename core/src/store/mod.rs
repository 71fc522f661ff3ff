//! A store of builds: static files in a directory or behind a web server, so that one machine compiles for many.
//!
//! | file | content |
//! |---|---|
//! | `builds/FF/FINGERPRINT.json` | the manifest of a build: a signed in-toto statement (`statement`, `envelope`) |
//! | `objects/HH/SHA256.zst` | all files of a build, one after the other, compressed; named by its own hash (`object`) |
//!
//! A machine asks for the manifest of the very fingerprint that it would build. The manifest is one file, so that content
//! and signature can never be of different ages, and is written after its object.
//!
//! What the store does not guarantee: that a build exists, and that it is fast. What comes from it is data: limited in
//! size, checked against signature and hash, then put into the local cache as a build that is not judged yet. From there on
//! it goes the way of every cached build: judged against this machine's kernel, signed with this machine's key, compressed,
//! installed. Whatever fails on this way, the module is built locally.

mod envelope;
mod fetch;
mod key;
mod object;
mod push;
mod reach;
mod shelf;
mod statement;
mod web;

pub use envelope::{open, seal};
pub use fetch::{Fetched, Wanted, fetch};
pub use key::{PrivateKey, PublicKey, generate};
pub use object::pack;
pub use push::{Pushed, push};
pub use reach::Place;
pub use shelf::{Found, Keep, Problem, gc, list, verify};

pub use statement::{FileEntry, Manifest, Provenance};

use crate::types::Fingerprint;

/// Larger than any real manifest.
const MANIFEST_LIMIT: u64 = 256 << 10;

/// The path of a manifest in a store. `None` for a build with variables of a user's environment: only builds that other
/// machines can have are in a store.
fn manifest_path(fingerprint: &Fingerprint) -> Option<String> {
    let name = &fingerprint.0;
    is_sha256(name).then(|| format!("builds/{}/{name}.json", &name[..2]))
}

/// The path of an object in a store.
fn object_path(sha256: &str) -> Option<String> {
    is_sha256(sha256).then(|| format!("objects/{}/{sha256}.zst", &sha256[..2]))
}

/// Whether a text is a SHA-256 in lower-case hex.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
