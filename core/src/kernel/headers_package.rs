//! The package with a kernel's headers, from the package database.

use std::path::{Component, Path, PathBuf};

use super::headers::roots;
use crate::distro::headers::{HeadersPackage, Owner};
use crate::distro::{Distribution, fill};
use crate::layout::Layout;
use crate::sys::run;
use crate::types::Target;

/// Queries the package database. `None` if it cannot be queried, or does not know the kernel and the kernel is not
/// installed: the usual name is then assumed.
pub(super) fn find(layout: &Layout, distribution: &Distribution, target: &Target) -> Option<HeadersPackage> {
    if distribution.headers_package.is_empty() {
        return Some(HeadersPackage::Unpackaged);
    }
    if let Some((program, args)) = distribution.ask_headers_package.split_first() {
        let args: Vec<String> = args.iter().map(|arg| fill(arg, target, None)).collect();
        return query(program, &args).as_deref().and_then(read);
    }
    // The database has the files of this system only.
    if !layout.has_system_kernels() {
        return None;
    }
    let database = &distribution.database;
    let ask = |program: &[&str], more: &[String]| {
        let (name, args) = program.split_first()?;
        let args: Vec<String> =
            args.iter().map(|arg| (*arg).to_owned()).chain(more.iter().cloned()).collect();
        answer(name, &args)
    };
    let paths = layout.kernel_files(&target.kernel);
    let owned: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let prints = |program: &[&str], name: &str, word: &str| {
        let (text, _) = ask(program, &[name.to_owned()]).filter(|(_, succeeded)| *succeeded)?;
        Some(text.lines().any(|line| line == word))
    };
    let available = |name: &str| prints(database.available, name, name);
    // Whether there is a package with the usual name: a kernel of another system, or of a package without a pair, may have none.
    let usual = || match distribution.headers_package(target, None) {
        HeadersPackage::Install { packages, .. } if available(&packages) == Some(false) => {
            Some(HeadersPackage::Unavailable { name: packages, instead: None })
        }
        _ => None,
    };
    let Some(owner) = Owner::read(&ask(database.owner, &owned)?.0) else {
        let there = paths.iter().any(|path| path.exists());
        return if there { Some(HeadersPackage::Unpackaged) } else { usual() };
    };
    let requirements = ask(database.requirements, &[]).map(|(text, _)| text).unwrap_or_default();
    let installed = |name: &str| prints(database.installed, name, "installed").unwrap_or(false);
    database.resolve(&owner, &requirements, available, installed).or_else(usual)
}

/// The package of a directory that headers need, if it is missing and its package is installed: on Debian and Ubuntu, the headers
/// of one kernel are in several packages.
pub(super) fn damaged(
    layout: &Layout,
    distribution: &Distribution,
    headers: &Path,
) -> Option<HeadersPackage> {
    // The kernel's directory has a link to it, from which a relative link would lead elsewhere.
    let headers = headers.canonicalize().ok()?;
    let lost: Vec<PathBuf> = needed(&headers).into_iter().filter(|dir| !dir.exists()).collect();
    let (program, args) = distribution.database.owner.split_first()?;
    if lost.is_empty() || !layout.has_system_kernels() {
        return None;
    }
    let paths = lost.iter().map(|path| path.display().to_string());
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).chain(paths).collect();
    let owner = Owner::read(&answer(program, &args)?.0)?;
    Some(HeadersPackage::Reinstall(owner.name().to_owned()))
}

/// The package that has a module file of a kernel, also if the file is missing; else the one that has the kernel.
pub fn owner(layout: &Layout, distribution: &Distribution, target: &Target, file: &Path) -> Option<String> {
    let (program, args) = distribution.database.owner.split_first()?;
    if !layout.has_system_kernels() {
        return None;
    }
    let ask = |paths: &[PathBuf]| {
        let paths = paths.iter().map(|path| path.display().to_string());
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).chain(paths).collect();
        Some(Owner::read(&answer(program, &args)?.0)?.name().to_owned())
    };
    ask(&layout.packaged_paths(file)).or_else(|| ask(&layout.kernel_files(&target.kernel)))
}

/// The directories without which nothing can be built: those with the Makefile and the programs that it runs.
fn needed(headers: &Path) -> Vec<PathBuf> {
    let scripts = headers.join("scripts");
    let link = std::fs::read_link(&scripts).ok().map(|to| plain(&headers.join(to)));
    roots(headers)
        .into_iter()
        .filter(|root| *root != scripts && !root.ends_with("tools"))
        .chain(link)
        .collect()
}

/// A path without `..`, as the package database has it.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

/// The answer of a program of the distribution: `NAME`, or `NAME INSTALLED NEEDED` if another version is installed.
fn read(answer: &str) -> Option<HeadersPackage> {
    let mut words = answer.lines().next()?.split_whitespace().map(str::to_owned);
    let name = words.next()?;
    Some(match words.next().zip(words.next()) {
        Some((installed, needed)) => HeadersPackage::Upgrade { name, installed, needed },
        None => HeadersPackage::install(name),
    })
}

/// What a program printed, if it succeeded.
fn query(program: &str, args: &[String]) -> Option<String> {
    answer(program, args).and_then(|(text, succeeded)| succeeded.then_some(text))
}

/// What a program printed, and whether it succeeded: a part of the paths in a query may have no owner.
fn answer(program: &str, args: &[String]) -> Option<(String, bool)> {
    let program: PathBuf = run::which(program)?;
    let done = run::Cmd::new(program).args(args).output(run::Output::Split).run().ok()?;
    Some((String::from_utf8_lossy(&done.output).into_owned(), done.status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_need_their_makefile_and_their_programs() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let headers = root.join("src/linux-headers-6.1-amd64");
        crate::sys::file::write_atomic(
            &headers.join("Makefile"),
            b"include /usr/src/linux-headers-6.1-common/Makefile\n",
            0o644,
        )
        .unwrap();
        std::os::unix::fs::symlink("../../lib/linux-kbuild-6.1/scripts", headers.join("scripts")).unwrap();
        std::os::unix::fs::symlink("../../lib/linux-kbuild-6.1/tools", headers.join("tools")).unwrap();
        let kbuild = root.join("lib/linux-kbuild-6.1/scripts");
        assert_eq!(needed(&headers), [headers, "/usr/src/linux-headers-6.1-common".into(), kbuild]);
    }

    #[test]
    fn a_program_prints_one_or_three_words() {
        assert_eq!(read("linux-lts-headers\n"), Some(HeadersPackage::install("linux-lts-headers")));
        let upgrade = HeadersPackage::Upgrade {
            name: "linux-headers".into(),
            installed: "6.1-1".into(),
            needed: "6.2-1".into(),
        };
        assert_eq!(read("linux-headers 6.1-1 6.2-1\nmore\n"), Some(upgrade));
        assert_eq!(read("\n"), None);
    }
}
