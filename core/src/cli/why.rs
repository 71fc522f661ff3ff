//! `dkms why`: the state of a module for each kernel, its reason, and what the next run does.

use anyhow::Result;
use serde::Serialize;

use super::args::Args;
use super::invocation::Invocation;
use super::of_tree;
use crate::apply::{Prospect, outlook};
use crate::exit::Exit;
use crate::inventory::all_targets;
use crate::report::{Line, Outcome, text};
use crate::session::Session;
use crate::tree::Failure;
use crate::types::{ModuleId, Placement, Target};

/// What `dkms why --json` prints.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Document {
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    format: u32,
    modules: Vec<Explained>,
}

/// A module for a kernel.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Explained {
    module: ModuleId,
    #[serde(flatten)]
    target: Target,
    /// What the next automatic run does.
    next: Next,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    /// The reason, if it is one of a report.
    #[serde(flatten)]
    outcome: Option<Outcome>,
}

pub(super) fn show(session: &mut Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    let (name, snapshot) = of_tree(session, invocation)?;
    if args.json {
        session.screen = session.screen.aside();
    }
    let off = session.autoinstall_off();
    let targets = if args.pairs.named() { args.targets(session)? } else { all_targets(session)? };
    let versions: Vec<&ModuleId> = snapshot
        .versions(&name)
        .map(|(id, _)| id)
        .filter(|id| invocation.version.as_deref().is_none_or(|wanted| wanted == id.version.as_str()))
        .collect();
    let mut said = String::new();
    let mut document = Document { format: 1, modules: Vec::new() };
    for target in &targets {
        let outlook = outlook(session, target)?;
        for id in &versions {
            let prospect = outlook.of(id);
            if args.json {
                let mut explained = Explained::new(id, target, prospect);
                if off {
                    explained.next = Next::Nothing;
                }
                document.modules.push(explained);
            } else {
                let again = matches!(prospect, Prospect::Build(_));
                said.push_str(&about(session, id, target, prospect));
                let failure = snapshot.failures.get(&Placement::of(id, target)).filter(|_| again);
                said.extend(failure.map(|failure| last(id, target, failure)));
            }
        }
    }
    if args.json {
        said = format!("{}\n", serde_json::to_string_pretty(&document)?);
    }
    session.screen.answer(&said);
    Ok(Exit::SUCCESS)
}

/// What the next automatic run does with a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum Next {
    Build,
    Install,
    Nothing,
}

impl Explained {
    fn new(id: &ModuleId, target: &Target, prospect: Prospect) -> Self {
        let (next, why, outcome) = match prospect {
            Prospect::Build(why) => (Next::Build, Some(why), None),
            Prospect::Install(why) => (Next::Install, Some(why), None),
            Prospect::Unchanged(state) => (Next::Nothing, Some(state), None),
            Prospect::Settled(outcome) => (Next::Nothing, None, Some(outcome)),
        };
        Self { module: id.clone(), target: target.clone(), next, why, outcome }
    }
}

/// A failed build with other inputs, for example with variables of a user's environment.
fn last(id: &ModuleId, target: &Target, failure: &Failure) -> String {
    let error = failure.errors.first().map_or(String::new(), |error| format!(": {error}"));
    let log = text::log_of(id, Some(target), &failure.log.to_string_lossy());
    format!("      the last build, with other inputs, failed: {}{error}\n      log: {log}\n", failure.why)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{documented, fields, values};

    #[test]
    fn the_shipped_schema_is_that_of_the_document() {
        crate::shipped::expect::<Document>("why");
    }

    #[test]
    fn every_field_and_value_is_described() {
        let section = ".SS why \\-\\-json";
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let excluded = Outcome::Excluded { why: "not for this kernel".into() };
        let all = [
            Prospect::Build("why"),
            Prospect::Install("why"),
            Prospect::Unchanged("why"),
            Prospect::Settled(excluded),
        ];
        let id = "a/1".parse().unwrap();
        let modules: Vec<Explained> =
            all.into_iter().map(|prospect| Explained::new(&id, &target, prospect)).collect();
        let document = serde_json::to_value(Document { format: 1, modules }).unwrap();
        let next = document["modules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["next"].as_str().unwrap().to_owned());
        assert_eq!(values(section, "modules[].next"), next.collect());
        assert_eq!(documented(section), fields(&document));
    }
}
