//! Package files written by the formats' own tools: the product reads and unpacks the same as those tools.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dkms_core::layout::merged;
use dkms_core::package::{Package, Unpacking};
use dkms_core::sys::private::Private;
use dkms_tests::kernels::Flavour;
use dkms_tests::rpm::{self, Family};
use dkms_tests::{Kernel, Root, Suite, host, pacman};

/// The content of a directory: path → directory, link and its target, or file with x bit, time and content.
type Tree = BTreeMap<PathBuf, String>;

fn look(dir: &Path, root: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let what = if meta.is_dir() {
            look(&path, root, tree);
            "directory".to_owned()
        } else if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_file() {
            let program = meta.mode() & 0o111 != 0;
            format!("{program} {} {}", meta.mtime(), host::sha256(&fs::read(&path).unwrap()))
        } else {
            "something else".to_owned()
        };
        tree.insert(merged(path.strip_prefix(root).unwrap().to_owned()), what);
    }
}

fn tree(dir: &Path) -> Tree {
    let mut found = Tree::new();
    look(dir, dir, &mut found);
    found
}

/// Packages unpacked together by the product, without what `leave` selects.
fn ours(packages: &[Package], leave: &str) -> Tree {
    let parent = host::roots_dir().join("unpacked");
    let private = Private::new(&parent).unwrap();
    let mut unpacking = Unpacking::new(&private, Path::new("over"));
    for package in packages {
        unpacking.take(package, &|path| !path.starts_with(leave)).unwrap();
    }
    unpacking.finish().unwrap();
    tree(&private.path().join("over"))
}

/// Everything but directories.
fn files(tree: &Tree) -> Tree {
    tree.iter()
        .filter(|(_, what)| *what != "directory")
        .map(|(path, what)| (path.clone(), what.clone()))
        .collect()
}

#[track_caller]
fn expect_same(ours: &Tree, theirs: &Tree) {
    assert!(theirs.len() > 3, "{} files", theirs.len());
    let differ: Vec<_> = theirs
        .iter()
        .filter(|(path, what)| ours.get(*path) != Some(*what))
        .chain(ours.iter().filter(|(path, _)| !theirs.contains_key(*path)))
        .take(5)
        .map(|(path, _)| (path, ours.get(path), theirs.get(path)))
        .collect();
    assert!(differ.is_empty(), "path, ours, theirs: {differ:#?}");
}

/// The paths that a package lists are those that it contains.
#[track_caller]
fn expect_named(package: &Package, theirs: &Tree, links: bool) {
    let mut named = package.paths.clone();
    named.sort();
    let held: Vec<PathBuf> = files(theirs)
        .into_iter()
        .filter(|(_, what)| links || !what.starts_with("->"))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(named.len(), held.len());
    assert!(named == held, "{}", package.file.display());
}

/// A tree with entries that kernels' headers do not have: hard links, set-user-id programs, unusual names, a fifo.
const ODD: &str = r#"set -e
rm -rf $1; mkdir -p $1/usr/src/odd-1/deep/er $1/usr/bin $1/usr/lib/odd "$1/usr/src/odd-1/two words"
cd $1/usr/src/odd-1
echo first > first.c; ln first.c second.c; ln first.c ../../lib/odd/third.c
: > empty.h; ln empty.h void.h
echo name > "two words/ä ö.h"
printf '#!/bin/sh\n' > configure; chmod 755 configure
ln -s /usr/lib/odd/third.c absolute.c; ln -s ../odd-1/first.c relative.c
cp configure $1/usr/bin/odd; chmod 4755 $1/usr/bin/odd
mkfifo $1/usr/lib/odd/fifo
long=$(printf 'x%.0s' $(seq 120)); mkdir $long; echo deep > $long/$long.h
find $1 -exec touch -h -d '2020-02-02 02:02:02 UTC' {} +
"#;

/// The part of it that is not requested, because headers do not contain such entries.
const LEAVE: &str = "usr/lib/odd/fifo";

