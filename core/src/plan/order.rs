//! Dependencies first.

use std::collections::BTreeSet;

use super::Make;
use crate::types::{ModuleId, Target};

/// Sorts so that everything comes after what it needs. Returns what goes round in circles separately, with the
/// circle's members.
pub fn sort(mut rest: Vec<Make>) -> (Vec<Make>, Vec<(Make, Vec<ModuleId>)>) {
    let mut sorted = Vec::with_capacity(rest.len());
    loop {
        let waiting: BTreeSet<(ModuleId, Target)> =
            rest.iter().map(|make| (make.module.clone(), make.target.clone())).collect();
        let blocked = |make: &Make| {
            make.after.iter().any(|module| waiting.contains(&(module.clone(), make.target.clone())))
        };
        let (still, ready): (Vec<_>, Vec<_>) = rest.into_iter().partition(blocked);
        if ready.is_empty() {
            let members: Vec<ModuleId> = still.iter().map(|make| make.module.clone()).collect();
            return (sorted, still.into_iter().map(|make| (make, members.clone())).collect());
        }
        sorted.extend(ready);
        rest = still;
    }
}
