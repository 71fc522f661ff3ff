//! `dkms why`: the state of a module for each kernel, its reason, and what the next run does.

use anyhow::Result;

use super::args::Args;
use super::invocation::Invocation;
use super::of_tree;
use crate::apply::{Prospect, outlook};
use crate::exit::Exit;
use crate::inventory::all_targets;
use crate::report::{Line, text};
use crate::session::Session;
use crate::types::{ModuleId, Target};

pub(super) fn show(session: &mut Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    let (name, snapshot) = of_tree(session, invocation)?;
    let targets = if args.pairs.named() { args.targets(session)? } else { all_targets(session)? };
    let versions: Vec<&ModuleId> = snapshot
        .versions(&name)
        .map(|(id, _)| id)
        .filter(|id| invocation.version.as_deref().is_none_or(|wanted| wanted == id.version.as_str()))
        .collect();
    let mut said = String::new();
    for target in &targets {
        let outlook = outlook(session, target)?;
        for id in &versions {
            said.push_str(&about(session, id, target, outlook.of(id)));
        }
    }
    session.screen.answer(&said);
    Ok(Exit::SUCCESS)
}

/// The lines about one module for one kernel.
fn about(session: &Session, id: &ModuleId, target: &Target, prospect: Prospect) -> String {
    let kernel = &target.kernel;
    let end = match prospect {
        Prospect::Build(why) => {
            format!("not up to date: {why}\n      to build it: dkms install {id} -k {kernel}\n")
        }
        Prospect::Install(why) => {
            format!("not installed: {why}\n      to install it: dkms install {id} -k {kernel}\n")
        }
        Prospect::Unchanged(state) => format!("{state}\n"),
        Prospect::Settled(outcome) => {
            let line = Line { module: id.clone(), target: Some(target.clone()), outcome };
            return text::explained(&line, &session.policy.admin);
        }
    };
    format!("dkms: {id} for {kernel}: {end}")
}
