//! `dkms mktarball` and `dkms ldtarball` on temporary trees. An untrusted tarball that violates a rule is rejected with
//! one
//! message and the exit code of shell DKMS, and nothing is written.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // a test makes files and stops at the first surprise

mod support;

use std::io::Write;

use support::tar::Tar;
use support::{Root, Run};

const CONF: &str = "PACKAGE_NAME=a\\nPACKAGE_VERSION=1\\nDEST_MODULE_LOCATION=/updates\\n";

/// A valid tarball, modified by `more`.
fn with(more: &str) -> Tar {
    Tar::new(&format!("dkms_main_tree/\n dkms_source_tree/dkms.conf = {CONF}\n {more}"))
}

/// Everything in the root, including leftovers in our own directory.
fn state(root: &Root) -> (String, String) {
    (root.list(""), root.list("lib/.dkms-rs/incoming"))
}

/// Loads a tarball that must be rejected: one line, this exit code, nothing changed.
fn refused(name: &str, content: &[u8], code: i32, part: &str) {
    let root = Root::new("etc/precious = do not touch");
    let before = state(&root);
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("evil.tar");
    std::fs::write(&file, content).unwrap();
    let run = root.dkms(&["ldtarball", file.to_str().unwrap()]);
    assert_eq!(run.code, code, "{name}: {}", run.stderr);
    assert!(run.stderr.contains(part), "{name}: {}", run.stderr);
    assert!(
        run.stderr.starts_with("dkms: ") && run.stderr.trim_end().lines().count() == 1,
        "{name}: {}",
        run.stderr
    );
    assert_eq!(run.stdout, "", "{name}");
    assert_eq!(state(&root), before, "{name}");
    let left: Vec<_> = std::fs::read_dir(outside.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{name}: {left:?}");
}

#[test]
fn hostile_members_are_refused() {
    for (member, part) in [
        // Names.
        ("/etc/evil = x", "absolute path"),
        ("../evil = x", "leaves the archive through"),
        ("dkms_source_tree/../../evil = x", "leaves the archive through"),
        ("dkms_source_tree/a\u{1b}[2J = x", "control character"),
        // Links.
        ("dkms_source_tree/passwd -> /etc/passwd", "absolute path"),
        ("dkms_source_tree/up -> ../up", "points outside its directory"),
        ("dkms_source_tree/d/up -> ../../up", "points outside its directory"),
        ("dkms_source_tree/d/e -> ..\n dkms_source_tree/up -> d/e/../../x", "after a directory name"),
        ("dkms_source_tree/none -> ", "without a target"),
        ("dkms_source_tree/hard => /etc/passwd", "absolute path"),
        ("dkms_source_tree/hard => ../../etc/passwd", "leaves the archive through"),
        ("dkms_source_tree/hard => dkms_source_tree/later", "not a file in the tarball"),
        (
            "dkms_source_tree/l -> dkms.conf\n dkms_source_tree/hard => dkms_source_tree/l",
            "not a file in the tarball",
        ),
        ("dkms_main_tree/6.1/x86_64/module/a.ko -> ../log", "must not contain links"),
        // Writing through earlier members.
        ("dkms_source_tree/d -> .\n dkms_source_tree/d/evil = x", "which is not a directory"),
        ("dkms_source_tree/d/\n dkms_source_tree/d -> .", "twice"),
        ("dkms_source_tree/d/f = x\n dkms_source_tree/d -> /tmp\n dkms_source_tree/d/g = x", "absolute path"),
        ("dkms_source_tree/f = x\n dkms_source_tree/f/g = x", "which is not a directory"),
        ("dkms_source_tree/f = x\n dkms_source_tree/f = y", "twice"),
        ("dkms_source_tree/f = x\n dkms_source_tree/./f/", "twice"),
        // Special files.
        ("dkms_source_tree/null char", "a device"),
        ("dkms_source_tree/sda block", "a device"),
        ("dkms_source_tree/pipe fifo", "a FIFO"),
        ("dkms_source_tree/odd type:V", "unsupported file type"),
        ("dkms_source_tree/holes type:S", "sparse"),
        ("dkms_source_tree/su mode:4755", "set-user-id"),
        ("dkms_source_tree/sg mode:2755", "set-user-id"),
        // Names of modules, kernels and architectures.
        ("dkms_main_tree/..evil/x86_64/module/a.ko = x", "not a valid kernel release"),
        ("dkms_main_tree/-rf/x86_64/module/a.ko = x", "not a valid kernel release"),
        ("dkms_main_tree/original_module/x86_64/module/a.ko = x", "begin with a digit"),
        ("dkms_main_tree/6.1/x y/module/a.ko = x", "not a valid architecture"),
        ("dkms_main_tree/6.1 = x", "KERNEL/ARCH"),
    ] {
        refused(member, &with(member).bytes(), 3, part);
    }
}

#[test]
fn long_names_are_refused_before_they_are_files() {
    for (name, part) in
        [("n".repeat(256), "255 bytes"), ("d/".repeat(600), "1024 bytes"), ("x".repeat(70_000), "64 KiB")]
    {
        refused(part, &with(&format!("dkms_source_tree/{name}f = x")).bytes(), 3, part);
    }
}

#[test]
fn two_words_for_one_thing_are_refused() {
    let pax = |key: &str, value: &str| {
        let mut record = String::new();
        for length in 0..99 {
            record = format!("{length} {key}={value}\n");
            if record.len() == length {
                break;
            }
        }
        record
    };
    for (name, extension, part) in [
        ("size", pax("size", "1"), "two sizes"),
        ("sparse", pax("GNU.sparse.major", "1"), "sparse"),
        ("a path upwards", pax("path", "../evil"), "leaves the archive"),
        ("two paths", pax("path", "a") + &pax("path", "b"), ""),
        ("damage", "99 path=x\n".into(), "damaged extended header"),
    ] {
        let mut tar = with("");
        tar.raw("pax", b'x', extension.as_bytes());
        tar.add("dkms_source_tree/file = x");
        if !part.is_empty() {
            refused(name, &tar.bytes(), 3, part);
        }
    }
    let mut tar = with("");
    tar.raw("././@LongLink", b'L', b"dkms_source_tree/one\0");
    tar.raw("././@LongLink", b'L', b"dkms_source_tree/two\0");
    tar.add("dkms_source_tree/file = x");
    refused("two long names", &tar.bytes(), 3, "two names");
    let mut tar = with("");
    tar.raw("g", b'g', pax("path", "../evil").as_bytes());
    refused("a global name", &tar.bytes(), 3, "two names");
    let mut tar = with("");
    tar.raw("././@LongLink", b'L', b"dkms_source_tree/one\0");
    refused("a name of nothing", &tar.bytes(), 3, "truncated");
}

#[test]
fn damage_is_refused() {
    let good = with("dkms_source_tree/Makefile = obj-m := a.o").bytes();
    let packed = gzip(&good);
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (name, content, part) in [
        ("an empty file", Vec::new(), "truncated"),
        ("no tarball", b"hello, world".repeat(100), "truncated or damaged"),
        ("half a header", good[..700].to_vec(), "truncated"),
        ("half a file", good[..good.len() - 1536 - 500].to_vec(), "truncated"),
        ("no end", good[..good.len() - 1024].to_vec(), "truncated"),
        ("a flipped bit in a header", flipped(1), "truncated or damaged"),
        ("half of a gzip", packed[..packed.len() / 2].to_vec(), "truncated or damaged"),
        ("a gzip without its end", packed[..packed.len() - 4].to_vec(), "truncated or damaged"),
        ("a bzip2", b"BZh91AY&SY".to_vec(), "bzip2"),
        ("zeros only", vec![0; 10240], "no dkms.conf"),
    ] {
        refused(name, &content, 3, part);
    }
    let mut wrong_sum = packed;
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    refused("a gzip with a wrong checksum", &wrong_sum, 3, "truncated or damaged");
}

#[test]
fn a_bomb_is_refused() {
    // 32 MiB of zeros in 32 KiB.
    let mut tar = with("");
    tar.raw("dkms_source_tree/zeros", b'0', &vec![0; 32 << 20]);
    let packed = gzip(&tar.bytes());
    assert!(packed.len() < 40_000, "{}", packed.len());
    refused("a gzip bomb", &packed, 3, "is a decompression bomb");
}

#[test]
fn every_door_is_the_same() {
    let root = Root::new("");
    let file = root.join("etc/evil.tar");
    std::fs::write(&file, with("dkms_source_tree/../../evil = x").bytes()).unwrap();
    let before = state(&root);
    for words in [&["ldtarball"][..], &["add"], &["build"], &["install"], &["ldtarball", "--archive"]] {
        let run = root.dkms(&[words, &[file.to_str().unwrap()]].concat());
        assert!(
            run.code == 3 && run.stderr.contains("leaves the archive"),
            "{words:?}: {} {}",
            run.code,
            run.stderr
        );
        assert_eq!(state(&root), before, "{words:?}");
    }
}

#[test]
fn a_tarball_that_says_nothing_sensible_of_its_module_is_refused() {
    let binaries = |name: &str, version: &str| {
        format!(
            "dkms_main_tree/\n dkms_binaries_only/dkms.conf = {CONF}\n dkms_binaries_only/PACKAGE_NAME = {name}\n \
             dkms_binaries_only/PACKAGE_VERSION = {version}"
        )
    };
    let source = |conf: &str| format!("dkms_main_tree/\n dkms_source_tree/dkms.conf = {conf}");
    for (text, code, part) in [
        ("dkms_main_tree/".to_owned(), 7, "no dkms.conf"),
        ("a-1/Makefile = x".to_owned(), 3, "no dkms.conf"),
        (format!("a/dkms.conf = {CONF}\n b/dkms.conf = {CONF}"), 3, "several modules"),
        (binaries("b", "1"), 7, "names \"b/1\", but its dkms.conf names a/1"),
        (binaries("a", "2"), 7, "names \"a/2\", but"),
        (source("exit 3"), 8, ": dkms.conf: "),
        (source("PACKAGE_NAME=../../etc\\nPACKAGE_VERSION=1\\n"), 8, "invalid PACKAGE_NAME"),
        (source("PACKAGE_NAME=.dkms-rs\\nPACKAGE_VERSION=work\\n"), 8, "invalid PACKAGE_NAME"),
        (
            source("PACKAGE_NAME=a\\nPACKAGE_VERSION=1\\nDEST_MODULE_LOCATION=/etc\\n"),
            8,
            "must begin with /kernel",
        ),
    ] {
        refused(&text, &Tar::new(&text).bytes(), code, part);
    }
}

#[test]
fn what_is_no_tarball_at_all() {
    let root = Root::new("etc/a.rpm\n etc/dir/");
    let path = |name: &str| root.join(name).display().to_string();
    for (words, code, part) in [
        (vec!["ldtarball"], 2, "requires a tarball: dkms ldtarball FILE"),
        (vec!["ldtarball", "/nonexistent.tar.gz"], 2, "not found"),
        (vec!["ldtarball", "--archive", "/nonexistent.tar.gz"], 2, "not found"),
        (vec!["ldtarball", &path("etc/a.rpm")], 9, "package manager"),
        (vec!["ldtarball", "--archive", &path("etc/dir")], 1, "not a regular file"),
        (vec!["mktarball", "a/1"], 3, "not in the DKMS tree"),
        (vec!["mktarball"], 1, "requires MODULE/VERSION"),
        (vec!["mktarball", "a/1", "--binaries-only", "--source-only"], 8, "cannot be used together"),
        (vec!["mktarball", "a/1", "--all", "-k", "6.1"], 2, "--all"),
        (vec!["mktarball", "a/1", "--all", "-a", "x86_64"], 3, "--all"),
    ] {
        let run = root.dkms(&words);
        assert!(run.code == code && run.stderr.contains(part), "{words:?}: {} {}", run.code, run.stderr);
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A module with builds for two kernels.
fn built() -> Root {
    Root::new(&format!(
        "src/a-1/dkms.conf = {CONF}
        src/a-1/Makefile = obj-m := a.o
        src/a-1/sub/link -> ../Makefile
        lib/a/1/source -> $ROOT/src/a-1
        lib/a/1/build/
        lib/a/1/6.1/x86_64/module/a.ko = for 6.1
        lib/a/1/6.1/x86_64/log/make.log = log of 6.1
        lib/a/1/6.2/x86_64/module/a.ko.xz = for 6.2
        lib/a/1/6.2/x86_64/log/make.log = log of 6.2"
    ))
}

/// Loads a tarball that another root created.
fn carry(from: &Root, tarball: &str, to: &Root, words: &[&str]) -> Run {
    let file = from.join(tarball);
    to.dkms(&[words, &[file.to_str().unwrap()]].concat())
}

#[test]
fn a_tarball_brings_everything_to_another_machine() {
    let here = built();
    for (archive, name) in [("a.tar.gz", "gz"), ("a.tar.xz", "xz"), ("a.tar.zst", "zst"), ("a.tar", "plain")]
    {
        here.dkms(&["mktarball", "a/1", "--all", "--archive", archive]).ok();
        let there = Root::new("");
        carry(&here, &format!("lib/a/1/tarball/{archive}"), &there, &["ldtarball"]).ok();
        std::fs::remove_dir_all(here.join("lib/a/1/tarball")).unwrap();
        assert_eq!(there.list(""), here.list(""), "{name}");
        assert_eq!(
            there.dkms(&["status"]).ok(),
            "a/1, 6.1, x86_64: built\na/1, 6.2, x86_64: built\n",
            "{name}"
        );
        assert_eq!(there.list("lib/.dkms-rs/incoming"), "");
    }
}

#[test]
fn a_tarballs_name_and_place_are_shell_dkmss() {
    let root = built();
    let out = root.join("etc/out/deep");
    let elsewhere = out.join("x.tgz");
    for (words, expected) in [
        (vec!["-k", "6.1/x86_64"], "lib/a/1/tarball/a-1-kernel6.1-x86_64.dkms.tar.gz"),
        (
            vec!["-k", "6.2", "-k", "6.1", "-a", "x86_64"],
            "lib/a/1/tarball/a-1-kernel6.2-x86_64-kernel6.1-x86_64.dkms.tar.gz",
        ),
        (vec!["--all"], "lib/a/1/tarball/a-1-kernel6.1-x86_64-kernel6.2-x86_64.dkms.tar.gz"),
        (vec!["--source-only"], "lib/a/1/tarball/a-1-source-only.dkms.tar.gz"),
        (vec!["--all", "--archive", "bare.tar.gz"], "lib/a/1/tarball/bare.tar.gz"),
        (vec!["--all", "--archive", elsewhere.to_str().unwrap()], "etc/out/deep/x.tgz"),
    ] {
        root.dkms(&[&["mktarball", "a/1"], &words[..]].concat()).ok();
        assert!(root.join(expected).is_file(), "{words:?}");
        std::fs::remove_file(root.join(expected)).unwrap();
    }
    for (words, code) in [
        (vec!["-k", "6.3/x86_64"], 6),
        (vec!["--all", "--archive", "x.tar.bz2"], 6),
        (vec!["--all", "--archive", "/proc/nothing/x.tar.gz"], 9),
    ] {
        let run = root.dkms(&[&["mktarball", "a/1"], &words[..]].concat());
        assert_eq!(run.code, code, "{words:?}: {}", run.stderr);
    }
}

#[test]
fn the_same_content_gives_the_same_tarball() {
    let root = built();
    let make = |name: &str| {
        root.dkms(&["mktarball", "a/1", "--all", "--archive", name]).ok();
        std::fs::read(root.join("lib/a/1/tarball").join(name)).unwrap()
    };
    assert_eq!(make("one.tar.gz"), make("two.tar.gz"));
}

#[test]
fn binaries_are_loaded_with_and_without_their_source() {
    let here = built();
    here.dkms(&["mktarball", "a/1", "--all", "--binaries-only", "--archive", "b.tar.gz"]).ok();
    let tarball = "lib/a/1/tarball/b.tar.gz";
    for action in ["ldtarball", "add"] {
        let there = Root::new("");
        carry(&here, tarball, &there, &[action]).ok();
        assert_eq!(
            there.dkms(&["status"]).ok(),
            "a/1, 6.1, x86_64: built\na/1, 6.2, x86_64: built\n",
            "{action}"
        );
        assert!(
            there.join("lib/a/1/source/dkms.conf").is_file() && !there.join("src/a-1").exists(),
            "{action}"
        );
        // It is in the DKMS tree now.
        assert_eq!(carry(&here, tarball, &there, &[action]).code, 8, "{action}");
        there.dkms(&["remove", "a/1", "--all"]).ok();
        assert_eq!(there.dkms(&["status"]).ok(), "", "{action}");
    }
    let there = Root::new(&format!("src/a-1/dkms.conf = {CONF}"));
    carry(&here, tarball, &there, &["ldtarball"]).ok();
    assert_eq!(there.dkms(&["status"]).ok(), "a/1, 6.1, x86_64: built\na/1, 6.2, x86_64: built\n");
}

#[test]
fn what_is_there_stays_unless_it_is_forced_away() {
    let here = built();
    here.dkms(&["mktarball", "a/1", "--all"]).ok();
    let tarball = "lib/a/1/tarball/a-1-kernel6.1-x86_64-kernel6.2-x86_64.dkms.tar.gz";
    let there = Root::new(&format!(
        "src/a-1/dkms.conf = {CONF}
        src/a-1/old.c
        lib/a/1/source -> $ROOT/src/a-1
        lib/a/1/6.1/x86_64/module/a.ko = older"
    ));
    let before = there.list("");
    let run = carry(&here, tarball, &there, &["ldtarball"]);
    assert!(run.code == 8 && run.stderr.contains("already in the DKMS tree"), "{} {}", run.code, run.stderr);
    assert_eq!(there.list(""), before);
    carry(&here, tarball, &there, &["ldtarball", "--force"]).ok();
    assert_eq!(there.list("src"), here.list("src"));
    assert!(there.list("lib").contains("lib/a/1/6.1/x86_64/module/a.ko = for 6.1"));

    // A source with the same name that is not registered is not overwritten either.
    let there = Root::new(&format!("src/a-1/dkms.conf = {CONF}\n src/a-1/mine.c"));
    let before = there.list("");
    let run = carry(&here, tarball, &there, &["ldtarball"]);
    assert!(run.code == 3 && run.stderr.contains("differs"), "{} {}", run.code, run.stderr);
    assert_eq!(there.list(""), before);
}

#[test]
fn somebodys_source_with_a_dkms_conf_in_it_is_added() {
    let tar = Tar::new(&format!("a-1-src/dkms.conf = {CONF}\n a-1-src/Makefile = x\n README = y"));
    let root = Root::new("");
    let file = root.join("etc/a.tar");
    std::fs::write(&file, tar.bytes()).unwrap();
    let words = [file.to_str().unwrap()];
    root.dkms(&[&["add"], &words[..]].concat()).ok();
    assert_eq!(root.dkms(&["status"]).ok(), "a/1: added\n");
    assert!(root.join("src/a-1/Makefile").exists() && !root.join("src/a-1/README").exists());
    assert_eq!(root.dkms(&[&["ldtarball"], &words[..]].concat()).code, 3);
}

#[test]
fn modes_are_sane_and_times_are_kept() {
    use std::os::unix::fs::MetadataExt;
    let tar = with(
        "dkms_source_tree/run.sh mode:777\n dkms_source_tree/secret mode:600\n dkms_source_tree/open mode:666",
    );
    let root = Root::new("");
    std::fs::write(root.join("etc/a.tar"), tar.bytes()).unwrap();
    root.dkms(&["ldtarball", root.join("etc/a.tar").to_str().unwrap()]).ok();
    for (file, mode) in [("run.sh", 0o755), ("secret", 0o644), ("open", 0o644), ("dkms.conf", 0o644)] {
        let meta = root.join("src/a-1").join(file).metadata().unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (mode, support::tar::TIME), "{file}");
    }
}

#[test]
fn a_loaded_build_is_proven_before_it_is_installed() {
    let root = Root::new(&format!(
        "modules/6.1/modules.dep
        src/a-1/dkms.conf = {CONF}"
    ));
    let tar = with("dkms_main_tree/6.1/x86_64/module/a.ko = no kernel module at all");
    std::fs::write(root.join("etc/a.tar"), tar.bytes()).unwrap();
    root.dkms(&["ldtarball", root.join("etc/a.tar").to_str().unwrap()]).ok();
    let before = root.list("");
    let run = root.dkms(&["install", "a/1", "-k", "6.1/x86_64"]);
    assert_eq!(run.code, 7, "{}", run.stderr);
    assert!(run.stderr.contains("a.ko would not load"), "{}", run.stderr);
    assert_eq!(root.list(""), before);
    assert_eq!(root.dkms(&["status"]).ok(), "a/1, 6.1, x86_64: built\n");
}
