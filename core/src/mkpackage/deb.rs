//! Debian packages: an ar archive of two tarballs.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{Contents, Member, directories, names, scripts};
use crate::archive;
use crate::kernel::Compression;
use crate::package::machine_in_deb;

/// The changes between versions are those of the module.
const CHANGE: &str = "The modules were built by dkms.";

/// The file name and the bytes of `NAME-modules-KERNEL`.
pub(super) fn package(contents: &Contents) -> Result<(String, Vec<u8>)> {
    let name = names::deb(&contents.module.name, &contents.target.kernel);
    let version = names::deb_version(contents.module.version.as_str());
    let mut members = contents.members(&name);
    members.extend(documentation(contents, &name, &version)?);
    members.sort_by(|a, b| a.path.cmp(&b.path));
    let control = control(contents, &name, &version, &members);
    let scripts = [("postinst", scripts::postinst(contents)), ("postrm", scripts::postrm(contents))];
    pack(contents, (&name, &version), &control, &scripts, &members)
}

/// The same of the package that depends on it.
pub(super) fn meta(contents: &Contents) -> Result<(String, Vec<u8>)> {
    let (module, kernel) = (&contents.module, &contents.target.kernel);
    let name = names::deb_meta(&module.name, kernel);
    let version = names::deb_meta_version(&module.version, kernel);
    let members = documentation(contents, &name, &version)?;
    let of_kernel = names::deb(&module.name, kernel);
    let control = format!(
        "{}Depends: {of_kernel} (= {})\nDescription: {} for the newest kernel (metapackage)\n \
         This package depends on the modules of {} for the newest kernel. They\n \
         were built for {kernel}.\n",
        fields(contents, &name, &version, &members),
        names::deb_version(module.version.as_str()),
        title(contents),
        module.name,
    );
    pack(contents, (&name, &version), &control, &[], &members)
}

fn architecture(contents: &Contents) -> &str {
    machine_in_deb(&contents.target.arch)
}

fn title(contents: &Contents) -> String {
    format!("{} kernel modules", contents.module.name)
}

/// The fields before those that differ.
fn fields(contents: &Contents, name: &str, version: &str, members: &[Member]) -> String {
    let sizes = members.iter().map(|member| (member.content.len() as u64).div_ceil(1024));
    let size = sizes.sum::<u64>() + directories(members).len() as u64;
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {}\nMaintainer: {}\nInstalled-Size: {size}\n\
         Section: kernel\nPriority: optional\n",
        architecture(contents),
        contents.maintainer,
    )
}

fn control(contents: &Contents, name: &str, version: &str, members: &[Member]) -> String {
    let (module, kernel) = (&contents.module, &contents.target.kernel);
    let usual = || scripts::image_packages(contents).into_iter().next();
    let image = contents.image_package.clone().or_else(usual);
    let depends = image.map_or_else(|| "kmod".to_owned(), |image| format!("{image}, kmod"));
    let files: String = contents
        .files
        .iter()
        .map(|file| {
            format!("  * {} ({})\n", file.path.rsplit('/').next().unwrap_or_default(), file.signature)
        })
        .collect();
    format!(
        "{}Depends: {depends}\nDescription: {} for {kernel}\n \
         The kernel modules of {} {}, built by dkms and verified\n \
         for this kernel:\n .\n{files}",
        fields(contents, name, version, members),
        title(contents),
        module.name,
        module.version,
    )
}

/// Files that Debian's policy requires.
fn documentation(contents: &Contents, name: &str, version: &str) -> Result<Vec<Member>> {
    let dir = Path::new("usr/share/doc").join(name);
    let date = Timestamp::from_second(contents.time).context("the time of the package")?;
    let date = date.strftime("%a, %d %b %Y %H:%M:%S +0000");
    let changelog = format!(
        "{name} ({version}) unstable; urgency=medium\n\n  * {CHANGE}\n\n -- {}  {date}\n",
        contents.maintainer
    );
    let mut encoder = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::best());
    encoder.write_all(changelog.as_bytes())?;
    // That of a version with a Debian revision has another name.
    let changelog_file = if version.contains('-') { "changelog.Debian.gz" } else { "changelog.gz" };
    let license = contents.license();
    let full = match license.contains("GPL") {
        true => {
            "\n\nOn Debian systems, the full text of the GNU General Public License version 2 is\n\
                 in /usr/share/common-licenses/GPL-2."
        }
        false => "",
    };
    let copyright = format!(
        "The kernel modules of {}, built by dkms from the source {}-{}.\n\n\
         Copyright (C) the authors of {}. Their notices are in the source.\n\n\
         License, as the modules declare it: {license}{full}\n",
        contents.module, contents.module.name, contents.module.version, contents.module.name
    );
    Ok(vec![
        Member { path: dir.join(changelog_file), content: encoder.finish()? },
        Member { path: dir.join("copyright"), content: copyright.into_bytes() },
    ])
}

fn pack(
    contents: &Contents,
    (name, version): (&str, &str),
    control: &str,
    scripts: &[(&str, String)],
    members: &[Member],
) -> Result<(String, Vec<u8>)> {
    // Without md5sums: dpkg makes them when it unpacks the package.
    let mut parts = vec![("control", control.as_bytes(), 0o644)];
    parts.extend(scripts.iter().map(|(name, text)| (*name, text.as_bytes(), 0o755)));
    let time = contents.time;
    let control = tarball(|tar| {
        tar.dir(Path::new("."), time)?;
        parts
            .iter()
            .try_for_each(|(name, content, mode)| tar.file(&Path::new(".").join(name), content, *mode, time))
    })?;
    let data = tarball(|tar| {
        tar.dir(Path::new("."), time)?;
        for dir in directories(members) {
            tar.dir(&Path::new(".").join(dir), time)?;
        }
        members
            .iter()
            .try_for_each(|member| tar.file(&Path::new(".").join(&member.path), &member.content, 0o644, time))
    })?;
    let mut bytes = b"!<arch>\n".to_vec();
    for (member, content) in
        [("debian-binary", b"2.0\n".as_slice()), ("control.tar.xz", &control), ("data.tar.xz", &data)]
    {
        writeln!(bytes, "{member:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 100_644, content.len())?;
        bytes.extend_from_slice(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    // An epoch is not part of a file name.
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    Ok((format!("{name}_{version}_{}.deb", architecture(contents)), bytes))
}

fn tarball(fill: impl FnOnce(&mut archive::Writer<'_>) -> io::Result<()>) -> io::Result<Vec<u8>> {
    archive::compressed(Compression::Xz, Vec::new(), |packed| {
        let mut tar = archive::Writer::new(packed);
        fill(&mut tar)?;
        tar.finish()
    })
}
