//! A package's scripts for registration and installation. They run as root, as with shell DKMS, because their purpose
//! is to change the system.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Result;

use crate::conf::script_dir;
use crate::session::Session;
use crate::sys::run::{Cmd, Output};
use crate::types::{ModuleId, Target};

/// A script that failed or could not be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What happened, as one line.
    pub why: String,
    /// Its exit status if it ran and failed. A missing or non-executable script is not a failure.
    pub status: Option<i32>,
}

/// Runs a script without our open file descriptors, including the lock: a background process of the script must not
/// keep the lock. The shell around it keeps it while the script runs. The directory keeps its name in the DKMS tree,
/// which is a link: `${PWD%/*}` is the module's directory there.
const WRAPPER: &str = r#"
(
    cd "$1" || exit
    for fd in /proc/self/fd/*; do case ${fd##*/} in [012]|*[!0-9]*) ;; *) eval "exec ${fd##*/}>&-" ;; esac; done
    exec "$PWD/"$0
)
exit $?"#;

/// The first of these paths that belongs neither to root nor to the user of dkms.
fn owned_by_others<'p>(paths: &[&'p Path]) -> Option<&'p Path> {
    let own = rustix::process::geteuid().as_raw();
    let others = |path: &&&Path| path.metadata().is_ok_and(|meta| meta.uid() != 0 && meta.uid() != own);
    paths.iter().find(others).copied()
}

/// Runs a script of the module's source directory. `None`: it succeeded, or there is no such script.
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
    let program = command.split_whitespace().next().unwrap_or_default();
    let Some(dir) = script_dir::find(&session.layout, &id.name, &source, command) else {
        return not_run(match (source.is_dir(), source.join(program).exists()) {
            (false, _) => "the source directory was not found",
            (true, false) => "not found",
            (true, true) => "not executable",
        });
    };
    if let Some(path) = owned_by_others(&[&source, &source.join("dkms.conf"), &dir]) {
        // Root has decided on this source, but its owner can change it at any time. A command that names the module is
        // a decision, too.
        if !session.requested.contains(id) {
            return not_run(&format!(
                "{} does not belong to root; to run it: dkms install --force {id}",
                path.display()
            ));
        }
    }
    let text = |path: &Path| path.display().to_string();
    let mut cmd = Cmd::new("bash")
        .args(["--noprofile", "--norc", "-c", WRAPPER, command])
        .arg(&dir)
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
    let why = match (done.timed_out(), done.code()) {
        (false, 0) => return Ok(None),
        (true, _) => format!("the {kind} script {command} timed out"),
        (false, code) => {
            let unrunnable = script_dir::unrunnable(&dir, program);
            let reason = unrunnable.map_or(String::new(), |reason| format!(": {reason}"));
            format!("the {kind} script {command} failed (exit code {code}){reason}")
        }
    };
    Ok(Some(Trouble { why, status: Some(done.code().max(1)) }))
}
