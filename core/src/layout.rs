//! Every path that dkms reads or writes, from one value. No other file names a directory of the system.
//!
//! The layout of the DKMS tree (`NAME/VERSION/{source,build,KERNEL/ARCH/{log,module}}`, `NAME/kernel-KERNEL-ARCH`,
//! `NAME/original_module`) is that of shell DKMS 3.x, so that users can switch in both directions. Our additional data
//! is in one directory whose name begins with a dot, which shell DKMS ignores.

use std::path::{Path, PathBuf};

mod offered;

pub use offered::Offered;

use serde::{Deserialize, Serialize};

use crate::sys::file;
use crate::types::{KernelRelease, ModuleId, ModuleName, Target};

/// The name of our own directory in the DKMS tree.
const OWN: &str = ".dkms-rs";

/// The directories of the system. Set once from defaults, framework.conf and the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layout {
    /// The DKMS tree, `/var/lib/dkms`.
    pub dkms_tree: PathBuf,
    /// The key pair for signing modules, `/var/lib/dkms`: it does not move with the DKMS tree, because the machine has
    /// enrolled one key.
    pub keys: PathBuf,
    /// Module sources, `/usr/src`.
    pub source_tree: PathBuf,
    /// Kernel modules, `/lib/modules`.
    pub install_tree: PathBuf,
    /// Configuration, `/etc`.
    pub etc: PathBuf,
    /// The state of the running kernel and the firmware, `/sys`.
    pub sys: PathBuf,
    /// The state of processes and of the running kernel, `/proc`.
    pub proc: PathBuf,
    /// Kernel images and the boot loader, `/boot`.
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

/// Paths in the DKMS tree.
impl Layout {
    /// `NAME`
    pub fn module(&self, name: &ModuleName) -> PathBuf {
        self.dkms_tree.join(name.as_str())
    }
    /// `NAME/VERSION`
    pub fn version(&self, id: &ModuleId) -> PathBuf {
        self.module(&id.name).join(id.version.as_str())
    }
    /// `NAME/VERSION/source`, the link that registers a module.
    pub fn source_link(&self, id: &ModuleId) -> PathBuf {
        self.version(id).join("source")
    }
    /// `NAME/VERSION/build`, the build directory that every dkms.conf expects.
    pub fn build(&self, id: &ModuleId) -> PathBuf {
        self.version(id).join("build")
    }
    /// `NAME/VERSION/KERNEL/ARCH`, a build.
    pub fn built(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.version(id).join(target.kernel.as_str()).join(target.arch.as_str())
    }
    /// `NAME/VERSION/KERNEL/ARCH/module`, the module files of a build.
    pub fn built_modules(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.built(id, target).join("module")
    }
    /// `NAME/VERSION/tarball`, the output directory of `mktarball`.
    pub fn tarballs(&self, id: &ModuleId) -> PathBuf {
        self.version(id).join("tarball")
    }
    /// `NAME/kernel-KERNEL-ARCH`, the link that names the installed version.
    pub fn active_link(&self, name: &ModuleName, target: &Target) -> PathBuf {
        self.module(name).join(format!("kernel-{}-{}", target.kernel, target.arch))
    }
    /// `NAME/original_module`, files of the kernel that our modules replaced.
    pub fn originals_root(&self, name: &ModuleName) -> PathBuf {
        self.module(name).join("original_module")
    }
    /// `NAME/original_module/KERNEL/ARCH`.
    pub fn originals(&self, name: &ModuleName, target: &Target) -> PathBuf {
        self.originals_root(name).join(target.kernel.as_str()).join(target.arch.as_str())
    }
}

