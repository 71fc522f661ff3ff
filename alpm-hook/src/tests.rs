//! The whole translation: arguments, standard input and parent processes → answer.

use std::path::Path;

use dkms_core::inventory::this_machine;
use dkms_core::layout::Layout;
use dkms_core::policy::{Framework, Policy};
use dkms_core::report::Screen;
use dkms_core::session::Options;
use dkms_core::sys::file::write_atomic;
use dkms_core::sys::run::Ancestor;
use dkms_core::types::{ModuleId, Target};

use super::*;

/// A system below a directory: kernel 6.2 with headers, a source; 6.1 and another source are gone.
fn session(dir: &Path) -> Session {
    let (etc, install_tree, source_tree) = (dir.join("etc"), dir.join("modules"), dir.join("src"));
    let put = |path: &str| write_atomic(&dir.join(path), b"", 0o644).unwrap();
    for file in ["vmlinuz", "modules.dep", "build/include/config/auto.conf"] {
        put(&format!("modules/6.2/{file}"));
    }
    let conf = b"PACKAGE_NAME=a-b\nPACKAGE_VERSION=1-2\n";
    write_atomic(&source_tree.join("a-b-1-2/dkms.conf"), conf, 0o644).unwrap();
    let layout = Layout { dkms_tree: dir.join("dkms"), install_tree, source_tree, etc, ..Layout::default() };
    let policy = Policy::load(&layout, Framework::default(), "");
    Session::new(layout, policy, Options::default(), Screen::package_manager())
}

fn answer(words: &str, stdin: &str, pacman: &str) -> Result<Answer> {
    let dir = tempfile::tempdir().unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    let ancestors =
        || vec![Ancestor { pid: 0, argv: pacman.split(' ').map(str::to_owned).collect(), started: 0 }];
    translate(
        &session(dir.path()),
        &mut Input {
            words: &words,
            reader: &mut stdin.as_bytes(),
            writer: &mut std::io::sink(),
            variable: &|_| String::new(),
            ancestors: &ancestors,
        },
    )
}

fn at(kernel: &str) -> Target {
    Target { kernel: kernel.parse().unwrap(), arch: this_machine().unwrap() }
}

fn module(name: &str, version: &str) -> ModuleId {
    ModuleId { name: name.parse().unwrap(), version: version.parse().unwrap() }
}

#[test]
fn paths_and_the_disk_become_events() {
    let (there, gone) = ("usr/lib/modules/6.2/vmlinuz\n", "usr/lib/modules/6.1/vmlinuz\n");
    let added = || Event::SourceAdded { module: module("a-b", "1-2"), targets: vec![at("6.2")] };
    let old = || Event::SourceGone(module("c", "3"));
    for (words, stdin, pacman, expected) in [
        ("post-transaction", there, "pacman -Syu", vec![Event::KernelAdded(at("6.2"))]),
        ("post-transaction", gone, "pacman -Syu", vec![Event::KernelRemoved(at("6.1"))]),
        ("post-transaction", "usr/src/a-b-1-2/dkms.conf\n", "pacman -Syu", vec![added()]),
        ("post-transaction", "usr/src/c-3/dkms.conf\nusr/src/none/dkms.conf\n", "pacman -R c", vec![old()]),
        (
            "post-transaction",
            "usr/lib/modules/6.2/build/include/config/auto.conf\n",
            "pacman -S x",
            vec![Event::HeadersAdded(at("6.2"))],
        ),
        // The event of the kernel includes its headers.
        (
            "post-transaction",
            "usr/lib/modules/6.2/vmlinuz\nusr/lib/modules/6.2/build/include/\n",
            "pacman -S x",
            vec![Event::KernelAdded(at("6.2"))],
        ),
        ("post-transaction", "usr/lib/modules/../vmlinuz\n", "pacman -S x", vec![]),
        ("pre-remove", there, "pacman -R linux", vec![Event::KernelRemoved(at("6.2"))]),
        ("pre-remove", "usr/src/c-3/dkms.conf\n", "/usr/bin/pacman -Rns c", vec![old()]),
    ] {
        let expected = Answer::Events(FailureEffect::Tells, expected, Channel::StandardError);
        assert_eq!(answer(words, stdin, pacman).unwrap(), expected, "{words}: {stdin} ({pacman})");
    }
}

#[test]
fn what_leaves_to_make_room_and_what_is_not_ours_is_nothing() {
    let image = "linux\nusr/lib/modules/6.3/vmlinuz\n";
    for (words, stdin, pacman) in [
        ("pre-remove", "usr/lib/modules/6.2/vmlinuz\n", "pacman -Syu"),
        // Another program that uses libalpm does not show whether it removes.
        ("pre-remove", "usr/lib/modules/6.2/vmlinuz\n", "pamac-daemon -R"),
        ("pre-transaction", "zlib\nlinux\n", "pacman -Syu"),
        // If the files are unknown, nothing is proven, and nothing is aborted.
        ("pre-transaction", image, "pacman -U -"),
    ] {
        assert_eq!(answer(words, stdin, pacman).unwrap(), Answer::Nothing, "{words}: {stdin} ({pacman})");
    }
}

#[test]
fn other_words_get_the_usage() {
    for words in ["", "post-remove", "pre-transaction x"] {
        assert_eq!(answer(words, "", "pacman -Syu").unwrap(), Answer::Usage(USAGE), "{words}");
    }
}
