//! Paths of the boot loader, and of the state of the machine and the running kernel.

use std::path::{Path, PathBuf};

use super::Layout;
use crate::sys::file;
use crate::sys::guest::Signs;

/// Paths of the boot loader.
impl Layout {
    /// GRUB's menu; the name of its directory depends on the distribution.
    pub fn grub_menus(&self) -> [PathBuf; 2] {
        ["grub", "grub2"].map(|dir| self.boot.join(dir).join("grub.cfg"))
    }
    /// The configuration of grub-mkconfig.
    pub fn grub_defaults(&self) -> PathBuf {
        self.etc.join("default/grub")
    }
    /// The directory that it reads after that, in order, on distributions that support it; below `/etc`, as its script
    /// names it.
    pub const GRUB_DROP_INS: &'static str = "default/grub.d";
    /// The existing drop-ins.
    pub fn grub_drop_ins(&self) -> Vec<PathBuf> {
        let files = file::sorted_entries(&self.etc.join(Self::GRUB_DROP_INS)).into_iter();
        files.filter(|path| path.extension().is_some_and(|extension| extension == "cfg")).collect()
    }
    /// Our own drop-in: the last one.
    pub fn grub_drop_in(&self) -> PathBuf {
        self.etc.join(Self::GRUB_DROP_INS).join("zz-dkms.cfg")
    }
    /// Mount points of the EFI system partition, and of the extended boot partition.
    pub fn esps(&self) -> [PathBuf; 3] {
        [self.boot.with_file_name("efi"), self.boot.clone(), self.boot.join("efi")]
    }

    /// The boot partitions that Proxmox's tool manages.
    pub fn proxmox_partitions(&self) -> PathBuf {
        self.etc.join("kernel/proxmox-boot-uuids")
    }
    /// The kernel that this tool makes the boot default, in the first line.
    pub fn proxmox_pin(&self) -> PathBuf {
        self.etc.join("kernel/proxmox-boot-pin")
    }
    /// Files of boot loaders whose menus dkms does not change, with their names.
    pub fn other_loaders(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files = vec![
            // It copies kernels and menus to the boot partitions, also those of GRUB and systemd-boot.
            ("proxmox-boot-tool", self.proxmox_partitions()),
            ("extlinux", self.boot.join("extlinux/extlinux.conf")),
            ("syslinux", self.boot.join("syslinux/syslinux.cfg")),
        ];
        for esp in self.esps() {
            let places = ["limine.conf", "limine/limine.conf", "EFI/limine/limine.conf"];
            files.extend(places.map(|place| ("Limine", esp.join(place))));
            files.push(("rEFInd", esp.join("EFI/refind/refind.conf")));
        }
        files
    }
    /// The configuration of systemd-boot on that partition.
    pub fn loader_conf(esp: &Path) -> PathBuf {
        esp.join("loader/loader.conf")
    }
    /// Its entries, and unified kernel images.
    pub fn loader_entries(esp: &Path) -> [PathBuf; 2] {
        [esp.join("loader/entries"), esp.join("EFI/Linux")]
    }
}

/// Paths of the machine's state.
impl Layout {
    /// The directory of device files.
    pub const DEV: &'static str = "/dev/";
    /// Mount points of essential file systems.
    pub const VITAL_MOUNTS: [&'static str; 3] = ["/", "/usr", "/boot"];

    /// The mount table.
    pub fn mounts(&self) -> PathBuf {
        self.proc.join("self/mountinfo")
    }
    /// The major numbers of drivers.
    pub fn device_numbers(&self) -> PathBuf {
        self.proc.join("devices")
    }
    /// What udev has read of a block device with this number.
    pub fn udev_data(&self, number: &str) -> PathBuf {
        self.run.join("udev/data").join(format!("b{number}"))
    }
    /// The IPv4 routes.
    pub fn routes(&self) -> PathBuf {
        self.proc.join("net/route")
    }
    /// The IPv6 routes.
    pub fn routes_ipv6(&self) -> PathBuf {
        self.proc.join("net/ipv6_route")
    }
    /// Exists if the machine was booted by EFI firmware.
    pub fn firmware(&self) -> PathBuf {
        self.sys.join("firmware/efi")
    }
    /// A variable that shim passed to the kernel; readable by root.
    pub fn mok_variable(&self, name: &str) -> PathBuf {
        self.firmware().join("mok-variables").join(name)
    }
    /// A firmware variable; readable by all users where efivarfs is mounted.
    pub fn efi_variable(&self, name: &str, owner: &str) -> PathBuf {
        self.firmware().join("efivars").join(format!("{name}-{owner}"))
    }
    /// The lockdown mode of the running kernel.
    pub fn lockdown(&self) -> PathBuf {
        self.sys.join("kernel/security/lockdown")
    }
    /// The command line of the running kernel.
    pub fn kernel_command_line(&self) -> PathBuf {
        self.proc.join("cmdline")
    }
    /// The id of the current boot; `None` if the kernel does not provide it.
    pub fn boot_id(&self) -> Option<String> {
        let id = file::read_optional(&self.proc.join("sys/kernel/random/boot_id")).ok().flatten()?;
        String::from_utf8(id).ok().map(|id| id.trim().to_owned())
    }
    /// Whether the running kernel enforces module signatures.
    pub fn sig_enforce(&self) -> PathBuf {
        self.sys.join("module/module/parameters/sig_enforce")
    }
    /// The machine's devices; the `modalias` of each identifies its module.
    pub fn devices(&self) -> PathBuf {
        PathBuf::from("/sys/devices")
    }
    /// Exists while systemd is process 1.
    pub fn systemd(&self) -> PathBuf {
        PathBuf::from("/run/systemd/system")
    }
    /// The attributes of a module that the running kernel has loaded.
    pub fn loaded_module(&self, name: &str) -> PathBuf {
        self.sys.join("module").join(name)
    }
    /// Where it can be seen that this system is in a chroot or container.
    pub fn guest_signs(&self) -> Signs {
        Signs {
            marks: ["/run/systemd/container", "/run/.containerenv", "/.dockerenv"].map(PathBuf::from).into(),
            root: self.proc.join("1/root"),
            environment: self.proc.join("1/environ"),
            spaces: self.proc.join("self/ns"),
            machine: self.run.join("dkms/machine"),
        }
    }
    /// Exists where `/usr` is an image that ostree or bootc has booted, and in the sandbox of rpm-ostree for scripts of
    /// packages.
    pub fn ostree(&self) -> PathBuf {
        self.run.join("ostree-booted")
    }
    /// The modules of the running kernel.
    pub fn loaded_modules(&self) -> PathBuf {
        self.proc.join("modules")
    }
}
