//! A switch to another version that was killed between two files, and files that were damaged afterwards: the machine gets one
//! version as a whole, and nothing says that all is well before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::roots::Layer;
use dkms_tests::{Kernel, Root, Suite, stage};

/// Version 1.0 with two modules is installed, 2.0 is built.
fn prepared() -> (Layer, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let layer = layer.prepared("rolled-back", "1", |root| {
        root.apt_install(&["strace"]).ok();
        for version in ["1.0", "2.0"] {
            let sources = Sources::new("switch", version).modules(&["switch_a", "switch_b"]);
            sources.unpack(root);
            root.run(&format!("dkms add {0} && dkms build {0} -k {1}", sources.id(), kernel.release)).ok();
        }
        root.run(&format!("dkms install switch/1.0 -k {}", kernel.release)).ok();
    });
    (layer, kernel)
}

/// The versions of the installed files.
fn versions(root: &Root, kernel: &Kernel) -> Vec<String> {
    let list =
        format!("for file in {}/*.ko*; do modinfo -F version $file || echo damaged; done", kernel.dkms_dir());
    root.run(&list).stdout.lines().map(str::to_owned).collect()
}

/// A machine on which the switch to 2.0 was killed when the first file had been replaced.
fn half_switched(layer: &Layer, kernel: &Kernel) -> Root {
    let switch = format!("dkms install switch/2.0 -k {}", kernel.release);
    let root = Root::on(layer);
    root.run(&format!("strace -qq -e trace=rename -o /opt/renames {switch}")).ok();
    let renames = root.read("/opt/renames");
    let second =
        renames.lines().position(|line| line.contains("updates/dkms/switch_b")).expect("the second file") + 1;
    let root = Root::on(layer);
    root.run(&format!(
        "strace -qq -o /dev/null -e trace=rename -e inject=rename:signal=KILL:when={second} {switch}"
    ))
    .fails();
    assert_eq!(versions(&root, kernel), ["2.0", "1.0"], "{renames}");
    root
}

#[test]
fn a_killed_switch_that_cannot_be_finished_is_rolled_back() {
    let (layer, kernel) = prepared();
    for (obstacle, command) in [
        ("mv /usr/src/switch-2.0 /opt/", "dkms doctor --fix"),
        ("rm -r /var/lib/dkms/switch/2.0", "dkms doctor --fix"),
        (
            "echo '$(error nope)' >/usr/src/switch-2.0/Makefile; rm -r /var/lib/dkms/switch/2.0/6*",
            "dkms status",
        ),
        (": >$(ls /var/lib/dkms/.dkms-rs/intent/*)", "dkms doctor --fix"),
    ] {
        let root = half_switched(&layer, &kernel);
        root.run(obstacle).ok();
        root.run(command);
        root.run(&format!("dkms autoinstall -k {}", kernel.release));
        let now = versions(&root, &kernel);
        assert!(now == ["1.0", "1.0"] || now == ["2.0", "2.0"], "{obstacle}: {now:?}");
        assert_eq!(root.find("/var/lib/dkms/.dkms-rs/intent", "-type f"), [""; 0], "{obstacle}");
    }
}

#[test]
fn a_damaged_file_of_the_right_size_is_noticed_and_repaired() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    root.run("dkms remove switch/2.0 --all").ok();
    for command in ["dkms doctor --fix", "dkms install switch/1.0 -k KERNEL", "dkms autoinstall -k KERNEL"] {
        let damage = "f=$(ls DIR/switch_a.ko*); head -c $(stat -c %s $f) /dev/zero >$f"
            .replace("DIR", &kernel.dkms_dir());
        root.run(&damage).ok();
        root.run("dkms doctor").exits(20).says(&["switch/1.0"]);
        root.run(&command.replace("KERNEL", &kernel.release)).ok();
        assert_eq!(versions(&root, &kernel), ["1.0", "1.0"], "{command}");
    }
    root.run("dkms doctor").ok();
}

#[test]
fn a_damaged_build_replaces_nothing() {
    let (layer, kernel) = prepared();
    for damage in [": >$f", "head -c $(stat -c %s $f) /dev/zero >$f.new; mv $f.new $f"] {
        let root = Root::on(&layer);
        root.run(&format!(
            "f=$(ls /var/lib/dkms/switch/2.0/{}/*/module/switch_a*); {damage}",
            kernel.release
        ))
        .ok();
        root.run(&format!("dkms install switch/2.0 -k {}", kernel.release)).fails().says(&["unusable"]);
        assert_eq!(versions(&root, &kernel), ["1.0", "1.0"], "{damage}");
    }
}
