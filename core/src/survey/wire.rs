//! A survey in serializable form, as sent by the confined process.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::conf::{ConfError, Recipe};
use crate::kernel::{Kernel, Lack};
use crate::marker::Marker;
use crate::plan::{Case, Survey};
use crate::types::{Fingerprint, ModuleId, ModuleName, Placement, Target};

/// The complete survey.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Wire {
    kernels: Vec<Kernel>,
    cases: Vec<One>,
    sources: Vec<(ModuleId, PathBuf)>,
    damaged: Vec<Placement>,
    #[serde(default)]
    packaged: Vec<Marker>,
}

/// One module for one kernel.
#[derive(Debug, Serialize, Deserialize)]
struct One {
    module: ModuleId,
    target: Target,
    recipe: Result<Recipe, ConfError>,
    // A recipe's other messages are not part of its written form.
    left_out: Vec<String>,
    follows: bool,
    weak_modules: bool,
    fingerprint: Option<Fingerprint>,
    lack: Option<Lack>,
    unconfined: bool,
}

impl From<Survey> for Wire {
    fn from(survey: Survey) -> Self {
        let cases = survey.cases.into_iter().map(|(Placement { module, target }, case)| {
            let recipe = case.recipe.as_ref().ok();
            One {
                module,
                target,
                left_out: recipe.map(|recipe| recipe.left_out.clone()).unwrap_or_default(),
                follows: recipe.is_some_and(|recipe| recipe.follows),
                weak_modules: recipe.is_some_and(|recipe| recipe.weak_modules),
                recipe: case.recipe,
                fingerprint: case.fingerprint,
                lack: case.lack,
                unconfined: case.unconfined,
            }
        });
        Self {
            kernels: survey.kernels.into_values().collect(),
            cases: cases.collect(),
            sources: survey.sources.into_iter().collect(),
            damaged: survey.damaged.into_iter().collect(),
            packaged: survey.packaged.into_values().collect(),
        }
    }
}

impl From<Wire> for Survey {
    fn from(wire: Wire) -> Self {
        let cases = wire.cases.into_iter().map(|one| {
            let One { left_out, follows, weak_modules, .. } = one;
            let recipe = one.recipe.map(|recipe| Recipe { left_out, follows, weak_modules, ..recipe });
            let case = Case {
                recipe,
                fingerprint: one.fingerprint,
                signer: None,
                cached: false,
                lack: one.lack,
                without_headers: None,
                verdict: None,
                unconfined: one.unconfined,
            };
            (Placement { module: one.module, target: one.target }, case)
        });
        Self {
            kernels: wire.kernels.into_iter().map(|kernel| (kernel.target.clone(), kernel)).collect(),
            cases: cases.collect(),
            sources: wire.sources.into_iter().collect(),
            damaged: wire.damaged.into_iter().collect(),
            packaged: wire.packaged.into_iter().map(by_name).collect(),
            ..Self::default()
        }
    }
}

fn by_name(marker: Marker) -> ((ModuleName, Target), Marker) {
    ((marker.module.name.clone(), marker.target.clone()), marker)
}
