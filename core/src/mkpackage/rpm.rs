//! rpm packages: rpmbuild writes them, from a spec file that is made here.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{Contents, Member, names, scripts};
use crate::distro::fill;
use crate::sys::file;
use crate::sys::private::Private;
use crate::sys::run::{Cmd, which};

/// The program that writes the package.
const RPMBUILD: &str = "rpmbuild";

/// The file name and the bytes of `kmod-NAME-KERNEL`. `work` is a directory that only this user can enter: rpmbuild executes
/// what is in a spec file.
pub(super) fn package(contents: &Contents, work: &Private) -> Result<(String, Vec<u8>)> {
    let name = names::rpm(&contents.module.name, &contents.target.kernel);
    let version = names::rpm_version(contents.module.version.as_str());
    let members = contents.members(&name);
    let bytes = build(contents, &members, work, |place| spec(contents, (&name, &version), &members, place))?;
    Ok((format!("{name}-{version}-1.{}.rpm", contents.target.arch), bytes))
}

/// The same of the package that requires it.
pub(super) fn meta(contents: &Contents, work: &Private) -> Result<(String, Vec<u8>)> {
    let name = names::rpm_meta(&contents.module.name, &contents.target.kernel);
    let version = names::rpm_version(contents.module.version.as_str());
    let release = names::rpm_meta_release(&contents.target.kernel);
    let bytes = build(contents, &[], work, |_| meta_spec(contents, &name, &version, &release))?;
    Ok((format!("{name}-{version}-{release}.{}.rpm", contents.target.arch), bytes))
}

/// Starts rpmbuild. The spec file is made for the directory of the members.
fn build(
    contents: &Contents,
    members: &[Member],
    dir: &Private,
    spec: impl FnOnce(&str) -> String,
) -> Result<Vec<u8>> {
    if which(RPMBUILD).is_none() {
        anyhow::bail!("{RPMBUILD} is not installed; install the package rpm-build (Debian: rpm)");
    }
    let mtime = u64::try_from(contents.time).unwrap_or(0);
    dir.dir(Path::new("files"))?;
    for (number, member) in members.iter().enumerate() {
        let path = Path::new("files").join(number.to_string());
        dir.file(&path, &mut Cursor::new(&member.content), false, mtime)?;
    }
    let place = dir.path().canonicalize().context("finding the working directory")?;
    let spec = spec(&place.join("files").display().to_string());
    dir.file(Path::new("package.spec"), &mut Cursor::new(spec.as_bytes()), false, mtime)?;
    let define = |name: &str, path: &str| format!("{name} {}", place.join(path).display());
    Cmd::new(RPMBUILD)
        .args(["-bb", "--quiet", "--target", contents.target.arch.as_str()])
        .args(["--define", &define("_topdir", "top"), "--define", &define("_dbpath", "db")])
        .args(["--define", &define("_rpmdir", "made"), "--define", "_rpmfilename package.rpm"])
        .arg(place.join("package.spec"))
        .env("SOURCE_DATE_EPOCH", contents.time.to_string())
        .env("TZ", "UTC")
        .check()
        .with_context(|| format!("running {RPMBUILD}"))?;
    let made = place.join("made/package.rpm");
    file::content(&made).with_context(|| format!("reading {}", made.display()))
}

/// What makes the bytes of a package those of its content.
const REPRODUCIBLE: &str = "%define use_source_date_epoch_as_buildtime 1\n%define clamp_mtime_to_source_date_epoch 1\n\
     %define source_date_epoch_from_changelog 0\n%define _buildhost localhost\n\
     %define _binary_payload w6.xzdio\n%define __os_install_post %{nil}\n%define debug_package %{nil}\n\
     %define _build_id_links none\n%define _rpmformat 4\n\
     %define _changelog_trimage 0\n%define _changelog_trimtime 0\n";

/// The spec file of the package without files.
fn meta_spec(contents: &Contents, name: &str, version: &str, release: &str) -> String {
    let (module, kernel) = (&contents.module, &contents.target.kernel);
    let of_kernel = names::rpm(&module.name, kernel);
    format!(
        "Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: Kernel modules of {} for the newest kernel\n\
         License: {}\nGroup: System/Kernel\nPackager: {}\nAutoReqProv: no\nRequires: {of_kernel} = {version}\n\
         {REPRODUCIBLE}\n%description\nRequires the kernel modules of {} for the newest kernel. They were built\n\
         for {kernel}.\n\n%files\n\n{}",
        module.name,
        license(contents),
        packager(contents),
        module.name,
        changelog(contents, version, release),
    )
}

/// The spec file. Its files are named by their numbers in `place`.
fn spec(contents: &Contents, (name, version): (&str, &str), members: &[Member], place: &str) -> String {
    let (module, kernel) = (&contents.module, &contents.target.kernel);
    let dir = format!("/{}", contents.kernel_dir().display());
    let lines = |all: BTreeSet<String>| all.into_iter().collect::<String>();
    let provides = lines(provides(contents).into_iter().map(|text| format!("Provides: {text}\n")).collect());
    let install: String = members
        .iter()
        .enumerate()
        .map(|(number, member)| {
            format!("install -D -p -m 644 '{place}/{number}' '%{{buildroot}}/{}'\n", escaped(member))
        })
        .collect();
    // Directories of the kernel's package, and those above, are not ours.
    let own = members.iter().flat_map(|member| member.path.ancestors().skip(1));
    let own = own.filter(|path| path.starts_with(contents.kernel_dir()) && *path != contents.kernel_dir());
    let own = lines(own.map(|path| format!("%dir \"/{}\"\n", path.display())).collect());
    let files: String = members.iter().map(|member| format!("\"/{}\"\n", escaped(member))).collect();
    format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: Kernel modules of {} for {kernel}\n\
         License: {}\nGroup: System/Kernel\nPackager: {}\nAutoReqProv: no\n\
         Requires: {}\nRequires: kmod\nRequires(posttrans): /bin/sh\nRequires(postun): /bin/sh\n{provides}\
         {REPRODUCIBLE}\n\
         %description\nThe kernel modules of {module}, built by dkms and verified for kernel\n{kernel}.\n\n\
         %install\n{install}\n%posttrans -p /bin/sh\n{}\n%postun -p /bin/sh\n{}\n%files\n%defattr(-,root,root)\n{own}{files}\n{}",
        module.name,
        license(contents),
        packager(contents),
        requires(contents, &dir),
        script(&scripts::posttrans(contents)),
        script(&scripts::postun(contents)),
        changelog(contents, version, "1"),
    )
}

