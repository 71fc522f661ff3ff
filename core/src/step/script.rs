//! A package's own scripts around registering and installing. They run as root, as shell DKMS runs them: they
//! change the system on purpose.

use anyhow::Result;

use crate::session::Session;
use crate::sys::run::{Cmd, Output};
use crate::types::{ModuleId, Target};

/// Runs a script in the module's source directory. `Ok(Some(why))` when it failed.
pub fn run(
    session: &Session,
    id: &ModuleId,
    target: Option<&Target>,
    kind: &str,
    command: &str,
) -> Result<Option<String>> {
    if command.is_empty() {
        return Ok(None);
    }
    let dir = session.layout.source_link(id);
    if !dir.is_dir() {
        return Ok(Some(format!("the {kind} script was not run: its source is gone")));
    }
    let text = |path: &std::path::Path| path.display().to_string();
    let mut cmd = Cmd::new("bash")
        .args(["--noprofile", "--norc", "-c", r#"exec "$PWD/"$0"#, command])
        .cwd(&dir)
        .env("dkms_tree", text(&session.layout.dkms_tree))
        .env("source_tree", text(&session.layout.source_tree))
        .env("install_tree", text(&session.layout.install_tree))
        .env("module", id.name.as_str())
        .env("module_version", id.version.as_str())
        .output(Output::Stderr)
        .limit(session.build_limit(&id.name));
    if let Some(target) = target {
        cmd = cmd.env("kernelver", target.kernel.as_str()).env("arch", target.arch.as_str());
    }
    let done = cmd.run()?;
    Ok(match (done.timed_out(), done.code()) {
        (false, 0) => None,
        (true, _) => Some(format!("the {kind} script {command} did not end in time and was stopped")),
        (false, code) => Some(format!("the {kind} script {command} ended with status {code}")),
    })
}
