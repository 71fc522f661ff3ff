//! Unified kernel images have an initramfs inside: a module that changed there makes the image out of date. The system's own
//! tool makes it again; if that is not known, it is named until it was made again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests stop at the first surprise

use dkms_tests::modules::Sources;
use dkms_tests::roots::Layer;
use dkms_tests::{Kernel, Root, Suite, stage};

/// The command of an administrator who makes an image without kernel-install.
const BY_HAND: &str =
    "ukify build --linux /boot/vmlinuz-$K --initrd /boot/initrd.img-$K --uname $K --cmdline quiet --output";

/// A machine that boots unified images, with `fine/1.0` in its initramfs.
fn prepared() -> (Layer, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let layer = layer.prepared("unified", "1", |root| {
        root.apt_install(&["systemd", "systemd-ukify", "systemd-boot-efi", "binutils"]).ok();
        root.run("mkdir -p /efi/EFI/Linux && echo machine >/etc/kernel/entry-token && echo quiet >/etc/kernel/cmdline").ok();
        // Otherwise Debian's own hook makes the image again when the initramfs is.
        root.run("rm -f /etc/initramfs/post-update.d/*").ok();
        root.write("/etc/initramfs-tools/modules", "fine\n");
        Sources::new("fine", "1.0").unpack(root);
        root.run(&format!("dkms add fine/1.0 && dkms install fine/1.0 -k {}", kernel.release)).ok();
    });
    (layer, kernel)
}

/// The version of the module in an image.
fn inside(root: &Root, image: &str) -> String {
    let unpack = format!(
        "rm -rf /opt/inside && mkdir /opt/inside && cd /opt/inside && objcopy -O binary --only-section=.initrd {image} initrd &&
         unmkinitramfs initrd all && modinfo -F version $(find all -name 'fine.ko*')"
    );
    root.run(&unpack).ok().stdout.trim().to_owned()
}

fn install(root: &Root, kernel: &Kernel, version: &str) -> dkms_tests::Output {
    Sources::new("fine", version).unpack(root);
    root.run(&format!("dkms add fine/{version} && dkms install fine/{version} -k {}", kernel.release))
}

#[test]
fn kernel_install_makes_it_again() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    let (k, image) = (&kernel.release, format!("/efi/EFI/Linux/machine-{}.efi", kernel.release));
    root.write("/etc/kernel/install.conf", "layout=uki\nuki_generator=ukify\nBOOT_ROOT=/efi\n");
    root.run(&format!("kernel-install add {k} /boot/vmlinuz-{k}")).ok();
    assert_eq!(inside(&root, &image), "1.0");
    install(&root, &kernel, "1.1").ok();
    assert_eq!(inside(&root, &image), "1.1");
    let before = root.run(&format!("stat -c '%i %y' {image}")).ok().stdout;
    // Nothing changed, so nothing is made.
    root.run(&format!("dkms autoinstall -k {k}")).ok();
    assert_eq!(root.run(&format!("stat -c '%i %y' {image}")).ok().stdout, before);
    root.run("dkms doctor").ok();
}

#[test]
fn an_image_that_another_tool_made_is_named_until_it_was_made_again() {
    let (layer, kernel) = prepared();
    let root = Root::on(&layer);
    let (k, image) = (&kernel.release, "/efi/EFI/Linux/mine.efi");
    let make = format!("K={k}; {BY_HAND} {image}");
    root.run(&make).ok();
    // One of another kernel, and a boot loader.
    root.run(
        "cd /efi/EFI && cp /usr/lib/systemd/boot/efi/*.efi.stub Linux/other.efi; echo x >Linux/broken.efi",
    )
    .ok();
    let named = "mine.efi is a unified kernel image with an older module";
    install(&root, &kernel, "1.1").says(&[named]);
    root.expect_installed(&["fine/1.1"], k);
    assert_eq!(inside(&root, image), "1.0");
    root.run("dkms doctor").exits(20).says(&[named]);
    root.run(&format!("sleep 1; update-initramfs -u -k {k} && {make}")).ok();
    root.run(&format!("dkms autoinstall -k {k}")).ok().never_says(&[named]);
    assert_eq!(inside(&root, image), "1.1");
    root.run("dkms doctor").ok();
}

/// booster is not in Debian: a stand-in with its arguments records them, and packs a kernel's modules.
const BOOSTER: &str = "#!/bin/sh
set -e
echo \"$*\" >>/opt/called
case $1 in
build) cd / && find usr/lib/modules/$4/updates -name '*.ko*' ! -name 'other*' | cpio --quiet -o -H newc >$5 ;;
ls) cpio --quiet -t <$2 ;;
esac
";

#[test]
fn boosters_image_is_made_again() {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let root = Root::on(&layer);
    let (k, image) = (&kernel.release, "/boot/booster-linux-cloud.img");
    root.run("rm /etc/os-release").ok();
    root.write("/etc/os-release", "ID=arch\n");
    root.write(&format!("/usr/lib/modules/{k}/pkgbase"), "linux-cloud\n");
    root.write_script("/usr/bin/booster", BOOSTER);
    install(&root, &kernel, "1.0").ok();
    root.run(&format!("booster build --force --kernel-version {k} {image} && rm /opt/called")).ok();
    let made = format!("build --force --kernel-version {k} {image}\n");
    let called = || {
        let calls = root.run("cat /opt/called 2>/dev/null; rm -f /opt/called").stdout;
        calls
            .lines()
            .filter(|line| line.starts_with("build"))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    install(&root, &kernel, "1.1").ok();
    assert_eq!(called(), made);
    let inside = format!(
        "rm -rf /opt/inside && mkdir /opt/inside && cd /opt/inside && cpio --quiet -id <{image} && modinfo -F version $(find . -name 'fine.ko*')"
    );
    assert_eq!(root.run(&inside).ok().stdout, "1.1\n");
    // A module that does not belong in it, until the configuration names it.
    Sources::new("other", "1.0").unpack(&root);
    root.run(&format!("dkms add other/1.0 && dkms install other/1.0 -k {k}")).ok();
    assert_eq!(called(), "");
    root.write("/etc/booster.yaml", "compression: zstd\nmodules: ext4,other\n");
    root.run(&format!("dkms install other/1.0 --force -k {k}")).ok();
    assert_eq!(called(), made);
}
