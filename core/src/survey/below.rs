//! The survey of kernels whose headers only an overlay has: a confined process sees it, reads the files, and starts no program.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Wire, facts, memories, signers};
use crate::conf::{bash, evaluate};
use crate::kernel::compiler;
use crate::layout::Layout;
use crate::plan::{Scope, Survey};
use crate::report::Screen;
use crate::session::{Options, Session};
use crate::sys::confine;
use crate::sys::inside;
use crate::sys::overlay::Layers;
use crate::tree::Snapshot;
use crate::types::{ModuleId, Placement, Target};
use crate::unpacked::Overlay;

/// The name of this part of our programs.
pub const PART: &str = "survey";

/// The request to this part: a [`Scope`], with what the run brings along.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    layout: Layout,
    options: Options,
    kernels: Vec<Target>,
    cases: Vec<Placement>,
    older: Vec<(Placement, Vec<ModuleId>)>,
}

impl Request {
    /// What the scope has for these kernels.
    fn of(session: &Session, scope: &Scope, kernels: &BTreeSet<Target>) -> Self {
        let concerns = |place: &&Placement| kernels.contains(&place.target);
        let older = scope.older.iter().filter(|(place, _)| concerns(place));
        Self {
            layout: session.layout.clone(),
            options: session.options.clone(),
            kernels: kernels.iter().cloned().collect(),
            cases: scope.cases.iter().filter(concerns).cloned().collect(),
            older: older.map(|(place, ids)| (place.clone(), ids.clone())).collect(),
        }
    }

    fn scope(&self) -> Scope {
        Scope {
            cases: self.cases.iter().cloned().collect(),
            older: self.older.iter().cloned().collect(),
            kernels: self.kernels.iter().cloned().collect(),
        }
    }
}

/// The confined part.
pub fn serve() -> Result<()> {
    inside::serve(|request: Request| -> Result<Wire> {
        let place = |layout: &mut Layout| *layout = request.layout.clone();
        let session = Session::start(Screen::package_manager().quiet(true), request.options.clone(), place)?;
        let snapshot = Snapshot::load(&session.layout)?;
        Ok(facts(&session, &request.scope(), &snapshot)?.into())
    })
}

/// Adds to a survey what the overlay shows of these kernels, and what is remembered of their modules. Everything else stays as
/// root has seen it.
pub fn below(
    session: &Session,
    snapshot: &Snapshot,
    survey: &mut Survey,
    (scope, kernels): (&Scope, &BTreeSet<Target>),
    overlay: &Overlay,
) -> Result<()> {
    let layers = &overlay.layers;
    let spec = confine::Spec { layers: Some(layers.clone()), ..confine::Spec::default() };
    let request = Request::of(session, scope, kernels);
    let seen: Wire = inside::ask(PART, &spec, &request, |kind, content| answer(layers, kind, content))?;
    let seen = Survey::from(seen);
    for (target, mut kernel) in seen.kernels {
        if let Some(headers) = &mut kernel.headers {
            headers.seen_through(layers);
        }
        survey.kernels.insert(target, kernel);
    }
    for (place, mut case) in seen.cases {
        case.without_headers = survey.cases.get(&place).and_then(|without| without.without_headers.clone());
        case.unconfined = session.policy.admin.unconfined(&place.module.name);
        survey.cases.insert(place, case);
    }
    for (module, source) in seen.sources {
        survey.sources.entry(module).or_insert(source);
    }
    signers(session, snapshot, survey);
    memories(session, snapshot, survey, super::Now { proving: false, view: Some(&overlay.view) });
    Ok(())
}

/// A request that needs a program is executed in a separate sandbox.
pub fn answer(layers: &Layers, kind: &str, content: Value) -> Result<Value> {
    Ok(match kind {
        bash::EVALUATE => {
            let question: evaluate::Question = serde_json::from_value(content)?;
            serde_json::to_value(bash::evaluate_below(&question.inputs(), Some(layers))?)?
        }
        compiler::NAMED => {
            let headers: std::path::PathBuf = serde_json::from_value(content)?;
            serde_json::to_value(compiler::named_below(&headers, Some(layers)))?
        }
        other => bail!("the sandboxed dkms asks for {other:?}, which is nothing"),
    })
}
