//! The version that a user leaves out: the only one there is. Scripts of packages must name it, as for shell DKMS.

use anyhow::Result;

use super::action::{Action, Version};
use super::args::Args;
use super::complete;
use super::invocation::Invocation;
use super::{refuse, unknown};
use crate::caller;
use crate::exit::Exit;
use crate::session::Session;
use crate::tree::Snapshot;
use crate::types::ModuleId;

/// Adds the version. If there are several, or none, the error lists them.
pub(super) fn version(session: &Session, args: &Args, invocation: &mut Invocation) -> Result<()> {
    let wanted = invocation.action.rules().version;
    if wanted == Version::All {
        return Ok(());
    }
    // An empty version was not left out: a script's mistake must not remove anything.
    let left_out =
        invocation.version.is_none() && !invocation.empty_version && !invocation.brings_tarball(args);
    // rpm sets no variable for its scripts: the processes above show it.
    let user = || session.screen.is_person() && caller::manager().is_none();
    let Some(name) = invocation.name.clone().filter(|_| left_out && user()) else {
        return Ok(());
    };
    let snapshot = crate::apply::status_of(session, None)?;
    let known = versions(&snapshot, &name);
    match known.as_slice() {
        [only] if wanted == Version::Only => {
            session.screen.progress(&format!("dkms: {only} is the only version of {name} in the DKMS tree"));
            invocation.version = Some(only.version.to_string());
            Ok(())
        }
        [] | [_] => {
            let sources = complete::sources(&session.layout, &snapshot);
            let of_name: Vec<ModuleId> = sources.into_iter().filter(|id| id.name.as_str() == name).collect();
            match (of_name.as_slice(), known.as_slice()) {
                ([], [registered]) => {
                    refuse(Exit::ERROR, format!("{registered} is already in the DKMS tree"))
                }
                ([], _) => refuse(Exit::ERROR, unknown::module(&snapshot, &name, None)),
                (sources, _) => refuse(Exit::ERROR, required(invocation.action, sources)),
            }
        }
        many => refuse(Exit::ERROR, required(invocation.action, many)),
    }
}

fn versions(snapshot: &Snapshot, name: &str) -> Vec<ModuleId> {
    snapshot.modules.keys().filter(|id| id.name.as_str() == name).cloned().collect()
}

fn required(action: Action, versions: &[ModuleId]) -> String {
    let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
    format!("{action} requires a version: {}", versions.join(" or "))
}
