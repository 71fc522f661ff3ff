//! Which kernel modules this machine needs now. Only reads.
//!
//! The drivers of the essential mounts, of the interfaces of the default route and of the servers of mounts and disks, and of
//! displays; and the modules that they depend on. All of it is read from `/proc` and `/sys`. Missing entries are not an error: in a chroot or a
//! container not everything is visible.

mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::kernel::elf::canonical_name;
use crate::layout::Layout;
use crate::sys::file::{self, sorted_entries};

/// Block device drivers whose name differs from that of their module.
const BLOCK: [(&str, &str); 3] = [("device-mapper", "dm_mod"), ("md", "md_mod"), ("zvol", "zfs")];

/// Names of modules as in the kernel (`-` is `_`). Some of them may be built in.
pub fn in_use(layout: &Layout) -> BTreeSet<String> {
    let sys = layout.sys.canonicalize().unwrap_or_else(|_| layout.sys.clone());
    let mut scanner = Scanner { layout, sys, found: BTreeSet::new(), seen: BTreeSet::new() };
    scanner.mounts();
    scanner.default_routes();
    scanner.displays();
    scanner.needed();
    scanner.found
}

struct Scanner<'a> {
    layout: &'a Layout,
    /// Canonical, because resolved paths are compared with it.
    sys: PathBuf,
    found: BTreeSet<String>,
    /// Devices that have been examined.
    seen: BTreeSet<PathBuf>,
}

