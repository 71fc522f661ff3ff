//! Modules are signed as by DKMS 3.x: with a machine owner key that is generated on first use and readable only by
//! root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Root, Suite, stage};

fn built(prepare: &str) -> (Root, Kernel, String) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    root.run(prepare).ok();
    Sources::new("signed", "1.0").unpack(&root);
    root.run(&format!("dkms add signed/1.0 && dkms install signed/1.0 -k {}", kernel.release)).ok();
    let file = kernel.module_files(&root).remove(0).0;
    (root, kernel, file)
}

#[test]
fn the_key_is_made_on_first_use_and_is_roots_alone() {
    let (root, _, file) = built("rm -f /var/lib/dkms/mok.*");
    assert_eq!(root.run("stat -c '%a %U' /var/lib/dkms/mok.key").ok().stdout, "600 root\n");
    root.run("openssl x509 -inform DER -in /var/lib/dkms/mok.pub -noout -checkend 0").ok();
    let serial = root.run("openssl x509 -inform DER -in /var/lib/dkms/mok.pub -noout -serial").ok().stdout;
    let serial = serial.trim().trim_start_matches("serial=").to_ascii_uppercase();
    let key = root.run(&format!("modinfo -F sig_key {file}")).ok().stdout.replace(':', "");
    assert_eq!(key.trim(), serial, "signed by the machine owner key");
    assert!(
        root.run("grep -rl 'BEGIN.*PRIVATE KEY' /var/lib/dkms")
            .stdout
            .lines()
            .all(|f| f == "/var/lib/dkms/mok.key")
    );
}

#[test]
fn an_existing_key_is_used_and_not_replaced() {
    let make = "mkdir -p /var/lib/dkms && cd /var/lib/dkms && openssl req -new -x509 -nodes -days 9 -subj /CN=mine \
                -newkey rsa:2048 -keyout mok.key -outform DER -out mok.pub 2>/dev/null && chmod 600 mok.key";
    let (root, _, file) = built(make);
    assert_eq!(root.run(&format!("modinfo -F signer {file}")).ok().stdout, "mine\n");
}
