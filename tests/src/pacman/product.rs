//! The product's package, built by makepkg from `packaging/arch/PKGBUILD` in a root with pacman's library, with this
//! machine's toolchain mounted.

use std::fs;
use std::path::{Path, PathBuf};

use super::tools;
use crate::preparing::preparing;
use crate::{Root, host};

/// The inputs of the package.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "CHANGELOG.md",
    "core/Cargo.toml",
    "core/src",
    "apt-hook/Cargo.toml",
    "alpm-hook",
    "packaging",
];

/// The package, built if an input has changed. `DKMS_PACMAN=FILE` tests another one.
pub fn package() -> PathBuf {
    if let Some(path) = std::env::var_os("DKMS_PACMAN") {
        return path.into();
    }
    let key = host::key(&[sources().as_bytes()]);
    let kept = host::roots_dir().join("arch").join(key);
    let _making = host::lock("build-arch-package");
    if let Some(package) = package_in(&kept) {
        return package;
    }
    fs::remove_dir_all(kept.parent().unwrap()).ok();
    preparing("Arch's package", || make(&kept))
}

/// Builds it in this directory.
fn make(kept: &Path) -> PathBuf {
    let root = Root::on(&tools());
    let target = host::workspace().join("target/arch");
    fs::create_dir_all(&target).unwrap();
    bind_toolchain(&root);
    root.bind(&host::workspace(), "/opt/tree", false);
    root.bind(&target, "/opt/target", true);
    root.run("chown maker: /opt/target && install -d -o maker /opt/made /opt/work").ok();
    let epoch = std::env::var("SOURCE_DATE_EPOCH").map(|epoch| format!("SOURCE_DATE_EPOCH={epoch} "));
    root.run(&format!(
        "cp /opt/tree/packaging/arch/PKGBUILD /opt/tree/packaging/arch/*.install /opt/work/ && sed -i 's|^_tree=.*|_tree=/opt/tree|' /opt/work/PKGBUILD && \
         cd /opt/work && setpriv --reuid maker --regid maker --clear-groups env {}HOME=/opt/maker PATH=/opt/rust/bin:$PATH \
         CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=/opt/target PKGDEST=/opt/made BUILDDIR=/opt/work \
         PKGEXT=.pkg.tar.zst makepkg --force --nodeps 2>&1",
        epoch.unwrap_or_default()
    ))
    .ok();
    let made = root.find("/opt/made", "-name 'dkms-rs-*.pkg.tar.zst'");
    fs::create_dir_all(kept).unwrap();
    let to = kept.join(Path::new(&made[0]).file_name().unwrap());
    fs::copy(root.path(&made[0]), &to).unwrap();
    to
}

/// Mounts cargo and rustc of this machine, and the sources of all dependencies.
fn bind_toolchain(root: &Root) {
    let tree = host::workspace();
    host::run_host(&format!("cd '{}' && cargo fetch --locked", tree.display()));
    let sysroot = host::run_host("rustc --print sysroot");
    root.bind(Path::new(sysroot.trim()), "/opt/rust", false);
    root.bind(&host::cargo_home(), "/opt/cargo", false);
}

fn package_in(dir: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    entries.into_iter().find(|path| path.to_string_lossy().ends_with(".pkg.tar.zst"))
}

/// Every file's hash, in order.
fn sources() -> String {
    let list = SOURCES.join(" ");
    host::run_host(&format!(
        "cd '{}' && find {list} -type f -print0 | sort -z | xargs -0 sha256sum",
        host::workspace().display()
    ))
}
