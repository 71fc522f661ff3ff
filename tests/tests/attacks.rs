//! Runs every row of `dkms_tests::attacks` in a root: what it must not reach has a canary, and a normal module next to
//! it is installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_core::sys::confine;
use dkms_tests::attacks::{ATTACKS, Attack, BUILD_USERS, Via};
use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Output, Root, Suite, stage};

/// A root with secrets, canaries, and mounts with unusual names.
fn prepared() -> (Root, Kernel) {
    assert_eq!(confine::USERS, 65520..=65532, "BUILD_USERS matches these");
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    root.run(
        "mkdir -p /canary /canary-open /home/user /etc/ssh && chmod 755 /canary && chmod 1777 /canary-open && \
         useradd -M -d /home/user user && chmod 755 /root /home/user && \
         echo REACHED-secret | tee /root/secret /home/user/secret >/etc/ssh/canary_key && chmod 644 /etc/ssh/canary_key && \
         mkdir -p $'/srv/odd\\xff' '/srv/with blank' && mount -t tmpfs -o mode=1777 x $'/srv/odd\\xff' && \
         mount -t tmpfs -o mode=1777 x '/srv/with blank'",
    )
    .ok();
    Sources::new("honest", "1.0").unpack(&root);
    root.run(&format!("dkms add honest/1.0 && dkms install honest/1.0 -k {}", kernel.release)).ok();
    root.run("[ -s /var/lib/dkms/mok.key ]").ok();
    (root, kernel)
}

/// The attack failed: no canary was created, no secret was printed, no process is left.
fn expect_unharmed(root: &Root, attack: &Attack, told: &Output) {
    let name = attack.name;
    // A script's own exit status is passed on, even if it looks like a signal's.
    let dies = ["panicked", "Aborted", "Segmentation fault"].iter().any(|word| told.all().contains(word));
    assert!(told.status != 124 && !dies, "{name}: hangs or dies\n{told}");
    let canaries = root.run("find /canary /canary-open /etc/canary* /canary-* -mindepth 0 ! -path /canary ! -path /canary-open 2>/dev/null; \
                             ls -d /usr/canary* /lib/modules/canary* /usr/src/canary* /boot/canary* 2>/dev/null");
    assert_eq!(canaries.stdout.trim(), "", "{name}: reached {}\n{told}", attack.guards);
    let printed =
        root.run("grep -rl REACHED /var/lib/dkms --include=make.log --include='*.json' 2>/dev/null");
    let words = if printed.stdout.trim().is_empty() {
        String::new()
    } else {
        root.run("grep -rh REACHED /var/lib/dkms").stdout
    };
    assert!(
        !told.all().contains("REACHED") && words.is_empty(),
        "{name}: read {}\n{words}\n{told}",
        attack.guards
    );
    assert!(!told.all().contains(['\u{1b}', '\u{9b}', '\u{7}']), "{name}: controls the terminal\n{told:?}");
    let left = root.run(&format!(
        "for p in /proc/[0-9]*; do stat -c %u $p 2>/dev/null | grep -Eqx '{BUILD_USERS}' && tr '\\0' ' ' <$p/cmdline; done; :"
    ));
    assert_eq!(left.stdout.trim(), "", "{name}: left processes");
    if !attack.afterwards.is_empty() {
        let after = root.run(attack.afterwards);
        assert_eq!(after.status, 0, "{name}: {}\n{after}\n{told}", attack.guards);
    }
}

fn rows(via: Via) -> impl Iterator<Item = &'static Attack> {
    ATTACKS.iter().filter(move |attack| attack.via == via)
}

/// A dkms.conf with the attack, whose build prints the result.
fn conf(attack: &Attack) -> String {
    let name = attack.name;
    format!(
        "PACKAGE_NAME={name}\nPACKAGE_VERSION=1.0\nBUILT_MODULE_NAME[0]={module}\nDEST_MODULE_LOCATION[0]=/updates\n\
         AUTOINSTALL=yes\n{does}\n\
         MAKE[0]=\"echo leak: $leak; make -C ${{kernel_source_dir}} M=${{dkms_tree}}/{name}/1.0/build modules\"\n",
        module = name.replace('-', "_"),
        does = attack.does
    )
}

