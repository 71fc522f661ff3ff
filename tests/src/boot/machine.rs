//! A root as a machine of its own: a kernel under QEMU, the root's files shared and never written. For what a root on this
//! machine's kernel does not have, such as a file system, or a control group of version 2 with all controllers.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::initrd::Initrd;
use super::{in_order, unpack_command};
use crate::{Kernel, Output, Root, host};

/// Modules of the kernel that the first mounts need.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
/// Seconds of a command, or of a start, until it counts as a hang. Under emulation, beside other tests, a build takes minutes.
const LIMIT: u32 = 1800;
/// The directory in the root with commands and their output, which the machine writes to.
const CALLS: &str = "/opt/boot/calls";

/// Mounts the shared root below a file system in memory, and runs in it what is asked for. What is read once stays in memory:
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
mkdir -p /new/opt/boot/calls
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none calls /new/opt/boot/calls
cp /bin/busybox /new/opt/boot/busybox-init
exec switch_root /new /opt/boot/busybox-init sh /opt/boot/calls/serve
"#;

/// Runs one command after another.
const SERVE: &str = r#"calls=/opt/boot/calls
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb DEBIAN_FRONTEND=noninteractive
n=0
while :; do
    until [ -e $calls/$n.call ]; do sleep 0.05; done
    bash $calls/$n.call >$calls/$n.out 2>$calls/$n.err </dev/null
    echo $? >$calls/$n.new; mv $calls/$n.new $calls/$n.code
    n=$((n + 1))
done
"#;

/// A running machine. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    calls: PathBuf,
    made: Cell<u32>,
}

impl Machine {
    /// Boots a root with a kernel of another one (which may be the same), more of its modules, and these images as disks.
    pub fn start(root: &Root, from: &Root, kernel: &Kernel, modules: &[&str], disks: &[PathBuf]) -> Self {
        host::need_tools(&[("qemu-system-x86_64", "qemu-system-x86 seabios"), ("setpriv", "util-linux")]);
        let initrd = Initrd::new(from);
        let mut files: Vec<String> = Vec::new();
        for file in MODULES.iter().chain(modules).flat_map(|module| in_order(from, kernel, module)) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
        for (n, file) in files.iter().enumerate() {
            from.run(&unpack_command(file, &initrd.inside(&format!("/m/{n:02}.ko")))).ok();
        }
        let packed = initrd.pack(INIT);
        let calls = root.path(CALLS);
        std::fs::create_dir_all(&calls).unwrap();
        root.write(&format!("{CALLS}/serve"), SERVE);
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"]);
        qemu.args(["-m", "3072", "-smp", "2", "-nodefaults", "-no-user-config", "-display", "none"]);
        let share = |path: PathBuf, tag: &str, how: &str| {
            format!(
                "local,path={},mount_tag={tag},security_model=passthrough,{how}multidevs=remap",
                path.display()
            )
        };
        qemu.arg("-virtfs").arg(share(root.path("/"), "root", "readonly=on,"));
        qemu.arg("-virtfs").arg(share(calls.clone(), "calls", ""));
        for (n, disk) in disks.iter().enumerate() {
            let file = format!("driver=file,node-name=disk{n},filename={},locking=off", disk.display());
            qemu.args(["-blockdev", &file, "-device", &format!("virtio-blk-pci,drive=disk{n}")]);
        }
        qemu.arg("-serial").arg(format!("file:{}", calls.join("console").display()));
        qemu.arg("-no-reboot").arg("-kernel").arg(from.path(&format!("/boot/vmlinuz-{}", kernel.release)));
        qemu.arg("-initrd").arg(&packed);
        qemu.args(["-append", "console=ttyS0 no_timer_check panic=-1 quiet loglevel=3"]).stdin(Stdio::null());
        let machine = Self { qemu: qemu.spawn().expect("setpriv"), calls, made: Cell::new(0) };
        let up = machine.run_within(LIMIT, "true");
        assert_eq!(up.status, 0, "the machine did not come up\n{}", machine.console());
        machine
    }

    /// Runs a shell command (bash) as root. Exit 124 means that it did not end in time; the machine is of no use then.
    pub fn run_within(&self, seconds: u32, command: &str) -> Output {
        let number = self.made.replace(self.made.get() + 1);
        let file = |end: &str| self.calls.join(format!("{number}.{end}"));
        std::fs::write(file("new"), command).unwrap();
        std::fs::rename(file("new"), file("call")).unwrap();
        let began = Instant::now();
        while !file("code").exists() && began.elapsed() < Duration::from_secs(seconds.into()) {
            sleep(Duration::from_millis(20));
        }
        let read =
            |end: &str| String::from_utf8_lossy(&std::fs::read(file(end)).unwrap_or_default()).into_owned();
        let status = read("code").trim().parse().unwrap_or(124);
        Output { command: command.to_owned(), status, stdout: read("out"), stderr: read("err") }
    }

    /// A file that the machine can write, there and here.
    pub fn shared(&self, name: &str) -> (String, PathBuf) {
        (format!("{CALLS}/{name}"), self.calls.join(name))
    }

    fn console(&self) -> String {
        std::fs::read_to_string(self.calls.join("console")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.qemu.kill().ok();
        self.qemu.wait().ok();
    }
}

/// Boots the root with its own kernel and runs the script in it as root.
pub fn run(root: &Root, kernel: &Kernel, script: &str) -> Output {
    let output = Machine::start(root, root, kernel, &[], &[]).run_within(LIMIT, script);
    root.note(&output.to_string());
    output
}