impl Scanner<'_> {
    fn add(&mut self, module: &str) {
        if !module.is_empty() {
            self.found.insert(canonical_name(module));
        }
    }

    /// File systems, and the drivers of their devices.
    fn mounts(&mut self) {
        let text = file::text(self.layout.mounts()).unwrap_or_default();
        // The last mount at a path hides the earlier ones.
        let mounts: BTreeMap<String, Mount> =
            text.lines().filter_map(Mount::read).map(|mount| (mount.place.clone(), mount)).collect();
        for place in Layout::VITAL_MOUNTS {
            let Some(mount) = mounts.get(place) else { continue };
            // fuse.sshfs, fuseblk
            let kind = mount.kind.split('.').next().unwrap_or_default();
            self.add(if kind == "fuseblk" { "fuse" } else { kind });
            let device = self.sys.join("dev/block").join(&mount.device);
            if device.exists() {
                self.block(&device);
                continue;
            }
            // An anonymous device number: network file systems, btrfs, zfs, bcachefs. bcachefs lists all its devices.
            self.servers(mount);
            if kind == "zfs" {
                self.pool(mount.source.split('/').next().unwrap_or_default());
            }
            for source in mount.source.split(':') {
                if let Some(device) = self.block_of(source) {
                    self.block(&device);
                    for other in self.btrfs_sisters(&device) {
                        self.block(&other);
                    }
                }
            }
        }
    }

    /// The members of a ZFS pool. In sysfs, nothing says which disks these are; udev has read their labels.
    fn pool(&mut self, name: &str) {
        for device in sorted_entries(&self.sys.join("class/block")) {
            let number = file::text(device.join("dev")).unwrap_or_default();
            let known = file::text(self.layout.udev_data(number.trim())).unwrap_or_default();
            let says = |key: &str, value: &str| {
                known.lines().any(|line| line.strip_prefix(key).is_some_and(|said| said == value))
            };
            if says("E:ID_FS_TYPE=", "zfs_member") && says("E:ID_FS_LABEL=", name) {
                self.block(&device);
            }
        }
    }

    /// The device that a path below `/dev` means.
    fn block_of(&self, source: &str) -> Option<PathBuf> {
        let all = self.sys.join("class/block");
        let name = source.strip_prefix(Layout::DEV)?;
        // A slash in a device's name is an exclamation mark in sysfs.
        let direct = all.join(name.replace('/', "!"));
        if direct.exists() {
            return Some(direct);
        }
        let mapped = name.strip_prefix("mapper/")?;
        let is_called =
            |device: &PathBuf| file::text(device.join("dm/name")).is_ok_and(|name| name.trim_end() == mapped);
        sorted_entries(&all).into_iter().find(is_called)
    }

    /// All devices of the btrfs file system that this one belongs to.
    fn btrfs_sisters(&self, device: &Path) -> Vec<PathBuf> {
        let Some(name) = device.file_name() else { return Vec::new() };
        let mut systems =
            sorted_entries(&self.sys.join("fs/btrfs")).into_iter().map(|uuid| uuid.join("devices"));
        systems
            .find(|devices| devices.join(name).exists())
            .map(|dir| sorted_entries(&dir))
            .unwrap_or_default()
    }

    /// A block device and all below it.
    fn block(&mut self, device: &Path) {
        let Ok(device) = device.canonicalize() else { return };
        if !self.seen.insert(device.clone()) {
            return;
        }
        self.drivers(&device);
        self.block_driver(&device);
        for slave in sorted_entries(&device.join("slaves")) {
            self.block(&slave);
        }
        // A partition's disk.
        if let Some(disk) = device.parent().filter(|_| device.join("partition").exists()) {
            self.block(disk);
        }
        self.iscsi(&device);
        // The disk with the cache is none of those below.
        for cache in sorted_entries(&device.join("bcache/cache")) {
            let disk = cache.canonicalize().ok().and_then(|cache| cache.parent().map(Path::to_path_buf));
            if let Some(disk) = disk.filter(|_| last(&cache).starts_with("cache")) {
                self.block(&disk);
            }
        }
        // With several paths to one NVMe disk, the disk belongs to none of them, but lists them.
        if let Some(subsystem) = device.parent().filter(|dir| last(dir).starts_with("nvme-subsys")) {
            for controller in sorted_entries(subsystem).into_iter().filter(|entry| entry.is_symlink()) {
                self.block(&controller);
            }
        }
    }

    /// A virtual disk has no driver in sysfs; its major number identifies one.
    fn block_driver(&mut self, device: &Path) {
        if !device.starts_with(self.sys.join("devices/virtual")) {
            return;
        }
        let number = file::text(device.join("dev")).unwrap_or_default();
        let major = number.split(':').next().unwrap_or_default();
        let text = file::text(self.layout.device_numbers()).unwrap_or_default();
        let mut lines = text.lines().skip_while(|line| !line.starts_with("Block")).skip(1);
        let name = lines.find_map(|line| line.trim().split_once(' ').filter(|(number, _)| *number == major));
        if let Some((_, name)) = name {
            let module = BLOCK.iter().find(|(driver, _)| *driver == name).map_or(name, |(_, module)| *module);
            self.add(module);
            // The target type of a mapped device is not visible; all loaded ones count as in use here.
            if module == "dm_mod" {
                self.targets(module);
            }
        }
        // raid1, raid456: the module name differs from the level.
        if let Ok(level) = file::text(device.join("md/level")) {
            let level = level.trim();
            self.add(if matches!(level, "raid4" | "raid5" | "raid6") { "raid456" } else { level });
        }
    }

    fn targets(&mut self, of: &str) {
        for holder in sorted_entries(&self.sys.join("module").join(of).join("holders")) {
            let used = file::text(holder.join("refcnt")).is_ok_and(|count| count.trim() != "0");
            if used {
                self.add(&last(&holder));
            }
        }
    }

    /// Graphics cards and frame buffers.
    fn displays(&mut self) {
        for (class, prefix) in [("class/drm", "card"), ("class/graphics", "fb")] {
            for entry in sorted_entries(&self.sys.join(class)) {
                // card0, not its connectors (card0-HDMI-A-1); fb0, not fbcon.
                let name = last(&entry);
                let number = name.strip_prefix(prefix).unwrap_or_default();
                if !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()) {
                    self.drivers(&entry);
                }
            }
        }
    }

    /// The modules of the drivers of a device, and of its parent devices.
    fn drivers(&mut self, device: &Path) {
        let Ok(device) = device.canonicalize() else { return };
        let below = device.ancestors().take_while(|dir| dir.starts_with(&self.sys));
        let modules: Vec<String> = below
            .filter_map(|dir| dir.join("driver/module").canonicalize().ok())
            .map(|path| last(&path))
            .collect();
        modules.iter().for_each(|module| self.add(module));
    }

    /// Modules that the ones found so far depend on: those that list one of them as a holder.
    fn needed(&mut self) {
        let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for module in sorted_entries(&self.sys.join("module")) {
            for holder in sorted_entries(&module.join("holders")) {
                needs.entry(last(&holder)).or_default().push(last(&module));
            }
        }
        let mut open: Vec<String> = self.found.iter().cloned().collect();
        while let Some(module) = open.pop() {
            for needed in needs.get(&module).into_iter().flatten() {
                if self.found.insert(needed.clone()) {
                    open.push(needed.clone());
                }
            }
        }
    }
}

