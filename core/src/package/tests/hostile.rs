//! Malicious packages. None of them writes anything outside of the directory or through a link, and none causes a
//! panic.

use std::path::Path;

use proptest::prelude::*;

use super::made::*;
use crate::archive::Limits;
use crate::package::{Package, Unpacking};
use crate::sys::private::Private;

const LIMITS: Limits = Limits { bytes: 1 << 20, ratio: 200, free: 1 << 19, members: 1000 };

fn all(_: &Path) -> bool {
    true
}

/// Tests a list in every format: the unpacked files, or a part of the reason.
fn tried(list: &[(&str, What)], expected: Result<&[(&str, &str)], &str>) {
    let place = Place::new();
    for form in FORMS {
        let found = place.unpack(&[form.make(&items(list), true)], &LIMITS, &all);
        match (found, expected) {
            (Ok(mut found), Ok(expected)) => {
                found.retain(|_, what| what != "dir");
                let found: Vec<_> = found.iter().map(|(path, what)| (path.as_str(), what.as_str())).collect();
                assert_eq!(found, expected, "{form:?} {list:?}");
            }
            (Err(why), Err(part)) => {
                assert!(why.contains(part) && why.contains("package0: "), "{form:?} {list:?}: {why}");
            }
            other => panic!("{form:?} {list:?}: {other:?}"),
        }
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    let long = "d/".repeat(600) + "x";
    let wide = "x".repeat(256);
    for (name, why) in [
        ("../x", ".."),
        ("usr/../../x", ".."),
        ("/etc/passwd", "absolute"),
        ("usr/a\nb", "control"),
        (long.as_str(), "1024"),
        (wide.as_str(), "255"),
    ] {
        tried(&[(name, file("x"))], Err(why));
    }
    let place = Place::new();
    for form in FORMS {
        let why = place.open(&form.make(&items(&[("../x", file("x"))]), true)).unwrap_err();
        assert!(why.contains("..") && why.contains("/package: "), "{form:?}: {why}");
    }
}

#[test]
fn what_distributions_have_is_taken() {
    tried(
        &[
            ("usr", Dir),
            ("usr/src/h", file("x")),
            ("lib/modules/6.1/build", Link("/usr/src/h")),
            ("usr/lib/modules/6.1/source", Link("../../../src/h")),
            ("usr/bin/su", SetId("s")),
            ("usr/bin/cc", Program("c")),
            ("usr/bin/gcc", Same("usr/bin/cc")),
        ],
        Ok(&[
            ("usr/bin/cc", "x c"),
            ("usr/bin/gcc", "x c"),
            ("usr/bin/su", "x s"),
            ("usr/lib/modules/6.1/build", "-> /usr/src/h"),
            ("usr/lib/modules/6.1/source", "-> ../../../src/h"),
            ("usr/src/h", "x"),
        ]),
    );
}

#[test]
fn what_is_no_file_is_refused_where_it_is_wanted() {
    let place = Place::new();
    for (what, name) in [(Device, "a device"), (Fifo, "a FIFO")] {
        let list = [("dev/x", what), ("usr/a", file("a"))];
        tried(&list, Err(name));
        for form in FORMS {
            let package = form.make(&items(&list), true);
            let found = place.unpack(&[package], &LIMITS, &|path| path.starts_with("usr")).unwrap();
            assert_eq!(found.get("usr/a").map(String::as_str), Some("a"));
        }
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let target: &'static str = outside.path().to_str().unwrap().to_owned().leak();
    let (link, below) = (("usr/a", Link(target)), ("usr/a/b", file("evil")));
    tried(&[link.clone(), below.clone()], Err("is not a directory"));
    tried(&[below.clone(), link.clone()], Err("another type"));
    tried(&[("usr/a", Link(target)), ("usr/a", file("evil"))], Err("another type"));
    // The same with two packages.
    let place = Place::new();
    for form in FORMS {
        let (one, two) = (
            form.make(&items(std::slice::from_ref(&link)), true),
            form.make(&items(std::slice::from_ref(&below)), true),
        );
        for (packages, why) in [([&one, &two], "is not a directory"), ([&two, &one], "another type")] {
            let error = place.unpack(&packages.map(Clone::clone), &LIMITS, &all).unwrap_err();
            assert!(error.contains(why) && error.contains("package1"), "{error}");
        }
    }
    assert_eq!(outside.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_link_of_our_own_gives_way() {
    let place = Place::new();
    let build = Path::new("usr/lib/modules/6.1/build");
    let package = |list: &[(&str, What)]| Form::Pacman.make(&items(list), true);
    for (list, expected) in [
        (vec![("usr/a", file("a"))], Some("-> /usr/src/h")),
        (vec![("usr/lib/modules/6.1/build", Link("/other"))], Some("-> /other")),
        (vec![("usr/lib/modules/6.1/build/Makefile", file("a"))], Some("dir")),
        // A directory that leads out of the root.
        (vec![("usr/lib/modules/6.1", Link("/etc"))], None),
    ] {
        let private = Private::new(&place.write("x", b"").with_file_name("in")).unwrap();
        let mut unpacking = Unpacking::new(&private, Path::new("over"));
        unpacking.take(&unknown(place.write("package", &package(&list))), &all).unwrap();
        unpacking.link(build, Path::new("/usr/src/h")).unwrap();
        unpacking.finish().unwrap();
        assert_eq!(
            look(&private.path().join("over")).get("usr/lib/modules/6.1/build").map(String::as_str),
            expected
        );
    }
}

#[test]
fn packages_share_directories_and_the_later_file_wins() {
    let place = Place::new();
    for form in FORMS {
        let one = form.make(&items(&[("usr/d", Dir), ("usr/d/a", file("1")), ("usr/d/l", Link("a"))]), true);
        let two =
            form.make(&items(&[("usr/d", Dir), ("usr/d/a", Program("2")), ("usr/d/l", Link("b"))]), true);
        let found = place.unpack(&[one, two], &LIMITS, &all).unwrap();
        assert_eq!((found["usr/d/a"].as_str(), found["usr/d/l"].as_str()), ("x 2", "-> b"), "{form:?}");
    }
}

#[test]
fn a_name_whose_file_is_not_wanted_has_its_content_all_the_same() {
    let place = Place::new();
    let list = [
        ("usr/share/first", file("content")),
        ("usr/src/a", Same("usr/share/first")),
        ("usr/src/b", Same("usr/share/first")),
    ];
    for form in FORMS {
        let package = form.make(&items(&list), true);
        let found = place.unpack(&[package], &LIMITS, &|path| path.starts_with("usr/src")).unwrap();
        let found: Vec<_> = found.iter().filter(|(_, what)| *what != "dir").collect();
        assert_eq!(
            found,
            [(&"usr/src/a".into(), &"content".into()), (&"usr/src/b".into(), &"content".into())],
            "{form:?}"
        );
    }
}

#[test]
fn hard_links_to_nothing_are_refused() {
    let place = Place::new();
    for form in FORMS.into_iter().filter(|form| !form.is_rpm()) {
        for first in ["usr/none", "usr/dir", "usr/a"] {
            let list = items(&[("usr/dir", Dir), ("usr/a", Same(first))]);
            let why = place.unpack(&[form.make(&list, true)], &LIMITS, &all).unwrap_err();
            assert!(why.contains("hard link"), "{form:?} {first}: {why}");
        }
    }
}

#[test]
fn bombs_are_refused() {
    let place = Place::new();
    let zeros = |mib: usize| What::File(vec![0; mib << 20]);
    for form in FORMS {
        // More than the limit for its own size, needed or not.
        let bomb = form.make(&items(&[("usr/a", zeros(8))]), true);
        let narrow = Limits { bytes: 1 << 30, ratio: 10, free: 1 << 20, members: 1000 };
        let why = place.unpack(std::slice::from_ref(&bomb), &narrow, &|_| false).unwrap_err();
        assert!(why.contains("bomb"), "{form:?}: {why}");
        // More than the limit for all: two are too much, and so are copies of one.
        let wide = Limits { bytes: 12 << 20, ratio: 1_000_000, free: 100 << 20, members: 1000 };
        place.unpack(std::slice::from_ref(&bomb), &wide, &all).unwrap();
        let other = form.make(&items(&[("usr/b", zeros(8))]), true);
        for packages in [
            vec![bomb.clone(), other],
            vec![form.make(&items(&[("usr/a", zeros(8)), ("usr/b", Same("usr/a"))]), true)],
        ] {
            let why = place.unpack(&packages, &wide, &all).unwrap_err();
            assert!(why.contains("MiB in one transaction"), "{form:?}: {why}");
        }
        // Too many.
        let many: Vec<Item> = (0..50).map(|n| (format!("usr/{n}"), file(""))).collect();
        let few = Limits { members: 40, ..LIMITS };
        let why = place.unpack(&[form.make(&many, true)], &few, &all).unwrap_err();
        assert!(why.contains("more than 40"), "{form:?}: {why}");
        let halves: Vec<_> = many.chunks(25).map(|half| form.make(half, true)).collect();
        let why = place.unpack(&halves, &few, &all).unwrap_err();
        assert!(why.contains("more than 40"), "{form:?}: {why}");
    }
}

#[test]
fn a_part_of_a_package_is_no_package() {
    let place = Place::new();
    let list = items(&[("usr/a", file(&"text ".repeat(300))), ("usr/b", Link("a")), ("usr/c", file("c"))]);
    for form in FORMS {
        for compressed in [true, false] {
            let whole = form.make(&list, compressed);
            place.unpack(std::slice::from_ref(&whole), &LIMITS, &all).unwrap();
            // The end of an archive is padding, which may be missing; a tarball needs one of two blocks.
            let needed = whole.len() - if compressed { 1 } else { 600 };
            for length in (0..needed).step_by(37).chain([needed]) {
                let part = whole[..length].to_vec();
                let _ = place.open(&part);
                let result = place.unpack(&[part], &LIMITS, &all);
                assert!(result.is_err(), "{form:?} {compressed} {length} of {}", whole.len());
            }
        }
    }
}

#[test]
fn a_header_is_not_believed() {
    let place = Place::new();
    let list = items(&[("usr/a", file("a"))]);
    let edited = |edit: &dyn Fn(&mut Vec<Tag>)| {
        let mut tags = tags(&list);
        edit(&mut tags);
        [lead(), header(&tags)].concat()
    };
    let set = |tag: u32, values: Tag| {
        edited(&|tags| *tags.iter_mut().find(|(known, ..)| *known == tag).unwrap() = values.clone())
    };
    let huge = |tags: u32, store: u32| {
        let mut start = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
        start.extend(tags.to_be_bytes());
        start.extend(store.to_be_bytes());
        [lead(), start].concat()
    };
    for (package, why) in [
        (huge(u32::MAX, 0), "too large"),
        (huge(0, u32::MAX), "too large"),
        (huge(100, 1 << 20), "truncated"),
        (huge(0, 0), "no valid name"),
        (edited(&|tags| tags.push((1106, 4, 1, vec![0, 0, 0, 1]))), "source package"),
        // Written by older versions of rpm: no tag, but the directory has no name.
        (set(1118, (1118, 8, 1, vec![0])), "source package"),
        (set(1116, (1116, 4, 1, vec![0, 0, 0, 9])), "damaged file list"),
        (set(1116, (1116, 4, 0, vec![])), "damaged file list"),
        (set(1030, (1030, 3, 0, vec![])), "damaged file list"),
        (set(1000, (1000, 6, 1, b"two words\0".to_vec())), "no valid name"),
        (set(1000, (1000, 4, 1, vec![0; 4])), "no valid name"),
        (set(1022, (1022, 6, 1, b"../..\0".to_vec())), "no valid architecture"),
    ] {
        let error = place.open(&package).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
    // Half a million short names in one long directory would be half a gigabyte.
    let count = 200_000_u32;
    let many = edited(&|tags| {
        for (tag, kind, number, values) in tags.iter_mut() {
            match *tag {
                1117 => (*number, *values) = (count, b"x\0".repeat(count as usize)),
                1118 => *values = ["/".as_bytes(), &b"d".repeat(1000), b"/\0"].concat(),
                1116 => (*number, *values) = (count, vec![0; 4 * count as usize]),
                1030 => (*number, *values) = (count, vec![0; 2 * count as usize]),
                _ => {}
            }
            let _ = kind;
        }
    });
    assert!(place.open(&many).unwrap_err().contains("too large"));
}

#[test]
fn what_is_no_package_is_refused() {
    let place = Place::new();
    let control = |text: &str| {
        ar(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar", &tarball(&items(&[("./control", file(text))]))),
            ("data.tar", &tarball(&[])),
        ])
    };
    for (content, why) in [
        (Vec::new(), "truncated"),
        (b"hello".to_vec(), "truncated"),
        (b"BZh91AY&SY".to_vec(), "bzip2"),
        (b"!<arch>\n".to_vec(), "not a Debian package"),
        (ar(&[("debian-binary", b"3.0\n")]), "not a Debian package"),
        (ar(&[("debian-binary", b"2.0\n"), ("data.tar", b"")]), "no control.tar"),
        (ar(&[("debian-binary", b"2.0\n"), ("control.tar", &tarball(&[]))]), "no control file"),
        (control("Version: 1\nArchitecture: all\n"), "no valid name"),
        (control("Package: a\nVersion: 1 2\nArchitecture: all\n"), "no valid version"),
        (control("Package: a\nVersion: 1\n"), "no valid architecture"),
        (tarball(&[]), "not a supported package format"),
        (tarball(&items(&[("a/dkms.conf", file("x"))])), ".PKGINFO is missing"),
    ] {
        let error = place.open(&content).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
    place.open(&control("Package: a\nVersion: 1\nArchitecture: all\n")).unwrap();
    let fifo = place.write("x", b"").with_file_name("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(format!("{:#}", Package::open(&fifo).unwrap_err()).contains("not a regular file"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]
    /// Random changes of bytes: the result is an error or harmless, which the test harness checks.
    #[test]
    fn damage_does_no_harm(
        form in prop::sample::select(FORMS.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let place = Place::new();
        let list = items(&[
            ("usr/a", file("text")), ("usr/l", Link("/etc")), ("usr/b", Same("usr/a")), ("dev/x", Device), ("usr/d", Dir),
        ]);
        let mut package = form.make(&list, false);
        for (at, byte) in damage {
            let at = at.index(package.len());
            package[at] = byte;
        }
        let _ = place.open(&package);
        let parent = place.write("x", b"").with_file_name("in");
        let private = Private::new(&parent).unwrap();
        let mut unpacking = Unpacking::new(&private, Path::new("over")).within(LIMITS);
        let _ = unpacking.take(&unknown(place.write("package", &package)), &all);
        no_links(private.path());
    }
}
