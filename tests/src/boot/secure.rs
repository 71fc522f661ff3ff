//! A boot with Secure Boot: firmware with enrolled keys, Debian's shim, grub and kernel, each verified by the one
//! before. QEMU runs in a separate root, so that the host does not need it.

use std::fs;
use std::path::Path;

use crate::roots::Layer;
use crate::{Root, Suite};

const PACKAGES: &[&str] = &["qemu-system-x86", "ovmf", "mtools", "dosfstools", "python3-virt-firmware"];
/// Unpacked, not installed: their installation would configure a boot loader.
const SIGNED: &[&str] = &["shim-signed", "shim-helpers-amd64-signed", "grub-efi-amd64-signed"];

const GRUB: &str = "set timeout=0\nlinux /vmlinuz console=ttyS0 no_timer_check panic=-1 quiet loglevel=4\ninitrd /initrd\nboot\n";

/// Creates the file system that the firmware boots from, without kernel and initrd.
const ESP: &str = r#"set -e
cd /opt/secure-boot
find . -name '*.deb' -exec dpkg-deb -x {} unpacked \;
truncate -s 96M esp.img && mkfs.vfat esp.img >/dev/null
mmd -i esp.img ::/EFI ::/EFI/BOOT ::/EFI/debian
put() { mcopy -i esp.img "$(find unpacked -name "$1")" "::/EFI/BOOT/$2"; }
put shimx64.efi.signed BOOTX64.EFI
put mmx64.efi.signed mmx64.efi
put grubx64.efi.signed grubx64.efi
mcopy -i esp.img grub.cfg ::/EFI/debian/grub.cfg
"#;

/// Boots. The variables are copied for each run, because the guest writes to them. One processor: with two, this firmware once
/// waited for ever in a System Management Interrupt of the other one.
const RUN: &str = r#"set -e
cd /opt/secure-boot
openssl x509 -inform DER -in mok.der -out mok.pem
virt-fw-vars -i /usr/share/OVMF/OVMF_VARS_4M.ms.fd -o vars.fd --add-mok 11111111-2222-3333-4444-555555555555 mok.pem
mcopy -o -i esp.img vmlinuz ::/vmlinuz
mcopy -o -i esp.img initrd.gz ::/initrd
timeout 1200 qemu-system-x86_64 -accel tcg -machine q35,smm=on -cpu max -smp 1 -m 1024 \
    -global driver=cfi.pflash01,property=secure,value=on -global ICH9-LPC.disable_s3=1 \
    -drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd \
    -drive if=pflash,format=raw,unit=1,file=vars.fd -drive if=virtio,format=raw,file=esp.img,readonly=on \
    -net none -nodefaults -display none -no-reboot -serial file:console </dev/null
"#;

/// The root with QEMU, the firmware and the signed boot loaders.
pub fn machine(suite: &'static Suite) -> Layer {
    let key = format!("{PACKAGES:?}{SIGNED:?}{GRUB}{ESP}");
    suite.base().prepared("secure-boot", &key, |root| {
        root.apt_install(PACKAGES).ok();
        for deb in root.download(SIGNED) {
            let name = deb.file_name().unwrap().to_string_lossy().into_owned();
            root.copy_in(&deb, &format!("/opt/secure-boot/{name}"));
        }
        root.write("/opt/secure-boot/grub.cfg", GRUB);
        root.run(ESP).ok();
    })
}

/// Boots a kernel and an initrd (paths on the host) on a machine with this enrolled certificate (DER); returns the
/// output of the serial console.
pub fn boot(suite: &'static Suite, kernel: &Path, initrd: &Path, enrolled: &[u8]) -> String {
    let machine = Root::on(&machine(suite));
    machine.copy_in(kernel, "/opt/secure-boot/vmlinuz");
    machine.copy_in(initrd, "/opt/secure-boot/initrd.gz");
    machine.write("/opt/secure-boot/mok.der", enrolled);
    let ran = machine.run(RUN);
    let console = fs::read(machine.path("/opt/secure-boot/console")).unwrap_or_default();
    let console = String::from_utf8_lossy(&console).replace('\r', "");
    machine.note(&format!("serial console:\n{console}"));
    ran.ok();
    console
}
