//! `--progress=json`: what a front end shows while modules are built, one JSON document a line.

use serde::Serialize;

use super::{KernelStep, Outcome, Report};
use crate::types::{ModuleId, Target};

/// A line.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Progress<'a> {
    /// The plan is known.
    Begin {
        /// The version of this format.
        #[cfg_attr(test, schemars(extend("const" = 1)))]
        format: u32,
        /// The number of builds, cached ones included; it can be zero.
        builds: usize,
        /// The expected seconds of all builds together, if all were built before.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
    },
    /// A build has started.
    Build {
        /// The module.
        module: &'a ModuleId,
        /// The kernel.
        #[serde(flatten)]
        target: &'a Target,
        /// It is not compiled.
        cached: bool,
    },
    /// The outcome for one module is known.
    Outcome {
        /// The module.
        module: &'a ModuleId,
        /// The kernel.
        #[serde(flatten)]
        target: &'a Target,
        /// The outcome.
        #[serde(flatten)]
        outcome: &'a Outcome,
        /// The number of builds that have ended.
        done: usize,
    },
    /// A step for a whole kernel has started.
    Step {
        /// The step.
        step: KernelStep,
        /// The kernel.
        #[serde(flatten)]
        target: &'a Target,
    },
    /// Another message, for people.
    Message {
        /// The message.
        text: &'a str,
    },
    /// The transaction has ended.
    End {
        /// Its number in the history, if it is kept there.
        #[serde(skip_serializing_if = "Option::is_none")]
        transaction: Option<u64>,
        /// What was done.
        report: &'a Report,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::page::{page, section, tags};
    use crate::schemas::valid;

    #[test]
    fn the_shipped_schema_is_that_of_the_lines() {
        crate::shipped::expect::<Progress<'_>>("progress");
    }

    /// The next event after this one: a new event does not compile until it is added here, and then to the page.
    fn next(
        event: Option<&Progress<'_>>,
        module: &'static ModuleId,
        target: &'static Target,
    ) -> Option<Progress<'static>> {
        Some(match event {
            None => Progress::Begin { format: 1, builds: 2, seconds: Some(1.0) },
            Some(Progress::Begin { .. }) => Progress::Build { module, target, cached: false },
            Some(Progress::Build { .. }) => {
                Progress::Outcome { module, target, outcome: &Outcome::UpToDate, done: 1 }
            }
            Some(Progress::Outcome { .. }) => Progress::Step { step: KernelStep::Depmod, target },
            Some(Progress::Step { .. }) => Progress::Message { text: "a\nb" },
            Some(Progress::Message { .. }) => {
                Progress::End { transaction: Some(3), report: Box::leak(Box::default()) }
            }
            Some(Progress::End { .. }) => return None,
        })
    }

    #[test]
    fn every_event_is_described_and_valid_and_a_line() {
        let module = Box::leak(Box::new("a/1".parse().unwrap()));
        let target: &Target =
            Box::leak(Box::new(Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() }));
        let mut real = BTreeSet::new();
        for event in std::iter::successors(next(None, module, target), |one| next(Some(one), module, target))
        {
            let line = serde_json::to_string(&event).unwrap();
            assert!(!line.contains('\n'), "{line}");
            let value = valid("progress", &line);
            let object = value.as_object().unwrap();
            let fields = object.keys().filter(|name| *name != "event").cloned().collect::<BTreeSet<String>>();
            real.insert((object["event"].as_str().unwrap().to_owned(), fields));
        }
        let described = tags(&section(&page("dkms.8"), ".SS \\-\\-progress json")).into_iter().map(|tag| {
            let (name, fields) = tag.trim_end_matches(')').split_once(" (").unwrap();
            (name.to_owned(), fields.split(", ").map(str::to_owned).collect())
        });
        assert_eq!(described.collect::<BTreeSet<(String, BTreeSet<String>)>>(), real);
    }
}