fn headers_of(suite: &'static Suite, directories: bool) {
    let root = Root::on(&suite.base());
    let kernel = Kernel::newest(&root, Flavour::Cloud, suite.kernel_series);
    let needs = root.run(&format!("apt-cache depends {}", kernel.headers())).ok().stdout;
    let is_part = |name: &&str| {
        name.starts_with("linux-headers-") && name.ends_with("-common") || name.starts_with("linux-kbuild-")
    };
    let mut names: Vec<&str> = needs.split_whitespace().filter(is_part).collect();
    let own = kernel.headers();
    names.push(&own);
    let debs = root.download(&names);
    assert_eq!(debs.len(), 3, "{names:?}");
    let all = root.path("/opt/theirs");
    let mut packages = Vec::new();
    for (deb, name) in debs.iter().zip(&names) {
        let one = root.path(&format!("/opt/{name}"));
        for to in [&one, &all] {
            host::run_host(&format!("dpkg-deb -x '{}' '{}'", deb.display(), to.display()));
        }
        let package = Package::open(deb).unwrap();
        let version = host::run_host(&format!("dpkg-deb -f '{}' Version", deb.display()));
        assert_eq!((package.name.as_str(), package.version.as_str()), (*name, version.trim()));
        let common = name.ends_with("-common");
        assert_eq!(
            package.machine.as_ref().map(|arch| arch.as_str()),
            (!common).then_some("x86_64"),
            "{name}"
        );
        assert!(package.size > 1 << 20, "{name} {}", package.size);
        expect_named(&package, &tree(&one), false);
        packages.push(package);
    }
    let (ours, theirs) = (ours(&packages, "none"), tree(&all));
    assert!(theirs.len() > 10_000 && theirs.keys().any(|path| path.ends_with(format!("{kernel}/build"))));
    if directories {
        expect_same(&ours, &theirs);
    }
    expect_same(&files(&ours), &files(&theirs));
}

#[test]
fn debian_13s_headers_are_what_dpkg_unpacks() {
    headers_of(Suite::trixie(), true);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn debian_12s_headers_are_what_dpkg_unpacks_below_usr() {
    headers_of(Suite::bookworm(), false);
}

#[test]
fn an_odd_deb_is_what_dpkg_unpacks() {
    let root = Root::on(&Suite::sid().base());
    root.run(&format!("set -- /opt/odd\n{ODD}")).ok();
    root.write("/opt/odd/DEBIAN/control", "Package: odd\nVersion: 2:1.0~rc1-1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n");
    for how in ["none", "gzip", "xz", "zstd"] {
        root.run(&format!("dpkg-deb -Z{how} -b /opt/odd /opt/{how}.deb && rm -rf /opt/theirs && dpkg-deb -x /opt/{how}.deb /opt/theirs && rm /opt/theirs/{LEAVE}")).ok();
        let package = Package::open(&root.path(&format!("/opt/{how}.deb"))).unwrap();
        assert_eq!((package.version.as_str(), &package.machine), ("2:1.0~rc1-1", &None));
        assert!(
            package.paths.contains(&"usr/src/odd-1/relative.c".into()),
            "there are no sums: all is listed"
        );
        expect_same(&ours(&[package], LEAVE), &tree(&root.path("/opt/theirs")));
    }
}

#[test]
fn rpms_are_what_rpm_installs() {
    let root = Root::on(&rpm::repository(Family::Fedora));
    root.run(&format!("set -- /opt/odd\n{ODD}")).ok();
    root.write(
        "/opt/odd.spec",
        "Name: odd\nEpoch: 2\nVersion: 1.0\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n%description\nx\n\
         %global __os_install_post %{nil}\n%install\nmkdir -p %{buildroot} && cp -a /opt/odd/. %{buildroot}/\n\
         %files\n%defattr(-,root,root)\n/usr/src/odd-1\n/usr/lib/odd\n/usr/bin/odd\n%ghost /usr/src/never\n",
    );
    root.run("mkdir -p /opt/rpms").ok();
    let mut files = Vec::new();
    for (format, payload) in [(4, "w9.gzdio"), (4, "w6.xzdio"), (6, "w3.zstdio")] {
        let out = format!("/opt/rpms/{format}-{payload}");
        root.run(&format!(
            "rpmbuild -bb --define '_rpmformat {format}' --define '_binary_payload {payload}' --define '_rpmdir {out}' /opt/odd.spec"
        ))
        .ok();
        files.extend(root.find(&out, "-name '*.rpm'"));
    }
    files.extend(root.find("/opt/repo", "-name 'kernel-devel*.rpm'"));
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        root.run(&format!(
            "rm -rf /opt/theirs && mkdir /opt/theirs && \
             rpm --root /opt/theirs --dbpath /db -i --nodeps --noscripts --notriggers --nosignature {file} && rm -rf /opt/theirs/db && rm -f /opt/theirs/{LEAVE}"
        ))
        .ok();
        let package = Package::open(&root.path(&file)).unwrap();
        let said = root
            .run(&format!("rpm -qp --nosignature --qf '%{{name}} %{{evr}} %{{arch}} %{{longsize}}' {file}"))
            .ok()
            .stdout;
        let machine = package.machine.as_ref().map_or("noarch", |arch| arch.as_str());
        assert_eq!(format!("{} {} {machine} {}", package.name, package.version, package.size), said);
        let theirs = tree(&root.path("/opt/theirs"));
        let mut named = package.clone();
        named.paths.retain(|path| path != Path::new(LEAVE));
        expect_named(&named, &theirs, true);
        expect_same(&files_and_empty(&ours(&[package], LEAVE)), &files_and_empty(&theirs));
    }
}

