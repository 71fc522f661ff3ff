//! A switch to another version that was killed between two files, and files that were damaged afterwards: the machine gets one
//! version as a whole, and nothing says that all is well before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::roots::Layer;
use dkms_tests::{Kernel, Root, Suite, stage};

#[test]
fn a_removal_that_cannot_be_finished_does_not_prevent_others() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    Sources::new("other", "1.0").unpack(&root);
    root.run("chattr +i /var/lib/dkms/switch").ok();
    root.run(&format!("dkms uninstall switch/1.0 -k {}", kernel.release))
        .fails()
        .says(&["removed in part", "the next run of dkms completes the removal"])
        .never_says(&["remains in the DKMS tree"]);
    for _ in 0..2 {
        root.run(&format!("dkms add other/1.0; dkms install other/1.0 -k {} --force", kernel.release));
        root.expect_installed(&["other/1.0"], &kernel.release);
    }
    assert_eq!(
        root.find("/var/lib/dkms/.dkms-rs/intent", "-type f").len(),
        1,
        "one transaction is unfinished"
    );
    root.run("chattr -i /var/lib/dkms/switch && dkms doctor --fix");
    assert_eq!(root.find("/var/lib/dkms/.dkms-rs/intent", "-type f"), [""; 0]);
}

/// Version 1.0 with two modules is installed, 2.0 is built.
fn prepared() -> (Layer, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let layer = layer.prepared("rolled-back", "2", |root| {
        root.apt_install(&["strace", "e2fsprogs"]).ok();
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

/// The number of the call of a command that replaces the second file.
fn second_exchange(layer: &Layer, command: &str) -> usize {
    let root = Root::on(layer);
    root.run(&format!("strace -qq -e trace=renameat2 -o /opt/exchanges {command}")).ok();
    let exchanges = root.read("/opt/exchanges");
    // There are lines about signals, too.
    let mut calls = exchanges.lines().filter(|line| line.starts_with("renameat2("));
    let second = calls.position(|line| line.contains("updates/dkms/switch_b"));
    second.expect("the second file") + 1
}

/// A machine on which the switch to 2.0 was killed when the first file had been replaced.
fn half_switched(layer: &Layer, kernel: &Kernel) -> Root {
    let switch = format!("dkms install switch/2.0 -k {}", kernel.release);
    let second = second_exchange(layer, &switch);
    let root = Root::on(layer);
    root.run(&format!(
        "strace -qq -o /dev/null -e trace=renameat2 -e inject=renameat2:signal=KILL:when={second} {switch}"
    ))
    .fails();
    assert_eq!(versions(&root, kernel), ["2.0", "1.0"]);
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
        let said = root.run(command);
        if obstacle.starts_with("rm ") {
            said.says(&["interrupted installation of switch/2.0", "rolled back to switch/1.0"]);
        }
        root.run(&format!("dkms autoinstall -k {}", kernel.release));
        let now = versions(&root, &kernel);
        assert!(now == ["1.0", "1.0"] || now == ["2.0", "2.0"], "{obstacle}: {now:?}");
        assert_eq!(root.find("/var/lib/dkms/.dkms-rs/intent", "-type f"), [""; 0], "{obstacle}");
    }
}

/// No part of a change is left, and no trace of it either.
fn expect_as_before(root: &Root, kernel: &Kernel, why: &str) {
    assert_eq!(versions(root, kernel), ["1.0", "1.0"], "{why}");
    assert_eq!(root.find("/var/lib/dkms/.dkms-rs/intent", "-type f"), [""; 0], "{why}");
    assert_eq!(root.find(&kernel.dkms_dir(), "-name '.dkms-tmp-*'"), [""; 0], "{why}");
    root.run("dkms doctor").exits(20).says(&["not up to date", "switch/2.0", "1 problem"]);
}

#[test]
fn a_file_that_cannot_be_replaced_leaves_the_old_version_as_a_whole() {
    let (layer, kernel) = prepared();
    let switch = format!("dkms install switch/2.0 -k {}", kernel.release);
    let second = second_exchange(&layer, &switch);
    for (error, prepare, end) in [
        ("Input/output error", "true", "true"),
        ("Operation not permitted", "chattr +i DIR/switch_b.ko*", "chattr -i DIR/switch_b.ko*"),
    ] {
        let root = Root::on(&layer);
        let filled = |command: &str| command.replace("DIR", &kernel.dkms_dir());
        root.run(&filled(prepare)).ok();
        let inject = match prepare {
            "true" => format!(
                "strace -f -qq -o /dev/null -e trace=renameat2 -e inject=renameat2:error=EIO:when={second} "
            ),
            _ => String::new(),
        };
        let failed = root.run(&format!("{inject}{switch}")).fails();
        failed.says(&[error, "switch/1.0 remains installed for this kernel"]);
        root.run(&filled(end)).ok();
        expect_as_before(&root, &kernel, error);
        root.run(&switch).ok();
        assert_eq!(versions(&root, &kernel), ["2.0", "2.0"], "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_deleted_keeps_the_module_as_a_whole() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    root.run(&format!("chattr +i {}/switch_b.ko*", kernel.dkms_dir())).ok();
    let uninstall = format!("dkms uninstall switch/1.0 -k {}", kernel.release);
    root.run(&uninstall).fails().says(&[
        "not removed",
        "Operation not permitted",
        "remains in the DKMS tree",
    ]);
    assert_eq!(versions(&root, &kernel), ["1.0", "1.0"]);
    root.run(&format!("chattr -i {}/switch_b.ko*", kernel.dkms_dir())).ok();
    root.run(&uninstall);
    assert_eq!(root.find("/lib/modules", "-name 'switch_*'"), [""; 0]);
    root.run("dkms doctor");
}

#[test]
fn another_module_at_our_path_is_copied_before_it_is_replaced() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    let dir = kernel.dkms_dir();
    root.run(&format!(
        "cp $(ls /var/lib/dkms/switch/2.0/*/*/module/switch_a*) {dir}/ && sha256sum {dir}/switch_a* >/opt/sum"
    ))
    .ok();
    root.run("dkms remove switch/2.0 --all").ok();
    root.run(&format!("dkms install switch/1.0 -k {} --force", kernel.release))
        .ok()
        .says(&["was not the file that dkms had installed; a copy is in"]);
    assert_eq!(versions(&root, &kernel), ["1.0", "1.0"]);
    let kept = root.find("/var/lib/dkms/.dkms-rs/replaced", "-name 'switch_a*'");
    assert!(
        root.read("/opt/sum")
            .starts_with(&root.run(&format!("sha256sum {} | cut -c -64", kept[0])).stdout.trim().to_owned()),
        "{kept:?}"
    );
    root.run("dkms doctor").ok();
}

#[test]
fn an_import_that_was_killed_is_continued_by_the_same_command() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    let pack = format!("dkms mktarball switch/1.0 -k {} --archive /opt/switch.tar.gz", kernel.release);
    root.run(&pack).ok();
    let tarball = root.run("find / -xdev -name switch.tar.gz").stdout.trim().to_owned();
    root.run(&format!(
        "cp {tarball} /opt/import.tar.gz; dkms remove switch/1.0 --all; dkms remove switch/2.0 --all"
    ))
    .ok();
    let status = root.run("dkms status switch").stdout;
    // As it is after the kill: the source is registered, the build is missing.
    root.run("dkms add switch/1.0 && dkms ldtarball /opt/import.tar.gz").ok();
    root.run("dkms status switch").says(&["switch/1.0", "built"]);
    root.run("dkms ldtarball /opt/import.tar.gz").fails().says(&["already in the DKMS tree"]);
    assert_eq!(status, "");
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

#[test]
fn a_damaged_build_is_built_again() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    root.run("dkms remove switch/2.0 --all && dkms doctor").ok();
    let built = root.find("/var/lib/dkms/switch/1.0", "-path '*/module/switch_a.ko*'").remove(0);
    for damage in [
        "head -c $(stat -c %s FILE) /dev/zero >FILE.new; cat FILE.new >FILE; rm FILE.new",
        "rm FILE",
        ": >FILE",
    ] {
        root.run(&damage.replace("FILE", &built)).ok();
        root.run("dkms doctor").exits(20).says(&["not up to date", "switch/1.0", "1 problem"]);
        root.run("dkms doctor --fix").ok().says(&["repaired"]);
        root.run("dkms doctor").ok().says(&["no problem found"]);
        assert_eq!(versions(&root, &kernel), ["1.0", "1.0"], "{damage}");
        root.run(&format!("cmp {built} {}/$(basename {built})", kernel.dkms_dir())).ok();
    }
}

#[test]
fn something_else_at_the_place_of_a_file_is_named_and_hangs_nothing() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    root.run(
        "dkms remove switch/2.0 --all; mkdir -p /var/lib/dkms/.dkms-rs/intent; touch /etc/dkms/policy.toml",
    )
    .ok();
    let (release, own) = (&kernel.release, "/var/lib/dkms/.dkms-rs");
    // With a word of the finding of `dkms doctor`, if it is one.
    for (path, named) in [
        (format!("{own}/lock"), "is a fifo; dkms needs a regular file there"),
        (format!("{own}/intent"), "is a fifo; dkms needs a directory there"),
        (format!("{own}/records"), "is a fifo; dkms needs a directory there"),
        (format!("{own}/history"), "is a fifo; dkms needs a directory there"),
        (format!("{own}/hashes"), "is a fifo; dkms needs a directory there"),
        (format!("{own}/records/switch/1.0/{release}/x86_64.json"), ""),
        ("/etc/dkms/policy.toml".into(), "fifo"),
        ("/etc/dkms/framework.conf".into(), "fifo"),
        ("/usr/src/switch-1.0/dkms.conf".into(), "switch/1.0"),
        ("/usr/src/switch-1.0/Makefile".into(), ""),
        (
            format!("/var/lib/dkms/switch/kernel-{release}-x86_64"),
            "is a fifo; dkms needs a symbolic link there",
        ),
        (format!("/lib/modules/{release}/modules.dep"), "is a fifo; dkms needs a regular file there"),
        (format!("/lib/modules/{release}/modules.dep.bin"), "is a fifo; dkms needs a regular file there"),
        (format!("/lib/modules/{release}/modules.order"), ""),
        ("/var/lib/dkms/mok.pub".into(), "fifo"),
        ("/etc/os-release".into(), ""),
    ] {
        root.run(&format!(
            "rm -rf /opt/was; if [ -e {path} ] || [ -L {path} ]; then mv {path} /opt/was; fi; mkfifo {path}"
        ))
        .ok();
        for command in ["dkms status", "dkms doctor", &format!("dkms autoinstall -k {release}")] {
            let ended = root.run(&format!("timeout -s KILL 60 {command} 2>&1"));
            assert_ne!(ended.status, 137, "{path}: {command} hangs");
            if command == "dkms doctor" {
                ended.says(&[named]);
            }
        }
        root.run(&format!(
            "rm -rf {path}; if [ -e /opt/was ] || [ -L /opt/was ]; then mv /opt/was {path}; fi"
        ))
        .ok();
    }
    root.run("dkms doctor --fix; dkms doctor").ok().says(&["no problem found"]);
}

#[test]
fn a_module_can_be_removed_from_a_full_disk() {
    let (layer, kernel) = prepared();
    for command in
        ["dkms remove switch/1.0 --all", "dkms uninstall switch/1.0", "dkms unbuild switch/1.0 --all"]
    {
        let root = Root::on(&layer);
        // Without blocks that only root may use.
        root.run(
            "truncate -s 16M /opt/disk && mkfs.ext4 -q -m 0 /opt/disk && mount -o loop /opt/disk /mnt && \
             cp -a /var/lib/dkms/. /mnt/ && mount --bind /mnt /var/lib/dkms && \
             cd /var/lib/dkms; for n in 1 2 3; do cat /dev/zero >filling-$n; sync; done; \
             n=10; while [ $(df --output=avail . | tail -1) -gt 0 ] && [ $n -lt 60 ]; do \
                 dd if=/dev/zero of=filling-$n bs=4k count=1 conv=fsync; n=$((n+1)); done",
        );
        let left = root.run("df --output=avail /var/lib/dkms | tail -1").ok().stdout;
        assert_eq!(left.trim(), "0");
        let command =
            command.replace("uninstall switch/1.0", &format!("uninstall switch/1.0 -k {}", kernel.release));
        root.run(&command).ok();
        assert_eq!(root.find("/lib/modules", "-name 'switch_*'"), [""; 0], "{command}");
        assert_eq!(root.find("/var/lib/dkms/.dkms-rs/intent", "-type f"), [""; 0], "{command}");
        root.run("umount /var/lib/dkms /mnt").ok();
    }
}

#[test]
fn a_restored_older_dkms_tree_leads_to_the_newer_version() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    root.run(&format!(
        "cp -a /var/lib/dkms /opt/tree && dkms install switch/2.0 -k {} && \
         rm -r /var/lib/dkms && mv /opt/tree /var/lib/dkms",
        kernel.release
    ))
    .ok();
    let said = root.run("dkms doctor --json").exits(20).never_says(&["switch/1.0"]).stdout;
    for line in said.lines().filter_map(|line| line.trim().strip_prefix("\"command\": \"")) {
        root.run(line.trim_end_matches(',').trim_end_matches('"')).ok();
    }
    assert_eq!(versions(&root, &kernel), ["2.0", "2.0"]);
    root.run("dkms doctor").ok();
}

