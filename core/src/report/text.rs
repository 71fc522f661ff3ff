//! Reports as text.

use std::collections::{BTreeMap, BTreeSet};

use super::{Count, Failing, KernelStep, Line, Outcome, Report, Reported, Unfinished};
use crate::policy::Admin;
use crate::types::{KernelRelease, ModuleId, ModuleName, Target};

/// One line of progress, printed when a module is done.
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
        Outcome::Installed { store: Some(_), .. } => format!("installed for {kernel} (from the store)"),
        Outcome::Installed { built: false, .. } => format!("installed for {kernel} (cached build)"),
        Outcome::Loaded => {
            format!("imported for {kernel}; run `dkms install {module} -k {kernel}` to install it")
        }
        Outcome::Present => format!("already built for {kernel}; kept (--force replaces it)"),
        Outcome::Uninstalled => format!("uninstalled from {kernel}"),
        Outcome::Unbuilt => format!("removed from {kernel}"),
        Outcome::UpToDate => format!("up to date for {kernel}"),
        Outcome::Packaged { why } => format!("up to date for {kernel}: {why}"),
        Outcome::Failed(_) => format!("FAILED for {kernel}"),
        Outcome::Deferred { why, .. } => format!("deferred for {kernel}: {why}"),
        Outcome::Excluded { why } => format!("not built for {kernel}: excluded by dkms.conf: {why}"),
        Outcome::Native { why } | Outcome::Refused { why, .. } => {
            format!("not installed for {kernel}: {why}")
        }
        Outcome::Registered => "registered".to_owned(),
        Outcome::Unregistered => "unregistered".to_owned(),
        Outcome::Kept => format!("kept for {kernel} until its new version is built"),
    };
    format!("dkms: {place}{module} {end}")
}

/// The summary; `None` if it would be empty. What this transaction has already reported is only counted.
pub fn summary(report: &Report, admin: &Admin, number: Option<u64>, before: &Reported) -> Option<String> {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for repaired in &report.repaired {
        say(format!("dkms: repaired: {repaired}"));
    }
    for (kernel, counts) in counts(report, admin, before) {
        say(format!("dkms: {kernel}: {counts}"));
    }
    let new: Vec<&Line> = report.lines.iter().filter(|line| !before.contains(line)).collect();
    deferred(&new, &mut say);
    for line in &new {
        details(line, admin, &mut say);
    }
    notes(report, &mut say);
    for remark in &report.remarks {
        say(format!("dkms: {remark}"));
    }
    for problem in &report.problems {
        say(format!("dkms: {problem}"));
    }
    for step in &report.unfinished {
        unfinished(step, &mut say);
    }
    let failures = new.iter().any(|line| line.outcome.follows().count == Some(Count::Failed));
    let wrong = failures || !report.problems.is_empty() || !report.unfinished.is_empty();
    if let Some(number) = number.filter(|_| wrong) {
        say(format!("dkms: details: dkms history show {number}"));
    }
    let text = text.trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The part of the summary about a single module.
fn details(line: &Line, admin: &Admin, say: &mut impl FnMut(String)) {
    match &line.outcome {
        Outcome::Refused { why, advice, .. } => {
            say(format!("dkms: {}: {why}", place(line)));
            say(format!("      {advice}"));
        }
        Outcome::Failed(failing) => failed(line, failing, admin, say),
        Outcome::Excluded { why } => {
            if admin.critical(&line.module.name) {
                say(format!("dkms: NOT BUILT (critical): {}: {why}", place(line)));
            }
        }
        // Modules that wait are listed together, and successes are only counted.
        Outcome::Deferred { .. }
        | Outcome::Native { .. }
        | Outcome::Installed { .. }
        | Outcome::Built { .. }
        | Outcome::UpToDate
        | Outcome::Packaged { .. }
        | Outcome::Uninstalled
        | Outcome::Unbuilt
        | Outcome::Registered
        | Outcome::Unregistered
        | Outcome::Kept
        | Outcome::Loaded
        | Outcome::Present => {}
    }
}

/// An outcome with everything that is known about it.
pub fn explained(line: &Line, admin: &Admin) -> String {
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    deferred(&[line], &mut say);
    details(line, admin, &mut say);
    if text.is_empty() {
        text = match &line.target {
            Some(target) => format!("{}\n", progress(&line.module, target, &line.outcome, None)),
            None => String::new(),
        };
    }
    text
}

/// The reason in an outcome; empty if it has none.
pub fn why(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Excluded { why }
        | Outcome::Native { why }
        | Outcome::Packaged { why }
        | Outcome::Deferred { why, .. }
        | Outcome::Refused { why, .. }
        | Outcome::Failed(Failing { why, .. }) => why,
        Outcome::Installed { .. }
        | Outcome::Built { .. }
        | Outcome::UpToDate
        | Outcome::Uninstalled
        | Outcome::Unbuilt
        | Outcome::Registered
        | Outcome::Unregistered
        | Outcome::Kept
        | Outcome::Loaded
        | Outcome::Present => "",
    }
}

