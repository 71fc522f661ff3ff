//! `dkms mkpackage`: a build of the DKMS tree as a native package, for machines without compiler and headers.
//!
//! [`gather`] reads a build and verifies it again. The writers are pure: the same [`Contents`] give the same bytes, and contain
//! nothing of this machine. An installed package has a [`marker`], which tells dkms to leave the module alone.

mod deb;
mod gather;
mod names;
mod pacman;
mod rpm;
mod scripts;
mod sysext;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use gather::{Refusal, gather, newest};

use crate::distro::{Distribution, PackageFormat};
use crate::kernel::Module;
use crate::marker::{self, Marker};
use crate::session::Session;
use crate::sys::file::Staged;
use crate::sys::hash;
use crate::sys::private::Private;
use crate::types::{ModuleId, Target};

/// What is packed.
#[derive(Debug)]
pub struct Contents {
    /// The module.
    pub module: ModuleId,
    /// The kernel.
    pub target: Target,
    /// The directory of all kernels' modules, without the slash at its beginning: `usr/lib/modules`.
    pub modules_dir: PathBuf,
    /// The module files, sorted by path.
    pub files: Vec<ModuleFile>,
    /// Whether the modules may be offered to compatible kernels.
    pub weak_modules: bool,
    /// The package base of the kernel, if it records one.
    pub pkgbase: Option<String>,
    /// The package that has installed the kernel here, if it is one of several that can.
    pub image_package: Option<String>,
    /// The version of the kernel's package, if the package manager was asked for it.
    pub image_version: Option<String>,
    /// The time of all files, in seconds since 1970.
    pub time: i64,
    /// Who makes the package, as in an e-mail address.
    pub maintainer: String,
    /// What `--meta` and the scripts need to know of the distribution that it is for.
    pub distribution: Distribution,
    /// Remarks for the user.
    pub remarks: Vec<String>,
}

/// A module file.
#[derive(Debug)]
pub struct ModuleFile {
    /// Its path, relative to the kernel's module directory.
    pub path: String,
    /// Its content, as it is in the DKMS tree.
    pub content: Vec<u8>,
    /// What it says about itself.
    pub module: Module,
    /// Its signature, as text.
    pub signature: String,
}

/// A file of a package.
#[derive(Debug)]
struct Member {
    /// Its path, relative to the root.
    path: PathBuf,
    content: Vec<u8>,
}

impl Contents {
    /// The directory of the kernel's modules, relative to the root.
    fn kernel_dir(&self) -> PathBuf {
        self.modules_dir.join(self.target.kernel.as_str())
    }

    /// The module files and the marker, for a package of this name.
    fn members(&self, package: &str) -> Vec<Member> {
        let dir = self.kernel_dir();
        let files = self.files.iter().map(|file| (file.path.clone(), hash::hex(&file.content)));
        let marker = Marker {
            format: marker::FORMAT,
            module: self.module.clone(),
            target: self.target.clone(),
            package: package.to_owned(),
            files: files.collect(),
        };
        let path = crate::layout::Layout::marker_below(&dir, &self.module.name);
        let mut members = vec![Member { path, content: marker.text().into_bytes() }];
        members.extend(
            self.files
                .iter()
                .map(|file| Member { path: dir.join(&file.path), content: file.content.clone() }),
        );
        members.sort_by(|a, b| a.path.cmp(&b.path));
        members
    }

    /// The license of its modules, in their words.
    fn license(&self) -> String {
        let mut all: Vec<&str> =
            self.files.iter().filter_map(|file| file.module.license.as_deref()).collect();
        all.sort_unstable();
        all.dedup();
        let plain = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
        let all: Vec<&str> = all.into_iter().filter(plain).collect();
        if all.is_empty() { "unknown".to_owned() } else { all.join(" and ") }
    }
}

/// The directories above these files, sorted: a package lists them so that they are removed with it.
fn directories(members: &[Member]) -> Vec<PathBuf> {
    let above = members.iter().flat_map(|member| member.path.ancestors().skip(1));
    let mut all: Vec<PathBuf> =
        above.filter(|dir| !dir.as_os_str().is_empty()).map(Path::to_path_buf).collect();
    all.sort();
    all.dedup();
    all
}

/// Writes the package to a directory; returns its path. Until it is complete, it has another name.
pub fn write(session: &Session, contents: &Contents, format: PackageFormat, out: &Path) -> Result<PathBuf> {
    let (name, bytes) = match format {
        PackageFormat::Deb => deb::package(contents)?,
        PackageFormat::Rpm => rpm::package(contents, &place(session)?)?,
        PackageFormat::Pacman => pacman::package(contents)?,
        PackageFormat::Sysext => sysext::package(contents, &place(session)?)?,
    };
    put(out, &name, &bytes)
}

/// Writes the package that depends on the one for this kernel, which is the newest one.
pub fn write_meta(
    session: &Session,
    contents: &Contents,
    format: PackageFormat,
    out: &Path,
) -> Result<PathBuf> {
    let (name, bytes) = match format {
        PackageFormat::Deb => deb::meta(contents)?,
        PackageFormat::Rpm => rpm::meta(contents, &place(session)?)?,
        PackageFormat::Pacman | PackageFormat::Sysext => {
            anyhow::bail!("a package of this format follows its kernel without --meta")
        }
    };
    put(out, &name, &bytes)
}

/// Where a program works on the package. Not below the directory of the result, in which others may have made a place already.
fn place(session: &Session) -> Result<Private> {
    if crate::sys::file::writable(&session.layout.own()) {
        Private::new(&session.layout.incoming())
    } else {
        Private::temporary()
    }
}

fn put(out: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = out.join(name);
    let written = Staged::new(&path, bytes, 0o644).and_then(Staged::commit);
    written.with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package of one module, for the distribution with this os-release.
    pub(super) fn contents(system: &str, kernel: &str) -> Contents {
        let module = Module { license: Some("GPL".into()), ..Module::default() };
        Contents {
            module: "a/1".parse().unwrap(),
            target: Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() },
            modules_dir: "usr/lib/modules".into(),
            files: vec![ModuleFile {
                path: "updates/dkms/a.ko.xz".into(),
                content: b"module".to_vec(),
                module,
                signature: "unsigned".into(),
            }],
            weak_modules: true,
            pkgbase: None,
            image_package: None,
            image_version: None,
            time: 1_000_000_000,
            maintainer: "M <m@example.org>".into(),
            distribution: Distribution::from_os_release(system),
            remarks: Vec::new(),
        }
    }

    #[test]
    fn directories_above_all_files() {
        let contents = contents("ID=debian", "6.1");
        let members = contents.members("a-modules-6.1");
        let all: Vec<String> = directories(&members).iter().map(|dir| dir.display().to_string()).collect();
        let below = |dir: &str| format!("usr/lib/modules/6.1{dir}");
        let expected = [below(""), below("/dkms-packages"), below("/updates"), below("/updates/dkms")];
        assert_eq!(all[..3], ["usr", "usr/lib", "usr/lib/modules"]);
        assert_eq!(all[3..], expected);
    }
}