#[test]
fn whatever_the_next_run_completes_is_said_to_be_completed() {
    let (layer, kernel) = prepared();
    let mut left = 0;
    for (calls, command) in [
        ("unlink,unlinkat", "dkms uninstall switch/1.0"),
        ("unlink,unlinkat", "dkms install switch/2.0"),
        ("rename,renameat,renameat2", "dkms uninstall switch/1.0"),
        ("rename,renameat,renameat2", "dkms install switch/2.0"),
    ] {
        for first in [1, 2, 3, 4, 6, 8] {
            let root = Root::on(&layer);
            let said = root.run(&format!(
                "strace -f -qq -o /dev/null -e trace={calls} -e inject={calls}:error=EIO:when={first}+ {command} -k {}",
                kernel.release
            ));
            let intents = root.find("/var/lib/dkms/.dkms-rs/intent", "-type f");
            if !intents.is_empty() {
                left += 1;
                said.fails().says(&["the next run"]).never_says(&["remains in the DKMS tree"]);
            }
            root.run("dkms doctor --fix");
            assert_eq!(root.find("/var/lib/dkms/.dkms-rs/intent", "-type f"), [""; 0], "{calls} {first}");
        }
    }
    assert!(left > 3, "{left}");
}

#[test]
fn a_file_with_another_module_is_not_installed() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    root.run(&format!(
        "cd /var/lib/dkms/switch/2.0/{}/*/module && for b in switch_b*; do cp $b switch_a${{b#switch_b}}; done",
        kernel.release
    ))
    .ok();
    root.run(&format!("dkms install switch/2.0 -k {} --force", kernel.release))
        .fails()
        .says(&["contains another module, switch_b"]);
    assert_eq!(versions(&root, &kernel), ["1.0", "1.0"]);
    root.run(&format!(
        "dkms build switch/2.0 -k {0} --force && dkms install switch/2.0 -k {0}",
        kernel.release
    ))
    .ok();
    assert_eq!(versions(&root, &kernel), ["2.0", "2.0"]);
}

/// What the kernel's loader calls a module is not changed by the name of its file: shell DKMS installs it, too.
#[test]
fn a_module_that_its_makefile_renames_is_installed_from_its_build() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let sources = Sources::new("given", "1.0")
        .conf("MAKE[0]=\"${MAKE[0]} && mv given.ko other.ko\"")
        .conf("BUILT_MODULE_NAME[0]=other");
    sources.unpack(&root);
    root.run(&format!("dkms build given/1.0 -k {0} && dkms install given/1.0 -k {0}", kernel.release)).ok();
    root.run(&format!("ls {}", kernel.dkms_dir())).says(&["other.ko"]);
}
