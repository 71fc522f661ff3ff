//! framework.conf and its drop-ins: their settings, checked on what was built.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::{Kernel, Output, Root, Suite, stage};

fn with(settings: &str) -> (Root, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    root.write("/etc/dkms/framework.conf.d/test.conf", settings);
    (root, kernel)
}

fn install(root: &Root, kernel: &Kernel, sources: &Sources) -> Output {
    sources.unpack(root);
    root.run(&format!("dkms install {} -k {}", sources.id(), kernel.release))
}

fn modinfo(root: &Root, kernel: &Kernel, field: &str, module: &str) -> String {
    let dir = kernel.dkms_dir();
    root.run(&format!("modinfo -F {field} {dir}/{module}.ko*")).ok().stdout.trim().to_owned()
}

#[test]
fn exported_variables_of_the_build_environment_reach_the_build() {
    let (root, kernel) = with("build_environment=/opt/toolset/env\n");
    root.write("/opt/toolset/env", "export FLAVOUR=\"salt of $kernelver\"\nHIDDEN=pepper\necho noise\n");
    let sources = Sources::new("salted", "1.0").conf("PRE_BUILD=season.sh");
    root.write_script(
        "/usr/src/salted-1.0/season.sh",
        "#!/bin/sh\nsed -i \"s/salted of dkms-rs's tests/$FLAVOUR,$HIDDEN/\" salted.c\n",
    );
    install(&root, &kernel, &sources).ok();
    let expected = format!("salt of {},", kernel.release);
    assert_eq!(modinfo(&root, &kernel, "description", "salted"), expected);
    // It is an input of the build.
    root.write("/opt/toolset/env", "export FLAVOUR=sugar\n");
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok();
    assert_eq!(modinfo(&root, &kernel, "description", "salted"), "sugar,");
}

#[test]
fn modules_are_compressed_as_their_kernel_has_them_and_as_hard_as_the_admin_wants() {
    let (root, kernel) = with("compress_xz_opts=\"--lzma2=dict=64KiB --odd\"\ncompress_gzip_opts=-9\n");
    let dir = kernel.modules_dir();
    install(&root, &kernel, &Sources::new("squeezed", "1.0")).ok().says(&["compress_xz_opts: --odd"]);
    let file = format!("{}/squeezed.ko", kernel.dkms_dir());
    let listed = root.run(&format!("xz -lvv {file}.xz")).ok();
    listed.says(&["CRC32", "dict=64KiB"]);
    let check = |suffix: &str, program: &str| {
        root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok();
        root.run(&format!("{program} {file}.{suffix}")).ok();
        assert_eq!(kernel.module_files(&root).len(), 1, "one file, whatever its suffix");
    };
    let pack =
        "find kernel -name '*.ko.xz' -exec xz -d {} + && find kernel -name '*.ko' -exec zstd -q --rm {} +";
    root.run(&format!("cd {dir} && {pack} && depmod {}", kernel.release)).ok();
    check("zst", "zstd -qt");
    assert_eq!(modinfo(&root, &kernel, "version", "squeezed"), "1.0");
    // Debian's kmod does not read gzip, so that its depmod would write an empty modules.dep.
    let pack = "find kernel -name loop.ko.zst -exec zstd -q -d --rm {} + && find kernel -name loop.ko -exec gzip {} +";
    root.run(&format!("cd {dir} && {pack} && find kernel -name loop.ko.gz -printf '%p:\\n' >modules.dep"))
        .ok();
    check("gz", "gzip -t");
}

#[test]
fn the_command_at_the_end_is_told_the_kernel() {
    let (root, kernel) = with("post_transaction='echo \"changed ${kernelver}\" >>/root/told'\n");
    install(&root, &kernel, &Sources::new("ending", "1.0")).ok();
    root.run(&format!("dkms autoinstall -k {}", kernel.release)).ok();
    assert_eq!(
        root.read("/root/told"),
        format!("changed {}\n", kernel.release),
        "once, and only for a change"
    );
    root.run("dkms remove ending/1.0 --all").ok();
    assert_eq!(root.read("/root/told").lines().count(), 2);
}

