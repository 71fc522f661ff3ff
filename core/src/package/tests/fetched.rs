use super::super::tests::made::{Form, What, file, items, tarball};
use super::*;
use crate::sys::file::write_atomic;

fn call(words: &str, dir: &Path) -> Call {
    Call { words: words.split(' ').map(str::to_owned).collect(), dirs: vec!["/".into(), dir.to_owned()] }
}

#[test]
fn options_and_what_is_none() {
    let call = call("pacman --config /c -U a.pkg.tar --cachedir=/d -- -odd", Path::new("/"));
    assert_eq!((call.option("--config"), call.option("--cachedir")), (Some("/c"), Some("/d")));
    assert_eq!(call.option("--conf"), None);
    assert!(call.targets().any(|word| word == "a.pkg.tar"));
}

/// The lists of two repositories, of which the first one counts.
#[test]
fn the_first_repository_counts_unless_another_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let list = |repository: &str, version: &str| {
        let desc = |name: &str| {
            let text = format!(
                "%FILENAME%\n{name}-{version}-1-any.pkg.tar.zst\n\n%NAME%\n{name}\n\n%VERSION%\n{version}-1\n"
            );
            (format!("{name}-{version}-1/desc"), file(&text))
        };
        let tar = tarball(&[desc("linux-headers"), desc("linux"), desc("other")]);
        write_atomic(&dir.path().join(format!("{repository}.db")), &tar, 0o644).unwrap();
    };
    list("testing", "7.2");
    list("core", "7.1");
    let told = Told::read("linux-headers\nusr/lib/modules/7.1/build/include/\nlinux\n");
    assert!(told.concerns() && !Told::read("linux\nzlib\n").concerns());
    let order = ["missing", "testing", "core"].map(str::to_owned);
    for (words, headers) in [("pacman -Syu", "7.2"), ("pacman -S core/linux-headers linux", "7.1")] {
        let found = offered(&told, &call(words, dir.path()), dir.path(), &order).unwrap();
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["linux", "linux-headers"]);
        assert_eq!(found["linux-headers"], format!("linux-headers-{headers}-1-any.pkg.tar.zst"), "{words}");
        assert_eq!(found["linux"], "linux-7.2-1-any.pkg.tar.zst");
    }
}

#[test]
fn files_are_known_by_what_they_say_and_believed_for_what_pacman_says() {
    let dir = tempfile::tempdir().unwrap();
    let package = |name: &str, list: &[(&str, What)]| {
        let path = dir.path().join(name);
        write_atomic(&path, &Form::Pacman.make(&items(list), true), 0o644).unwrap();
        path
    };
    let path = package(
        "any.pkg.tar",
        &[("usr/src/a-1/dkms.conf", file("x")), ("usr/lib/modules/6.1/vmlinuz", file("x"))],
    );
    let told =
        Told::read("some\nusr/src/a-1/dkms.conf\nusr/lib/modules/6.1/vmlinuz\nusr/src/a-0/dkms.conf\n");
    let found = |words: &str| given(&told, &call(words, dir.path()), &[dir.path().to_owned()]);
    for words in ["pacman -U any.pkg.tar", "pacman -U --needed https://example.org/x/any.pkg.tar"] {
        assert_eq!(found(words), BTreeMap::from([("some".to_owned(), path.clone())]), "{words}");
    }
    assert!(found("pacman -U none.pkg.tar").is_empty());
    assert!(given(&Told::read("other\n"), &call("pacman -U any.pkg.tar", dir.path()), &[]).is_empty());

    let open = |path: &Path| Package::open(path).unwrap();
    assert!(told.fits(&open(&path)));
    // Another version than the one that comes.
    let other = package("other.pkg.tar", &[("usr/lib/modules/6.2/vmlinuz", file("x"))]);
    let headers =
        package("headers.pkg.tar", &[("usr/lib/modules/6.2/build/include/config/auto.conf", file("x"))]);
    let unrelated = package(
        "unrelated.pkg.tar",
        &[("usr/bin/ls", file("x")), ("usr/lib/modules/6.2/kernel/a.ko", file("x"))],
    );
    assert!(!told.fits(&open(&other)) && !told.fits(&open(&headers)) && told.fits(&open(&unrelated)));
}
