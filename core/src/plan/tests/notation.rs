//! Events and plans as text.
//!
//! Events: `kernel+ k1`, `headers+ k1`, `autoinstall k1`, `kernel- k1`, `source+ a/1 k1 k2`, `source~ a/1` (replaced),
//! `kernel? k1`, `source? a/1 k1` (both about to be installed), `match k1 k2 a` (installs for k2 what k1 has),
//! and `add`, `build`, `install`, `uninstall`, `unbuild`, `remove` with a module and kernels; `!` after the verb is
//! `--force`. `load a/1 k1 k2` is a tarball with builds for these kernels. They are separated by `;`.
//!
//! A plan has one line per decision, in the order of the plan's fields; see [`show`]. Removed kernels are left out,
//! because the event contains them.

use std::path::PathBuf;

use super::world::target;
use crate::event::{Event, Load, Request, Verb};
use crate::exit::Exit;
use crate::plan::{Plan, Removal, Task};
use crate::report::Outcome;
use crate::types::Target;

pub(super) fn events(text: &str) -> Vec<Event> {
    text.split(';').map(str::trim).filter(|event| !event.is_empty()).map(event).collect()
}

fn event(text: &str) -> Event {
    let words: Vec<&str> = text.split_whitespace().collect();
    let targets =
        |from: usize| -> Vec<Target> { words[from..].iter().map(|kernel| target(kernel)).collect() };
    match words[0] {
        "kernel+" => Event::KernelAdded(target(words[1])),
        "headers+" => Event::HeadersAdded(target(words[1])),
        "autoinstall" => Event::Autoinstall(target(words[1])),
        "kernel?" => Event::KernelIncoming(target(words[1])),
        "source?" => Event::SourceIncoming { module: words[1].parse().unwrap(), targets: targets(2) },
        "kernel-" => Event::KernelRemoved(target(words[1])),
        "source+" => Event::SourceAdded { module: words[1].parse().unwrap(), targets: targets(2) },
        "match" => Event::Matched {
            template: target(words[1]),
            target: target(words[2]),
            only: words.get(3).map(|name| name.parse().unwrap()),
            force: false,
        },
        "source-" => Event::SourceGone(words[1].parse().unwrap()),
        "source~" => Event::SourceReplaced(words[1].parse().unwrap()),
        verb => {
            let (verb, force) = verb.strip_suffix('!').map_or((verb, false), |verb| (verb, true));
            if verb == "load" {
                let builds = targets(2).into_iter().map(|target| (target, PathBuf::new())).collect();
                let module = words[1].parse().unwrap();
                return Event::Loaded(Load { module, target: target("k1"), builds, force });
            }
            let verb = match verb {
                "add" => Verb::Add,
                "build" => Verb::Build,
                "install" => Verb::Install,
                "uninstall" => Verb::Uninstall,
                "unbuild" => Verb::Unbuild,
                "remove" => Verb::Remove,
                other => panic!("no such event: {other}"),
            };
            Event::Requested(Request { verb, module: words[1].parse().unwrap(), targets: targets(2), force })
        }
    }
}

/// All decisions of a plan, separated by `; `.
pub(super) fn show(plan: &Plan) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(plan.register.iter().map(|registration| format!("register {}", registration.module)));
    lines.extend(plan.load.iter().map(|load| format!("load {}@{}", load.module, load.target.kernel)));
    lines.extend(plan.tasks.iter().map(task));
    lines.extend(plan.removals.iter().map(clear));
    lines.extend(plan.unregister.iter().map(|unregister| {
        let verb = if unregister.keep_builds { "unlink" } else { "unregister" };
        format!("{verb} {}", unregister.module)
    }));
    lines.extend(plan.settled.iter().map(|settled| {
        let place = settled.target.as_ref().map_or(String::new(), |target| format!("@{}", target.kernel));
        format!("{}{place} is {}", settled.module, outcome(&settled.outcome))
    }));
    lines.extend(plan.adopt.iter().map(|(id, target, _)| format!("adopt {id}@{}", target.kernel)));
    lines.extend(
        plan.forget
            .iter()
            .map(|forgotten| format!("forget {}@{}", forgotten.module, forgotten.target.kernel)),
    );
    lines.extend(plan.depmod.iter().map(|target| format!("depmod {}", target.kernel)));
    lines.extend(plan.initramfs.iter().map(|target| format!("initramfs {}", target.kernel)));
    lines.join("; ")
}

fn task(task: &Task) -> String {
    let verb = match (task.build, task.install) {
        (true, true) => "make",
        (true, false) => "build",
        (false, true) => "install",
        (false, false) => "nothing",
    };
    let mut line = format!("{verb} {}@{}", task.module, task.target.kernel);
    if !task.after.is_empty() {
        let after: Vec<String> = task.after.iter().map(ToString::to_string).collect();
        line += &format!(" after {}", after.join(","));
    }
    if let Some(old) = &task.replaces {
        line += &format!(" over {old}");
    }
    if let Some(newer) = &task.passed_over {
        line += &format!(" instead of {newer}");
    }
    if task.force { line + " by force" } else { line }
}

fn clear(removal: &Removal) -> String {
    let verb = match (removal.withdraw, removal.unbuild) {
        (true, true) => "clear",
        (true, false) => "withdraw",
        (false, true) => "unbuild",
        (false, false) => "nothing",
    };
    let leaving = if removal.kernel_leaves { " leaving" } else { "" };
    format!("{verb} {}@{}{leaving}", removal.module, removal.target.kernel)
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::UpToDate => "up to date".into(),
        Outcome::Packaged { .. } => "packaged".into(),
        Outcome::Present => "present".into(),
        Outcome::Excluded { .. } => "excluded".into(),
        Outcome::Deferred { waits, .. } => format!("deferred {}", Exit::from(*waits)),
        Outcome::Refused { code, .. } => format!("refused {code}"),
        Outcome::Failed(failing) if failing.remembered => format!("known to fail {}", failing.code),
        other => format!("{other:?}"),
    }
}
