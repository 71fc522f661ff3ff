//! The whole translation: arguments, standard input and environment → answer.

use std::path::Path;

use dkms_core::hook::{Channel, FailureEffect};
use dkms_core::inventory::this_machine;
use dkms_core::layout::Layout;
use dkms_core::policy::{Framework, Policy};
use dkms_core::report::Screen;
use dkms_core::session::Options;
use dkms_core::sys::file::write_atomic;
use dkms_core::types::ModuleId;

use super::*;

/// A system below a directory, with two kernels.
fn session(dir: &Path) -> Session {
    let (etc, install_tree) = (dir.join("etc"), dir.join("modules"));
    for kernel in ["6.1", "6.2"] {
        write_atomic(&install_tree.join(kernel).join("modules.dep"), b"", 0o644).unwrap();
    }
    let layout = Layout { dkms_tree: dir.join("dkms"), install_tree, etc, ..Layout::default() };
    let policy = Policy::load(&layout, Framework::default(), "");
    Session::new(layout, policy, Options::default(), Screen::package_manager())
}

/// The running kernel: the session is not one in a container.
fn running() -> Target {
    at(dkms_core::kernel::running().unwrap().as_str())
}

fn answer(words: &str, stdin: &str, maintainer: &str) -> Result<Answer> {
    let dir = tempfile::tempdir().unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    let variable = |name: &str| match name {
        "DEB_MAINT_PARAMS" => maintainer.to_owned(),
        _ => String::new(),
    };
    translate(
        &session(dir.path()),
        &mut Input {
            words: &words,
            reader: &mut stdin.as_bytes(),
            writer: &mut std::io::sink(),
            variable: &variable,
            ancestors: &Vec::new,
        },
    )
}

fn at(kernel: &str) -> Target {
    Target { kernel: kernel.parse().unwrap(), arch: this_machine().unwrap() }
}

#[test]
fn words_and_environment_become_events() {
    let module = ModuleId { name: "a".parse().unwrap(), version: "1".parse().unwrap() };
    let added = |targets| vec![Event::SourceAdded { module: module.clone(), targets }];
    let other = Target { kernel: "6.2".parse().unwrap(), arch: "riscv64".parse().unwrap() };
    for (words, maintainer, expected) in [
        ("kernel-preinst 6.1", "install", vec![]),
        ("kernel-postinst 6.1 /boot/vmlinuz-6.1", "configure 6.0", vec![Event::KernelAdded(at("6.1"))]),
        ("header-postinst 6.1", "", vec![Event::HeadersAdded(at("6.1"))]),
        ("kernel-prerm 6.1 /boot/vmlinuz-6.1", "remove", vec![Event::KernelRemoved(at("6.1"))]),
        // A manual call has no environment: the kernel is removed.
        ("kernel-prerm 6.1", "", vec![Event::KernelRemoved(at("6.1"))]),
        ("kernel-prerm 6.1", "upgrade 6.1.2", vec![]),
        ("kernel-preinst", "", vec![]),
        ("kernel-postinst", "", vec![Event::KernelAdded(running())]),
        ("header-postinst", "", vec![Event::HeadersAdded(running())]),
        ("autoinstaller start", "", vec![Event::Autoinstall(running())]),
        ("kernel-prerm", "", vec![]),
        ("autoinstaller start 6.1", "", vec![Event::Autoinstall(at("6.1"))]),
        ("autoinstaller stop", "", vec![]),
        ("module-postinst a 1", "configure", added(vec![at("6.1"), at("6.2")])),
        // An upgrade where the running kernel is that of a chroot's host: only the newest kernel.
        ("module-postinst a 1   0.9", "configure 0.9", added(vec![at("6.2")])),
        (
            "module-postinst a 1 /x riscv64",
            "configure",
            added(vec![Target { kernel: "6.1".parse().unwrap(), ..other.clone() }, other]),
        ),
    ] {
        let expected = Answer::Events(FailureEffect::Stops, expected, Channel::StandardError);
        assert_eq!(answer(words, "", maintainer).unwrap(), expected, "{words} ({maintainer})");
    }
}

#[test]
fn the_list_of_packages_becomes_a_question() {
    let stdin = "VERSION 3\n\nlinux-image - - none < 6.2 all none /var/cache/a.deb\nold 1 all none > - - none **REMOVE**\n";
    let question = Question::of(["/var/cache/a.deb".into()]);
    assert_eq!(answer("incoming", stdin, "").unwrap(), Answer::Incoming(question, Channel::StandardError));
    assert!(answer("incoming", "VERSION 2\n", "").is_err());
}

#[test]
fn other_words_get_the_usage() {
    for words in ["", "incoming x", "autoinstaller", "module-postinst a", "kernel-postrm 6.1"] {
        assert_eq!(answer(words, "", "").unwrap(), Answer::Usage(USAGE), "{words}");
    }
    // A name that would lead to another directory is an error, not an event.
    assert!(answer("kernel-postinst ../6.1", "", "").is_err());
}
