//! The descriptions of packages.

use std::path::PathBuf;

use proptest::prelude::*;

use super::made::*;
use crate::package::{ar as reader, machine};

#[test]
fn every_format_says_the_same() {
    let place = Place::new();
    let list = items(&[
        ("usr", Dir),
        ("usr/src/a-1/dkms.conf", file("x")),
        ("lib/modules/6.1/vmlinuz", file("x")),
        ("usr/share/two words", file("x")),
        ("lib/modules/6.1/build", Link("/usr/src/a-1")),
    ]);
    for form in FORMS {
        let package = place.open(&form.make(&list, true)).unwrap();
        assert_eq!((package.name.as_str(), package.version.as_str()), ("some", "1:2.0-3"), "{form:?}");
        assert_eq!((package.machine, package.size), (Some("aarch64".parse().unwrap()), 7168), "{form:?}");
        let mut expected =
            vec!["usr/src/a-1/dkms.conf", "usr/lib/modules/6.1/vmlinuz", "usr/share/two words"];
        // The sums of a .deb are of regular files only.
        if form != Form::Deb {
            expected.push("usr/lib/modules/6.1/build");
        }
        assert_eq!(package.paths, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{form:?}");
    }
}

#[test]
fn machines_are_called_as_uname_does() {
    for (word, expected) in [
        ("amd64", Some("x86_64")),
        ("x86_64", Some("x86_64")),
        ("arm64", Some("aarch64")),
        ("ppc64el", Some("ppc64le")),
        ("i386", Some("i686")),
        ("armhf", Some("armv7l")),
        ("riscv64", Some("riscv64")),
        ("vax", Some("vax")),
        ("all", None),
        ("noarch", None),
        ("any", None),
    ] {
        assert_eq!(machine::of(word).unwrap(), expected.map(|word| word.parse().unwrap()), "{word}");
    }
    for word in ["", "../x", "a b"] {
        assert!(machine::of(word).is_err(), "{word:?}");
    }
}

#[test]
fn only_what_the_description_needs_is_read() {
    let place = Place::new();
    let list = items(&[("usr/a", file(&"x".repeat(100_000)))]);
    for form in [Form::Deb, Form::Rpm, Form::RpmStripped] {
        // Half of the payload is missing.
        let mut package = form.make(&list, false);
        let (whole, half) = (package.len(), package.len() - 50_000);
        if form.is_rpm() {
            package.truncate(half);
        } else {
            // The members of a .deb must be complete, but their content is not read.
            package[whole - 50_000..].fill(0xff);
        }
        assert_eq!(place.open(&package).unwrap().paths.len(), 1, "{form:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn the_parts_of_an_archive_are_found(
        parts in prop::collection::vec(("[a-z.]{1,15}", prop::collection::vec(any::<u8>(), 0..50)), 0..8),
    ) {
        let list: Vec<(&str, &[u8])> =
            parts.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        let made = ar(&list);
        let mut file = std::io::Cursor::new(&made);
        let found = reader::parts(&mut file, made.len() as u64).unwrap();
        prop_assert_eq!(found.len(), list.len());
        for (part, (name, content)) in found.iter().zip(list) {
            prop_assert_eq!(&part.name, name);
            prop_assert_eq!(&made[part.at as usize..(part.at + part.size) as usize], content);
        }
    }
}
