//! The table that a person reads.

use std::fmt::Write as _;

use super::{
    compare::{differences, identical},
    record::Record,
};

/// One row a package, then every difference in words, then the sums.
pub fn render(pairs: &[(Record, Record)]) -> String {
    let mut text = format!(
        "{:<28} {:<34} {:<10} {:<10} {:>5} {:>9} {:<6} {:>8} {:>6}\n",
        "package", "version", "Debian", "ours", "files", "identical", "equal", "s Debian", "s ours"
    );
    let mut told = String::new();
    let mut equal = 0;
    for (debian, ours) in pairs {
        let found = differences(debian, ours);
        equal += usize::from(found.is_empty());
        writeln!(
            text,
            "{:<28} {:<34} {:<10} {:<10} {:>5} {:>9} {:<6} {:>8.0} {:>6.0}",
            debian.package,
            debian.version,
            debian.verdict(),
            ours.verdict(),
            ours.files.len(),
            identical(debian, ours),
            if found.is_empty() { "yes" } else { "NO" },
            debian.seconds,
            ours.seconds
        )
        .unwrap();
        for line in found {
            writeln!(told, "{}: {line}", debian.package).unwrap();
        }
        if let Some(why) = &debian.unavailable {
            writeln!(told, "{} could not be installed: {why}", debian.package).unwrap();
        }
    }
    writeln!(text, "{told}{equal} of {} packages equal", pairs.len()).unwrap();
    text
}
