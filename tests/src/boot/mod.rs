//! A real boot: the root's kernel under QEMU, with only busybox and the modules to load.

pub mod initrd;
pub mod machine;
pub mod secure;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use initrd::Initrd;

use crate::{Kernel, Output, Root, host};

const TOOLS: &[(&str, &str)] = &[("qemu-system-x86_64", "qemu-system-x86 seabios"), ("timeout", "coreutils")];

/// Loads the modules, prints one marker per module, prints the loaded modules, powers off.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in /m/*.ko; do
    n=$(basename $m .ko); n=${n#*-}
    if insmod $m; then echo "LOADED $n"; else echo "REFUSED $n"; fi
done
sed 's/^/PROC /' /proc/modules
ls /dev/video* 2>/dev/null | sed 's/^/DEV /'
echo BOOT-DONE
poweroff -f
"#;

/// Boots the kernel and loads `module` after its dependencies; returns the output of the serial console.
pub fn boot_and_load(root: &Root, kernel: &Kernel, module: &str) -> String {
    let initrd = Initrd::new(root);
    for (n, file) in in_order(root, kernel, module).iter().enumerate() {
        let name = Path::new(file).file_name().unwrap().to_string_lossy().into_owned();
        let plain = initrd.inside(&format!("/m/{n:02}-{}.ko", name.split(".ko").next().unwrap()));
        root.run(&unpack_command(file, &plain)).ok();
    }
    start(root, kernel, &initrd.pack(INIT), "")
}

/// Boots the kernel with an initrd and these words on its command line; returns the output of the serial console.
pub fn start(root: &Root, kernel: &Kernel, initrd: &Path, words: &str) -> String {
    host::need_tools(TOOLS);
    // Arch's packages have no files in /boot.
    let images = [format!("/boot/vmlinuz-{}", kernel.release), format!("{}/vmlinuz", kernel.modules_dir())];
    let image = images.iter().find(|image| root.exists(image)).expect("the kernel has an image");
    let image = root.path(image);
    let serial = qemu(&image, initrd, words);
    root.note(&format!("serial console:\n{serial}"));
    serial
}

/// The files that `modprobe` would insert, dependencies first.
fn in_order(root: &Root, kernel: &Kernel, module: &str) -> Vec<String> {
    let lines = root.run(&format!("modprobe -S {} --show-depends {module}", kernel.release)).ok().stdout;
    lines
        .lines()
        .filter_map(|l| l.strip_prefix("insmod "))
        .map(|l| l.split(' ').next().unwrap().to_owned())
        .collect()
}

/// The command that decompresses a module file.
pub fn unpack_command(file: &str, plain: &str) -> String {
    let tool = match file.rsplit('.').next() {
        Some("xz") => "xz -dc",
        Some("zst") => "zstd -dcq",
        Some("gz") => "gzip -dc",
        _ => "cat",
    };
    format!("{tool} {file} > {plain}")
}

fn qemu(image: &Path, initrd: &Path, words: &str) -> String {
    let mut qemu = Command::new("timeout");
    qemu.args([
        "300",
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-m",
        "512",
        "-smp",
        "1",
        "-nodefaults",
        "-no-user-config",
    ]);
    qemu.args(["-display", "none", "-serial", "stdio", "-no-reboot", "-kernel"])
        .arg(image)
        .arg("-initrd")
        .arg(initrd);
    // An emulated processor that has to wait fails the kernel's test of its timer, which then panics.
    let command_line = format!("console=ttyS0 no_timer_check panic=-1 quiet loglevel=4 {words}");
    qemu.arg("-append").arg(command_line).stdin(Stdio::null());
    let output = Output::new("qemu-system-x86_64", &qemu.output().expect("qemu"));
    fs::remove_file(initrd).ok();
    assert!(output.stdout.contains("BOOT-DONE"), "the kernel did not come up\n{output}");
    output.stdout
}
