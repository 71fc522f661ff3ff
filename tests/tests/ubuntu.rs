//! Ubuntu's ways, in a root that says it is Ubuntu: shim's key pair, made by shim's program, and kmodsign. Debian has
//! neither program, so that each has a stand-in that does what the real one does, by the same arguments: openssl makes
//! the pair, the kernel's own sign-file signs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Output, Root, Suite, stage};

const MOK: &str = "/var/lib/shim-signed/mok";

/// Makes the pair once; says so when it is called as no hook may call it.
const UPDATE_SECUREBOOT_POLICY: &str = "#!/bin/sh
echo \"$* SHIM_NOTRIGGER=$SHIM_NOTRIGGER\" >>/root/called
[ \"$1\" = --new-key ] || exit 1
[ ! -e /var/lib/shim-signed/mok/MOK.der ] || exit 0
exec openssl req -new -x509 -nodes -days 9 -newkey rsa:2048 -subj '/CN=of shim' -outform DER \\
    -keyout /var/lib/shim-signed/mok/MOK.priv -out /var/lib/shim-signed/mok/MOK.der 2>/dev/null
";

fn ubuntu() -> (Root, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    root.run("rm /etc/os-release").ok();
    root.write("/etc/os-release", "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=24.04\n");
    Sources::new("noble", "1.0").unpack(&root);
    (root, kernel)
}

fn install(root: &Root, kernel: &Kernel) -> Output {
    root.run(&format!("dkms install noble/1.0 --force -k {}", kernel.release)).ok()
}

fn signer(root: &Root, kernel: &Kernel) -> String {
    let file = &kernel.module_files(root)[0].0;
    root.run(&format!("modinfo -F signer {file}")).ok().stdout.trim().to_owned()
}

#[test]
fn shims_key_is_made_by_shims_program_and_kmodsign_signs() {
    let (root, kernel) = ubuntu();
    root.write_script("/usr/sbin/update-secureboot-policy", UPDATE_SECUREBOOT_POLICY);
    let headers = format!("/lib/modules/{}/build", kernel.release);
    let kmodsign = format!(
        "#!/bin/sh\necho \"kmodsign $1 $2 $3 $#\" >>/root/called\nexec {headers}/scripts/sign-file \"$@\"\n"
    );
    root.write_script("/usr/bin/kmodsign", &kmodsign);
    let told = install(&root, &kernel);
    told.says(&["update-secureboot-policy --enroll-key"]).never_says(&["mokutil"]);
    assert_eq!(signer(&root, &kernel), "of shim");
    let called = root.read("/root/called");
    assert_eq!(
        called,
        format!("--new-key SHIM_NOTRIGGER=y\nkmodsign sha256 {MOK}/MOK.priv {MOK}/MOK.der 4\n")
    );
    assert!(!root.exists("/var/lib/dkms/mok.key"), "one pair is enough");
    // The pair is there: it is used, not made again, and nobody is asked to enrol anything.
    let before = root.read_bytes(&format!("{MOK}/MOK.der"));
    install(&root, &kernel).never_says(&["enroll-key"]);
    assert_eq!(root.read_bytes(&format!("{MOK}/MOK.der")), before);
    root.run("dkms generate_mok").ok().says(&["MOK.priv", "already exist"]);
    // Without kmodsign the kernel's own program signs.
    root.run("rm /usr/bin/kmodsign").ok();
    install(&root, &kernel);
    assert_eq!(signer(&root, &kernel), "of shim");
}

#[test]
fn without_shims_program_the_pair_is_made_all_the_same() {
    let (root, kernel) = ubuntu();
    install(&root, &kernel).says(&[&format!("mokutil --import {MOK}/MOK.der")]);
    assert_eq!(signer(&root, &kernel), "DKMS module signing key");
    assert_eq!(root.run(&format!("stat -c '%a %U' {MOK}/MOK.priv")).ok().stdout, "600 root\n");
    let text = root.run(&format!("openssl x509 -inform DER -in {MOK}/MOK.der -noout -text")).ok();
    text.says(&["Code Signing", "1.3.6.1.4.1.2312.16.1.2"]);
    // A program of that name that makes no key is no obstacle.
    root.run(&format!("rm {MOK}/MOK.*")).ok();
    root.write_script("/usr/sbin/update-secureboot-policy", "#!/bin/sh\nexit 1\n");
    root.run("dkms generate_mok").ok().says(&["update-secureboot-policy --enroll-key"]);
    assert!(root.exists(&format!("{MOK}/MOK.priv")));
}

#[test]
fn the_admins_key_goes_first() {
    let (root, kernel) = ubuntu();
    root.write_script("/usr/sbin/update-secureboot-policy", UPDATE_SECUREBOOT_POLICY);
    root.write(
        "/etc/dkms/framework.conf.d/keys.conf",
        "mok_signing_key=/etc/keys/$kernelver.key\nmok_certificate=/etc/keys/$kernelver.pub\n",
    );
    install(&root, &kernel);
    assert_eq!(signer(&root, &kernel), "DKMS module signing key");
    assert!(root.exists(&format!("/etc/keys/{}.key", kernel.release)) && !root.exists("/root/called"));
}
