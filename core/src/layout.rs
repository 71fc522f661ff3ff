//! Every path that dkms reads or writes, from one value. No other file names a directory of the system.
//!
//! The registry's shape (`NAME/VERSION/{source,build,KERNEL/ARCH/{log,module}}`, `NAME/kernel-KERNEL-ARCH`,
//! `NAME/original_module`) is that of shell DKMS 3.x, so that a user can go back and forth. What is ours
//! beyond it lies in one directory whose name begins with a dot, which shell DKMS ignores.

use std::path::{Path, PathBuf};

mod offered;

pub use offered::Offered;

use serde::{Deserialize, Serialize};

use crate::sys::file;
use crate::types::{KernelRelease, ModuleId, ModuleName, Target};

/// The name of our own directory inside the registry.
const OWN: &str = ".dkms-rs";

/// Where everything lies. Built once from defaults, framework.conf and the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layout {
    /// The registry, `/var/lib/dkms`.
    pub dkms_tree: PathBuf,
    /// The pair that modules are signed with, `/var/lib/dkms`: wherever the registry is, the machine has enrolled one.
    pub keys: PathBuf,
    /// Module sources, `/usr/src`.
    pub source_tree: PathBuf,
    /// Kernel modules, `/lib/modules`.
    pub install_tree: PathBuf,
    /// Configuration, `/etc`.
    pub etc: PathBuf,
    /// What the running kernel and the firmware tell, `/sys`.
    pub sys: PathBuf,
    /// What the running kernel tells of processes and of itself, `/proc`.
    pub proc: PathBuf,
    /// Kernels' images and the boot loader, `/boot`.
    pub boot: PathBuf,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            dkms_tree: "/var/lib/dkms".into(),
            keys: "/var/lib/dkms".into(),
            source_tree: "/usr/src".into(),
            install_tree: "/lib/modules".into(),
            etc: "/etc".into(),
            sys: "/sys".into(),
            proc: "/proc".into(),
            boot: "/boot".into(),
        }
    }
}

/// The registry's part.
impl Layout {
    /// `NAME`
    pub fn module(&self, name: &ModuleName) -> PathBuf {
        self.dkms_tree.join(name.as_str())
    }
    /// `NAME/VERSION`
    pub fn version(&self, id: &ModuleId) -> PathBuf {
        self.module(&id.name).join(id.version.as_str())
    }
    /// `NAME/VERSION/source`, the link that makes a module registered.
    pub fn source_link(&self, id: &ModuleId) -> PathBuf {
        self.version(id).join("source")
    }
    /// `NAME/VERSION/build`, where every dkms.conf expects its build to run.
    pub fn build(&self, id: &ModuleId) -> PathBuf {
        self.version(id).join("build")
    }
    /// `NAME/VERSION/KERNEL/ARCH`, a finished build.
    pub fn built(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.version(id).join(target.kernel.as_str()).join(target.arch.as_str())
    }
    /// `NAME/VERSION/KERNEL/ARCH/module`, its module files.
    pub fn built_modules(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.built(id, target).join("module")
    }
    /// `NAME/VERSION/tarball`, where `mktarball` writes.
    pub fn tarballs(&self, id: &ModuleId) -> PathBuf {
        self.version(id).join("tarball")
    }
    /// `NAME/kernel-KERNEL-ARCH`, the link that names the installed version.
    pub fn active_link(&self, name: &ModuleName, target: &Target) -> PathBuf {
        self.module(name).join(format!("kernel-{}-{}", target.kernel, target.arch))
    }
    /// `NAME/original_module`, files of the kernel that ours replaced.
    pub fn originals_root(&self, name: &ModuleName) -> PathBuf {
        self.module(name).join("original_module")
    }
    /// `NAME/original_module/KERNEL/ARCH`.
    pub fn originals(&self, name: &ModuleName, target: &Target) -> PathBuf {
        self.originals_root(name).join(target.kernel.as_str()).join(target.arch.as_str())
    }
}

