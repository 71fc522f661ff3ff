//! The sandboxed part of a pre-build: it sees the overlay, reads the files, and starts no program.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::archive;
use crate::event::Event;
use crate::inventory::{all_targets, source_in};
use crate::kernel::pkgbase;
use crate::layout::Layout;
use crate::package;
use crate::plan::{Survey, scope};
use crate::report::Screen;
use crate::session::{Options, Session};
use crate::survey::{self, Wire};
use crate::sys::confine;
use crate::sys::inside;
use crate::sys::overlay::Layers;
use crate::tree::Snapshot;
use crate::types::{ModuleId, Target};
use crate::unpacked;

/// The parts of our programs that run confined.
pub const PARTS: &confine::Inside = &[
    (PART, serve),
    (archive::PART, archive::serve),
    (package::PART, package::serve),
    (unpacked::PART, unpacked::serve),
    (survey::PART, survey::serve),
];
/// The name of this part.
pub(super) const PART: &str = "incoming";

/// The request to this part.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) layout: Layout,
    pub(super) options: Options,
    /// Kernels that are about to be installed.
    pub(super) incoming: Vec<Target>,
    /// Installed kernels that were requested.
    pub(super) kernels: Vec<Target>,
    /// Directories of the source tree with the source of a module that is about to be installed.
    pub(super) sources: Vec<String>,
    /// A kernel replaces the previous one.
    pub(super) replaces: bool,
}

/// The result.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Found {
    kernels: Vec<Target>,
    modules: Vec<(ModuleId, Vec<Target>)>,
    /// What cannot be built, and why.
    pub(super) untried: Vec<String>,
    survey: Wire,
}

impl Found {
    /// The result as events, and the facts that they need.
    pub fn into_parts(self) -> (Vec<Event>, Survey) {
        let kernels = self.kernels.into_iter().map(Event::KernelIncoming);
        let sources =
            self.modules.into_iter().map(|(module, targets)| Event::SourceIncoming { module, targets });
        (kernels.chain(sources).collect(), self.survey.into())
    }
}

fn serve() -> Result<()> {
    inside::serve(|request: Request| {
        let place = |layout: &mut Layout| *layout = request.layout.clone();
        let session = Session::start(Screen::package_manager().quiet(true), request.options.clone(), place)?;
        let snapshot = Snapshot::load(&session.layout)?;
        find(&session, &snapshot, &request)
    })
}

/// Sends the request to the sandboxed dkms.
pub(super) fn ask(layers: &Layers, request: &Request) -> Result<Found> {
    let spec = confine::Spec { layers: Some(layers.clone()), ..confine::Spec::default() };
    inside::ask(PART, &spec, request, |kind, content| survey::answer(layers, kind, content))
}

/// The events and facts about the packages, whose files are visible now.
pub(super) fn find(session: &Session, snapshot: &Snapshot, request: &Request) -> Result<Found> {
    let mut found = Found::default();
    let mut replaced = std::collections::BTreeSet::new();
    for target in request.incoming.iter().chain(&request.kernels) {
        if !session.layout.headers(&target.kernel).join("include").exists() {
            let headers = session.layout.headers(&target.kernel);
            bail!("kernel headers for {} not found in {}", target.kernel, headers.display());
        }
        replaced.extend(pkgbase(&session.layout, &target.kernel).filter(|_| request.replaces));
        found.kernels.push(target.clone());
    }
    let mut targets = all_targets(session)?;
    // A kernel that is being removed needs no new modules.
    let leaves = |target: &Target| {
        pkgbase(&session.layout, &target.kernel).is_some_and(|base| replaced.contains(&base))
    };
    targets.retain(|target| request.incoming.contains(target) || !leaves(target));
    targets.retain(|target| session.policy.admin.leaves_out(&target.kernel).is_none());
    for dir in &request.sources {
        match source_in(session, dir) {
            Ok(module) => found.modules.push((module, targets.clone())),
            Err(error) => found.untried.push(format!("{error:#}")),
        }
    }
    let kernels = found.kernels.iter().cloned().map(Event::KernelIncoming);
    let sources = found.modules.iter().cloned();
    let sources = sources.map(|(module, targets)| Event::SourceIncoming { module, targets });
    let events: Vec<Event> = kernels.chain(sources).collect();
    found.survey = survey::facts(session, &scope(&events, snapshot), snapshot)?.into();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{bash, evaluate};
    use crate::sys::inside::Message;

    /// The fuzzer must start from a real message: otherwise it would never get past the first field.
    #[test]
    fn the_seeds_of_the_fuzzer_are_understood() {
        let seed = |name: &str| {
            let path = format!("{}/../tests/fuzz/seeds/wall/{name}", env!("CARGO_MANIFEST_DIR"));
            Message::read(&std::fs::read(path).unwrap()).unwrap()
        };
        let Message::Found(found) = seed("found") else { panic!("another message") };
        let (events, survey) = serde_json::from_value::<Found>(found).unwrap().into_parts();
        assert_eq!((events.len(), survey.kernels.len(), survey.cases.len()), (2, 1, 1));
        let Message::Ask(kind, question) = seed("ask") else { panic!("another message") };
        assert_eq!(kind, bash::EVALUATE);
        assert_eq!(serde_json::from_value::<evaluate::Question>(question).unwrap().inputs().files.len(), 1);
        assert_eq!(seed("failed"), Message::Failed("a file is damaged".into()));
    }
}
