//! A machine with rpm, and the checks after each transaction.

use super::{Manager, kernels, machine, version};
use crate::{Kernel, Output, Root};

/// One machine and how it is administered.
#[derive(Debug)]
pub struct Machine {
    /// Its package manager.
    pub manager: Manager,
    /// The machine.
    pub root: Root,
    /// The older of its repository's kernels, in rpm's order.
    pub older: Kernel,
    /// The newer one.
    pub newer: Kernel,
}

impl Machine {
    /// With the product, and without the kernels and modules of its repository.
    pub fn new(manager: Manager) -> Self {
        let [older, newer] = kernels();
        Self { manager, root: Root::on(&machine(manager.family())), older, newer }
    }

    /// The same with a prepared state, cached as a layer. `key` contains everything that `prepare` depends on.
    pub fn prepared(manager: Manager, name: &str, key: &str, prepare: impl FnOnce(&Self)) -> Self {
        let [older, newer] = kernels();
        let layer = machine(manager.family()).prepared_in(name, key, |root| {
            let machine = Self { manager, root, older: older.clone(), newer: newer.clone() };
            prepare(&machine);
            // dnf5's local repository cannot be renamed in a lower layer: createrepo_c aborts.
            machine.root.run("rm -rf /var/lib/dnf/plugins/local*").ok();
            machine.root
        });
        Self { manager, root: Root::on(&layer), older, newer }
    }

    /// A machine with a module that compiles and one that does not, and no kernel.
    pub fn registered(manager: Manager) -> Self {
        Self::prepared(manager, &format!("registered-{manager:?}"), "1", |machine| {
            machine.install(&["dkms-bbswitch-1.0", "dkms-broken"], 0);
            machine.root.run("dkms generate_mok").ok();
        })
    }

    /// The packages of a kernel, by name and version; the one with its headers comes last.
    pub fn packages(&self, kernel: &Kernel) -> Vec<String> {
        let names = self.manager.family().packages().iter();
        names.map(|name| format!("{name}-{}", version(kernel))).collect()
    }

    /// The directory of our modules for a kernel.
    pub fn place(&self, kernel: &Kernel) -> String {
        format!("{}/{}", kernel.modules_dir(), self.manager.family().destination())
    }

    /// Installs packages; both streams are in the standard output, in their order.
    #[track_caller]
    pub fn install<S: AsRef<str>>(&self, packages: &[S], code: i32) -> Output {
        let packages: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
        self.manager.install(&self.root, &packages).exits(code)
    }

    /// Removes packages.
    #[track_caller]
    pub fn remove<S: AsRef<str>>(&self, packages: &[S]) -> Output {
        let packages: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
        self.manager.remove(&self.root, &packages).ok()
    }

    /// Requires that our modules for a kernel are correct, and in its modules.dep.
    #[track_caller]
    pub fn expect_modules(&self, kernel: &Kernel, modules: &[&str]) {
        self.root.expect_installed(modules, &kernel.release);
        let files = self.root.find(&self.place(kernel), "-name '*.ko*'");
        assert_eq!(files.len(), modules.len(), "{files:?}");
        let index = self.root.read(&format!("{}/modules.dep", kernel.modules_dir()));
        for file in files {
            assert_eq!(kernel.vermagic_of(&self.root, &file), kernel.release, "vermagic of {file}");
            let name = file.rsplit('/').next().unwrap();
            assert!(index.contains(name), "modules.dep does not know {file}\n{index}");
        }
    }

    /// Requires that the kernel's initramfs contains the installed bbswitch.
    #[track_caller]
    pub fn expect_initramfs(&self, kernel: &Kernel) {
        self.expect_in_image(kernel, &self.manager.family().initramfs(kernel));
    }

    /// The same for an image with another path.
    #[track_caller]
    pub fn expect_in_image(&self, kernel: &Kernel, image: &str) {
        let path = self.root.find(&self.place(kernel), "-name 'bbswitch.ko*'").remove(0);
        let listed = self.root.run(&format!("lsinitrd {image}")).ok().stdout;
        assert!(listed.contains(path.trim_start_matches('/')), "{path} is not in {image}\n{listed}");
        self.root.run(&format!("lsinitrd -f {path} {image} | cmp - {path}")).ok();
    }

    /// Requires that nothing of ours is left of a removed kernel.
    #[track_caller]
    pub fn expect_gone(&self, kernel: &Kernel) {
        let mut left = self.root.find(&kernel.modules_dir(), "");
        let ours = format!("-path '*{}*' -not -path '*/history/*'", kernel.release);
        left.extend(self.root.find("/var/lib/dkms", &ours));
        assert_eq!(left, [""; 0], "nothing may stay of a kernel that is gone");
    }
}
