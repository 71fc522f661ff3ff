//! `dkms doctor` on a machine with one planted fault after another: it finds each, repairs what it promises to repair, and
//! prints a command for the rest that helps when it is pasted.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use std::collections::BTreeSet;

use dkms_tests::dressed;
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, history, stage};
use serde_json::Value;

/// What `--json` prints is valid against the shipped schemas.
#[path = "../../core/tests/support/schemas.rs"]
mod schemas;

/// Who ends the fault.
enum Cure {
    /// `dkms doctor --fix`.
    Fix,
    /// The printed command.
    Pasted,
    /// The admin, with this.
    Admin(&'static str),
}

use Cure::{Admin, Fix, Pasted};

/// A fault: the kind that is found, how it is planted, a part of what is printed, and what ends it. `$K` is the kernel
/// and `$DIR` the directory of its modules.
type Row = (&'static str, &'static str, &'static str, Cure);

const FAULTS: &[Row] = &[
    (
        "bad-policy",
        "echo 'critcal = [\"zfs\"]' >>/etc/dkms/policy.toml",
        "unknown key `critcal`",
        Admin("sed -i /critcal/d /etc/dkms/policy.toml"),
    ),
    (
        "bad-framework-conf",
        "echo 'if true; then' >/etc/dkms/framework.conf.d/planted.conf",
        "framework.conf has no effect",
        Admin("rm /etc/dkms/framework.conf.d/planted.conf"),
    ),
    (
        "unknown-options",
        "echo 'compress_xz_opts=\"--nonsense\"' >/etc/dkms/framework.conf.d/planted.conf",
        "options without a meaning: compress_xz_opts: --nonsense",
        Admin("rm /etc/dkms/framework.conf.d/planted.conf"),
    ),
    (
        "low-space",
        "mkdir /opt/boot && cp -a /boot/. /opt/boot && \
         mount -t tmpfs -o size=$(($(du -sk /opt/boot | cut -f 1) + 3000))k tmpfs /boot && cp -a /opt/boot/. /boot",
        "/boot has 2 MiB left",
        Admin("umount /boot"),
    ),
    (
        "low-space",
        "mkdir /opt/modules && cp -a /lib/modules/. /opt/modules && \
         mount -t tmpfs -o size=$(($(du -sk /opt/modules | cut -f 1) + 3000))k tmpfs /lib/modules && \
         cp -a /opt/modules/. /lib/modules",
        "/lib/modules has 2 MiB left",
        Admin("umount /lib/modules"),
    ),
    (
        "unwritable",
        "chattr +i $DIR",
        "has an attribute that forbids changes, also to root",
        Admin("chattr -i $DIR"),
    ),
    (
        "unwritable",
        "mount --bind /lib/modules /lib/modules && mount -o remount,ro,bind /lib/modules",
        "/lib/modules is on a read-only file system",
        Admin("umount /lib/modules"),
    ),
    // Nothing is promised that cannot be done.
    (
        "wrong-file-type",
        "file=$(ls $DIR/fine.ko*) && rm $file && mkdir $file",
        "is a directory; dkms needs a regular file there",
        Admin("rmdir $DIR/fine.ko* && dkms autoinstall -k $K"),
    ),
    (
        "wrong-file-type",
        "mkdir /opt/disk && mv $DIR /opt/disk/dkms && ln -s /opt/disk/dkms $DIR",
        "is a symbolic link to a directory outside of the modules directory",
        Pasted,
    ),
    (
        "wrong-file-type",
        "mv $DIR /opt/unmounted && ln -s /opt/disk/unmounted $DIR",
        "is a symbolic link to nothing",
        Admin("rm $DIR && mv /opt/unmounted $DIR"),
    ),
    (
        "half-key-pair",
        "mv /var/lib/dkms/mok.pub /opt",
        "mok.pub is missing",
        Admin("mv /opt/mok.pub /var/lib/dkms"),
    ),
    (
        "damaged-key",
        "cp -a /var/lib/dkms/mok.pub /opt/mok.pub && : >/var/lib/dkms/mok.pub && dkms autoinstall -k $K && \
         modinfo -F signer $(ls $DIR/fine.ko*) | grep -q .",
        "modules cannot be signed: /var/lib/dkms/mok.pub is damaged",
        Admin("cp -a /opt/mok.pub /var/lib/dkms/mok.pub"),
    ),
    ("exposed-key", "chmod 644 /var/lib/dkms/mok.key", "other users can read the private key", Pasted),
    (
        "unfinished",
        "mkdir -p /var/lib/dkms/.dkms-rs/intent && \
         echo '{\"depmod\": [{\"kernel\": \"'$K'\", \"arch\": \"x86_64\"}]}' >/var/lib/dkms/.dkms-rs/intent/1-1.json",
        "1 transaction was interrupted",
        Fix,
    ),
    (
        "temporary-files",
        "touch $DIR/.dkms-tmp-999999999-0-fine.ko && mkdir -p /var/lib/dkms/.dkms-rs/work/999999999-0",
        "2 temporary files",
        Fix,
    ),
    (
        "removed-kernel",
        "cp -a /var/lib/dkms/fine/1.0/$K /var/lib/dkms/fine/1.0/6.0.0-gone",
        "builds for 6.0.0-gone, whose modules are not installed: fine/1.0",
        Pasted,
    ),
    (
        "unowned-module",
        "cp $DIR/fine.ko* $DIR/stray.ko",
        "stray.ko belongs to no module in the DKMS tree",
        Pasted,
    ),
    (
        "damaged-files",
        "mkdir -p /opt && touch /etc/dkms/no-autoinstall && rm $DIR/fine.ko*",
        "files of fine/1.0 for",
        Admin("dkms install fine/1.0 -k $K --force && rm /etc/dkms/no-autoinstall"),
    ),
    (
        "unrestored-module",
        "mkdir -p /var/lib/dkms/odd/original_module/$K/x86_64 && \
         cp $DIR/fine.ko* /var/lib/dkms/odd/original_module/$K/x86_64 && \
         touch $(echo /var/lib/dkms/odd/original_module/$K/x86_64/fine.ko*).origin",
        "that was not restored",
        Admin("rm -r /var/lib/dkms/odd"),
    ),
    (
        "broken",
        "cp -a /usr/src/fine-1.0 /usr/src/loose-1.0 && sed -i s/fine/loose/ /usr/src/loose-1.0/dkms.conf && \
         dkms add loose/1.0 && rm -r /usr/src/loose-1.0",
        "loose/1.0 is broken: source directory /usr/src/loose-1.0 not found",
        Pasted,
    ),
    (
        "outdated-initramfs",
        "mkdir -p /var/lib/dkms/.dkms-rs/stale-initramfs/$K && \
         echo '{\"modules\": [\"fine\"], \"names\": [\"fine\"], \"why\": \"no space\"}' \
         >/var/lib/dkms/.dkms-rs/stale-initramfs/$K/x86_64.json",
        "is out of date: it lacks the installed version of fine: no space",
        Fix,
    ),
    ("outdated-index", "sed -i /fine/d /lib/modules/$K/modules.dep", "lacks installed modules", Fix),
    ("outdated-index", ": >/lib/modules/$K/modules.dep.bin", "lacks installed modules", Fix),
    (
        "outdated-index",
        "head -c 1000 /dev/zero >/lib/modules/$K/modules.symbols.bin",
        "lacks installed modules",
        Fix,
    ),
    ("missing-builds", "dkms unbuild fine/1.0 -k $K", "not up to date", Fix),
    ("missing-builds", "rm $DIR/fine.ko*", "fine/1.0", Fix),
    // Its file is no stray one.
    ("missing-builds", "rm /var/lib/dkms/fine/kernel-$K-x86_64", "fine/1.0", Fix),
    (
        "no-headers",
        "dkms unbuild fine/1.0 -k $K && mv /lib/modules/$K/build /opt/build",
        "kernel headers for",
        Admin("mv /opt/build /lib/modules/$K/build && dkms autoinstall -k $K"),
    ),
    // On Debian, the headers of a kernel are in several packages.
    (
        "no-headers",
        "dkms unbuild fine/1.0 -k $K && mkdir /opt/common && mv /usr/src/linux-headers-*-common /opt/common/",
        "are damaged: their package is installed",
        Admin("mv /opt/common/* /usr/src/ && dkms autoinstall -k $K"),
    ),
    (
        "no-tools",
        "dkms unbuild fine/1.0 -k $K && rm -rf /var/cache/dkms && mv /usr/bin/make /opt/make",
        "not installed: make",
        Admin("mv /opt/make /usr/bin/make && dkms autoinstall -k $K"),
    ),
    (
        "failed",
        "cp -a /usr/src/fine-1.0 /usr/src/bad-1.0 && sed -i s/fine/bad/ /usr/src/bad-1.0/dkms.conf && \
         ! dkms install bad/1.0 -k $K",
        "bad/1.0 does not build",
        Admin("dkms remove bad/1.0 --all"),
    ),
    (
        "hindered",
        "cp -a /usr/src/fine-1.0 /usr/src/led-1.0 && sed -i s/fine/led/ /usr/src/led-1.0/dkms.conf && \
         echo 'BUILD_DEPENDS=absent' >>/usr/src/led-1.0/dkms.conf && dkms add led/1.0",
        "requires absent",
        Admin("dkms remove led/1.0 --all"),
    ),
    (
        "hindered",
        "cp -a /usr/src/fine-1.0/dkms.conf /opt/dkms.conf && echo 'if true; then' >/usr/src/fine-1.0/dkms.conf",
        "fine/1.0 is installed for",
        Admin("cp -a /opt/dkms.conf /usr/src/fine-1.0/dkms.conf"),
    ),
    (
        "upcoming",
        "echo '{\"format\": 1, \"checked\": 1, \"packages\": [], \"inputs\": \"\", \"untried\": [], \"held\": [], \"modules\": [{\"line\": \
         {\"module\": {\"name\": \"fine\", \"version\": \"1.0\"}, \"kernel\": \"9.9\", \"arch\": \"x86_64\", \"outcome\": \"failed\", \
         \"code\": 10, \"why\": \"make failed\", \"errors\": [], \"remembered\": false, \"remaining\": \"\"}}]}' >/var/lib/dkms/.dkms-rs/upcoming.json",
        "fine/1.0 does not build for 9.9, which is available: make failed",
        Admin("rm /var/lib/dkms/.dkms-rs/upcoming.json"),
    ),
    (
        "kept-back",
        "echo '{\"format\": 1, \"packages\": [{\"name\": \"linux-image-amd64\", \"version\": \"9\"}], \"names\": [\"linux-image-amd64\"], \
         \"reasons\": [{\"module\": {\"name\": \"fine\", \"version\": \"1.0\"}, \"kernel\": \"9.9\", \"package\": null}], \
         \"modules\": {\"fine\": {\"since\": 1, \"registered\": [\"1.0\"]}}, \"installed\": []}' >/var/lib/dkms/.dkms-rs/kept-back.json",
        "linux-image-amd64 is kept back: fine/1.0 does not build for 9.9, for",
        Admin("rm /var/lib/dkms/.dkms-rs/kept-back.json"),
    ),
    (
        "hold-differs",
        "printf '# Written by dkms. Upgrades do not install these versions:\\n' >/etc/apt/preferences.d/00-dkms.pref",
        "upgrades keep back other packages than dkms has recorded",
        Pasted,
    ),
    (
        "other-program",
        "printf '#!/bin/sh\\n' >/usr/local/sbin/dkms && chmod 755 /usr/local/sbin/dkms",
        "the command dkms starts /usr/local/sbin/dkms",
        Pasted,
    ),
    (
        "missing-hooks",
        "mv /etc/kernel/postinst.d/dkms /opt/hook",
        "missing: /etc/kernel/postinst.d/dkms",
        Admin("mv /opt/hook /etc/kernel/postinst.d/dkms"),
    ),
];

/// A machine on which everything is well: one module is built and signed, and there is an initramfs.
fn well() -> (Root, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let sources = Sources::new("fine", "1.0");
    let layer = layer.prepared("doctor", &format!("2{:?}", sources.files()), |root| {
        root.run("dkms generate_mok").ok();
        let package = sources.package(root);
        root.apt_install(&[&package, "e2fsprogs"]).ok();
        root.expect_installed(&["fine/1.0"], &kernel.release);
    });
    (Root::on(&layer), kernel)
}

/// The findings, by kind.
fn found(root: &Root) -> Vec<Value> {
    let said = root.run("dkms doctor --json");
    let document = schemas::valid("doctor", &said.stdout);
    let found = document["findings"].as_array().expect("a list").clone();
    assert_eq!(said.status, if found.is_empty() { 0 } else { 20 }, "{said}");
    found
}

fn expect_well(root: &Root, after: &str) {
    let said = root.run("dkms doctor");
    assert!(said.status == 0 && said.stdout == "no problem found\n", "after {after}: {said}");
}

#[test]
fn every_planted_fault_is_found_and_ended() {
    let (root, kernel) = well();
    let filled = |text: &str| text.replace("$K", &kernel.release).replace("$DIR", &kernel.dkms_dir());
    expect_well(&root, "the preparation");
    let kinds: BTreeSet<&str> = FAULTS.iter().map(|(kind, ..)| *kind).collect();
    assert!(kinds.len() >= 15, "{kinds:?}");
    for (kind, plant, printed, cure) in FAULTS {
        root.note(&format!("== {kind}"));
        root.run(&filled(plant)).ok();
        let one = found(&root);
        let named: Vec<&Value> = one.iter().filter(|finding| finding["kind"] == *kind).collect();
        assert!(one.len() == 1 && named.len() == 1, "{kind}: {one:#?}");
        let fixable = matches!(cure, Fix);
        assert_eq!(one[0]["fixable"], fixable, "{kind}");
        let command = one[0]["command"].as_str().expect("a command").to_owned();
        root.run("dkms doctor").exits(20).says(&[printed, &command]);
        let fixed = root.run("dkms doctor --fix");
        match cure {
            Fix => {
                fixed.exits(0).says(&["repaired: "]);
            }
            Pasted => {
                fixed.exits(20).never_says(&["repaired"]);
                root.run(&command).ok();
            }
            Admin(end) => {
                fixed.exits(20).never_says(&["repaired"]);
                root.run(&filled(end)).ok();
            }
        }
        expect_well(&root, kind);
        root.expect_installed(&["fine/1.0"], &kernel.release);
        let before = history::transactions(&root).len();
        root.run("dkms doctor --fix").ok().never_says(&["repaired"]);
        assert_eq!(history::transactions(&root).len(), before, "{kind}: the second repair did something");
    }
}

/// A repair that must fail says why, and never that root is not root.
#[test]
fn a_tree_that_is_no_directory_is_named_as_what_it_is() {
    let (root, _) = well();
    for (plant, why, end) in [
        (
            "mv /var/lib/dkms /opt/tree && touch /var/lib/dkms",
            "/var/lib/dkms is a regular file, not a directory",
            "rm /var/lib/dkms && mv /opt/tree /var/lib/dkms",
        ),
        (
            "chattr +i /var/lib/dkms",
            "/var/lib/dkms has an attribute that forbids changes",
            "chattr -i /var/lib/dkms",
        ),
    ] {
        root.run(plant).ok();
        for command in ["doctor --fix", "add fine/2.0"] {
            root.run(&format!("dkms {command}")).fails().says(&[why]).never_says(&["must be run as root"]);
        }
        let said = root.run("dkms doctor").exits(20).says(&["/var/lib/dkms "]).never_says(&["--fix"]);
        assert!(said.stdout.ends_with("\n1 problem\n"), "{plant}: {said}");
        root.run(end).ok();
        expect_well(&root, plant);
    }
}

/// The files of a package that `dkms mkpackage` has made are the package manager's.
#[test]
fn damage_of_a_native_package_is_ended_by_its_package_manager() {
    let (root, kernel) = well();
    let release = &kernel.release;
    root.run(&format!("mkdir {0} && dkms mkpackage fine/1.0 -k {release} --out {0}", dressed::REPOSITORY))
        .ok();
    dressed::index_debs(&root);
    root.run("apt-get -q -y install fine-modules-*").ok();
    for registered in [true, false] {
        if !registered {
            root.run("apt-get -q -y purge fine-dkms").ok();
        }
        expect_well(&root, "the installation of the package");
        for damage in ["echo changed >$DIR/fine.ko.xz", "echo x >>$DIR/fine.ko.xz", "rm $DIR/fine.ko.xz"] {
            root.run(&damage.replace("$DIR", &kernel.dkms_dir())).ok();
            let found = found(&root);
            assert!(found.len() == 1 && found[0]["kind"] == "damaged-package", "{damage}: {found:#?}");
            let command = found[0]["command"].as_str().expect("a command");
            root.run("dkms check").says(&[command]);
            if registered {
                for dkms in [format!("dkms autoinstall -k {release}"), "dkms why fine".into()] {
                    let said = root.run(&dkms).says(&["package fine-modules-", command]);
                    said.never_says(&["the kernel provides"]);
                }
            }
            root.run(&format!("{command} -y")).ok();
            expect_well(&root, damage);
        }
    }
}

/// What has the name of a built module is recorded as installed, and not deleted.
#[test]
fn files_of_a_module_that_is_not_recorded_as_installed_are_not_deleted() {
    let (root, kernel) = well();
    root.run("echo 'AUTOINSTALL=no' >>/usr/src/fine-1.0/dkms.conf").ok();
    let forget = format!("rm /var/lib/dkms/fine/kernel-{}-x86_64", kernel.release);
    for (damage, forced) in [("true", false), ("echo x >>$DIR/fine.ko.xz", true)] {
        root.run(&format!("{forget} && {}", damage.replace("$DIR", &kernel.dkms_dir()))).ok();
        let found = found(&root);
        assert!(found.len() == 1 && found[0]["kind"] == "unrecorded-module", "{damage}: {found:#?}");
        let command = found[0]["command"].as_str().expect("a command");
        assert_eq!(command.ends_with(" --force"), forced, "{command}");
        root.run(command).ok();
        expect_well(&root, damage);
        root.expect_installed(&["fine/1.0"], &kernel.release);
    }
}

/// The copy of the kernel's own module that ours replaced is verified while ours is installed, and afterwards.
#[test]
fn a_lost_copy_of_a_module_of_the_kernel_is_named_until_its_package_is_installed_again() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let release = &kernel.release;
    let layer = layer.prepared("doctor-original", "1", |root| {
        Sources::new("loop", "9.1").conf("AUTOINSTALL=no").unpack(root);
        root.run(&format!("dkms install loop/9.1 -k {release} --force")).ok();
    });
    let place = format!("/lib/modules/{release}/kernel/drivers/block/loop.ko.xz");
    let copy = format!("/var/lib/dkms/loop/original_module/{release}/x86_64/loop.ko.xz");
    for (damage, removal) in [
        (": >COPY", "dkms uninstall loop/9.1"),
        ("rm COPY", "dkms remove loop/9.1 --all"),
        ("rm COPY && mkdir COPY", "dkms unbuild loop/9.1 --all"),
    ] {
        let root = Root::on(&layer);
        expect_well(&root, "the installation");
        root.run("dkms status").says(&["Original modules exist"]);
        root.run(&format!("cp {copy} /opt/original && {}", damage.replace("COPY", &copy))).ok();
        let expect = |when: &str| {
            let found = found(&root);
            assert!(found.len() == 1 && found[0]["kind"] == "lost-original", "{damage}, {when}: {found:#?}");
            let command = found[0]["command"].as_str().expect("a command");
            assert_eq!(command, format!("apt-get install --reinstall {}", kernel.image()), "{when}");
        };
        expect("installed");
        if damage == "rm COPY" {
            root.run("dkms status").never_says(&["Original modules exist"]);
        }
        let on = if removal.ends_with("--all") { String::new() } else { format!(" -k {release}") };
        root.run(&format!("{removal}{on}")).fails().says(&["reinstall the kernel's package"]);
        assert_eq!(root.find(&kernel.dkms_dir(), "-name '*.ko*'"), [""; 0]);
        expect("removed");
        root.run(&format!("mkdir -p $(dirname {place}) && cp /opt/original {place} && depmod {release}"))
            .ok();
        expect_well(&root, "what the package does");
    }
}
