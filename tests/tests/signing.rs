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
    // A run that generated the pair was interrupted before the key had its name.
    root.run("cd /var/lib/dkms && cp mok.key /opt && mv mok.key .mok.key.new && dkms generate_mok").ok();
    root.run("cmp /opt/mok.key /var/lib/dkms/mok.key && ! ls -A /var/lib/dkms | grep -F .new").ok();
}

#[test]
fn an_existing_key_is_used_and_not_replaced() {
    let make = "mkdir -p /var/lib/dkms && cd /var/lib/dkms && openssl req -new -x509 -nodes -days 9 -subj /CN=mine \
                -newkey rsa:2048 -keyout mok.key -outform DER -out mok.pub 2>/dev/null && chmod 600 mok.key";
    let (root, _, file) = built(make);
    assert_eq!(root.run(&format!("modinfo -F signer {file}")).ok().stdout, "mine\n");
}

/// All machines that are cloned from an image would share its private key.
#[test]
fn in_an_image_no_key_is_made_and_the_first_run_on_the_machine_signs() {
    let (root, kernel, file) = built("rm -f /var/lib/dkms/mok.* && touch /run/.containerenv");
    let signer = || root.run(&format!("modinfo -F signer {file}")).ok().stdout;
    assert_eq!(signer(), "");
    assert!(!root.exists("/var/lib/dkms/mok.key"));
    // Nothing is done twice in the image.
    let (before, again) = (kernel.module_files(&root), format!("dkms autoinstall -k {}", kernel.release));
    root.run(&again).ok();
    assert_eq!(kernel.module_files(&root), before);
    // An administrator may want it nevertheless.
    root.run("rm /run/.containerenv").ok();
    root.run(&again).ok().says(&["generated a module signing key"]);
    assert!(!signer().is_empty() && root.exists("/var/lib/dkms/mok.key"));
}

#[test]
fn signing_in_an_image_can_be_switched_on_and_off() {
    let setting = |value: &str| {
        format!("touch /run/.containerenv && echo 'try_sign_modules={value}' >>/etc/dkms/framework.conf")
    };
    for (prepare, signed) in [
        (format!("rm -f /var/lib/dkms/mok.* && {}", setting("true")), true),
        // There is a key already.
        ("dkms generate_mok && touch /run/.containerenv".to_owned(), true),
        (format!("dkms generate_mok && {}", setting("not_in_chroot")), false),
        (format!("dkms generate_mok && {}", setting("false")), false),
    ] {
        let (root, _, file) = built(&prepare);
        let signer = root.run(&format!("modinfo -F signer {file}")).ok().stdout;
        assert_eq!(!signer.is_empty(), signed, "{prepare}: {signer}");
    }
}
