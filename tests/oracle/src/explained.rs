//! Differences that are not defects of ours, each with its reason.

use crate::compare::Difference;

/// One reason, and the differences that it explains: each field is a part of the text that must match.
struct Explained {
    file: &'static str,
    what: &'static str,
    ours: &'static str,
    theirs: &'static str,
    why: &'static str,
}

const EXPLAINED: [Explained; 1] = [Explained {
    file: ".rpm",
    what: "unpacks",
    ours: "is compressed with bzip2, which is not supported",
    theirs: "reads it",
    why: "bzip2 payloads are not supported: the distributions use gzip, xz or zstd",
}];

/// The reason, if this difference is explained.
pub fn explained(file: &str, difference: &Difference) -> Option<&'static str> {
    let row = EXPLAINED.iter().find(|row| {
        file.contains(row.file)
            && difference.what == row.what
            && difference.ours.contains(row.ours)
            && difference.theirs.contains(row.theirs)
    });
    row.map(|row| row.why)
}
