//! A package's own scripts around registering and installing. They run as root, as shell DKMS runs them: they
//! change the system on purpose.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::layout::Layout;
use crate::session::Session;
use crate::sys::file;
use crate::sys::run::{Cmd, Output};
use crate::types::{ModuleId, ModuleName, Target};

/// A script that did not do what it is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What happened, as one line.
    pub why: String,
    /// Its status when it ran and failed. A script that is not there, or not executable, is no failure.
    pub status: Option<i32>,
}

/// The directory in which a script lies and runs: the admin's own for this module, else `dir`. `None` when neither has
/// it as a program.
pub fn directory(layout: &Layout, module: &ModuleName, dir: &Path, command: &str) -> Option<PathBuf> {
    let program = command.split_whitespace().next()?.trim_start_matches('/');
    [layout.module_config(module), dir.to_owned()]
        .into_iter()
        .find(|place| file::is_executable(&place.join(program)))
}

/// Runs a script of the module's source directory. `None`: all is well, or there is no such script.
pub fn run(
    session: &Session,
    id: &ModuleId,
    target: Option<&Target>,
    kind: &str,
    command: &str,
) -> Result<Option<Trouble>> {
    if command.trim().is_empty() {
        return Ok(None);
    }
    let not_run = |why: &str| {
        Ok(Some(Trouble { why: format!("the {kind} script {command} was not run: {why}"), status: None }))
    };
    let source = session.layout.source_link(id);
    let Some(dir) = directory(&session.layout, &id.name, &source, command) else {
        return not_run(if source.is_dir() { "it is not executable" } else { "its source is gone" });
    };
    let text = |path: &Path| path.display().to_string();
    let mut cmd = Cmd::new("bash")
        .args(["--noprofile", "--norc", "-c", r#"exec "$PWD/"$0"#, command])
        .cwd(&dir)
        .env("dkms_tree", text(&session.layout.dkms_tree))
        .env("source_tree", text(&session.layout.source_tree))
        .env("install_tree", text(&session.layout.install_tree))
        .env("module", id.name.as_str())
        .env("module_version", id.version.as_str())
        .output(Output::Stderr)
        .limit(session.build_limit());
    if let Some(target) = target {
        cmd = cmd.env("kernelver", target.kernel.as_str()).env("arch", target.arch.as_str());
    }
    let done = cmd.run()?;
    let why = match (done.timed_out, done.code()) {
        (false, 0) => return Ok(None),
        (true, _) => format!("the {kind} script {command} did not end in time and was stopped"),
        (false, code) => format!("the {kind} script {command} ended with status {code}"),
    };
    Ok(Some(Trouble { why, status: Some(done.code().max(1)) }))
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
        for (command, expected) in [
            ("both.sh now", Some(&own)),
            ("/both.sh", Some(&own)),
            ("./only.sh", Some(&source)),
            ("plain.sh", None),
            ("missing.sh", None),
            ("", None),
        ] {
            assert_eq!(directory(&layout, &name, &source, command).as_ref(), expected, "{command}");
        }
    }
}
