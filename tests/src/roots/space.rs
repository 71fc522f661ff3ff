//! The namespaces and the overlay of one root, and their cleanup.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::layer::Layer;
use crate::{Output, host};

/// Mounts and chroots; the last process reads stdin until the test has ended, and reaps orphaned processes.
/// It prints `ready` after the chroot, not before: a process that enters earlier would be in the host's root directory.
/// A root stands for a machine, although it has a process namespace of its own.
/// `volatile`: a throwaway root need not survive a power failure, so nothing waits for the disk.
const SCRIPT: &str = r#"set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work,volatile" "$2/mnt"
cd "$2/mnt"
mount -t proc proc proc; mount -t sysfs sys sys; mount -t tmpfs tmpfs run; mount --rbind /dev dev
mount --bind "$OLDPWD/$2/archives" var/cache/apt/archives
cp -L /etc/resolv.conf /etc/hosts etc/
mkdir run/dkms; readlink /proc/self/ns/pid >run/dkms/machine
exec chroot . /bin/bash -c 'echo ready; exec >&-; while read -r _; do :; done'"#;

/// A mounted overlay with a process that keeps it alive.
pub struct Space {
    dir: PathBuf,
    suite: &'static str,
    holder: Child,
    leader: u32,
    // Held as long as the directory is in use: the cleanup skips locked directories.
    _in_use: File,
    _layers: Vec<File>,
}

impl Space {
    /// Deletes the files of ended tests, then mounts a new space over `layer`.
    pub fn start(layer: &Layer) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = host::roots_dir().join("tmp").join(&name);
        let in_use = {
            let _guard = host::lock("tmp");
            sweep(dir.parent().unwrap());
            for part in ["upper", "work", "mnt", "archives/partial"] {
                fs::create_dir_all(dir.join(part)).unwrap();
            }
            host::lock(&format!("tmp-{name}"))
        };
        share(&archive_dir(layer.suite().name), &dir.join("archives"));
        let layers = layer.dirs().iter().map(|d| host::lock_shared(&d.replace('/', "-"))).collect();
        let (holder, leader) = hold(&layer.dirs().join(":"), &format!("tmp/{name}"));
        Self { dir, suite: layer.suite().name, holder, leader, _in_use: in_use, _layers: layers }
    }

    /// The pid of the first process of the namespace on the host.
    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// The root directory, as its mount namespace has it outside of the chroot.
    pub fn mounted(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// Mounts a directory of the host inside.
    pub fn bind(&self, from: &Path, inside: &str, writable: bool) {
        let to = self.dir.join("mnt").join(inside.trim_start_matches('/'));
        fs::create_dir_all(Path::new(&format!("/proc/{}/root{inside}", self.leader))).unwrap();
        let (from, to, leader) = (from.display(), to.display(), self.leader);
        let mode = if writable { "rw" } else { "ro" };
        // The namespace still has the host's directories, which the root's processes do not see.
        host::run_host(&format!(
            "nsenter -t {leader} -m -- sh -c \"mount --bind '{from}' '{to}' && mount -o remount,bind,{mode} '{to}'\""
        ));
    }

    /// Runs a command and returns its output. Through files, not pipes: an orphaned process would keep a pipe open, and
    /// killed transactions may leave some.
    pub fn capture(&self, name: &str, mut command: Command) -> Output {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let [out, err] = ["out", "err"].map(|stream| self.dir.join(format!("{stream}-{number}")));
        let open = |path: &Path| File::create(path).unwrap();
        let status = command.stdout(open(&out)).stderr(open(&err)).status().expect("nsenter");
        let read = |path: &Path| {
            let bytes = fs::read(path).unwrap();
            fs::remove_file(path).unwrap();
            bytes
        };
        let raw = std::process::Output { status, stdout: read(&out), stderr: read(&err) };
        Output::new(name, &raw)
    }

    /// Kills everything inside, moves downloads to the shared cache, deletes the directory.
    pub fn stop(&mut self) {
        if !self.dir.exists() {
            return;
        }
        self.end();
        fs::remove_dir_all(&self.dir).ok();
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fs::remove_file(host::roots_dir().join(format!("locks/tmp-{name}"))).ok();
    }

    /// Ends the space and moves its written files to this directory of `target/roots`.
    pub fn keep_as(&mut self, name: &str) {
        self.end();
        let target = host::roots_dir().join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::rename(self.dir.join("upper"), target).unwrap();
    }

    fn end(&mut self) {
        // The first process ends when its stdin is closed, and the kernel kills the others.
        drop(self.holder.stdin.take());
        if !gone_within(self.leader, 200) {
            let pid = rustix::process::Pid::from_raw(self.leader as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            gone_within(self.leader, 500);
        }
        self.holder.wait().ok();
        share(&self.dir.join("archives"), &archive_dir(self.suite));
    }
}

/// The shared cache of downloads of all roots of a suite.
fn archive_dir(suite: &str) -> PathBuf {
    let dir = host::roots_dir().join("archives").join(suite);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Hard-links every .deb of one directory into another: each root has an archive directory (and apt's lock in it) of its own.
fn share(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "deb") {
            fs::hard_link(&path, to.join(entry.file_name())).ok();
        }
    }
}

fn hold(lower: &str, dir: &str) -> (Child, u32) {
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "-p", "-f", "--propagation", "private", "--kill-child"]);
    unshare.args(["bash", "-c", SCRIPT, "space", lower, dir]);
    // Relative names: a checkout's path may contain characters that are special in overlay options.
    unshare.current_dir(host::roots_dir()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = unshare.spawn().expect("unshare");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(
        line, "ready\n",
        "the root could not be mounted (are you root? is target/ itself on an overlay?)"
    );
    let children = format!("/proc/{0}/task/{0}/children", holder.id());
    let leader = fs::read_to_string(children).unwrap().trim().parse().expect("one child of unshare");
    // A test must never run on the host itself.
    assert!(
        !same_directory(Path::new("/"), Path::new(&format!("/proc/{leader}/root"))),
        "the root's first process is not inside its root"
    );
    (holder, leader)
}

fn same_directory(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |p: &Path| fs::metadata(p.join(".")).map(|m| (m.dev(), m.ino())).ok();
    id(a).is_none() || id(a) == id(b)
}

/// The namespace ends with its first process: only then are its mounts removed, too.
fn gone_within(leader: u32, hundredths: u32) -> bool {
    for _ in 0..hundredths {
        let state = fs::read_to_string(format!("/proc/{leader}/stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn sweep(tmp: &Path) {
    let Ok(entries) = fs::read_dir(tmp) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(_lock) = host::try_lock(&format!("tmp-{name}")) {
            fs::remove_dir_all(entry.path()).ok();
            fs::remove_file(host::roots_dir().join(format!("locks/tmp-{name}"))).ok();
        }
    }
}
