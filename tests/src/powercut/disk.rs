//! File systems in image files, and the recorder beneath them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::log::{self, Event};
use super::place::Place;
use crate::host;
use crate::roots::Layer;

/// One kind of file system.
#[derive(Debug)]
pub struct FileSystem {
    /// Creates it on an image file.
    make: &'static str,
    /// Mount options.
    options: &'static str,
    /// Checks an image without changing it.
    pub check: &'static str,
}

const EXT4: FileSystem = FileSystem {
    make: "mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0,nodiscard",
    options: "data=ordered",
    check: "e2fsck -fn",
};
const EXT4_WRITEBACK: FileSystem = FileSystem { options: "data=writeback", ..EXT4 };
const XFS: FileSystem = FileSystem { make: "mkfs.xfs -q -K", options: "nodiscard", check: "xfs_repair -n" };
const BTRFS: FileSystem =
    FileSystem { make: "mkfs.btrfs -q -K", options: "nodiscard", check: "btrfs check --readonly" };
const F2FS: FileSystem =
    FileSystem { make: "mkfs.f2fs -q -t 0", options: "nodiscard", check: "fsck.f2fs --dry-run" };

/// The file systems of a machine, and the directories on each.
#[derive(Debug)]
pub struct Layout {
    /// Its name in the table.
    pub name: &'static str,
    /// Each file system with the directories on it.
    pub volumes: &'static [(FileSystem, &'static [&'static str])],
    /// If this machine's kernel may lack the file system: its module in Debian's kernel, which then runs the story.
    pub module: Option<&'static str>,
}

const fn on(name: &'static str, volumes: &'static [(FileSystem, &'static [&'static str])]) -> Layout {
    Layout { name, volumes, module: None }
}

const USR: &[&str] = &["/usr/lib/modules", "/boot"];
const VAR: &[&str] = &["/var/lib/dkms", "/var/cache/dkms"];
const ALL: &[&str] = &["/usr/lib/modules", "/boot", "/var/lib/dkms", "/var/cache/dkms"];

/// All layouts.
pub const LAYOUTS: &[Layout] = &[
    on("ext4", &[(EXT4, ALL)]),
    on("ext4, data=writeback", &[(EXT4_WRITEBACK, ALL)]),
    on("xfs", &[(XFS, ALL)]),
    on("btrfs", &[(BTRFS, ALL)]),
    on("/usr on xfs, /var on ext4", &[(XFS, USR), (EXT4, VAR)]),
    on("/usr on ext4, /var on xfs", &[(EXT4, USR), (XFS, VAR)]),
    Layout { module: Some("f2fs"), ..on("f2fs", &[(F2FS, ALL)]) },
];

/// The size of each image, and of each log.
const IMAGE: &str = "512M";
const LOG_BYTES: u64 = 4 << 30;

/// The commands that the recorder and the file systems need, with their packages.
const TOOLS: &[(&str, &str)] = &[
    ("qemu-storage-daemon", "qemu-system-common"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.f2fs", "f2fs-tools"),
];

/// In memory: states are made by the thousand.
const PREFIX: &str = "/dev/shm/dkms-powercut-";

/// Deletes what killed tests left.
fn sweep() {
    let entries = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    for dir in entries.map(|entry| entry.path()) {
        let name = dir.display().to_string();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            unmount_exports(&dir.join("recorded"));
            std::fs::remove_dir_all(&dir).ok();
        }
    }
}

/// A daemon that was killed leaves its mounts.
fn unmount_exports(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let ours = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for mount in ours.filter(|mount| Path::new(mount).starts_with(dir)) {
        Command::new("umount").args(["-l", mount]).status().ok();
    }
}

/// The images with the initial state of a story, deleted when this is dropped.
#[derive(Debug)]
pub struct Images {
    pub dir: PathBuf,
    /// One for each volume.
    pub files: Vec<PathBuf>,
}