/// Our own part of the registry.
impl Layout {
    /// The dot-directory.
    pub fn own(&self) -> PathBuf {
        self.dkms_tree.join(OWN)
    }
    /// The write lock.
    pub fn lock(&self) -> PathBuf {
        self.own().join("lock")
    }
    /// The intent of the transaction under way (one file a process, so that a module's script may call dkms).
    pub fn intents(&self) -> PathBuf {
        self.own().join("intent")
    }
    /// Closing reports of past transactions.
    pub fn history(&self) -> PathBuf {
        self.own().join("history")
    }
    /// What is known about a finished build: `records/NAME/VERSION/KERNEL/ARCH.json`.
    pub fn record(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.keyed("records", id, target, "json")
    }
    /// What is known about a failed build.
    pub fn failure(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.keyed("failures", id, target, "json")
    }
    /// The log of a failed build, kept per kernel.
    pub fn failure_log(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.keyed("failures", id, target, "make.log")
    }
    fn keyed(&self, kind: &str, id: &ModuleId, target: &Target, extension: &str) -> PathBuf {
        self.own_version(kind, id).join(target.kernel.as_str()).join(format!("{}.{extension}", target.arch))
    }
    /// `records/NAME/VERSION` or `failures/NAME/VERSION`.
    pub fn own_version(&self, kind: &str, id: &ModuleId) -> PathBuf {
        self.own_module(kind, &id.name).join(id.version.as_str())
    }
    /// `records/NAME` or `failures/NAME`.
    pub fn own_module(&self, kind: &str, name: &ModuleName) -> PathBuf {
        self.own().join(kind).join(name.as_str())
    }
    /// Evaluated dkms.conf files, by the hash of all that went into the evaluation.
    pub fn evaluated(&self) -> PathBuf {
        self.own().join("evaluated")
    }
    /// Content hashes of trees, by the path of the tree.
    pub fn hashes(&self) -> PathBuf {
        self.own().join("hashes")
    }
    /// The content hash of a module's source.
    pub fn source_hash(&self, id: &ModuleId) -> PathBuf {
        self.hashes().join(format!("source-{}-{}", id.name, id.version))
    }
    /// The content hash of a kernel's headers.
    pub fn headers_hash(&self, target: &Target) -> PathBuf {
        self.hashes().join(format!("headers-{}-{}", target.kernel, target.arch))
    }
    /// Says that a version without a link is being replaced, not broken.
    pub fn kept_marker(&self, id: &ModuleId) -> PathBuf {
        self.own().join("kept").join(format!("{}-{}", id.name, id.version))
    }
    /// Finished builds, kept for when they are needed again. A registry somewhere else has its own.
    pub fn cache(&self) -> PathBuf {
        if self.dkms_tree == Self::default().dkms_tree {
            "/var/cache/dkms".into()
        } else {
            self.own().join("cache")
        }
    }
    /// Says which run of rpm added a module that asked for `--rpm_safe_upgrade`.
    pub fn upgrade_note(&self, id: &ModuleId) -> PathBuf {
        self.own().join("upgrades").join(format!("{}-{}", id.name, id.version))
    }
    /// Tarballs of strangers while they are unpacked and checked, by process.
    pub fn incoming(&self) -> PathBuf {
        self.own().join("incoming")
    }
    /// The kernel that was made the boot default, and what that changed.
    pub fn boot_default(&self) -> PathBuf {
        self.own().join("boot-default.json")
    }
    /// Remembered failures.
    pub fn failures(&self) -> PathBuf {
        self.own().join("failures")
    }
    /// Private build directories of the transaction under way.
    pub fn work(&self) -> PathBuf {
        self.own().join("work")
    }
}