#[test]
fn who_signs_is_decided_by_kernel_and_admin() {
    let (root, kernel) = with("try_sign_modules=false\n");
    let headers = format!("/usr/src/linux-headers-{}", kernel.release);
    let again = |settings: &str| {
        root.write("/etc/dkms/framework.conf.d/test.conf", settings);
        let all = format!("plain/1.0 --force -k {}", kernel.release);
        root.run(&format!("dkms build {all} && dkms install {all}")).ok()
    };
    install(&root, &kernel, &Sources::new("plain", "1.0")).ok().never_says(&["signed"]);
    assert_eq!(modinfo(&root, &kernel, "signer", "plain"), "", "as the admin wants it");
    assert!(!root.exists("/var/lib/dkms/mok.key"), "no key that nobody needs");

    again("sign_file=/no/such/program\n").says(&["unsigned", "/no/such/program"]);
    assert_eq!(modinfo(&root, &kernel, "signer", "plain"), "");

    // A kernel that rejects unsigned modules: this is reported, whatever the reason is.
    root.run(&format!("echo CONFIG_MODULE_SIG_FORCE=y >>{headers}/include/config/auto.conf")).ok();
    for settings in ["sign_file=/no/such/program\n", "try_sign_modules=false\n"] {
        again(settings).says(&["the kernel will reject it", "CONFIG_MODULE_SIG_FORCE"]);
    }
    // This runs in its own mount namespace, like a chroot: that makes no difference.
    again("try_sign_modules=not_in_chroot\n").says(&["mokutil --import /var/lib/dkms/mok.pub"]);
    assert_eq!(modinfo(&root, &kernel, "signer", "plain"), "DKMS module signing key");
    let text = root.run("openssl x509 -inform DER -in /var/lib/dkms/mok.pub -noout -text").ok();
    text.says(&["Code Signing", "1.3.6.1.4.1.2312.16.1.2"]);
}

#[test]
fn a_key_on_a_token_is_the_signing_programs_business() {
    let (root, kernel) = with(
        "mok_signing_key='pkcs11:object=mine'\nmok_certificate=/etc/keys/mine.der\n\
                               sign_file=/usr/local/bin/sign-with-token\n",
    );
    let sign = format!("/lib/modules/{}/build/scripts/sign-file", kernel.release);
    root.run(
        "mkdir /etc/keys && cd /etc/keys && openssl req -new -x509 -nodes -days 9 -subj /CN=token \
              -newkey rsa:2048 -keyout mine.key -outform DER -out mine.der 2>/dev/null",
    )
    .ok();
    // There is no token here: the stand-in gets the arguments of a real program, and reads the key from a file.
    let program = format!("#!/bin/sh\necho \"$2\" >/root/key\nexec {sign} $1 /etc/keys/mine.key $3 $4\n");
    root.write_script("/usr/local/bin/sign-with-token", &program);
    install(&root, &kernel, &Sources::new("tokened", "1.0")).ok();
    assert_eq!(root.read("/root/key"), "pkcs11:object=mine\n");
    assert_eq!(modinfo(&root, &kernel, "signer", "tokened"), "token");
    root.run("rm /etc/keys/mine.der").ok();
    let all = format!("tokened/1.0 --force -k {}", kernel.release);
    root.run(&format!("dkms build {all} && dkms install {all}"))
        .ok()
        .says(&["unsigned", "/etc/keys/mine.der"]);
}

#[test]
fn under_secure_boot_a_key_that_is_not_enrolled_is_named() {
    let (root, kernel) = with("");
    root.run(
        "mount -t tmpfs none /sys/firmware && mkdir -p /sys/firmware/efi/mok-variables && \
         printf '\\001' >/sys/firmware/efi/mok-variables/SecureBoot && : >/sys/firmware/efi/mok-variables/MokListRT",
    )
    .ok();
    let told = install(&root, &kernel, &Sources::new("locked", "1.0")).ok();
    told.says(&[
        "will reject them",
        "Secure Boot is enabled",
        "not enrolled",
        "mokutil --import /var/lib/dkms/mok.pub",
    ]);
    // The list in shim's format: one certificate, with its owner.
    let list = "f=/var/lib/dkms/mok.pub; n=$(stat -c %s $f); le() { printf '%08x' $1 | sed 's/\\(..\\)\\(..\\)\\(..\\)\\(..\\)/\\\\x\\4\\\\x\\3\\\\x\\2\\\\x\\1/'; }; \
         { printf '\\xa1\\x59\\xc0\\xa5\\xe4\\x94\\xa7\\x4a\\x87\\xb5\\xab\\x15\\x5c\\x2b\\xf0\\x72'; \
         printf \"$(le $((n + 44)))$(le 0)$(le $((n + 16)))\"; head -c 16 /dev/zero; cat $f; } >/sys/firmware/efi/mok-variables/MokListRT";
    root.run(list).ok();
    let again = root.run(&format!("dkms install locked/1.0 --force -k {}", kernel.release)).ok();
    again.never_says(&["reject", "enroll"]);
    // Without a signature it is rejected in any case.
    root.write("/etc/dkms/framework.conf.d/test.conf", "try_sign_modules=false\n");
    let all = format!("locked/1.0 --force -k {}", kernel.release);
    let unsigned = root.run(&format!("dkms build {all} && dkms install {all}")).ok();
    unsigned.says(&["unsigned", "will reject it", "Secure Boot is enabled"]);
}
