//! The location of a package's scripts: the admin's own take precedence over those of the source.

use std::path::{Path, PathBuf};

use crate::layout::Layout;
use crate::sys::file;
use crate::types::ModuleName;

/// The directory in which a script is located and run: the admin's for this module, else `dir`. `None` if neither has
/// an executable of this name.
pub fn find(layout: &Layout, module: &ModuleName, dir: &Path, command: &str) -> Option<PathBuf> {
    let program = command.split_whitespace().next()?.trim_start_matches('/');
    [layout.module_config(module), dir.to_owned()]
        .into_iter()
        .find(|place| file::is_executable(&place.join(program)))
}

/// Larger than any real script.
const SCRIPT_LIMIT: u64 = 1 << 20;

/// Why a program that is a script cannot run, if its first line is the cause: the shell only says that a file is missing.
pub fn unrunnable(dir: &Path, program: &str) -> Option<&'static str> {
    // A build may have replaced it.
    let text = file::read_untrusted(dir, Path::new(program.trim_start_matches('/')), SCRIPT_LIMIT).ok()?;
    let first = text.split_inclusive(|byte| *byte == b'\n').next()?;
    (first.starts_with(b"#!") && first.ends_with(b"\r\n"))
        .then_some("its lines end in CR LF; convert it, for example with dos2unix")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admins_own_script_goes_first() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout { etc: root.path().join("etc"), ..Layout::default() };
        let (own, source) = (root.path().join("etc/dkms/a"), root.path().join("src"));
        let name: ModuleName = "a".parse().unwrap();
        let put = |path: PathBuf, mode| file::write_atomic(&path, b"#!/bin/sh\n", mode).unwrap();
        put(source.join("both.sh"), 0o755);
        put(own.join("both.sh"), 0o755);
        put(source.join("only.sh"), 0o755);
        put(own.join("only.sh"), 0o644);
        put(source.join("plain.sh"), 0o644);
        assert_eq!(unrunnable(&source, "plain.sh"), None);
        file::write_atomic(&source.join("crlf.sh"), b"#!/bin/sh\r\necho\r\n", 0o755).unwrap();
        assert!(unrunnable(&source, "/crlf.sh").unwrap().contains("CR LF"));
        assert_eq!(unrunnable(&source, "missing.sh"), None);
        for (command, expected) in [
            ("both.sh now", Some(&own)),
            ("/both.sh", Some(&own)),
            ("./only.sh", Some(&source)),
            ("plain.sh", None),
            ("missing.sh", None),
            ("", None),
        ] {
            assert_eq!(find(&layout, &name, &source, command).as_ref(), expected, "{command}");
        }
    }
}