/// The kernel's part.
impl Layout {
    /// `/lib/modules/KERNEL`
    pub fn kernel(&self, kernel: &KernelRelease) -> PathBuf {
        self.install_tree.join(kernel.as_str())
    }
    /// `/lib/modules/KERNEL/build`, the headers.
    pub fn headers(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("build")
    }
    /// `/lib/modules/KERNEL/modules.dep`, present when the kernel itself is installed.
    pub fn modules_dep(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("modules.dep")
    }
    /// `/lib/modules/KERNEL/modules.builtin`, the modules that are part of the image.
    pub fn modules_builtin(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("modules.builtin")
    }
    /// `/boot/vmlinuz-KERNEL`, where distributions have the image whose boot loaders read it there.
    pub fn boot_image(&self, kernel: &KernelRelease) -> PathBuf {
        self.boot.join(format!("vmlinuz-{kernel}"))
    }
    /// `/lib/modules/KERNEL/vmlinuz`, where distributions whose packages own nothing in `/boot` have the image.
    pub fn image(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("vmlinuz")
    }
    /// `/lib/modules/KERNEL/pkgbase`, where Arch's kernels say what they are.
    pub fn pkgbase(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("pkgbase")
    }
    /// The symbol map that `depmod -F` reads.
    pub fn system_map(&self, kernel: &KernelRelease) -> PathBuf {
        self.boot.join(format!("System.map-{kernel}"))
    }
    /// The configuration that a kernel's package keeps beside its image.
    pub fn boot_config(&self, kernel: &KernelRelease) -> PathBuf {
        self.boot.join(format!("config-{kernel}"))
    }
    /// Initial RAM file systems that generators make, in the order in which they are looked for.
    pub fn initramfs_images(&self, kernel: &KernelRelease, pkgbase: Option<&str>) -> Vec<PathBuf> {
        let mut names = vec![
            format!("initrd.img-{kernel}"),
            format!("initramfs-{kernel}.img"),
            format!("initrd-{kernel}"),
        ];
        names.extend(pkgbase.map(|base| format!("initramfs-{base}.img")));
        let mut images: Vec<PathBuf> = names.iter().map(|name| self.boot.join(name)).collect();
        // kernel-install's places, where the boot loader reads a kernel's files off a partition of its own.
        for token in self.entry_tokens() {
            let partitions = [self.boot.clone(), "/efi".into(), self.boot.join("efi")];
            images.extend(partitions.map(|boot| boot.join(&token).join(kernel.as_str()).join("initrd")));
        }
        images
    }
    /// The names that this machine may have on a boot partition, the one that is set first.
    fn entry_tokens(&self) -> Vec<String> {
        let files = [self.etc.join("kernel/entry-token"), self.etc.join("machine-id")];
        let read = |path: &PathBuf| std::fs::read_to_string(path).ok();
        let tokens = files.iter().filter_map(read).map(|text| text.trim().to_owned());
        tokens.filter(|token| !token.is_empty() && !token.starts_with('.') && !token.contains('/')).collect()
    }
    /// The root directory whose `lib/modules` the modules tree is, to be handed to `depmod -b`. `None` when the
    /// tree has another shape: depmod could not index it, and would index the running system's instead.
    pub fn depmod_root(&self) -> Option<&Path> {
        let tree = &self.install_tree;
        let lib = tree.parent().filter(|lib| tree.ends_with("modules") && lib.ends_with("lib"))?;
        let root = lib.parent()?;
        if root == Path::new("/usr") { Some(Path::new("/")) } else { Some(root) }
    }
}

/// The boot loader's part.
impl Layout {
    /// GRUB's menu, by the name of its directory.
    pub fn grub_menus(&self) -> [PathBuf; 2] {
        ["grub", "grub2"].map(|dir| self.boot.join(dir).join("grub.cfg"))
    }
    /// What grub-mkconfig goes by.
    pub fn grub_defaults(&self) -> PathBuf {
        self.etc.join("default/grub")
    }
    /// What it reads after that, in this order, where the distribution's does; below `/etc`, as its program names it.
    pub const GRUB_DROP_INS: &'static str = "default/grub.d";
    /// The drop-ins there are.
    pub fn grub_drop_ins(&self) -> Vec<PathBuf> {
        let files = file::sorted_entries(&self.etc.join(Self::GRUB_DROP_INS)).into_iter();
        files.filter(|path| path.extension().is_some_and(|extension| extension == "cfg")).collect()
    }
    /// Our own: the last one.
    pub fn grub_drop_in(&self) -> PathBuf {
        self.etc.join(Self::GRUB_DROP_INS).join("zz-dkms.cfg")
    }
    /// Where the EFI system partition, and the one that extends it, may be mounted.
    pub fn esps(&self) -> [PathBuf; 3] {
        [self.boot.with_file_name("efi"), self.boot.clone(), self.boot.join("efi")]
    }