/// Paths in our own directory of the DKMS tree.
impl Layout {
    /// The directory itself.
    pub fn own(&self) -> PathBuf {
        self.dkms_tree.join(OWN)
    }
    /// The write lock.
    pub fn lock(&self) -> PathBuf {
        self.own().join("lock")
    }
    /// The intents of the current transaction: one file per process, because a module's script may call dkms.
    pub fn intents(&self) -> PathBuf {
        self.own().join("intent")
    }
    /// The reports of past transactions.
    pub fn history(&self) -> PathBuf {
        self.own().join("history")
    }
    /// The record of a build: `records/NAME/VERSION/KERNEL/ARCH.json`.
    pub fn record(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.keyed("records", id, target, "json")
    }
    /// The record of a failed build.
    pub fn failure(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.keyed("failures", id, target, "json")
    }
    /// The log of a failed build, one per kernel.
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
    /// Evaluated dkms.conf files, by the hash of the evaluation's inputs.
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
    /// Marks a version without a link as being replaced; without it the version would count as broken.
    pub fn kept_marker(&self, id: &ModuleId) -> PathBuf {
        self.own().join("kept").join(format!("{}-{}", id.name, id.version))
    }
    /// Cached builds. A DKMS tree in another place has its own cache.
    pub fn cache(&self) -> PathBuf {
        if self.dkms_tree == Self::default().dkms_tree {
            "/var/cache/dkms".into()
        } else {
            self.own().join("cache")
        }
    }
    /// Records the run of rpm that added a module with `--rpm_safe_upgrade`.
    pub fn upgrade_note(&self, id: &ModuleId) -> PathBuf {
        self.own().join("upgrades").join(format!("{}-{}", id.name, id.version))
    }
    /// Untrusted tarballs while they are unpacked and checked, by process.
    pub fn incoming(&self) -> PathBuf {
        self.own().join("incoming")
    }
    /// The kernel that was made the boot default, and the change.
    pub fn boot_default(&self) -> PathBuf {
        self.own().join("boot-default.json")
    }
    /// Recorded failures.
    pub fn failures(&self) -> PathBuf {
        self.own().join("failures")
    }
    /// Private build directories of the current transaction.
    pub fn work(&self) -> PathBuf {
        self.own().join("work")
    }
}

/// Paths of a kernel.
impl Layout {
    /// `/lib/modules/KERNEL`
    pub fn kernel(&self, kernel: &KernelRelease) -> PathBuf {
        self.install_tree.join(kernel.as_str())
    }
    /// `/lib/modules/KERNEL/build`, the headers.
    pub fn headers(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("build")
    }
    /// `/lib/modules/KERNEL/modules.dep`, which exists if the kernel is installed.
    pub fn modules_dep(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("modules.dep")
    }
    /// `/lib/modules/KERNEL/modules.builtin`, the built-in modules.
    pub fn modules_builtin(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("modules.builtin")
    }
    /// `/boot/vmlinuz-KERNEL`, the image on distributions whose boot loaders read it here.
    pub fn boot_image(&self, kernel: &KernelRelease) -> PathBuf {
        self.boot.join(format!("vmlinuz-{kernel}"))
    }
    /// `/lib/modules/KERNEL/vmlinuz`, the image on distributions whose packages own nothing in `/boot`.
    pub fn image(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("vmlinuz")
    }
    /// `/lib/modules/KERNEL/pkgbase`, the package base of Arch's kernels.
    pub fn pkgbase(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("pkgbase")
    }
    /// The symbol map that `depmod -F` reads.
    pub fn system_map(&self, kernel: &KernelRelease) -> PathBuf {
        self.boot.join(format!("System.map-{kernel}"))
    }
    /// The configuration next to the kernel's image.
    pub fn boot_config(&self, kernel: &KernelRelease) -> PathBuf {
        self.boot.join(format!("config-{kernel}"))
    }
    /// The paths of the initramfs, in the order in which they are searched.
    pub fn initramfs_images(&self, kernel: &KernelRelease, pkgbase: Option<&str>) -> Vec<PathBuf> {
        let mut names = vec![
            format!("initrd.img-{kernel}"),
            format!("initramfs-{kernel}.img"),
            format!("initrd-{kernel}"),
        ];
        names.extend(pkgbase.map(|base| format!("initramfs-{base}.img")));
        let mut images: Vec<PathBuf> = names.iter().map(|name| self.boot.join(name)).collect();
        // kernel-install's paths, where the boot loader reads a kernel's files from its own partition.
        for token in self.entry_tokens() {
            let partitions = [self.boot.clone(), "/efi".into(), self.boot.join("efi")];
            images.extend(partitions.map(|boot| boot.join(&token).join(kernel.as_str()).join("initrd")));
        }
        images
    }
    /// The names that this machine may have on a boot partition, a configured one first.
    fn entry_tokens(&self) -> Vec<String> {
        let files = [self.etc.join("kernel/entry-token"), self.etc.join("machine-id")];
        let read = |path: &PathBuf| std::fs::read_to_string(path).ok();
        let tokens = files.iter().filter_map(read).map(|text| text.trim().to_owned());
        tokens.filter(|token| !token.is_empty() && !token.starts_with('.') && !token.contains('/')).collect()
    }
    /// The root directory whose `lib/modules` is the install tree, for `depmod -b`. `None` if the install tree has
    /// another shape: depmod could not process it, and would process that of the running system.
    pub fn depmod_root(&self) -> Option<&Path> {
        let tree = &self.install_tree;
        let lib = tree.parent().filter(|lib| tree.ends_with("modules") && lib.ends_with("lib"))?;
        let root = lib.parent()?;
        if root == Path::new("/usr") { Some(Path::new("/")) } else { Some(root) }
    }
}

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
    /// The id of the current boot; `None` if the kernel does not provide it.
    pub fn boot_id(&self) -> Option<String> {
        let id = file::read_optional(&self.proc.join("sys/kernel/random/boot_id")).ok().flatten()?;
        String::from_utf8(id).ok().map(|id| id.trim().to_owned())
    }
    /// Whether the running kernel enforces module signatures.
    pub fn sig_enforce(&self) -> PathBuf {
        self.sys.join("module/module/parameters/sig_enforce")
    }
}

