//! `dkms preflight --upcoming`: builds for what the package manager would install. `dkms upcoming`: what is known of it.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::args::Args;
use super::invocation::Invocation;
use super::{idle, preflight, refuse};
use crate::exit::Exit;
use crate::kept_back::KeptBack;
use crate::layout::Layout;
use crate::manager::Offer;
use crate::preflight::{RequestedBy, summary};
use crate::report::{Line, Outcome, history, text};
use crate::session::Session;
use crate::sys::signal::Interrupted;
use crate::types::{KernelRelease, ModuleName};
use crate::upcoming::{Expected, Upcoming, prepare as ahead, review};

/// What `dkms upcoming --json` prints.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Document<'a> {
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    format: u32,
    /// When the package manager was asked; absent if it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    time: Option<String>,
    /// The available packages that builds need.
    packages: &'a [Offer],
    modules: Vec<Module<'a>>,
    /// Reasons why something could not be pre-built.
    untried: &'a [String],
    /// Names of the modules because of which a package manager would abort the transaction.
    held: Vec<String>,
    /// The packages that upgrades leave as they are, because of these modules.
    kept_back: Vec<Offer>,
    /// Why the last run did not come to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// A module for a kernel that is available.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Module<'a> {
    /// Its build is cached: its installation needs no compiler.
    ready: bool,
    #[serde(flatten)]
    line: &'a Line,
}

/// `dkms preflight --upcoming`
pub(super) fn prepare(session: &mut Session, args: &Args, invocation: &Invocation) -> Result<Exit> {
    if !invocation.rest.is_empty() || args.pairs.named() {
        return refuse(Exit::ERROR, "--upcoming takes no kernel and no file: the package manager names them");
    }
    let screen = session.screen;
    if let Err(error) = review(session) {
        return stopped(session, error);
    }
    if !session.policy.admin.ahead() {
        screen.progress("dkms: nothing is built ahead of upgrades: ahead = false in policy.toml");
        return Ok(Exit::SUCCESS);
    }
    if session.autoinstall_off() {
        return Ok(Exit::SUCCESS);
    }
    if args.json {
        session.screen = screen.aside();
    }
    let prepared = match ahead(session) {
        Ok(prepared) => prepared,
        Err(error) => return stopped(session, error),
    };
    let upcoming = &prepared.upcoming;
    let (text, code) = match &prepared.finding {
        Some(finding) => {
            let said = summary(finding, session, &RequestedBy::Ahead(prepared.kept.clone()));
            (said.unwrap_or_else(|| about(session, upcoming)), preflight::code(finding))
        }
        None => (about(session, upcoming), code(upcoming)),
    };
    if args.json {
        session.screen.answer(&json(session, upcoming)?);
    } else {
        session.screen.alert(text.trim_end());
    }
    Ok(code)
}

/// Giving way is not an error.
fn stopped(session: &Session, error: anyhow::Error) -> Result<Exit> {
    if !error.downcast_ref::<Interrupted>().is_some_and(|why| why.gave_way()) {
        return Err(error);
    }
    session.screen.progress("dkms: stopped: another transaction has priority; the next run continues");
    Ok(Exit::SUCCESS)
}

/// `dkms upcoming`
pub(super) fn show(session: &Session, args: &Args) -> Result<Exit> {
    let known = Upcoming::load(&session.layout);
    let upcoming = known.clone().unwrap_or_default();
    if args.json {
        session.screen.answer(&json(session, &upcoming)?);
    } else if known.is_some() && session.screen.talks() {
        session.screen.answer(&about(session, &upcoming));
    } else if known.is_some() {
        // For the message of the day: a line for each problem.
        let lines = warnings(&session.layout, |_| true);
        session.screen.answer(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    } else {
        idle::say(session, "the package manager has not been asked yet: dkms preflight --upcoming");
    }
    Ok(code(&upcoming))
}

fn code(upcoming: &Upcoming) -> Exit {
    if upcoming.modules.iter().any(Expected::fails) { Exit::AUTOINSTALL_FAILED } else { Exit::SUCCESS }
}

fn json(session: &Session, upcoming: &Upcoming) -> Result<String> {
    let document = Document {
        format: 1,
        time: (upcoming.checked > 0).then(|| history::rfc3339(upcoming.checked)),
        packages: &upcoming.packages,
        modules: upcoming
            .modules
            .iter()
            .map(|one| Module { ready: one.is_ready(session), line: &one.line })
            .collect(),
        untried: &upcoming.untried,
        held: upcoming.held.iter().map(ToString::to_string).collect(),
        kept_back: KeptBack::load(&session.layout).unwrap_or_default().packages,
        problem: upcoming.problem.as_deref(),
    };
    Ok(format!("{}\n", serde_json::to_string_pretty(&document)?))
}

/// The state of a module for an available kernel, in the order of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Ready,
    Later,
    Excluded,
    Fails,
}