fn unpack(root: &Root, attack: &Attack) {
    let sources = Sources::new(attack.name, "1.0");
    sources.unpack(root);
    root.write(&format!("/usr/src/{}-1.0/dkms.conf", attack.name), conf(attack));
}

fn honest(root: &Root, kernel: &Kernel) {
    root.expect_installed(&["honest/1.0"], &kernel.release);
}

#[test]
fn files_that_are_evaluated() {
    let (root, kernel) = prepared();
    for attack in rows(Via::Conf) {
        root.note(attack.name);
        unpack(&root, attack);
        let id = format!("{}/1.0", attack.name);
        let told = root.run_within(
            120,
            &format!("dkms add {id}; dkms install {id} -k {}; echo ended: $?", kernel.release),
        );
        expect_unharmed(&root, attack, &told);
        let told = root.run_within(
            120,
            &format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}; dkms status", kernel.release),
        );
        expect_unharmed(&root, attack, &told.ok());
        root.run(&format!(
            "dkms remove {id} --all; rm -rf /usr/src/{}-1.0 /var/lib/dkms/{}",
            attack.name, attack.name
        ));
    }
    honest(&root, &kernel);
}

#[test]
fn tarballs_of_strangers() {
    let (root, kernel) = prepared();
    for attack in rows(Via::Tarball) {
        root.note(attack.name);
        unpack(&root, attack);
        let name = attack.name;
        let told = root.run_within(
            120,
            &format!(
                "mkdir -p /opt/t/dkms_main_tree && cp -a /usr/src/{name}-1.0 /opt/t/dkms_source_tree && \
                 touch /opt/t/dkms_main_tree/dkms_dbversion; rm -rf /usr/src/{name}-1.0; \
                 tar -C /opt/t -czf /opt/{name}.tar.gz . ; rm -rf /opt/t; \
                 dkms ldtarball /opt/{name}.tar.gz; dkms install {name}/1.0 -k {}; :",
                kernel.release
            ),
        );
        expect_unharmed(&root, attack, &told);
        root.run(&format!("dkms remove {name}/1.0 --all; rm -rf /usr/src/{name}-1.0 /var/lib/dkms/{name}"));
    }
    honest(&root, &kernel);
}

#[test]
fn builds() {
    let (root, kernel) = prepared();
    for attack in rows(Via::Build) {
        root.note(attack.name);
        // The compilation itself is not needed, and takes time.
        Sources::new(attack.name, "1.0").conf("PRE_BUILD=\"before.sh\"\nMAKE[0]=false").unpack(&root);
        root.write_script(
            &format!("/usr/src/{}-1.0/before.sh", attack.name),
            &format!("#!/bin/bash\n{}\n", attack.does),
        );
        let id = format!("{}/1.0", attack.name);
        let told = root.run_within(
            120,
            &format!("dkms add {id}; dkms install {id} -k {}; echo ended: $?", kernel.release),
        );
        expect_unharmed(&root, attack, &told);
        root.run(&format!("dkms remove {id} --all; rm -rf /usr/src/{}-1.0", attack.name));
    }
    honest(&root, &kernel);
}

#[test]
fn other_users() {
    let (root, kernel) = prepared();
    for attack in rows(Via::User) {
        root.note(attack.name);
        root.write_script("/opt/attack.sh", &format!("#!/bin/bash\n{}\n", attack.does));
        let told = root.run_within(
            120,
            &format!(
                "setpriv --reuid=user --regid=user --clear-groups /opt/attack.sh >/dev/null 2>&1 & sleep 0.3; \
                 timeout 20 dkms install honest/1.0 -k {} --force",
                kernel.release
            ),
        );
        expect_unharmed(&root, attack, &told.ok());
    }
    honest(&root, &kernel);
}

#[test]
fn a_released_program_has_no_switch_for_it() {
    let (root, _) = prepared();
    let found = root.run("grep -l DKMS_UNCONFINED $(command -v dkms) /usr/lib/dkms/*");
    assert_eq!(found.stdout.trim(), "", "{found}");
}
