//! Reports as text.

use std::collections::BTreeMap;

use super::{Failing, Line, Outcome, Report};
use crate::policy::Admin;
use crate::types::{KernelRelease, ModuleId, Target};

/// One line of progress, when a module is done.
pub fn progress(
    module: &ModuleId,
    target: &Target,
    outcome: &Outcome,
    count: Option<(usize, usize)>,
) -> String {
    let place = count.map_or(String::new(), |(number, all)| {
        let width = all.to_string().len();
        format!("[{number:>width$}/{all}] ")
    });
    let kernel = &target.kernel;
    let end = match outcome {
        Outcome::Built { seconds } => format!("built for {kernel} ({seconds:.0} s)"),
        Outcome::Installed { built: true, seconds, .. } => {
            format!("built and installed for {kernel} ({seconds:.0} s)")
        }
        Outcome::Installed { .. } => format!("installed for {kernel}, from its finished build"),
        Outcome::Loaded => {
            format!("loaded for {kernel}: dkms install puts it there, once it has proven to fit")
        }
        Outcome::Present => format!("has a build for {kernel}, which stays (--force replaces it)"),
        Outcome::Uninstalled => format!("taken out of {kernel}"),
        Outcome::Unbuilt => format!("removed from {kernel}"),
        Outcome::Failed(_) => format!("FAILED for {kernel}"),
        Outcome::Deferred { why, .. } => format!("put off for {kernel}: {why}"),
        Outcome::Native { why } => format!("not installed for {kernel}: {why}"),
        _ => format!("done for {kernel}"),
    };
    format!("dkms: {place}{module} {end}")
}

/// The closing summary; `None` when there is nothing to say.
pub fn summary(report: &Report, admin: &Admin, number: Option<u64>) -> Option<String> {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for repaired in &report.repaired {
        say(format!("dkms: repaired: {repaired}"));
    }
    for (kernel, counts) in counts(report) {
        say(format!("dkms: {kernel}: {counts}"));
    }
    deferred(report, &mut say);
    for line in &report.lines {
        match &line.outcome {
            Outcome::Refused { why, advice, .. } => {
                say(format!("dkms: {}: {why}", place(line)));
                say(format!("      {advice}"));
            }
            Outcome::Failed(failing) => failed(line, failing, admin, &mut say),
            Outcome::Excluded { why } if admin.critical(&line.module.name) => {
                say(format!("dkms: NOT BUILT (critical): {}: {why}", place(line)));
            }
            _ => {}
        }
    }
    notes(report, &mut say);
    for remark in &report.remarks {
        say(format!("dkms: {remark}"));
    }
    for problem in &report.problems {
        say(format!("dkms: {problem}"));
    }
    let failures = report.lines.iter().filter(|line| matches!(line.outcome, Outcome::Failed(_))).count();
    if let Some(number) = number.filter(|_| failures > 0 || !report.problems.is_empty()) {
        say(format!("dkms: this summary again: dkms history show {number}"));
    }
    let text = text.trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The reason in an outcome; empty when it has none.
pub fn why(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Excluded { why }
        | Outcome::Native { why }
        | Outcome::Deferred { why, .. }
        | Outcome::Refused { why, .. }
        | Outcome::Failed(Failing { why, .. }) => why,
        _ => "",
    }
}

fn place(line: &Line) -> String {
    match &line.target {
        Some(target) => format!("{} for {}", line.module, target.kernel),
        None => line.module.to_string(),
    }
}

/// `21 modules installed, 2 failed`, by kernel.
fn counts(report: &Report) -> BTreeMap<&KernelRelease, String> {
    let mut by_kernel: BTreeMap<&KernelRelease, BTreeMap<&str, usize>> = BTreeMap::new();
    for line in &report.lines {
        let Some(target) = &line.target else { continue };
        let kind = match &line.outcome {
            Outcome::Installed { .. } => "1installed",
            Outcome::Built { .. } => "2built",
            Outcome::UpToDate => "3up to date",
            Outcome::Uninstalled | Outcome::Unbuilt => "4removed",
            Outcome::Excluded { .. } => "5not meant for this kernel",
            Outcome::Native { .. } => "5in the kernel itself",
            Outcome::Deferred { .. } => "6put off",
            Outcome::Failed(_) => "7FAILED",
            _ => continue,
        };
        *by_kernel.entry(&target.kernel).or_default().entry(kind).or_default() += 1;
    }
    by_kernel.retain(|_, kinds| kinds.keys().any(|kind| !matches!(kind.as_bytes()[0], b'3' | b'5')));
    let text = |kinds: BTreeMap<&str, usize>| {
        let total: usize = kinds.values().sum();
        if let Some((kind, _)) = kinds.first_key_value().filter(|_| kinds.len() == 1) {
            return format!("{total} module{} {}", if total == 1 { "" } else { "s" }, &kind[1..]);
        }
        let parts: Vec<String> =
            kinds.iter().map(|(kind, count)| format!("{count} {}", &kind[1..])).collect();
        format!("{total} module{}: {}", if total == 1 { "" } else { "s" }, parts.join(", "))
    };
    by_kernel.into_iter().map(|(kernel, kinds)| (kernel, text(kinds))).collect()
}

/// Modules that wait for the same thing share their lines.
fn deferred(report: &Report, say: &mut impl FnMut(String)) {
    let mut groups: BTreeMap<(Option<&KernelRelease>, &str, &str), Vec<String>> = BTreeMap::new();
    for line in &report.lines {
        if let Outcome::Deferred { why, advice, .. } = &line.outcome {
            let kernel = line.target.as_ref().map(|target| &target.kernel);
            groups.entry((kernel, why, advice)).or_default().push(line.module.to_string());
        }
    }
    for ((kernel, why, advice), modules) in groups {
        let kernel = kernel.map_or(String::new(), |kernel| format!(" for {kernel}"));
        say(format!("dkms: put off{kernel}: {}", modules.join(", ")));
        say(format!("      {why}"));
        say(format!("      {advice}"));
    }
}

/// A remark that many modules share is made once.
fn notes(report: &Report, say: &mut impl FnMut(String)) {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in &report.lines {
        if let Outcome::Installed { notes, .. } = &line.outcome {
            notes.iter().for_each(|note| groups.entry(note).or_default().push(place(line)));
        }
    }
    for (note, modules) in groups {
        match modules.as_slice() {
            [one] => say(format!("dkms: {one}: {note}")),
            many => say(format!("dkms: {} modules: {note}", many.len())),
        }
    }
}

fn failed(line: &Line, failing: &Failing, admin: &Admin, say: &mut impl FnMut(String)) {
    let critical = if admin.critical(&line.module.name) { " (critical)" } else { "" };
    let again = if failing.remembered { " (as before: nothing that goes into it has changed)" } else { "" };
    say(format!("dkms: FAILED{critical}: {}: {}{again}", place(line), failing.why));
    for error in &failing.errors {
        say(format!("      {error}"));
    }
    if let Some(log) = &failing.log {
        say(format!("      the whole log: {log}"));
    }
    if let Some(target) = line.target.as_ref().filter(|_| failing.remembered) {
        say(format!("      to try again all the same: dkms install {} -k {}", line.module, target.kernel));
    }
    say(format!("      {}", failing.remaining));
}