impl End {
    fn of(expected: &Expected, session: &Session) -> Self {
        if expected.fails() {
            return Self::Fails;
        }
        match expected.line.outcome {
            Outcome::Excluded { .. } | Outcome::Native { .. } => Self::Excluded,
            _ if expected.is_ready(session) => Self::Ready,
            _ => Self::Later,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Later => "to be built during the upgrade",
            Self::Excluded => "excluded",
            Self::Fails => "FAILED",
        }
    }
}

/// All that is known, for people.
fn about(session: &Session, upcoming: &Upcoming) -> String {
    let mut text = String::new();
    let names = upcoming.named(session);
    let asked = history::date(upcoming.checked);
    text.push_str(&match names.len() {
        _ if upcoming.checked == 0 => String::new(),
        0 if !upcoming.no_headers.is_empty() => String::new(),
        0 => format!("dkms: no upgrade concerns kernels or modules (asked at {asked})\n"),
        1..=3 => format!("dkms: available: {} (asked at {asked})\n", names.join(", ")),
        many => {
            format!("dkms: available: {} and {} more (asked at {asked})\n", names[..2].join(", "), many - 2)
        }
    });
    let mut kernels: BTreeMap<&KernelRelease, BTreeMap<End, usize>> = BTreeMap::new();
    for expected in &upcoming.modules {
        if let Some(target) = &expected.line.target {
            *kernels.entry(&target.kernel).or_default().entry(End::of(expected, session)).or_default() += 1;
        }
    }
    for (kernel, counts) in kernels {
        let total: usize = counts.values().sum();
        let modules = format!("{total} module{}", if total == 1 { "" } else { "s" });
        let parts: Vec<String> =
            counts.iter().map(|(end, count)| format!("{count} {}", end.words())).collect();
        let counts = match counts.first_key_value() {
            Some((end, _)) if parts.len() == 1 => format!("{modules} {}", end.words()),
            _ => format!("{modules}: {}", parts.join(", ")),
        };
        text.push_str(&format!("dkms: {kernel}: {counts}\n"));
    }
    text.push_str(&wrong(session, upcoming));
    text
}

/// A line for each of these modules that does not build, and for what is kept back because of one.
pub(super) fn warnings(layout: &Layout, shown: impl Fn(&ModuleName) -> bool) -> Vec<String> {
    let failing = Upcoming::load(layout).unwrap_or_default().failing(layout).into_iter();
    let mut lines: Vec<String> = failing
        .filter(|(module, _)| shown(&module.name))
        .map(|(_, sentence)| format!("dkms: {sentence}"))
        .collect();
    let kept = KeptBack::load(layout).filter(|kept| kept.modules.keys().any(shown));
    lines.extend(kept.as_ref().map(kept_back));
    lines
}

fn kept_back(kept: &KeptBack) -> String {
    format!("dkms: {} (since {})", kept.sentence(), history::date(kept.since()))
}

/// What needs attention.
fn wrong(session: &Session, upcoming: &Upcoming) -> String {
    let mut text = String::new();
    for expected in upcoming.modules.iter().filter(|expected| expected.fails()) {
        text.push_str(&text::explained(&expected.line, &session.policy.admin));
    }
    if let Some(kept) = KeptBack::load(&session.layout) {
        text.push_str(&format!("{}\n", kept_back(&kept)));
    }
    for kernel in &upcoming.no_headers {
        let package = session.policy.distribution.headers_package.replace("{kernel}", kernel.as_str());
        text.push_str(&format!(
            "dkms: {kernel} is available, but {package} is not installed with it: no module can be built for it\n"
        ));
    }
    for why in &upcoming.untried {
        text.push_str(&format!("dkms: pre-build skipped: {why}\n"));
    }
    if let Some(problem) = &upcoming.problem {
        text.push_str(&format!("dkms: the last run failed: {problem}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{documented, fields};
    use crate::types::Target;

    #[test]
    fn the_shipped_schema_is_that_of_the_document() {
        crate::shipped::expect::<Document<'_>>("upcoming");
    }

    #[test]
    fn every_field_is_described() {
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let outcome = Outcome::Excluded { why: "why".into() };
        let line = Line { module: "a/1".parse().unwrap(), target: Some(target), outcome };
        let packages = [serde_json::from_value(serde_json::json!({"name": "a", "version": "1"})).unwrap()];
        let document = Document {
            format: 1,
            time: Some(history::rfc3339(0)),
            packages: &packages,
            modules: vec![Module { ready: true, line: &line }],
            untried: &["why".into()],
            held: vec!["a".into()],
            kept_back: packages.to_vec(),
            problem: Some("why"),
        };
        let mut described = documented(".SS upcoming \\-\\-json");
        // It stands beside an outcome, whose own fields `fields` leaves out.
        assert!(described.remove("modules[].ready"));
        assert_eq!(described, fields(&serde_json::to_value(document).unwrap()));
    }
}
