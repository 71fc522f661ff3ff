//! `dkms doctor`: what is wrong with this machine's modules, what helps, and the repair of what is safe.

use anyhow::Result;
use serde::Serialize;

use super::args::Args;
use super::{permit, refuse};
use crate::doctor::{Advice, Finding, findings, inspect, mend, repaired};
use crate::exit::Exit;
use crate::session::Session;

/// What `dkms doctor --json` prints.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Document {
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    format: u32,
    /// What is wrong, after the repair.
    findings: Vec<Found>,
    /// What was repaired.
    repaired: Vec<Found>,
}

/// Something that is wrong.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Found {
    kind: &'static str,
    /// What is wrong, as a sentence.
    what: String,
    /// What the command does.
    purpose: &'static str,
    /// A command that helps.
    command: String,
    /// Whether `--fix` repairs it.
    fixable: bool,
}

pub(super) fn show(session: &mut Session, args: &Args) -> Result<Exit> {
    if args.fix && !crate::sys::file::writable(&session.layout.dkms_tree) {
        let tree = &session.layout.dkms_tree;
        let permitted = rustix::process::geteuid().is_root() || crate::sys::file::on_read_only(tree);
        let cannot = if permitted { "cannot repair" } else { "must be run as root" };
        let why = permit::unwritable(tree);
        return refuse(Exit::ERROR, format!("doctor --fix {cannot}: {} {why}", tree.display()));
    }
    if args.json {
        // Standard output has one document only.
        session.screen = session.screen.aside();
    }
    session.autoinstall_off();
    let mut found = findings(&inspect(session)?);
    let mut done = Vec::new();
    if args.fix {
        mend(session, &found)?;
        let left = findings(&inspect(session)?);
        done = repaired(&found, &left);
        found = left;
    }
    let advice = |all: &[Finding]| -> Vec<Advice> {
        all.iter().map(|one| one.advice(&session.policy.distribution, &session.layout)).collect()
    };
    let (found, done) = (advice(&found), advice(&done));
    let text = if args.json {
        let document = Document {
            format: 1,
            findings: found.iter().map(Found::of).collect(),
            repaired: done.iter().map(Found::of).collect(),
        };
        format!("{}\n", serde_json::to_string_pretty(&document)?)
    } else {
        page(&found, &done)
    };
    session.screen.answer(&text);
    Ok(if found.is_empty() { Exit::SUCCESS } else { Exit::FOUND })
}

impl Found {
    fn of(advice: &Advice) -> Self {
        let Advice { kind, what, purpose, command, repair } = advice.clone();
        Self { kind, what, purpose, command, fixable: repair.is_some() }
    }
}

/// What is printed: two lines for each finding, then how many there are.
fn page(found: &[Advice], repaired: &[Advice]) -> String {
    let mut text = String::new();
    for Advice { what, .. } in repaired {
        text.push_str(&format!("repaired: {what}\n"));
    }
    for Advice { what, purpose, command, .. } in found {
        text.push_str(&format!("{what}\n      {purpose}: {command}\n"));
    }
    let problems = |number: usize| match number {
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    };
    let fixable = found.iter().filter(|advice| advice.repair.is_some()).count();
    text.push_str(&match (found.len(), repaired.len(), fixable) {
        (0, 0, _) => "no problem found\n".to_owned(),
        (0, done, _) => format!("{} repaired\n", problems(done)),
        (left, 0, 0) => format!("{}\n", problems(left)),
        (left, 0, some) => format!("{}; dkms doctor --fix repairs {some}\n", problems(left)),
        (left, done, _) => format!("{} repaired, {left} left\n", problems(done)),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Repair;
    use crate::page::{documented, fields};

    fn advice(what: &str, repair: Option<Repair>) -> Advice {
        Advice {
            kind: "kind",
            what: what.into(),
            purpose: "to end it",
            command: "dkms status".into(),
            repair,
        }
    }

    #[test]
    fn the_shipped_schema_is_that_of_the_document() {
        crate::shipped::expect::<Document>("doctor");
    }

    #[test]
    fn every_field_is_described() {
        let found = || Found::of(&advice("a", None));
        let document = Document { format: 1, findings: vec![found()], repaired: vec![found()] };
        assert_eq!(documented(".SS doctor \\-\\-json"), fields(&serde_json::to_value(document).unwrap()));
    }

    #[test]
    fn the_page_ends_with_what_can_be_done() {
        let (some, other) = (advice("a", Some(Repair::Sweep)), advice("b", None));
        for (found, repaired, end) in [
            (vec![], vec![], "no problem found\n"),
            (vec![other.clone()], vec![], "b\n      to end it: dkms status\n1 problem\n"),
            (
                vec![some.clone(), other.clone()],
                vec![],
                "      to end it: dkms status\n2 problems; dkms doctor --fix repairs 1\n",
            ),
            (vec![], vec![some.clone()], "repaired: a\n1 problem repaired\n"),
            (vec![other], vec![some.clone(), some], "2 problems repaired, 1 left\n"),
        ] {
            let page = page(&found, &repaired);
            assert!(page.ends_with(end), "{page}");
        }
    }
}