    /// What systemd-boot goes by, on that partition.
    pub fn loader_conf(esp: &Path) -> PathBuf {
        esp.join("loader/loader.conf")
    }
    /// Its entries, and images with everything in them.
    pub fn loader_entries(esp: &Path) -> [PathBuf; 2] {
        [esp.join("loader/entries"), esp.join("EFI/Linux")]
    }
}

/// What the machine tells of itself.
impl Layout {
    /// Where devices' files are.
    pub const DEV: &'static str = "/dev/";
    /// Places of file systems without which there is no system.
    pub const VITAL_MOUNTS: [&'static str; 3] = ["/", "/usr", "/boot"];

    /// What is mounted where.
    pub fn mounts(&self) -> PathBuf {
        self.proc.join("self/mountinfo")
    }
    /// Which driver has which numbers of devices.
    pub fn device_numbers(&self) -> PathBuf {
        self.proc.join("devices")
    }
    /// Where IPv4 packets go.
    pub fn routes(&self) -> PathBuf {
        self.proc.join("net/route")
    }
    /// Where IPv6 packets go.
    pub fn routes_ipv6(&self) -> PathBuf {
        self.proc.join("net/ipv6_route")
    }
    /// Present when the machine was started by EFI firmware.
    pub fn firmware(&self) -> PathBuf {
        self.sys.join("firmware/efi")
    }
    /// A variable that shim handed to the kernel; root reads it.
    pub fn mok_variable(&self, name: &str) -> PathBuf {
        self.firmware().join("mok-variables").join(name)
    }
    /// A variable of the firmware; anybody reads it where its file system is mounted.
    pub fn efi_variable(&self, name: &str, owner: &str) -> PathBuf {
        self.firmware().join("efivars").join(format!("{name}-{owner}"))
    }
    /// How much the running kernel trusts root.
    pub fn lockdown(&self) -> PathBuf {
        self.sys.join("kernel/security/lockdown")
    }
    /// Another word for each start of the machine; `None` where the kernel does not say it.
    pub fn boot_id(&self) -> Option<String> {
        let id = file::read_optional(&self.proc.join("sys/kernel/random/boot_id")).ok().flatten()?;
        String::from_utf8(id).ok().map(|id| id.trim().to_owned())
    }
    /// Whether the running kernel was told to refuse unsigned modules.
    pub fn sig_enforce(&self) -> PathBuf {
        self.sys.join("module/module/parameters/sig_enforce")
    }
}

/// Sources and configuration.
impl Layout {
    /// `/usr/src/NAME-VERSION`
    pub fn source(&self, id: &ModuleId) -> PathBuf {
        self.source_tree.join(format!("{}-{}", id.name, id.version))
    }
    /// `/etc/dkms`
    pub fn config(&self) -> PathBuf {
        self.etc.join("dkms")
    }
    /// The admin's own patches and scripts for a module, which go before those of its source.
    pub fn module_config(&self, name: &ModuleName) -> PathBuf {
        self.config().join(name.as_str())
    }
    /// The admin's choices.
    pub fn policy(&self) -> PathBuf {
        self.config().join("policy.toml")
    }
    /// Lists of modules that packages of the distribution want installed against all advice.
    pub fn forced_modules(&self) -> PathBuf {
        PathBuf::from("/usr/share/dkms/modules_to_force_install")
    }
    /// framework.conf and its drop-ins, in the order in which they are read.
    pub fn framework(&self) -> Vec<PathBuf> {
        let mut files = vec![self.config().join("framework.conf")];
        files.extend(
            file::sorted_entries(&self.config().join("framework.conf.d"))
                .into_iter()
                .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
                .filter(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))),
        );
        files
    }
    /// The switch that turns automatic installation off.
    pub fn no_autoinstall(&self) -> PathBuf {
        self.config().join("no-autoinstall")
    }
    /// How the admin's overrides of a module's dkms.conf are called in [`Layout::config`], least specific first.
    pub fn overrides(id: &ModuleId, target: &Target) -> Vec<String> {
        let (name, version, kernel, arch) = (&id.name, &id.version, &target.kernel, &target.arch);
        [
            format!("{name}.conf"),
            format!("{name}-{version}.conf"),
            format!("{name}-{version}-{kernel}.conf"),
            format!("{name}-{version}-{kernel}-{arch}.conf"),
            format!("{name}--{kernel}.conf"),
            format!("{name}--{kernel}-{arch}.conf"),
        ]
        .into()
    }
    /// os-release files, in the order of preference.
    pub fn os_release(&self) -> [PathBuf; 2] {
        [self.etc.join("os-release"), PathBuf::from("/usr/lib/os-release")]
    }
    /// Text files that tell which modules an initramfs gets beside those it finds out itself.
    pub fn initramfs_wishes(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for name in [
            "initramfs-tools/modules",
            "initramfs-tools/initramfs.conf",
            "dracut.conf",
            "mkinitcpio.conf",
            "modules",
        ] {
            files.push(self.etc.join(name));
        }
        for dir in [
            self.etc.join("initramfs-tools/hooks"),
            self.etc.join("initramfs-tools/conf.d"),
            self.etc.join("dracut.conf.d"),
            self.etc.join("mkinitcpio.conf.d"),
            PathBuf::from("/usr/share/initramfs-tools/hooks"),
            PathBuf::from("/usr/share/initramfs-tools/modules.d"),
            PathBuf::from("/usr/lib/dracut/dracut.conf.d"),
        ] {
            files.extend(file::sorted_entries(&dir));
        }
        files
    }
    /// The machine's devices, each with a `modalias` that says which module it needs.
    pub fn devices(&self) -> PathBuf {
        PathBuf::from("/sys/devices")
    }
    /// Present while systemd is process 1.
    pub fn systemd(&self) -> PathBuf {
        PathBuf::from("/run/systemd/system")
    }
    /// The list of modules in the running kernel.
    pub fn loaded_modules(&self) -> PathBuf {
        self.proc.join("modules")
    }
}