/// Directories that a package does not own are created differently by rpm and by us: only explicitly packaged ones
/// count.
fn files_and_empty(tree: &Tree) -> Tree {
    let has_children = |path: &PathBuf| tree.keys().any(|other| other.parent() == Some(path));
    tree.iter()
        .filter(|(path, what)| {
            *what != "directory" || path.starts_with("usr/src/odd-1") && !has_children(path)
        })
        .map(|(path, what)| (path.clone(), what.clone()))
        .collect()
}

#[test]
fn pacmans_packages_are_what_bsdtar_unpacks() {
    let root = Root::on(&pacman::tools());
    pacman::LINUX.add_suite(&root);
    root.run("apt-get -q update && apt-get -q -y install cpio").ok();
    let kernel = pacman::LINUX.make(&root);
    root.run(&format!("set -- /opt/odd\n{ODD}")).ok();
    // makepkg rejects it.
    root.run(&format!("rm /opt/odd/{LEAVE}")).ok();
    pacman::make(&root, "odd", "1.0", "epoch=2", "/opt/odd");
    for how in ["gz", "xz", "zst"] {
        let with = if how == "zst" {
            "zstd -q"
        } else if how == "gz" {
            "gzip"
        } else {
            "xz -0"
        };
        root.run(&format!("for p in /opt/repo/*.pkg.tar; do {with} -c $p > /opt/$(basename $p).{how}; done"))
            .ok();
    }
    let files = root.find("/opt", "-maxdepth 1 -name '*.pkg.tar.*'");
    assert!(files.len() >= 9, "{files:?}");
    for file in files {
        root.run(&format!("rm -rf /opt/theirs && mkdir /opt/theirs && bsdtar -xpf {file} -C /opt/theirs && rm -f /opt/theirs/.[A-Z]*")).ok();
        let package = Package::open(&root.path(&file)).unwrap();
        let said = root
            .run(&format!("bsdtar -xOf {file} .PKGINFO | sed -n 's/^\\(pkgname\\|pkgver\\|size\\) = //p'"))
            .ok()
            .stdout;
        assert_eq!(format!("{}\n{}\n{}\n", package.name, package.version, package.size), said);
        assert_eq!(package.machine, None);
        let theirs = tree(&root.path("/opt/theirs"));
        expect_named(&package, &theirs, true);
        expect_same(&ours(&[package], "none"), &theirs);
    }
    assert!(kernel.release.starts_with("6.12."));
}