impl Images {
    /// Creates the file systems with the directories of a root on a layer.
    pub fn make(layout: &Layout, layer: &Layer) -> Self {
        host::need_tools(TOOLS);
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        sweep();
        let dir = PathBuf::from(format!("{PREFIX}{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let files: Vec<PathBuf> =
            (0..layout.volumes.len()).map(|volume| dir.join(format!("volume-{volume}"))).collect();
        for (file, (system, _)) in files.iter().zip(layout.volumes) {
            let (image, make) = (file.display(), system.make);
            host::run_host(&format!("truncate -s {IMAGE} {image} && {make} {image}"));
        }
        let images = Self { dir, files };
        let place = Place::start(layout, layer, &images.files);
        for (device, (system, dirs)) in place.devices.iter().zip(layout.volumes) {
            let copies: Vec<String> = dirs
                .iter()
                .map(|dir| format!("mkdir -p {dir} /mnt/new{dir} && cp -a {dir}/. /mnt/new{dir}"))
                .collect();
            place
                .run(&format!(
                    "mkdir -p /mnt/new && mount -o {} {} /mnt/new && {} && umount /mnt/new",
                    system.options,
                    device.display(),
                    copies.join(" && ")
                ))
                .ok();
        }
        images
    }

    /// Copies of the images, which are made again by [`copy`].
    pub fn pictures(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| copy(file)).collect()
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

/// A copy of an image beside it, the same in each call.
pub fn copy(image: &Path) -> PathBuf {
    let copy = image.with_extension("picture");
    let copied = Command::new("cp").arg("--sparse=auto").args([image, &copy]).status();
    assert!(copied.expect("cp").success());
    copy
}

/// A shell command that unmounts the volumes and the directories on them.
pub const UNMOUNT: &str = "findmnt -rno TARGET | grep -E '^(/mnt/volume|/boot$|/usr/lib/modules$|/var/lib/dkms$|/var/cache/dkms$)' \
     | sort -r | xargs -r umount";

/// A shell command that mounts devices as a layout's volumes.
pub fn mount(layout: &Layout, devices: &[PathBuf]) -> String {
    let volumes = layout.volumes.iter().zip(devices).enumerate();
    let commands = volumes.map(|(number, ((system, dirs), device))| {
        let binds: Vec<String> = dirs
            .iter()
            .map(|dir| format!("mkdir -p {dir} && mount --bind /mnt/volume{number}{dir} {dir}"))
            .collect();
        format!(
            "mkdir -p /mnt/volume{number} && mount -o {} {} /mnt/volume{number} && {}",
            system.options,
            device.display(),
            binds.join(" && ")
        )
    });
    commands.collect::<Vec<_>>().join(" && ")
}

/// Processes that offer copies of images as files, and record what is written to them. The logs of all volumes are on one
/// device, which is recorded, too: this gives the order of the writes to different volumes.
#[derive(Debug)]
pub struct Recorder {
    daemons: Vec<Child>,
    dir: PathBuf,
    /// The files, one for each volume.
    pub files: Vec<PathBuf>,
}

impl Recorder {
    /// Starts to record.
    pub fn start(images: &Images) -> Self {
        let dir = images.dir.join("recorded");
        std::fs::create_dir_all(&dir).unwrap();
        let volumes = images.files.len();
        let at = |name: &str| dir.join(name).display().to_string();
        let bytes = LOG_BYTES * volumes as u64;
        host::run_host(&format!("truncate -s {bytes} {} && truncate -s {bytes} {}", at("logs"), at("order")));
        let mut order = Daemon::default();
        order.file("order", &at("order"));
        order.file("logs", &at("logs"));
        order.record("all", "logs", "order");
        order.export("all", &dir.join("all-logs"));
        let mut volume = Daemon::default();
        for (number, image) in images.files.iter().enumerate() {
            let copy = at(&format!("copy-{number}"));
            host::run_host(&format!("cp --sparse=always {} {copy}", image.display()));
            let [data, log, all, name] =
                ["data", "log", "all", "volume"].map(|name| format!("{name}{number}"));
            volume.file(&data, &copy);
            // A node cannot be shared by two logs; the file can.
            volume.file(&all, &at("all-logs"));
            let offset = LOG_BYTES * number as u64;
            volume.block(&format!("driver=raw,node-name={log},file={all},offset={offset},size={LOG_BYTES}"));
            volume.record(&name, &data, &log);
            volume.export(&name, &dir.join(format!("export-{number}")));
        }
        let daemons = vec![order.start(), volume.start()];
        let files = (0..volumes).map(|number| dir.join(format!("export-{number}"))).collect();
        Self { daemons, dir, files }
    }

    /// Everything that was written and flushed until now.
    pub fn events(&self) -> Vec<Event> {
        log::read(&self.dir.join("logs"), &self.dir.join("order"), self.files.len(), LOG_BYTES)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
        unmount_exports(&self.dir);
    }
}

/// The arguments of a storage daemon, and the files that it offers.
#[derive(Debug, Default)]
struct Daemon {
    arguments: Vec<String>,
    files: Vec<PathBuf>,
}

impl Daemon {
    fn block(&mut self, options: &str) {
        self.arguments.extend(["--blockdev".to_owned(), options.to_owned()]);
    }

    fn file(&mut self, node: &str, path: &str) {
        self.block(&format!("driver=file,node-name={node},filename={path},locking=off,cache.no-flush=on"));
    }

    fn record(&mut self, node: &str, data: &str, log: &str) {
        self.block(&format!(
            "driver=blklogwrites,log-sector-size=512,log-super-update-interval=1,node-name={node},file={data},log={log}"
        ));
    }

    fn export(&mut self, node: &str, path: &Path) {
        std::fs::write(path, "").unwrap();
        let export =
            format!("type=fuse,id=export-{node},node-name={node},mountpoint={},writable=on", path.display());
        self.arguments.extend(["--export".to_owned(), export]);
        self.files.push(path.to_owned());
    }

    /// Starts it, and waits until it offers its files. It ends with this process.
    fn start(self) -> Child {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-storage-daemon"]).args(self.arguments);
        let mut daemon = command.spawn().expect("setpriv");
        while !self.files.iter().all(|file| file.metadata().is_ok_and(|meta| meta.len() > 0)) {
            assert!(daemon.try_wait().unwrap().is_none(), "the storage daemon has ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }
}
