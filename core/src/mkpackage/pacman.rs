//! pacman's packages: a tarball whose first members describe it.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Contents, Member, directories, names, scripts};
use crate::archive;
use crate::kernel::Compression;
use crate::sys::hash;

/// The file name and the bytes of `NAME-modules-PKGBASE`.
///
/// A new kernel replaces the old one, and so does the package with its modules: it is named after the kernel's package, and
/// requires the version that it was built for.
pub(super) fn package(contents: &Contents) -> Result<(String, Vec<u8>)> {
    let Some(pkgbase) = &contents.pkgbase else {
        anyhow::bail!(
            "{} has no file pkgbase with the name of its package, so that none can depend on it",
            contents.target.kernel
        );
    };
    let name = names::pacman(&contents.module.name, pkgbase);
    let version = names::pacman_version(&contents.module.version, &contents.target.kernel);
    let members = contents.members(&name);
    let info = info(contents, (&name, &version), pkgbase, &members);
    let install = scripts::install(contents);
    let mut described = vec![(".INSTALL", install.as_bytes()), (".PKGINFO", info.as_bytes())];
    let mtree = mtree(contents, &described, &members)?;
    described.insert(1, (".MTREE", &mtree));
    let time = contents.time;
    let bytes = archive::compressed(Compression::Zstd, Vec::new(), |packed| {
        let mut tar = archive::Writer::new(packed);
        for (path, content) in &described {
            tar.file(Path::new(path), content, 0o644, time)?;
        }
        for dir in directories(&members) {
            tar.dir(&dir, time)?;
        }
        members.iter().try_for_each(|member| tar.file(&member.path, &member.content, 0o644, time))?;
        tar.finish()
    })?;
    Ok((format!("{name}-{version}-{}.pkg.tar.zst", contents.target.arch), bytes))
}

fn info(contents: &Contents, (name, version): (&str, &str), pkgbase: &str, members: &[Member]) -> String {
    let (module, kernel) = (&contents.module, &contents.target.kernel);
    let size: usize = members.iter().map(|member| member.content.len()).sum();
    let needed = contents.image_version.clone().or_else(|| names::pacman_kernel_version(kernel, pkgbase));
    let depend = needed.map_or_else(|| pkgbase.to_owned(), |version| format!("{pkgbase}={version}"));
    format!(
        "pkgname = {name}\npkgbase = {name}\nxdata = pkgtype=pkg\npkgver = {version}\n\
         pkgdesc = {} kernel modules for {kernel}\nurl = \nbuilddate = {}\npackager = {}\nsize = {size}\n\
         arch = {}\nlicense = {}\ndepend = kmod\ndepend = {depend}\n",
        module.name,
        contents.time,
        contents.maintainer,
        contents.target.arch,
        contents.license(),
    )
}

/// What `pacman -Qkk` compares.
fn mtree(contents: &Contents, described: &[(&str, &[u8])], members: &[Member]) -> io::Result<Vec<u8>> {
    let time = contents.time;
    let mut text = String::from("#mtree\n/set type=file uid=0 gid=0 mode=644\n");
    let mut entries: Vec<(PathBuf, Option<&[u8]>)> =
        described.iter().map(|(path, content)| (PathBuf::from(path), Some(*content))).collect();
    entries.extend(directories(members).into_iter().map(|dir| (dir, None)));
    entries.extend(members.iter().map(|member| (member.path.clone(), Some(member.content.as_slice()))));
    for (path, content) in entries {
        let path = path.display();
        let written = match content {
            Some(content) => writeln!(
                text,
                "./{path} time={time}.0 size={} sha256digest={}",
                content.len(),
                hash::hex(content)
            ),
            None => writeln!(text, "./{path} time={time}.0 mode=755 type=dir"),
        };
        written.map_err(io::Error::other)?;
    }
    let mut encoder = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mkpackage::tests::contents;

    #[test]
    fn it_requires_the_very_version_of_the_kernel() {
        for (asked, kernel, pkgbase, expected) in [
            (None, "6.17.1-arch1-1", "linux", "linux=6.17.1.arch1-1"),
            (None, "6.12.58-1-lts", "linux-lts", "linux-lts=6.12.58-1"),
            (Some("1_2-1"), "6.12.58-1-lts", "linux-lts", "linux-lts=1_2-1"),
            (None, "6.12", "linux-own", "linux-own"),
        ] {
            let mut contents = contents("ID=arch", kernel);
            contents.image_version = asked.map(str::to_owned);
            let info = info(&contents, ("a", "1"), pkgbase, &[]);
            assert!(info.lines().any(|line| line == format!("depend = {expected}")), "{info}");
        }
    }

    #[test]
    fn our_own_reader_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let contents = Contents { pkgbase: Some("linux".into()), ..contents("ID=arch", "6.12.1-arch1-1") };
        let (name, bytes) = package(&contents).unwrap();
        assert_eq!(name, "a-modules-linux-1z6.12.1_arch1_1-1-x86_64.pkg.tar.zst");
        let path = dir.path().join(name);
        crate::sys::file::write_atomic(&path, &bytes, 0o644).unwrap();
        let read = crate::package::Package::open(&path).unwrap();
        assert_eq!((read.name.as_str(), read.version.as_str()), ("a-modules-linux", "1z6.12.1_arch1_1-1"));
        let module = Path::new("usr/lib/modules/6.12.1-arch1-1/updates/dkms/a.ko.xz");
        assert!(read.paths.iter().any(|path| path == module), "{:?}", read.paths);
    }
}