/// What lies in a kernel's directory as long as the kernel is installed.
const IMAGE: [&str; 2] = ["vmlinuz", "modules.builtin"];
/// What else lies directly in it and is neither a module of somebody else's nor made by depmod.
const PARTS: [&str; 5] = ["build", "kernel", "modules.order", "System.map", "config"];

/// What a path of a package is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackagePath<'a> {
    /// What a kernel of this release cannot be without.
    Image(&'a str),
    /// Something else of it.
    Part(&'a str),
    /// The dkms.conf in this directory of the sources.
    Source(&'a str),
}

impl<'a> PackagePath<'a> {
    /// What an absolute path of a package is, if it tells of a kernel or of a module's source.
    pub fn of(path: &'a str) -> Option<Self> {
        let path = path.strip_prefix("/usr").unwrap_or(path);
        if let Some(source) = path.strip_prefix("/src/") {
            if let Some(kernel) = source.strip_prefix("kernels/") {
                // The directory itself: what it contains is thousands of lines of the same.
                return (!kernel.is_empty() && !kernel.contains('/')).then_some(PackagePath::Part(kernel));
            }
            let directory = source.strip_suffix("/dkms.conf")?;
            return (!directory.contains('/')).then_some(PackagePath::Source(directory));
        }
        let (release, rest) = path.strip_prefix("/lib/modules/")?.split_once('/')?;
        match rest {
            rest if IMAGE.contains(&rest) => Some(PackagePath::Image(release)),
            rest if PARTS.contains(&rest) => Some(PackagePath::Part(release)),
            _ => None,
        }
    }
}

/// Programs of the system and what they load.
impl Layout {
    /// Directories in which the system's libraries are looked for.
    pub fn library_dirs() -> Vec<PathBuf> {
        let usr = Path::new("/usr/lib");
        let names = file::sub_dirs(usr).into_iter();
        // Debian has one for each architecture.
        let machines = names.filter(|name| name.contains("-linux-")).map(|name| usr.join(name));
        machines.chain(["/usr/lib64", "/usr/lib", "/lib64", "/lib"].map(PathBuf::from)).collect()
    }
    /// Directories with the parts of gcc, `MACHINE/VERSION` below each.
    pub fn gcc_dirs() -> [PathBuf; 2] {
        ["/usr/libexec/gcc".into(), "/usr/lib/gcc".into()]
    }
}

/// Directories of the root that are links into `usr` wherever a package manager of today installs.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Where a package's path, relative to the root, really lies: packages may still say `lib/modules`.
pub fn merged(path: PathBuf) -> PathBuf {
    let mut parts = path.components();
    let first = parts.next().and_then(|part| part.as_os_str().to_str());
    // The directory itself may come as the link that it is.
    let below = parts.next().is_some();
    if below && first.is_some_and(|first| MERGED.contains(&first)) {
        return Path::new("usr").join(path);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_partition_calls_the_machine_by_its_token() {
        let etc = tempfile::tempdir().unwrap();
        let layout = Layout { etc: etc.path().into(), ..Layout::default() };
        let kernel: KernelRelease = "6.12.1".parse().unwrap();
        let images = || layout.initramfs_images(&kernel, None);
        let plain = images();
        assert!(plain.iter().all(|image| image.parent() == Some(Path::new("/boot"))), "{plain:?}");
        let write = |name: &str, text: &str| {
            file::write_atomic(&etc.path().join(name), text.as_bytes(), 0o644).unwrap();
        };
        write("machine-id", "0123abcd\n");
        assert_eq!(images()[..plain.len()], plain);
        assert!(images().contains(&"/boot/0123abcd/6.12.1/initrd".into()), "{:?}", images());
        assert!(images().contains(&"/efi/0123abcd/6.12.1/initrd".into()), "{:?}", images());
        std::fs::create_dir(etc.path().join("kernel")).unwrap();
        write("kernel/entry-token", "fedora\n");
        let tokens = |images: Vec<PathBuf>| -> Vec<String> {
            let names = images.iter().filter_map(|image| image.strip_prefix("/boot").ok()?.to_str());
            names.filter_map(|name| name.strip_suffix("/6.12.1/initrd").map(str::to_owned)).collect()
        };
        assert_eq!(tokens(images())[0], "fedora");
        for hostile in ["../..", "a/b", ".", "\n", "uninitialized/\n"] {
            write("kernel/entry-token", hostile);
            assert!(tokens(images()).iter().all(|token| token.ends_with("0123abcd")), "{:?}", images());
        }
    }

    #[test]
    fn packages_paths_lie_below_usr() {
        for (path, real) in [
            ("lib/modules/6.1/build", "usr/lib/modules/6.1/build"),
            ("sbin/a", "usr/sbin/a"),
            ("usr/lib/a", "usr/lib/a"),
            ("library/a", "library/a"),
            ("etc/lib/a", "etc/lib/a"),
            ("lib", "lib"),
            ("", ""),
        ] {
            assert_eq!(merged(path.into()), Path::new(real), "{path}");
        }
    }

    #[test]
    fn paths_tell_of_kernels_and_sources() {
        for (path, expected) in [
            (
                "/usr/lib/modules/6.12.1-1.fc43.x86_64/vmlinuz",
                Some(PackagePath::Image("6.12.1-1.fc43.x86_64")),
            ),
            (
                "/lib/modules/5.14.0-570.el9.x86_64/modules.builtin",
                Some(PackagePath::Image("5.14.0-570.el9.x86_64")),
            ),
            (
                "/usr/lib/modules/6.4.0-150600.23-default/build",
                Some(PackagePath::Part("6.4.0-150600.23-default")),
            ),
            ("/usr/lib/modules/6.12.1/kernel", Some(PackagePath::Part("6.12.1"))),
            ("/usr/lib/modules/6.12.1/kernel/fs/ext4/ext4.ko.xz", None),
            // Made by depmod; another package's module: no kernel came.
            ("/usr/lib/modules/6.12.1/modules.dep", None),
            ("/usr/lib/modules/6.12.1/extra/other/other.ko", None),
            ("/usr/lib/modules/6.12.1", None),
            ("/usr/src/kernels/6.12.1-1.fc43.x86_64", Some(PackagePath::Part("6.12.1-1.fc43.x86_64"))),
            ("/usr/src/kernels/6.12.1-1.fc43.x86_64/Makefile", None),
            ("/usr/src/kernels/", None),
            ("/usr/src/nvidia-570.1/dkms.conf", Some(PackagePath::Source("nvidia-570.1"))),
            ("/usr/src/nvidia-570.1/examples/dkms.conf", None),
            ("/usr/src/dkms.conf", None),
            ("/usr/src", None),
            ("", None),
        ] {
            assert_eq!(PackagePath::of(path), expected, "{path}");
        }
    }
}