fn place(line: &Line) -> String {
    match &line.target {
        Some(target) => format!("{} for {}", line.module, target.kernel),
        None => line.module.to_string(),
    }
}

/// `21 modules installed, 2 FAILED`, by kernel.
fn counts<'r>(report: &'r Report, admin: &Admin, before: &Reported) -> BTreeMap<&'r KernelRelease, String> {
    #[derive(Default)]
    struct Counted {
        counts: BTreeMap<Count, usize>,
        /// Something that the reader does not know yet, or that fails a hook.
        news: bool,
        /// A part of it was reported before.
        reported: bool,
    }
    let mut by_kernel: BTreeMap<&KernelRelease, Counted> = BTreeMap::new();
    for line in &report.lines {
        if let (Some(target), Some(count)) = (&line.target, line.outcome.follows().count) {
            let counted = by_kernel.entry(&target.kernel).or_default();
            *counted.counts.entry(before.counted(count)).or_default() += 1;
            counted.reported |= before.contains(line);
            counted.news |= !count.quiet() && before.is_news(line, admin.critical(&line.module.name));
        }
    }
    by_kernel.retain(|_, counted| counted.news);
    let text = |Counted { counts, reported, .. }: Counted| {
        let total: usize = counts.values().sum();
        let modules = format!("{total} module{}", if total == 1 { "" } else { "s" });
        let end = match (reported, before.number()) {
            (false, _) => String::new(),
            (true, None) => " (see above)".to_owned(),
            (true, Some(number)) => format!(" (dkms history show {number})"),
        };
        if let Some((count, _)) = counts.first_key_value().filter(|_| counts.len() == 1) {
            return format!("{modules} {}{end}", count.words());
        }
        let parts: Vec<String> =
            counts.iter().map(|(count, number)| format!("{number} {}", count.words())).collect();
        format!("{modules}: {}{end}", parts.join(", "))
    };
    by_kernel.into_iter().map(|(kernel, counted)| (kernel, text(counted))).collect()
}

/// Modules that wait for the same thing share their lines.
fn deferred(lines: &[&Line], say: &mut impl FnMut(String)) {
    let mut groups: BTreeMap<(Option<&KernelRelease>, &str, &str), Vec<String>> = BTreeMap::new();
    for line in lines {
        if let Outcome::Deferred { why, advice, .. } = &line.outcome {
            let kernel = line.target.as_ref().map(|target| &target.kernel);
            groups.entry((kernel, why, advice)).or_default().push(line.module.to_string());
        }
    }
    for ((kernel, why, advice), modules) in groups {
        let kernel = kernel.map_or(String::new(), |kernel| format!(" for {kernel}"));
        say(format!("dkms: deferred{kernel}: {}", modules.join(", ")));
        say(format!("      {why}"));
        say(format!("      {advice}"));
    }
}

/// A remark that applies to several modules is printed once.
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

fn unfinished(step: &Unfinished, say: &mut impl FnMut(String)) {
    let kernel = &step.target.kernel;
    say(match step.step {
        KernelStep::Depmod => format!("dkms: depmod FAILED for {kernel}: {}", step.why),
        KernelStep::Initramfs => format!("dkms: {}: {}", outdated(kernel, &step.modules), step.why),
    });
    say(format!("      the next run of dkms retries this; to retry now: dkms autoinstall -k {kernel}"));
}

/// The sentence about a kernel's initramfs that could not be regenerated.
pub fn outdated(kernel: &KernelRelease, modules: &BTreeSet<ModuleName>) -> String {
    let modules: Vec<&str> = modules.iter().map(ModuleName::as_str).collect();
    format!(
        "the initramfs for {kernel} is out of date: it lacks the installed version of {}",
        modules.join(", ")
    )
}

/// Where a log is: a command for a recorded one, whose path is longer than a line.
pub fn log_of(module: &ModuleId, target: Option<&Target>, log: &str) -> String {
    match target {
        Some(target) if log.contains("/failures/") => format!("dkms log {module} -k {}", target.kernel),
        _ => log.to_owned(),
    }
}

fn failed(line: &Line, failing: &Failing, admin: &Admin, say: &mut impl FnMut(String)) {
    let critical = if admin.critical(&line.module.name) { " (critical)" } else { "" };
    let again = if failing.remembered { " (not retried: inputs unchanged)" } else { "" };
    say(format!("dkms: FAILED{critical}: {}: {}{again}", place(line), failing.why));
    for error in &failing.errors {
        say(format!("      {error}"));
    }
    if let Some(log) = &failing.log {
        say(format!("      log: {}", log_of(&line.module, line.target.as_ref(), log)));
    }
    if let Some(target) = line.target.as_ref().filter(|_| failing.remembered && !failing.absent) {
        say(format!("      to retry: dkms install {} -k {}", line.module, target.kernel));
    }
    if !failing.advice.is_empty() {
        say(format!("      {}", failing.advice));
    }
    say(format!("      {}", failing.remaining));
}
