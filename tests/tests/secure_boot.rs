//! A real Secure Boot: the kernel loads the module that we built and signed, and rejects modified ones. `dkms check`
//! predicts this, both without that kernel in the root and inside the machine.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)] // tests stop at the first surprise

use dkms_tests::boot::{initrd::Initrd, secure, unpack_command};
use dkms_tests::{Kernel, Root, Suite, stage};

/// What `--json` prints is valid against the shipped schemas.
#[path = "../../core/tests/support/schemas.rs"]
mod schemas;

/// In the guest: checks each module as root and as an unprivileged user, tries to load it, prints the kernel's message
/// and the loaded modules.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t securityfs s /sys/kernel/security
insmod /m/efivarfs.ko; mount -t efivarfs efivars /sys/firmware/efi/efivars
chmod 755 / /bin /usr /m /tmp; chmod 644 /m/*; chmod 666 /dev/null
sed 's/^/LOCKDOWN /' /sys/kernel/security/lockdown
for n in signed unsigned stranger changed; do
    dkms check /m/$n.ko 2>&1 | sed "s/^/ROOT $n: /"
    su nobody -s /bin/sh -c "PATH=$PATH dkms check /m/$n.ko" 2>&1 | sed "s/^/NOBODY $n: /"
    dmesg -c >/tmp/earlier
    if insmod /m/$n.ko; then echo "INSMOD $n: taken"; else echo "INSMOD $n: refused"; fi
    dmesg -c | sed "s/^/DMESG $n: /"
    sed "s/^/MODULES $n: /" /proc/modules
    rmmod acpi_call 2>/dev/null
done
echo BOOT-DONE
poweroff -f
"#;

/// The modification of a module, whether the kernel loads it, the kernel's message, the result of our check.
const VARIANTS: [(&str, bool, &str, &str); 4] = [
    ("signed", true, "", "would load: signed by \"DKMS module signing key\""),
    ("unsigned", false, "Loading of unsigned module is rejected", ": unsigned; "),
    (
        "stranger",
        false,
        "Loading of module with unavailable key is rejected",
        "signed with a key that is not enrolled (\"a stranger\"",
    ),
    ("changed", false, "", "modified after signing by \"DKMS module signing key\""),
];

/// The same without a boot.
#[test]
fn our_check_says_of_each_module_whether_secure_boot_would_take_it() {
    let (root, kernel, installed) = with_variants();
    before_the_boot(&root, &kernel, &installed);
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn the_kernel_takes_what_we_signed_and_nothing_else_as_our_check_says_before() {
    let (root, kernel, installed) = with_variants();
    before_the_boot(&root, &kernel, &installed);
    let console = inside_the_machine(&root, &kernel, Suite::trixie());
    let line =
        |start: &str| console.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>().join("\n");
    assert!(line("LOCKDOWN").contains("[integrity]"), "Secure Boot is not in force\n{console}");
    for (name, taken, kernel_says, we_say) in VARIANTS {
        for who in ["ROOT", "NOBODY"] {
            let said = line(&format!("{who} {name}: "));
            let verdict = if taken { ": would load" } else { ": would be rejected" };
            assert!(said.contains(verdict) && said.contains(we_say), "{who} {name}: {said:?}\n{console}");
        }
        let answer = if taken { "taken" } else { "refused" };
        assert_eq!(line(&format!("INSMOD {name}")), format!("INSMOD {name}: {answer}"), "{console}");
        assert!(
            line(&format!("DMESG {name}: ")).contains(kernel_says),
            "{name}: the kernel's reason\n{console}"
        );
        assert_eq!(line(&format!("MODULES {name}: acpi_call ")).is_empty(), !taken, "{name}\n{console}");
    }
}

/// A module package that apt has just installed, and variants of its module; also returns the path of the installed module.
fn with_variants() -> (Root, Kernel, String) {
    let (layer, kernel) = stage::with_kernel(Suite::trixie());
    let root = Root::on(&layer);
    assert!(!root.exists("/var/lib/dkms/mok.key"), "the key pair must be made by this very transaction");
    root.apt_install(&["acpi-call-dkms"]).ok();
    let installed = kernel.module_files(&root).remove(0).0;
    make_variants(&root, &kernel, &installed);
    (root, kernel, installed)
}

/// Creates `/opt/variants/NAME.ko` from the installed module.
fn make_variants(root: &Root, kernel: &Kernel, installed: &str) {
    root.run("mkdir -p /opt/variants").ok();
    root.run(&unpack_command(installed, "/opt/variants/signed.ko")).ok();
    let signed = root.read_bytes("/opt/variants/signed.ko");
    // Signature, 12 bytes that end with its length, and a line of 28.
    let length = u32::from_be_bytes(signed[signed.len() - 32..signed.len() - 28].try_into().unwrap());
    let unsigned = &signed[..signed.len() - 40 - length as usize];
    root.write("/opt/variants/unsigned.ko", unsigned);
    let mut changed = signed.clone();
    let at = signed.windows(8).position(|window| window == b"license=").unwrap() + 8;
    changed[at] ^= 1;
    root.write("/opt/variants/changed.ko", changed);
    root.run(&format!(
        "cd /opt/variants && openssl req -new -x509 -nodes -days 9 -subj '/CN=a stranger' -newkey rsa:2048 \
         -keyout key -out pem 2>/dev/null && \
         $(readlink -f /usr/src/linux-headers-{}/scripts)/sign-file sha256 key pem unsigned.ko stranger.ko",
        kernel.release
    ))
    .ok();
}

/// Each variant in the module's place: the output for administrators, as text and JSON.
fn before_the_boot(root: &Root, kernel: &Kernel, installed: &str) {
    let check = format!("dkms check -k {}", kernel.release);
    let on = "--secure-boot on --enrolled";
    let mok = "/var/lib/dkms/mok.pub";
    for (name, taken, _, we_say) in VARIANTS {
        root.run(&format!("xz --check=crc32 -c /opt/variants/{name}.ko > {installed}")).ok();
        let code = i32::from(!taken);
        root.run(&format!("{check} {on} {mok}")).exits(code).says(&["acpi-call/", we_say]);
        let json = root.run(&format!("{check} {on} {mok} --json")).exits(code).stdout;
        let answer = &schemas::valid("check", &json)["modules"][0];
        assert_eq!(answer["verdict"], if taken { "loads" } else { "refused" }, "{json}");
        // No signature is required: only a module that contradicts its signature is rejected.
        let free = if name == "changed" { 1 } else { 0 };
        root.run(&format!("{check} --secure-boot off --enrolled {mok}")).exits(free);
    }
    root.run(&format!("xz --check=crc32 -c /opt/variants/signed.ko > {installed}")).ok();
    root.run(&format!("{check} {on} /opt/variants/pem"))
        .exits(1)
        .says(&["mokutil --import /var/lib/dkms/mok.pub"]);
    // A module for another kernel, with a valid signature.
    root.run("dkms check /opt/variants/signed.ko -k 6.1.0-1-amd64 --secure-boot off")
        .exits(1)
        .says(&["6.1.0-1-amd64"]);
}

/// Boots the kernel with the transaction's key enrolled; returns the output of the console.
fn inside_the_machine(root: &Root, kernel: &Kernel, suite: &'static Suite) -> String {
    let initrd = Initrd::new(root);
    for (name, ..) in VARIANTS {
        initrd.add(&format!("/m/{name}.ko"), &root.read_bytes(&format!("/opt/variants/{name}.ko")));
    }
    let efivarfs = format!("{}/kernel/fs/efivarfs/efivarfs.ko.xz", kernel.modules_dir());
    root.run(&unpack_command(&efivarfs, &initrd.inside("/m/efivarfs.ko"))).ok();
    initrd.add("/etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
    initrd.add_program("/usr/sbin/dkms");
    initrd.add_program("/usr/bin/openssl");
    let packed = initrd.pack(INIT);
    let image = root.path(&format!("/boot/vmlinuz-{}", kernel.release));
    let mok = root.read_bytes("/var/lib/dkms/mok.pub");
    let console = secure::boot(suite, &image, &packed, &mok);
    root.note(&format!("serial console:\n{console}"));
    assert!(console.contains("BOOT-DONE"), "the machine did not come up\n{console}");
    console
}
