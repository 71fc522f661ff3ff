//! Paths of module sources and of the configuration.

use std::path::PathBuf;

use super::Layout;
use crate::sys::file;
use crate::types::{ModuleId, ModuleName, Target};

impl Layout {
    /// `$0` in dkms.conf: in shell DKMS it is the program. With any other name, a `$(dirname $0)/script` could mean a
    /// script of the source that shell DKMS does not run.
    pub const PROGRAM: &'static str = "/usr/sbin/dkms";

    /// The adapter's program that asks the package manager what it would install.
    pub fn upcoming_program(&self) -> PathBuf {
        PathBuf::from("/usr/lib/dkms/upcoming")
    }
    /// `/usr/src/NAME-VERSION`
    pub fn source(&self, id: &ModuleId) -> PathBuf {
        self.source_tree.join(format!("{}-{}", id.name, id.version))
    }
    /// The configuration of kernel-install, the first file first that counts.
    pub fn install_confs(&self) -> Vec<PathBuf> {
        let dirs = [
            self.etc.join("kernel"),
            "/run/kernel".into(),
            "/usr/local/lib/kernel".into(),
            "/usr/lib/kernel".into(),
        ];
        let drop_ins =
            dirs.iter().flat_map(|dir| file::sorted_entries(&dir.join("install.conf.d")).into_iter().rev());
        drop_ins.chain(dirs.iter().map(|dir| dir.join("install.conf"))).collect()
    }
    /// mkinitcpio's settings for a kernel of this package.
    pub fn mkinitcpio_preset(&self, pkgbase: &str) -> PathBuf {
        self.etc.join("mkinitcpio.d").join(format!("{pkgbase}.preset"))
    }
    /// `/etc/dkms`
    pub fn config(&self) -> PathBuf {
        self.etc.join("dkms")
    }
    /// The admin's patches and scripts for a module, which take precedence over those of its source.
    pub fn module_config(&self, name: &ModuleName) -> PathBuf {
        self.config().join(name.as_str())
    }
    /// The private key with which builds for a store are signed, and the public one.
    pub fn store_key(&self) -> (PathBuf, PathBuf) {
        (self.config().join("store.key"), self.config().join("store.pub"))
    }
    /// User names and passwords of web servers to which builds are pushed.
    pub fn store_logins(&self) -> PathBuf {
        self.config().join("store.netrc")
    }
    /// Files that programs read to find the address of a host. They may be links to where builds see nothing.
    pub fn name_resolution(&self) -> Vec<PathBuf> {
        ["resolv.conf", "hosts", "nsswitch.conf"].iter().map(|name| self.etc.join(name)).collect()
    }
    /// The admin's programs that are told of failures.
    pub fn on_failure(&self) -> PathBuf {
        self.config().join("on-failure.d")
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
    /// SUSE's settings of the directory for modules that are not the kernel's own.
    pub fn module_init_tools(&self) -> PathBuf {
        self.etc.join("sysconfig/module-init-tools")
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
    pub fn initramfs_config(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for name in [
            "initramfs-tools/modules",
            "initramfs-tools/initramfs.conf",
            "dracut.conf",
            "mkinitcpio.conf",
            "booster.yaml",
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
}