fn packager(contents: &Contents) -> String {
    contents.maintainer.replace('%', "")
}

/// The changes between versions are those of the module.
fn changelog(contents: &Contents, version: &str, release: &str) -> String {
    let date = Timestamp::from_second(contents.time).unwrap_or_default();
    format!(
        "%changelog\n* {} {} - {version}-{release}\n- The modules were built by dkms.\n",
        date.strftime("%a %b %d %Y"),
        packager(contents)
    )
}

/// rpm expands macros in scripts, too.
fn script(text: &str) -> String {
    text.replace('%', "%%")
}

fn escaped(member: &Member) -> String {
    member.path.display().to_string().replace('%', "%%")
}

fn license(contents: &Contents) -> String {
    contents.license().replace('%', "")
}

/// The kernel: as the distribution names it, if that can be a version of rpm, which has at most one dash; else by one of its
/// files. Those are unknown to package managers before the kernel is installed.
fn requires(contents: &Contents, dir: &str) -> String {
    let named = scripts::image_packages(contents).into_iter().next();
    let can =
        |text: &String| text.split_once(" = ").is_some_and(|(_, version)| version.matches('-').count() <= 1);
    named.filter(can).unwrap_or_else(|| format!("{dir}/modules.builtin"))
}

/// What other packages may require, in the distribution's words.
fn provides(contents: &Contents) -> BTreeSet<String> {
    let mut found = BTreeSet::from([format!(
        "kmod-{} = {}",
        contents.module.name,
        names::rpm_version(contents.module.version.as_str())
    )]);
    // In an entry, a space or a parenthesis would end the name.
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.+:*[]".contains(c))
    };
    for pattern in contents.distribution.module_provides {
        let pattern = fill(pattern, &contents.target, contents.pkgbase.as_deref());
        for file in &contents.files {
            let entries: Vec<String> = if pattern.contains("{alias}") {
                let aliases = file.module.aliases.iter().filter(|alias| plain(alias));
                aliases.map(|alias| pattern.replace("{alias}", alias)).collect()
            } else if pattern.contains("{symbol}") {
                let exports = file.module.exports.iter().filter(|(symbol, _)| plain(symbol));
                let with_crc = exports.filter_map(|(symbol, export)| Some((symbol, export.crc?)));
                with_crc
                    .map(|(symbol, crc)| {
                        pattern.replace("{symbol}", symbol).replace("{crc}", &format!("{crc:08x}"))
                    })
                    .collect()
            } else {
                let stem = file.path.rsplit('/').next().unwrap_or_default();
                let stem = stem.split_once(".ko").map_or(stem, |(stem, _)| stem);
                vec![pattern.replace("{module}", stem)]
            };
            found.extend(entries);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Export;
    use crate::mkpackage::tests::contents;

    #[test]
    fn a_kernel_is_required_by_its_release_or_by_a_file() {
        for (system, kernel, expected) in [
            ("suse", "6.4.0-150600.23-default", "kernel-default = 6.4.0-150600.23"),
            ("fedora", "6.12.1-1.fc43.x86_64", "kernel-uname-r = 6.12.1-1.fc43.x86_64"),
            ("fedora", "6.12.1", "kernel-uname-r = 6.12.1"),
            (
                "fedora",
                "6.12.1+deb13-cloud-amd64",
                "/usr/lib/modules/6.12.1+deb13-cloud-amd64/modules.builtin",
            ),
        ] {
            let contents = contents(&format!("ID={system}"), kernel);
            assert_eq!(requires(&contents, &format!("/usr/lib/modules/{kernel}")), expected);
        }
    }

    #[test]
    fn the_distributions_words_for_what_a_module_provides() {
        for (system, expected) in [
            ("ID=fedora", ["kmod(a.ko)", "kmod-a = 1", "ksym(a_get) = 0x0000beef", "modalias(pci:v*d*)"]),
            (
                "ID=opensuse ID_LIKE=suse",
                [
                    "kmod(a.ko)",
                    "kmod-a = 1",
                    "ksym(default:a_get) = 0000beef",
                    "modalias(kernel-default:pci:v*d*)",
                ],
            ),
        ] {
            let mut contents = contents(&system.replace(' ', "\n"), "6.4.0-1-default");
            let module = &mut contents.files[0].module;
            module.aliases = vec!["pci:v*d*".into(), "a b".into(), "a)".into(), "%{nil}".into()];
            module.exports.insert("a_get".into(), Export { crc: Some(0xbeef), ..Export::default() });
            module.exports.insert("without_crc".into(), Export::default());
            assert_eq!(provides(&contents).iter().map(String::as_str).collect::<Vec<_>>(), expected);
        }
    }
}
