//! System extensions: images whose `/usr` systemd-sysext lays over that of a running system.
//!
//! An extension has none of depmod's files. There is one of each for a kernel, so that those of an extension would hide the system's
//! and those of other extensions, together with every module that they list. What modprobe needs instead is in its configuration.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Contents, Member, directories, names};
use crate::kernel::elf;
use crate::sys::file;
use crate::sys::private::Private;
use crate::sys::run::{Cmd, which};
use crate::types::Arch;

/// The programs that write the image: the first one that is installed.
const SQUASHFS: &str = "mksquashfs";
const EROFS: &str = "mkfs.erofs";

/// The architectures as systemd calls them.
const ARCHITECTURES: [(&str, &str); 9] = [
    ("x86_64", "x86-64"),
    ("i686", "x86"),
    ("aarch64", "arm64"),
    ("armv7l", "arm"),
    ("armv6l", "arm"),
    ("ppc64le", "ppc64-le"),
    ("riscv64", "riscv64"),
    ("s390x", "s390x"),
    ("loongarch64", "loongarch64"),
];

/// The file name and the bytes of `NAME-modules-KERNEL.raw`. Its name is also in its content. `work` is a directory that only this
/// user can enter.
pub(super) fn package(contents: &Contents, work: &Private) -> Result<(String, Vec<u8>)> {
    let name = names::deb(&contents.module.name, &contents.target.kernel);
    let members = members(contents, &name)?;
    let mtime = u64::try_from(contents.time).unwrap_or(0);
    let tree = Path::new("tree");
    work.dir(tree)?;
    directories(&members).iter().try_for_each(|dir| work.dir(&tree.join(dir)))?;
    for member in &members {
        work.file(&tree.join(&member.path), &mut Cursor::new(&member.content), false, mtime)?;
    }
    let place = work.path().canonicalize().context("finding the working directory")?;
    let (tree, image) = (place.join("tree"), place.join("image"));
    let command = if which(SQUASHFS).is_some() {
        let options = ["-noappend", "-all-root", "-no-xattrs", "-quiet", "-no-progress"];
        // The time of the image, and an upper limit of those in it.
        Cmd::new(SQUASHFS).arg(&tree).arg(&image).args(options).env("SOURCE_DATE_EPOCH", mtime.to_string())
    } else if which(EROFS).is_some() {
        let options = ["--quiet", "--all-root", "-x-1", "-U", "00000000-0000-0000-0000-000000000000"];
        Cmd::new(EROFS).args(options).arg(format!("-T{mtime}")).arg(&image).arg(&tree)
    } else {
        bail!(
            "neither {SQUASHFS} nor {EROFS} is installed; install the package squashfs-tools or erofs-utils"
        )
    };
    command.env("TZ", "UTC").check().context("writing the image of a system extension")?;
    let bytes = file::content(&image).with_context(|| format!("reading {}", image.display()))?;
    Ok((format!("{name}.raw"), bytes))
}

fn members(contents: &Contents, name: &str) -> Result<Vec<Member>> {
    if !contents.modules_dir.starts_with("usr") {
        bail!("a system extension extends /usr, and not /{}", contents.modules_dir.display());
    }
    let mut members = contents.members(name);
    members.push(Member {
        path: Path::new("usr/lib/extension-release.d").join(format!("extension-release.{name}")),
        content: release(&contents.target.arch).into_bytes(),
    });
    // Of files with the same name, only that of one extension is seen: another kernel's may have other modules and aliases.
    let kernel = &contents.target.kernel;
    members.push(Member {
        path: Path::new("usr/lib/modprobe.d").join(format!("dkms-{}-{kernel}.conf", contents.module.name)),
        content: configuration(contents).into_bytes(),
    });
    Ok(members)
}

/// Which systems it can extend: a module fits a kernel, and not a version of a distribution.
fn release(arch: &Arch) -> String {
    let known = ARCHITECTURES.iter().find(|(name, _)| *name == arch.as_str());
    let arch = known.map(|(_, name)| format!("ARCHITECTURE={name}\n")).unwrap_or_default();
    format!("ID=_any\n{arch}")
}

/// What modprobe does where modules.dep does not have the modules. It reads the files of all extensions, and of several commands for
/// a module uses one: each finds the file of the running kernel, whose modules may be compressed otherwise. For a kernel without
/// one, it does what it does otherwise.
fn configuration(contents: &Contents) -> String {
    let dir = format!("/{}", contents.modules_dir.display());
    let mut text = format!("# {}: modules of a system extension.\n", contents.module.name);
    for file in &contents.files {
        let name = elf::module_name(&file.path);
        // A line of its own could be a command.
        let plain = |alias: &&String| alias.chars().all(|c| c.is_ascii_graphic());
        for alias in file.module.aliases.iter().filter(plain) {
            text.push_str(&format!("alias {alias} {name}\n"));
        }
        let plain = file.path.rsplit_once(".ko").map_or(file.path.as_str(), |(stem, _)| stem);
        text.push_str(&format!(
            "install {name} for f in {dir}/$(uname -r)/{plain}.ko*; do :; done; if [ -e \"$f\" ]; then \
             for d in $(modinfo -F depends \"$f\" | tr , ' '); do modprobe -q \"$d\"; done; insmod \"$f\" $CMDLINE_OPTS; \
             else modprobe --ignore-install {name} $CMDLINE_OPTS; fi\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mkpackage::tests::contents;

    #[test]
    fn it_has_a_name_for_systemd_and_no_file_of_depmod() {
        let mut contents = contents("ID=fedora\nVERSION_ID=43", "6.17.1-300.fc43.x86_64");
        contents.files[0].module.aliases = vec!["pci:v*d*".into(), "x a\ninstall b reboot".into()];
        let all = members(&contents, "a-modules-k").unwrap();
        let text = |path: &str| {
            let member = all.iter().find(|member| member.path == Path::new(path)).unwrap();
            String::from_utf8(member.content.clone()).unwrap()
        };
        assert_eq!(
            text("usr/lib/extension-release.d/extension-release.a-modules-k"),
            "ID=_any\nARCHITECTURE=x86-64\n"
        );
        let conf = text("usr/lib/modprobe.d/dkms-a-6.17.1-300.fc43.x86_64.conf");
        assert!(conf.contains("\nalias pci:v*d* a\n") && !conf.contains("reboot"), "{conf}");
        assert!(
            conf.contains("\ninstall a for f in /usr/lib/modules/$(uname -r)/updates/dkms/a.ko*; "),
            "{conf}"
        );
        let name = |member: &Member| member.path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(all.iter().all(|member| !name(member).starts_with("modules.")), "{all:?}");
        contents.modules_dir = "lib/modules".into();
        assert!(members(&contents, "a-modules-k").is_err());
    }
}
