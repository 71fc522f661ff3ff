//! Base roots: a minimal Debian with a compiler, created once per suite and recipe.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::Layer;
use crate::preparing::preparing;
use crate::{Output, host, mirror::Mirror};

/// The differences between the tested releases, as data.
#[derive(Debug, PartialEq, Eq)]
pub struct Suite {
    /// Code name.
    pub name: &'static str,
    /// Debian's architecture, if it is not the host's: programs in the root are emulated.
    pub foreign: Option<&'static str>,
    /// The prefix of the releases of this suite's own kernels.
    pub kernel_series: &'static str,
    /// Whether apt can install headers without the image (trixie's headers depend on it).
    pub headers_stand_alone: bool,
}

/// Debian 13.
pub static TRIXIE: Suite =
    Suite { name: "trixie", foreign: None, kernel_series: "6.12.", headers_stand_alone: false };
/// The same for 64-bit ARM.
pub static TRIXIE_ARM64: Suite =
    Suite { name: "trixie", foreign: Some("arm64"), kernel_series: "6.12.", headers_stand_alone: false };
/// Debian's unstable: the newest version of every package manager. Its own kernel series changes often; tests in it use
/// kernels of other suites.
pub static SID: Suite = Suite { name: "sid", foreign: None, kernel_series: "", headers_stand_alone: false };
/// Debian 12.
pub static BOOKWORM: Suite =
    Suite { name: "bookworm", foreign: None, kernel_series: "6.1.", headers_stand_alone: true };

/// Marks every root of the tests; its mtime is when the base was created.
pub(super) const STAMP: &str = "/etc/made-by-dkms-tests";

const PACKAGES: &[&str] = &[
    "ca-certificates",
    "gcc",
    "make",
    "kmod",
    "patch",
    "libc6-dev",
    "dpkg-dev",
    "xz-utils",
    "zstd",
    "openssl",
    "initramfs-tools",
    "linux-base",
];

/// Old kernels are removed from the mirror: an older index is downloaded again.
const FRESH: Duration = Duration::from_secs(3 * 24 * 3600);

/// Throwaway roots need no fsync, no translated manuals, and no recommended packages.
const APT_CONF: &str =
    "APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\nDpkg::Use-Pty \"false\";\n";

impl Suite {
    /// Debian 13, the first target.
    pub fn trixie() -> &'static Self {
        &TRIXIE
    }

    /// Debian 13 for 64-bit ARM.
    pub fn trixie_arm64() -> &'static Self {
        &TRIXIE_ARM64
    }

    /// Debian 12: hooks run by run-parts over one directory, modules packaged below /lib.
    pub fn bookworm() -> &'static Self {
        &BOOKWORM
    }

    /// Debian's unstable: pacman, dnf and zypper as their own distributions have them today.
    pub fn sid() -> &'static Self {
        &SID
    }

    /// The base root, created if it is missing or too old.
    pub fn base(&'static self) -> Layer {
        let mirror = Mirror::of_host();
        let lines = mirror.lines_for(self.name);
        let recipe = format!("{PACKAGES:?}{lines:?}{APT_CONF}{}v3", mirror.apt_conf);
        let label =
            format!("{}{}", self.name, self.foreign.map(|arch| format!("-{arch}")).unwrap_or_default());
        let name = format!("base/{label}-{}", host::key(&[recipe.as_bytes()]));
        let dir = host::roots_dir().join(&name);
        let _building = host::lock(&format!("build-base-{label}"));
        if is_fresh(&dir) {
            return Layer::bottom(self, name);
        }
        // Roots in use hold a shared lock on their layers: an outdated base is better than one that is deleted during a
        // test.
        let unused = host::try_lock(&name.replace('/', "-"));
        if unused.is_none() && dir.exists() {
            return Layer::bottom(self, name);
        }
        preparing(&format!("{label}-base"), || make(self, &dir, &lines, &mirror.apt_conf));
        Layer::bottom(self, name)
    }
}

fn is_fresh(dir: &std::path::Path) -> bool {
    let age = |t: SystemTime| SystemTime::now().duration_since(t).unwrap_or_default();
    let made = fs::metadata(dir.join(&STAMP[1..])).and_then(|m| m.modified());
    made.is_ok_and(|t| age(t) < FRESH)
}

fn make(suite: &Suite, dir: &std::path::Path, lines: &[String], apt_conf: &str) {
    host::need_tools(&[("mmdebstrap", "mmdebstrap")]);
    let building = dir.with_extension("building");
    for old in [dir, &building] {
        if old.exists() {
            fs::remove_dir_all(old).unwrap();
        }
    }
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--format=directory", "--skip=cleanup/apt/lists,check/qemu"]);
    command.arg(format!("--include={}", PACKAGES.join(",")));
    command.args(["--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*"]);
    for line in apt_conf.lines().chain(APT_CONF.lines()) {
        command.arg(format!("--aptopt={line}"));
    }
    command.args(suite.foreign.map(|arch| format!("--architectures={arch}")));
    command.arg(suite.name).arg(&building).args(lines);
    Output::new("mmdebstrap", &command.output().expect("mmdebstrap")).ok();
    // Without these caches, each apt command in each root parses all package indices, which takes seconds.
    let caches = Command::new("chroot").arg(&building).args(["apt-cache", "gencaches"]).output();
    Output::new("apt-cache gencaches", &caches.expect("chroot")).ok();
    finish(&building);
    fs::rename(&building, dir).unwrap();
}

/// Common settings of all tests: the host's certificates, an initramfs that is real but fast to generate, a stamp.
fn finish(root: &std::path::Path) {
    let bundle = "etc/ssl/certs/ca-certificates.crt";
    fs::copy(format!("/{bundle}"), root.join(bundle)).ok();
    let quick = "# Only the modules named in /etc/initramfs-tools/modules\nMODULES=list\nCOMPRESS=gzip\n";
    fs::write(root.join("etc/initramfs-tools/conf.d/quick"), quick).unwrap();
    // Services that start during the configuration of packages are not part of the tests.
    fs::write(root.join("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n").unwrap();
    fs::write(root.join(&STAMP[1..]), "").unwrap();
}
