//! The table of results.

use std::fmt::Write as _;

use super::{
    compare::{differences, identical},
    record::Record,
};

/// One row per package, then every difference, then the sums.
pub fn render(pairs: &[(Record, Record)]) -> String {
    let mut text = format!(
        "{:<28} {:<34} {:<10} {:<10} {:>5} {:>9} {:<6} {:>8} {:>6}\n",
        "package", "version", "Debian", "ours", "files", "identical", "equal", "s Debian", "s ours"
    );
    let (mut told, mut failures) = (String::new(), String::new());
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
        for line in ours.modules.iter().filter(|m| m.own).flat_map(|m| reasons(&m.said)) {
            writeln!(failures, "{}: {line}", debian.package).unwrap();
        }
    }
    if !failures.is_empty() {
        writeln!(text, "\nwhat our summary said of failures:\n{failures}").unwrap();
    }
    writeln!(text, "{told}{equal} of {} packages equal", pairs.len()).unwrap();
    text
}

/// The lines of a summary with the reason of a failed build.
fn reasons(said: &str) -> Vec<&str> {
    let from = said.lines().skip_while(|line| !line.starts_with("dkms: FAILED"));
    from.take_while(|line| !line.starts_with("      log: ")).map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::{reasons, render};
    use crate::compat::record::{Module, Record};

    #[test]
    fn a_failure_is_shown_with_its_reasons() {
        let said = "dkms: building m/1 for k\ndkms: FAILED: m/1 for k: compiling failed\n      a.c:1: x\n      log: /l\n";
        assert_eq!(reasons(said), ["dkms: FAILED: m/1 for k: compiling failed", "a.c:1: x"]);
        let module = Module {
            own: true,
            exits: [Some(0), Some(10), None],
            said: said.to_owned(),
            ..Module::default()
        };
        let record = Record { package: "m-dkms".to_owned(), modules: vec![module], ..Record::default() };
        let text = render(&[(record.clone(), record)]);
        assert!(text.contains("failed") && text.contains("m-dkms: a.c:1: x"), "{text}");
        assert!(text.contains("1 of 1 packages equal"), "{text}");
    }
}
