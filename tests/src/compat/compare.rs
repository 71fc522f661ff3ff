//! The differences between two records of the same package.

use super::record::{BYTES, Modinfo, Module, Record};

/// Fields that may differ: each root has its own signing key, and not every build is reproducible.
const MAY_DIFFER: &[&str] = &["signature", "sig_key", "signer", BYTES];

/// Each difference as text; empty if the results are equal.
pub fn differences(debian: &Record, ours: &Record) -> Vec<String> {
    let mut found = Vec::new();
    if debian.unavailable.is_some() || ours.unavailable.is_some() {
        if debian.unavailable.is_some() != ours.unavailable.is_some() {
            found.push("installable on one side only".to_owned());
        }
        return found;
    }
    if debian.modules.len() != ours.modules.len() {
        found.push(format!("{} source trees, ours {}", debian.modules.len(), ours.modules.len()));
    }
    for (theirs, ours) in debian.modules.iter().zip(&ours.modules) {
        found.extend(module(theirs, ours));
    }
    if debian.status != ours.status {
        found.push(format!("status {:?}, ours {:?}", debian.status, ours.status));
    }
    for path in debian.files.keys().filter(|p| !ours.files.contains_key(*p)) {
        found.push(format!("{path} missing"));
    }
    for (path, fields) in &ours.files {
        match debian.files.get(path) {
            None => found.push(format!("{path} only from ours")),
            Some(theirs) => found.extend(file(path, theirs, fields)),
        }
    }
    for (one, other, whose) in [(debian, ours, "only Debian's"), (ours, debian, "only our")] {
        let alone = one.tree.iter().filter(|entry| !other.tree.is_empty() && !other.tree.contains(*entry));
        found.extend(alone.map(|entry| format!("{whose} registry has {entry}")));
    }
    if debian.gone != ours.gone {
        found.push(format!("replaced {:?}, ours {:?}", debian.gone, ours.gone));
    }
    found
}

/// How many files are identical, apart from signatures.
pub fn identical(debian: &Record, ours: &Record) -> usize {
    let same = |(path, fields): &(&String, &Modinfo)| {
        ours.files.get(*path).is_some_and(|o| o.get(BYTES).is_some() && o.get(BYTES) == fields.get(BYTES))
    };
    debian.files.iter().filter(same).count()
}

fn module(theirs: &Module, ours: &Module) -> Vec<String> {
    let mut found = Vec::new();
    if (&theirs.source, &theirs.id) != (&ours.source, &ours.id) {
        found.push(format!("{} is {}, ours {}", theirs.source, theirs.id, ours.id));
    }
    for (n, action) in ["add", "build", "install"].into_iter().enumerate() {
        if theirs.exits[n] != ours.exits[n] {
            let shown = |exit: Option<i32>| exit.map_or_else(|| "not run".to_owned(), |e| e.to_string());
            let (a, b) = (shown(theirs.exits[n]), shown(ours.exits[n]));
            found.push(format!("{}: {action} exits {a}, ours {b}", theirs.id));
        }
    }
    found
}

fn file(path: &str, theirs: &Modinfo, ours: &Modinfo) -> Vec<String> {
    let mut names: Vec<&String> = theirs.keys().chain(ours.keys()).collect();
    names.sort();
    names.dedup();
    let differs =
        |name: &&String| !MAY_DIFFER.contains(&name.as_str()) && theirs.get(*name) != ours.get(*name);
    let told = |name: &String| format!("{path}: {name} {:?}, ours {:?}", theirs.get(name), ours.get(name));
    names.into_iter().filter(differs).map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::differences;
    use crate::compat::record::{Modinfo, Module, Record};

    fn record(exits: [Option<i32>; 3], fields: &[(&str, &str)]) -> Record {
        let fields: Modinfo = fields.iter().map(|(n, v)| ((*n).to_owned(), vec![(*v).to_owned()])).collect();
        Record {
            modules: vec![Module { id: "m/1".to_owned(), own: true, exits, ..Module::default() }],
            files: [("/m.ko".to_owned(), fields)].into(),
            ..Record::default()
        }
    }

    const GOOD: [Option<i32>; 3] = [Some(0), Some(0), Some(0)];

    #[test]
    fn keys_differ_and_nothing_else_may() {
        let theirs = record(GOOD, &[("vermagic", "6.12 SMP"), ("sig_key", "01")]);
        assert!(
            differences(&theirs, &record(GOOD, &[("vermagic", "6.12 SMP"), ("sig_key", "02")])).is_empty()
        );
        let other = differences(&theirs, &record(GOOD, &[("vermagic", "6.13 SMP"), ("alias", "pci:*")]));
        assert_eq!(other.len(), 2, "{other:?}");
        assert!(other[0].contains("alias") && other[1].contains("vermagic"), "{other:?}");
    }

    #[test]
    fn exit_codes_and_files() {
        let theirs = record([Some(0), Some(10), None], &[]);
        let mut ours = record(GOOD, &[]);
        ours.files = [("/other.ko".to_owned(), Modinfo::new())].into();
        let found = differences(&theirs, &ours);
        assert_eq!(
            found,
            [
                "m/1: build exits 10, ours 0",
                "m/1: install exits not run, ours 0",
                "/m.ko missing",
                "/other.ko only from ours"
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_equal_when_it_is_there_for_nobody() {
        let gone = Record { unavailable: Some("E: …".to_owned()), ..Record::default() };
        assert!(differences(&gone, &gone).is_empty());
        assert_eq!(differences(&gone, &record(GOOD, &[])).len(), 1);
    }
}