/// Paths of sources and configuration.
impl Layout {
    /// `/usr/src/NAME-VERSION`
    pub fn source(&self, id: &ModuleId) -> PathBuf {
        self.source_tree.join(format!("{}-{}", id.name, id.version))
    }
    /// `/etc/dkms`
    pub fn config(&self) -> PathBuf {
        self.etc.join("dkms")
    }
    /// The admin's patches and scripts for a module, which take precedence over those of its source.
    pub fn module_config(&self, name: &ModuleName) -> PathBuf {
        self.config().join(name.as_str())
    }
    /// The admin's settings.
    pub fn policy(&self) -> PathBuf {
        self.config().join("policy.toml")
    }
    /// Lists of modules that packages of the distribution want to be installed with force.
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
    /// The file that disables automatic builds.
    pub fn no_autoinstall(&self) -> PathBuf {
        self.config().join("no-autoinstall")
    }
    /// The names of the admin's overrides of a module's dkms.conf in [`Layout::config`], least specific first.
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
    /// Text files that configure additional modules of an initramfs.
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
    /// The machine's devices; the `modalias` of each identifies its module.
    pub fn devices(&self) -> PathBuf {
        PathBuf::from("/sys/devices")
    }
    /// Exists while systemd is process 1.
    pub fn systemd(&self) -> PathBuf {
        PathBuf::from("/run/systemd/system")
    }
    /// The modules of the running kernel.
    pub fn loaded_modules(&self) -> PathBuf {
        self.proc.join("modules")
    }
}

/// Files in a kernel's directory that exist as long as the kernel is installed.
const IMAGE: [&str; 2] = ["vmlinuz", "modules.builtin"];
/// Other entries in it that are neither other packages' modules nor written by depmod.
const PARTS: [&str; 5] = ["build", "kernel", "modules.order", "System.map", "config"];

/// The meaning of a path in a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackagePath<'a> {
    /// An essential file of the kernel with this release.
    Image(&'a str),
    /// Another file of this kernel.
    Part(&'a str),
    /// The dkms.conf in this directory of the source tree.
    Source(&'a str),
}

impl<'a> PackagePath<'a> {
    /// The meaning of an absolute path in a package, if it belongs to a kernel or to a module's source.
    pub fn of(path: &'a str) -> Option<Self> {
        let path = path.strip_prefix("/usr").unwrap_or(path);
        if let Some(source) = path.strip_prefix("/src/") {
            if let Some(kernel) = source.strip_prefix("kernels/") {
                // The directory itself: its content would be thousands of equivalent paths.
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

/// Paths of programs and libraries.
impl Layout {
    /// Directories in which the system's libraries are searched.
    pub fn library_dirs() -> Vec<PathBuf> {
        let usr = Path::new("/usr/lib");
        let names = file::sub_dirs(usr).into_iter();
        // Debian has one per architecture.
        let machines = names.filter(|name| name.contains("-linux-")).map(|name| usr.join(name));
        machines.chain(["/usr/lib64", "/usr/lib", "/lib64", "/lib"].map(PathBuf::from)).collect()
    }
    /// Directories of gcc's parts, with `MACHINE/VERSION` below each.
    pub fn gcc_dirs() -> [PathBuf; 2] {
        ["/usr/libexec/gcc".into(), "/usr/lib/gcc".into()]
    }
}

/// Top-level directories that are links into `usr` on systems with a merged `/usr`.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// The real path of a path in a package, relative to the root: packages may still contain `lib/modules`.
pub fn merged(path: PathBuf) -> PathBuf {
    let mut parts = path.components();
    let first = parts.next().and_then(|part| part.as_os_str().to_str());
    // The directory itself may be in the package as a link.
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
            // Written by depmod; another package's module: not a kernel.
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