/// A line of mountinfo.
struct Mount {
    place: String,
    device: String,
    kind: String,
    source: String,
    options: String,
}

impl Mount {
    /// `27 1 254:0 / /usr rw,relatime shared:1 - ext4 /dev/vda2 rw`: some words before the dash are optional.
    fn read(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let device = before.next()?.to_owned();
        let place = before.nth(1)?.to_owned();
        let mut after = after.split(' ').map(str::to_owned);
        let (kind, source) = (after.next()?, after.next().unwrap_or_default());
        Some(Self { place, device, kind, source, options: after.next().unwrap_or_default() })
    }
}

fn last(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::write_atomic;

    /// A machine as files and links below one directory.
    struct Machine {
        dir: tempfile::TempDir,
    }

    impl Machine {
        /// Lines: `FILE = TEXT`, `LINK -> TARGET` (relative to the top; made relative to the link, as in sysfs),
        /// `DIRECTORY/`.
        fn new(lines: &str) -> Self {
            let machine = Self { dir: tempfile::tempdir().unwrap() };
            let at = |path: &str| machine.dir.path().join(path.trim());
            for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
                if let Some((link, to)) = line.split_once(" -> ") {
                    let up = "../".repeat(link.trim().matches('/').count());
                    std::fs::create_dir_all(at(link).parent().unwrap()).unwrap();
                    std::fs::create_dir_all(at(to)).unwrap();
                    std::os::unix::fs::symlink(format!("{up}{}", to.trim()), at(link)).unwrap();
                } else if let Some((file, text)) = line.split_once(" = ") {
                    write_atomic(&at(file), format!("{}\n", text.replace('|', "\n")).as_bytes(), 0o644)
                        .unwrap();
                } else {
                    std::fs::create_dir_all(at(line)).unwrap();
                }
            }
            machine
        }

        fn in_use(&self) -> Vec<String> {
            let layout = Layout {
                sys: self.dir.path().join("sys"),
                proc: self.dir.path().join("proc"),
                run: self.dir.path().join("run"),
                ..Layout::default()
            };
            in_use(&layout).into_iter().collect()
        }
    }

    #[track_caller]
    fn uses(lines: &str, expected: &[&str]) {
        assert_eq!(Machine::new(lines).in_use(), expected);
    }

    #[test]
    fn a_machine_that_tells_nothing_uses_nothing() {
        uses("", &[]);
        uses("proc/self/mountinfo = garbage", &[]);
    }

    #[test]
    fn a_virtual_machine_as_it_is() {
        let pci = "sys/devices/pci0000:00";
        uses(
            &format!(
                "proc/self/mountinfo = 22 27 0:21 / /proc rw - proc proc rw|27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
                proc/net/route = Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT|eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0|eth9 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0
                sys/dev/block/254:0 -> {pci}/0000:00:02.0/virtio1/block/vda
                {pci}/0000:00:02.0/virtio1/driver -> sys/bus/virtio/drivers/virtio_blk
                sys/bus/virtio/drivers/virtio_blk/module -> sys/module/virtio_blk
                {pci}/0000:00:02.0/driver -> sys/bus/pci/drivers/virtio-pci
                sys/bus/pci/drivers/virtio-pci/module -> sys/module/virtio_pci
                sys/class/net/eth0 -> {pci}/0000:00:03.0/virtio2/net/eth0
                sys/class/net/eth9 -> {pci}/0000:00:09.0/net/eth9
                {pci}/0000:00:09.0/driver -> sys/bus/pci/drivers/r8125
                sys/bus/pci/drivers/r8125/module -> sys/module/r8125
                {pci}/0000:00:03.0/virtio2/driver -> sys/bus/virtio/drivers/virtio_net
                sys/bus/virtio/drivers/virtio_net/module -> sys/module/virtio_net
                sys/module/failover/holders/net_failover -> sys/module/net_failover
                sys/module/net_failover/holders/virtio_net -> sys/module/virtio_net
                sys/module/failover/holders/other -> sys/module/other"
            ),
            // The driver of the other interface is not in use, because it has no default route.
            &["ext4", "failover", "net_failover", "virtio_blk", "virtio_net", "virtio_pci"],
        );
    }

    #[test]
    fn zfs_and_what_it_needs() {
        uses(
            "proc/self/mountinfo = 27 1 0:25 / / rw,relatime - zfs rpool/ROOT/debian rw,xattr
            sys/module/spl/holders/zfs -> sys/module/zfs
            sys/module/spl/holders/other -> sys/module/other",
            &["spl", "zfs"],
        );
    }

    #[test]
    fn the_disks_of_a_pool() {
        let pci = "sys/devices/pci0000:00";
        uses(
            &format!(
                "proc/self/mountinfo = 27 1 0:25 / / rw,relatime - zfs rpool/ROOT/debian rw,xattr
                sys/class/block/sda1 -> {pci}/0000:00:01.0/block/sda/sda1
                {pci}/0000:00:01.0/block/sda/sda1/dev = 8:1
                {pci}/0000:00:01.0/block/sda/sda1/partition = 1
                run/udev/data/b8:1 = E:ID_FS_LABEL=rpool|E:ID_FS_TYPE=zfs_member
                sys/class/block/sdb1 -> {pci}/0000:00:02.0/block/sdb/sdb1
                {pci}/0000:00:02.0/block/sdb/sdb1/dev = 8:17
                run/udev/data/b8:17 = E:ID_FS_LABEL=tank|E:ID_FS_TYPE=zfs_member
                {pci}/0000:00:01.0/driver -> sys/bus/pci/drivers/one
                sys/bus/pci/drivers/one/module -> sys/module/one
                {pci}/0000:00:02.0/driver -> sys/bus/pci/drivers/two
                sys/bus/pci/drivers/two/module -> sys/module/two"
            ),
            &["one", "zfs"],
        );
    }

    /// Two interfaces: the default route leads to eth0, the network of the storage is behind eth9.
    const STORAGE: &str = "proc/net/route = Iface Destination Gateway Flags RefCnt Use Metric Mask|eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0|eth9 0009000A 00000000 0001 0 0 0 00FFFFFF 0 0 0
        sys/class/net/eth0 -> sys/devices/pci0000:00/0000:00:03.0/net/eth0
        sys/devices/pci0000:00/0000:00:03.0/driver -> sys/bus/pci/drivers/first
        sys/bus/pci/drivers/first/module -> sys/module/first
        sys/class/net/eth9 -> sys/devices/pci0000:00/0000:00:09.0/net/eth9
        sys/devices/pci0000:00/0000:00:09.0/driver -> sys/bus/pci/drivers/r8125
        sys/bus/pci/drivers/r8125/module -> sys/module/r8125";

    #[test]
    fn the_interface_of_a_server() {
        for (mount, also) in [
            ("nfs4 server:/srv/root rw,vers=4.2,clientaddr=10.0.9.2,addr=10.0.9.1", &["nfs4", "r8125"][..]),
            ("nfs4 server:/srv/root rw,addr=10.0.8.1", &["nfs4"]),
            ("ceph 10.0.8.1:6789,10.0.9.1:6789:/ rw,name=admin", &["ceph", "r8125"]),
            ("cifs //server/root rw,addr=10.0.9.1", &["cifs", "r8125"]),
        ] {
            let mut expected = [&["first"], also].concat();
            expected.sort_unstable();
            uses(&format!("proc/self/mountinfo = 27 1 0:30 / / rw - {mount}\n{STORAGE}"), &expected);
        }
    }

    #[test]
    fn a_disk_of_an_iscsi_target() {
        let host = "sys/devices/platform/host3";
        uses(
            &format!(
                "proc/self/mountinfo = 27 1 8:16 / / rw - ext4 /dev/sdb rw
                sys/dev/block/8:16 -> {host}/session1/target3:0:0/3:0:0:0/block/sdb
                {host}/session1/target3:0:0/3:0:0:0/driver -> sys/bus/scsi/drivers/sd
                sys/bus/scsi/drivers/sd/module -> sys/module/sd_mod
                sys/class/scsi_host/host3/proc_name = iscsi_tcp
                sys/class/iscsi_connection/connection1:0/persistent_address = 10.0.9.1
                sys/class/iscsi_connection/connection12:0/persistent_address = 10.0.7.1
                {STORAGE}"
            ),
            &["ext4", "first", "iscsi_tcp", "r8125", "sd_mod"],
        );
    }

    #[test]
    fn a_disk_with_a_cache() {
        let pci = "sys/devices/pci0000:00";
        uses(
            &format!(
                "proc/self/mountinfo = 27 1 252:0 / / rw - ext4 /dev/bcache0 rw
                proc/devices = Block devices:|252 bcache
                sys/dev/block/252:0 -> sys/devices/virtual/block/bcache0
                sys/devices/virtual/block/bcache0/dev = 252:0
                sys/devices/virtual/block/bcache0/slaves/sda -> {pci}/0000:00:01.0/block/sda
                sys/devices/virtual/block/bcache0/bcache -> {pci}/0000:00:01.0/block/sda/bcache
                {pci}/0000:00:01.0/block/sda/bcache/cache -> sys/fs/bcache/5ad1
                sys/fs/bcache/5ad1/cache0 -> {pci}/0000:00:02.0/block/sdb/bcache
                {pci}/0000:00:01.0/driver -> sys/bus/pci/drivers/one
                sys/bus/pci/drivers/one/module -> sys/module/one
                {pci}/0000:00:02.0/driver -> sys/bus/pci/drivers/two
                sys/bus/pci/drivers/two/module -> sys/module/two"
            ),
            &["bcache", "ext4", "one", "two"],
        );
    }

    #[test]
    fn below_lvm_on_luks_on_a_partition_of_a_disk() {
        let (disk, dm) = (
            "sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda",
            "sys/devices/virtual/block",
        );
        uses(
            &format!(
                "proc/self/mountinfo = 27 1 253:1 / / rw - ext4 /dev/mapper/vg-root rw|30 27 8:1 / /boot rw - vfat /dev/sda1 rw|31 27 8:99 / /srv rw - xfs /dev/sdz rw
                proc/devices = Character devices:|253 not-this||Block devices:|  8 sd|253 device-mapper
                sys/dev/block/253:1 -> {dm}/dm-1
                sys/dev/block/8:1 -> {disk}/sda1
                {dm}/dm-1/dev = 253:1
                {dm}/dm-1/slaves/dm-0 -> {dm}/dm-0
                {dm}/dm-0/dev = 253:0
                {dm}/dm-0/slaves/sda2 -> {disk}/sda2
                {disk}/sda1/partition = 1
                {disk}/sda2/partition = 2
                sys/devices/pci0000:00/0000:00:17.0/driver -> sys/bus/pci/drivers/ahci
                sys/bus/pci/drivers/ahci/module -> sys/module/ahci
                sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/driver -> sys/bus/scsi/drivers/sd
                sys/bus/scsi/drivers/sd/module -> sys/module/sd_mod
                sys/module/dm_mod/holders/dm_writeboost -> sys/module/dm_writeboost
                sys/module/dm_writeboost/refcnt = 1
                sys/module/dm_mod/holders/dm_mirror -> sys/module/dm_mirror
                sys/module/dm_mirror/refcnt = 0
                sys/module/libahci/holders/ahci -> sys/module/ahci"
            ),
            &["ahci", "dm_mod", "dm_writeboost", "ext4", "libahci", "sd_mod", "vfat"],
        );
    }

    #[test]
    fn devices_behind_anonymous_numbers() {
        let pci = "sys/devices/pci0000:00";
        let disks = format!(
            "sys/class/block/sda -> {pci}/0000:00:01.0/block/sda
            sys/class/block/sdb -> {pci}/0000:00:02.0/block/sdb
            {pci}/0000:00:01.0/driver -> sys/bus/pci/drivers/one
            sys/bus/pci/drivers/one/module -> sys/module/one
            {pci}/0000:00:02.0/driver -> sys/bus/pci/drivers/two
            sys/bus/pci/drivers/two/module -> sys/module/two"
        );
        let bcachefs = "proc/self/mountinfo = 27 1 0:30 / / rw - bcachefs /dev/sda:/dev/sdb rw";
        uses(&format!("{disks}\n{bcachefs}"), &["bcachefs", "one", "two"]);
        let btrfs = format!(
            "proc/self/mountinfo = 27 1 0:30 /@ / rw - btrfs /dev/mapper/root rw,subvol=/@
            proc/devices = Block devices:|254 device-mapper
            sys/class/block/dm-0 -> sys/devices/virtual/block/dm-0
            sys/devices/virtual/block/dm-0/dev = 254:0
            sys/devices/virtual/block/dm-0/dm/name = root
            sys/devices/virtual/block/dm-0/slaves/sda -> {pci}/0000:00:01.0/block/sda
            sys/fs/btrfs/5ad1/devices/dm-0 -> sys/devices/virtual/block/dm-0
            sys/fs/btrfs/5ad1/devices/sdb -> {pci}/0000:00:02.0/block/sdb"
        );
        uses(&format!("{disks}\n{btrfs}"), &["btrfs", "dm_mod", "one", "two"]);
    }

    #[test]
    fn virtual_disks_and_multipath() {
        uses(
            "proc/self/mountinfo = 27 1 147:0 / / rw - ext4 /dev/drbd0 rw|28 27 9:5 / /usr rw - ext4 /dev/md5 rw|29 27 259:2 / /boot rw - ext4 /dev/nvme0n1p2 rw
            proc/devices = Block devices:|147 drbd|9 md|259 blkext
            sys/dev/block/147:0 -> sys/devices/virtual/block/drbd0
            sys/devices/virtual/block/drbd0/dev = 147:0
            sys/dev/block/9:5 -> sys/devices/virtual/block/md5
            sys/devices/virtual/block/md5/dev = 9:5
            sys/devices/virtual/block/md5/md/level = raid5
            sys/dev/block/259:2 -> sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p2
            sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p2/partition = 2
            sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0 -> sys/devices/pci0000:00/0000:01:00.0/nvme/nvme0
            sys/devices/pci0000:00/0000:01:00.0/driver -> sys/bus/pci/drivers/nvme
            sys/bus/pci/drivers/nvme/module -> sys/module/nvme
            sys/module/nvme_core/holders/nvme -> sys/module/nvme",
            &["drbd", "ext4", "md_mod", "nvme", "nvme_core", "raid456"].map(|name| name),
        );
    }

    #[test]
    fn a_default_route_over_a_vlan_of_a_bridge_of_a_bond() {
        let net = "sys/devices/virtual/net";
        uses(
            &format!(
                "proc/net/ipv6_route = 00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003 br0.7|00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo
                proc/net/route = Iface|wg0 00000000 00000000 0001 0 0 0 00000000 0 0 0|gone 00000000 00000000 0001 0 0 0 00000000 0 0 0
                sys/class/net/lo -> {net}/lo
                sys/class/net/wg0 -> {net}/wg0
                {net}/wg0/uevent = DEVTYPE=wireguard|INTERFACE=wg0
                sys/module/wireguard/
                sys/class/net/br0.7 -> {net}/br0.7
                {net}/br0.7/uevent = DEVTYPE=vlan
                {net}/br0.7/lower_br0 -> {net}/br0
                {net}/br0/lower_bond0 -> {net}/bond0
                {net}/bond0/upper_br0 -> {net}/br0
                {net}/bond0/lower_eth1 -> sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/net/eth1
                {net}/bond0/lower_wlan0 -> sys/devices/pci0000:00/0000:02:00.0/net/wlan0
                sys/devices/pci0000:00/0000:02:00.0/driver -> sys/bus/pci/drivers/wl
                sys/bus/pci/drivers/wl/module -> sys/module/wl
                sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/driver -> sys/bus/usb/drivers/r8152
                sys/bus/usb/drivers/r8152/module -> sys/module/r8152
                sys/devices/pci0000:00/0000:00:14.0/driver -> sys/bus/pci/drivers/xhci_hcd
                sys/bus/pci/drivers/xhci_hcd/module -> sys/module/xhci_pci"
            ),
            &["r8152", "wireguard", "wl", "xhci_pci"],
        );
    }

    #[test]
    fn displays() {
        uses(
            "sys/class/drm/card1 -> sys/devices/pci0000:00/0000:01:00.0/drm/card1
            sys/class/drm/card1-HDMI-A-1 -> sys/devices/pci0000:00/0000:01:00.0/drm/card1/card1-HDMI-A-1
            sys/class/drm/renderD128 -> sys/devices/pci0000:00/0000:05:00.0/drm/renderD128
            sys/devices/pci0000:00/0000:05:00.0/driver -> sys/bus/pci/drivers/other
            sys/bus/pci/drivers/other/module -> sys/module/other
            sys/devices/pci0000:00/0000:01:00.0/driver -> sys/bus/pci/drivers/nvidia
            sys/bus/pci/drivers/nvidia/module -> sys/module/nvidia
            sys/class/graphics/fbcon -> sys/devices/virtual/graphics/fbcon
            sys/class/graphics/fb0 -> sys/devices/pci0000:00/0000:03:00.0/graphics/fb0
            sys/devices/pci0000:00/0000:03:00.0/driver -> sys/bus/pci/drivers/ud-lfb
            sys/bus/pci/drivers/ud-lfb/module -> sys/module/udl-fb
            sys/module/i2c_core/holders/nvidia -> sys/module/nvidia",
            &["i2c_core", "nvidia", "udl_fb"],
        );
    }
}
