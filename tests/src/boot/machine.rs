//! A root as a machine of its own: its kernel under QEMU, its files shared and never written. For what a root on this
//! machine's kernel does not have, such as a control group of version 2 with all controllers.

use std::process::{Command, Stdio};

use super::initrd::Initrd;
use super::{in_order, unpack_command};
use crate::{Kernel, Output, Root, host};

/// Modules of the kernel that the first mounts need.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
/// Seconds until a machine that hangs is stopped. Under emulation, beside other tests, a build takes minutes.
const LIMIT: &str = "1800";
/// The script that runs, in the root.
const SCRIPT: &str = "/opt/boot/script";

/// Mounts the shared root below a file system in memory, and runs the script in it. What is read once stays in memory:
/// each start of a compiler reads its file again otherwise, and nothing changes the root meanwhile.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in /m/*.ko; do insmod $m; done
mkdir /lower /upper /new
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /lower
mount -t tmpfs -o size=50% upper /upper && mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /new
for d in proc sys dev; do mount --move /$d /new/$d; done
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup; mount -t tmpfs run /new/run
exec switch_root /new /opt/boot/initrd/bin/busybox sh -c 'bash /opt/boot/script 2>&1; echo BOOT-DONE; /opt/boot/initrd/bin/busybox poweroff -f'
"#;

/// Boots the root with the kernel and runs the script in it as root; returns the console's output.
pub fn run(root: &Root, kernel: &Kernel, script: &str) -> String {
    host::need_tools(&[("qemu-system-x86_64", "qemu-system-x86 seabios"), ("timeout", "coreutils")]);
    let initrd = Initrd::new(root);
    let mut files: Vec<String> = Vec::new();
    for file in MODULES.iter().flat_map(|module| in_order(root, kernel, module)) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    for (n, file) in files.iter().enumerate() {
        root.run(&unpack_command(file, &initrd.inside(&format!("/m/{n:02}.ko")))).ok();
    }
    let packed = initrd.pack(INIT);
    root.write(SCRIPT, script);
    let mut qemu = Command::new("timeout");
    qemu.args([LIMIT, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "3072"]);
    qemu.args(["-smp", "2", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]);
    qemu.arg("-virtfs").arg(format!(
        "local,path={},mount_tag=root,security_model=passthrough,readonly=on,multidevs=remap",
        root.path("/").display()
    ));
    qemu.arg("-no-reboot").arg("-kernel").arg(root.path(&format!("/boot/vmlinuz-{}", kernel.release)));
    qemu.arg("-initrd").arg(&packed);
    qemu.args(["-append", "console=ttyS0 panic=-1 quiet loglevel=3"]).stdin(Stdio::null());
    let output = Output::new("qemu-system-x86_64", &qemu.output().expect("qemu"));
    root.note(&format!("serial console:\n{}", output.stdout));
    assert!(output.stdout.contains("BOOT-DONE"), "the machine did not come up\n{output}");
    output.stdout
}
