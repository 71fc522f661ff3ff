//! The package with a kernel's headers, from the package database.

use std::path::PathBuf;

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
    let Some(owner) = Owner::read(&ask(database.owner, &owned)?.0) else {
        return paths.iter().any(|path| path.exists()).then_some(HeadersPackage::Unpackaged);
    };
    let requirements = ask(database.requirements, &[]).map(|(text, _)| text).unwrap_or_default();
    database.resolve(&owner, &requirements, |name| {
        let (names, _) = ask(database.available, &[name.to_owned()]).filter(|(_, succeeded)| *succeeded)?;
        Some(names.lines().any(|line| line == name))
    })
}

/// The answer of a program of the distribution: `NAME`, or `NAME INSTALLED NEEDED` if another version is installed.
fn read(answer: &str) -> Option<HeadersPackage> {
    let mut words = answer.lines().next()?.split_whitespace().map(str::to_owned);
    let name = words.next()?;
    Some(match words.next().zip(words.next()) {
        Some((installed, needed)) => HeadersPackage::Upgrade { name, installed, needed },
        None => HeadersPackage::Install(name),
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
    fn a_program_prints_one_or_three_words() {
        assert_eq!(read("linux-lts-headers\n"), Some(HeadersPackage::Install("linux-lts-headers".into())));
        let upgrade = HeadersPackage::Upgrade {
            name: "linux-headers".into(),
            installed: "6.1-1".into(),
            needed: "6.2-1".into(),
        };
        assert_eq!(read("linux-headers 6.1-1 6.2-1\nmore\n"), Some(upgrade));
        assert_eq!(read("\n"), None);
    }
}
