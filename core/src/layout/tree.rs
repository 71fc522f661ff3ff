//! Paths in the DKMS tree.

use std::path::{Path, PathBuf};

use super::Layout;
use crate::types::{ModuleId, ModuleName, Target};

/// The name of our own directory in the DKMS tree.
const OWN: &str = ".dkms-rs";

/// The suffix of the file with the path that an original of the kernel had.
const ORIGIN: &str = ".origin";

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
    /// The file beside such a file with the path that it had.
    pub fn origin_note(kept: &Path) -> PathBuf {
        let mut note = kept.to_owned().into_os_string();
        note.push(ORIGIN);
        note.into()
    }
    /// The file that such a note belongs to; `None` if it is no note.
    pub fn noted_original(note: &Path) -> Option<&Path> {
        note.to_str()?.strip_suffix(ORIGIN).map(Path::new)
    }
}

/// Paths in our own directory of the DKMS tree.
impl Layout {
    /// The directory itself.
    pub fn own(&self) -> PathBuf {
        self.dkms_tree.join(OWN)
    }
    /// Files that an installation replaced and that dkms had not installed.
    pub fn replaced(&self, target: &Target) -> PathBuf {
        self.own().join("replaced").join(target.kernel.as_str()).join(target.arch.as_str())
    }
    /// The directories in it.
    pub fn own_dirs(&self) -> Vec<PathBuf> {
        let mut dirs = vec![self.dkms_tree.clone(), self.own(), self.cache()];
        for name in [
            "borrowed",
            "evaluated",
            "failures",
            "hashes",
            "history",
            "incoming",
            "intent",
            "kept",
            "records",
            "replaced",
            "stale-initramfs",
            "upgrades",
            "verdicts",
            "work",
        ] {
            dirs.push(self.own().join(name));
        }
        dirs
    }
    /// The files in it, and those that the administrator writes.
    pub fn own_files(&self) -> Vec<PathBuf> {
        let (key, public) = self.store_key();
        let mut files = vec![
            self.lock(),
            self.swept(),
            self.upcoming(),
            self.proved(),
            self.kept_back(),
            self.reported(),
            self.boot_default(),
            self.policy(),
            key,
            public,
        ];
        files.extend(self.framework());
        files
    }
    /// What the package manager would install, and which modules build for it.
    pub fn upcoming(&self) -> PathBuf {
        self.own().join("upcoming.json")
    }
    /// What the last pre-build had proven.
    pub fn proved(&self) -> PathBuf {
        self.own().join("proved.json")
    }
    /// What the package manager keeps back, and why.
    pub fn kept_back(&self) -> PathBuf {
        self.own().join("kept-back.json")
    }
    /// The write lock.
    pub fn lock(&self) -> PathBuf {
        self.own().join("lock")
    }
    /// The id of the boot in which what interrupted runs left was deleted last.
    pub fn swept(&self) -> PathBuf {
        self.own().join("swept")
    }
    /// The intents of the current transaction: one file per process, because a module's script may call dkms.
    pub fn intents(&self) -> PathBuf {
        self.own().join("intent")
    }
    /// The reports of past transactions.
    pub fn history(&self) -> PathBuf {
        self.own().join("history")
    }
    /// What was reported in the current transaction.
    pub fn reported(&self) -> PathBuf {
        self.own().join("reported.json")
    }
    /// The record of a build: `records/NAME/VERSION/KERNEL/ARCH.json`.
    pub fn record(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.keyed("records", id, target, "json")
    }
    /// The record of a failed build.
    pub fn failure(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.keyed("failures", id, target, "json")
    }
    /// How a module ended with borrowed headers.
    pub fn verdict(&self, id: &ModuleId, target: &Target) -> PathBuf {
        self.keyed("verdicts", id, target, "json")
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
    /// Packages with a kernel's headers that were downloaded for a transaction, and are not installed.
    pub fn borrowed(&self) -> PathBuf {
        self.own().join("borrowed")
    }
    /// The kernel that was made the boot default, and the change.
    pub fn boot_default(&self) -> PathBuf {
        self.own().join("boot-default.json")
    }
    /// Kernels whose initramfs may be out of date.
    pub fn stale(&self) -> PathBuf {
        self.own().join("stale-initramfs")
    }
    /// Why a kernel's initramfs may be out of date: `stale-initramfs/KERNEL/ARCH.json`.
    pub fn stale_initramfs(&self, target: &Target) -> PathBuf {
        self.stale().join(target.kernel.as_str()).join(format!("{}.json", target.arch))
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
