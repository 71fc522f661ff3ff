//! Paths of a kernel: its modules, headers, image and initramfs.

use std::path::{Path, PathBuf};

use super::Layout;
use crate::types::{KernelRelease, ModuleName};

/// The directory of markers, below a kernel's module directory.
const PACKAGES: &str = "dkms-packages";

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
    /// `/lib/modules/KERNEL/dkms-packages`, the markers of packages that have installed modules.
    pub fn packages(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join(PACKAGES)
    }
    /// `/lib/modules/KERNEL/dkms-packages/NAME.json`
    pub fn package_marker(&self, kernel: &KernelRelease, name: &ModuleName) -> PathBuf {
        self.packages(kernel).join(format!("{name}.json"))
    }
    /// The same below another directory than that of a kernel on this machine.
    pub fn marker_below(kernel: &Path, name: &ModuleName) -> PathBuf {
        kernel.join(PACKAGES).join(format!("{name}.json"))
    }
    /// The directory of all kernels' modules for packages, relative to the root: `usr/lib/modules`, or `lib/modules` on a system
    /// without merged `/usr`.
    pub fn packaged_modules(&self) -> PathBuf {
        let usual = Path::new("/lib/modules");
        let separate = self.install_tree == usual && usual.canonicalize().is_ok_and(|real| real == usual);
        PathBuf::from(if separate { "lib/modules" } else { "usr/lib/modules" })
    }
    /// What kmod reads first, instead of depmod's lists in text.
    pub fn binary_indexes(&self, kernel: &KernelRelease) -> [PathBuf; 3] {
        ["modules.dep.bin", "modules.alias.bin", "modules.symbols.bin"]
            .map(|name| self.kernel(kernel).join(name))
    }
    /// depmod's list of the symbols that modules export.
    pub fn modules_symbols(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("modules.symbols")
    }
    /// `/lib/modules/KERNEL/modules.builtin`, the built-in modules.
    pub fn modules_builtin(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("modules.builtin")
    }
    /// `/lib/modules/KERNEL/modules.order`, the kernel's own modules.
    pub fn modules_order(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("modules.order")
    }
    /// `/boot/vmlinuz-KERNEL`, the image on distributions whose boot loaders read it here.
    pub fn boot_image(&self, kernel: &KernelRelease) -> PathBuf {
        self.boot.join(format!("vmlinuz-{kernel}"))
    }
    /// `/lib/modules/KERNEL/vmlinuz`, the image on distributions whose packages own nothing in `/boot`.
    pub fn image(&self, kernel: &KernelRelease) -> PathBuf {
        self.kernel(kernel).join("vmlinuz")
    }
    /// Files of an installed kernel, each of which its package may own: the image first. Packages may have them below
    /// `/usr` where `/lib` is a link, and then a package database knows only that path.
    pub fn kernel_files(&self, kernel: &KernelRelease) -> Vec<PathBuf> {
        let dirs = [Path::new("/usr").join("lib/modules").join(kernel.as_str()), self.kernel(kernel)];
        let names = ["vmlinuz", "modules.builtin", "modules.order"];
        let owned = names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        std::iter::once(self.boot_image(kernel)).chain(owned).collect()
    }
    /// A file of a kernel as the package database may have it: with or without the link of a merged `/usr`.
    pub fn packaged_paths(&self, file: &Path) -> Vec<PathBuf> {
        let inside = file.strip_prefix(&self.install_tree).ok();
        let merged = inside.map(|inside| Path::new("/usr").join("lib/modules").join(inside));
        std::iter::once(file.to_owned()).chain(merged).collect()
    }
    /// Whether the install tree is the system's, which its package database knows.
    pub fn has_system_kernels(&self) -> bool {
        let system = Self::default().install_tree;
        self.install_tree == system || self.install_tree == Path::new("/usr").join("lib/modules")
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
        // booster's.
        names.extend([pkgbase.unwrap_or(kernel.as_str())].map(|name| format!("booster-{name}.img")));
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
        let read = |path: &PathBuf| crate::sys::file::text(path).ok();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file;

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
}
