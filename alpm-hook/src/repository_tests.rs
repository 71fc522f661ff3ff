use super::*;
use dkms_core::sys::file::write_atomic;

fn call(words: &str, dir: &Path) -> Call {
    Call { words: words.split(' ').map(str::to_owned).collect(), dirs: vec!["/".into(), dir.to_owned()] }
}

fn tarball(files: &[(String, String)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The lists of two repositories, of which the first one takes precedence.
#[test]
fn the_first_repository_counts_unless_another_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let list = |repository: &str, version: &str| {
        let desc = |name: &str| {
            let text = format!(
                "%FILENAME%\n{name}-{version}-1-any.pkg.tar.zst\n\n%NAME%\n{name}\n\n%VERSION%\n{version}-1\n"
            );
            (format!("{name}-{version}-1/desc"), text)
        };
        let tar = tarball(&[desc("linux-headers"), desc("linux"), desc("other")]);
        write_atomic(&dir.path().join(format!("{repository}.db")), &tar, 0o644).unwrap();
    };
    list("testing", "7.2");
    list("core", "7.1");
    let input = PacmanInput::read("linux-headers\nusr/lib/modules/7.1/build/include/\nlinux\n");
    assert!(input.concerns() && !PacmanInput::read("linux\nzlib\n").concerns());
    let order = ["missing", "testing", "core"].map(str::to_owned);
    for (words, headers) in [("pacman -Syu", "7.2"), ("pacman -S core/linux-headers linux", "7.1")] {
        let found = offered(&input, &call(words, dir.path()), dir.path(), &order).unwrap();
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["linux", "linux-headers"]);
        assert_eq!(found["linux-headers"], format!("linux-headers-{headers}-1-any.pkg.tar.zst"), "{words}");
        assert_eq!(found["linux"], "linux-7.2-1-any.pkg.tar.zst");
    }
}

/// Reading a package file is tested in `dkms_core::package`.
fn package(file: PathBuf, paths: &[&str]) -> Package {
    let paths = paths.iter().map(PathBuf::from).collect();
    Package { file, name: "some".to_owned(), version: "1-1".to_owned(), machine: None, size: 0, paths }
}

#[test]
fn files_are_known_by_what_they_say_and_believed_for_what_pacman_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("any.pkg.tar");
    write_atomic(&path, b"a package", 0o644).unwrap();
    let any = ["usr/src/a-1/dkms.conf", "usr/lib/modules/6.1/vmlinuz"];
    let open = |path: &Path| Some(package(path.to_owned(), &any));
    let input = PacmanInput::read(
        "some\nusr/src/a-1/dkms.conf\nusr/lib/modules/6.1/vmlinuz\nusr/src/a-0/dkms.conf\n",
    );
    let found = |words: &str| given(&input, &call(words, dir.path()), &[dir.path().to_owned()], open);
    for words in ["pacman -U any.pkg.tar", "pacman -U --needed https://example.org/x/any.pkg.tar"] {
        assert_eq!(found(words), BTreeMap::from([("some".to_owned(), path.clone())]), "{words}");
    }
    assert!(found("pacman -U none.pkg.tar").is_empty());
    let others = PacmanInput::read("other\n");
    assert!(given(&others, &call("pacman -U any.pkg.tar", dir.path()), &[], open).is_empty());

    let fits = |paths: &[&str]| input.fits(&package(path.clone(), paths));
    assert!(fits(&any) && fits(&["usr/bin/ls", "usr/lib/modules/6.2/kernel/a.ko"]));
    // Another version than the one that is installed.
    assert!(!fits(&["usr/lib/modules/6.2/vmlinuz"]));
    assert!(!fits(&["usr/lib/modules/6.2/build/include/config/auto.conf"]));
}
