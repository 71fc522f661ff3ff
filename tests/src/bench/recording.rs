//! The times of each real module with one and with two processors, and the part that can be parallelised, which is
//! computed from them. `core` simulates schedules with these for machines with more processors.

use std::collections::BTreeMap;

use dkms_core::report::timeline::Span;

use super::schedule::newest;
use crate::{Kernel, Root};

/// The build time of each module in seconds, over all phases.
pub fn seconds(bars: &[Span]) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for bar in bars.iter().filter(|bar| bar.lane > 0) {
        if let Some(module) = &bar.module {
            *sums.entry(module.to_string()).or_default() += bar.to - bar.from;
        }
    }
    sums
}

/// Builds the modules one after the other, each with the whole machine; `root` has no builds.
pub fn one_by_one(
    root: &Root,
    kernel: &Kernel,
    modules: impl Iterator<Item = String>,
) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for module in modules {
        root.run(&format!("dkms build {module} -k {}", kernel.release)).ok();
        all.extend(seconds(&newest(root)));
    }
    all
}

/// One line per module: sequential seconds, parallel seconds, name.
pub fn lines(with_one: &BTreeMap<String, f64>, with_two: &BTreeMap<String, f64>) -> String {
    let phases = |module: &String| {
        let (one, two) = (with_one.get(module)?, with_two.get(module)?);
        Some(split(*one, *two))
    };
    let rows = with_one.keys().filter_map(|module| Some((module, phases(module)?)));
    rows.map(|(module, (serial, shared))| format!("{serial:.2} {shared:.2} {module}\n")).collect()
}

/// With two processors, the parallel part takes half its time.
fn split(one: f64, two: f64) -> (f64, f64) {
    let shared = (2.0 * (one - two)).clamp(0.0, one);
    (one - shared, shared)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn what_two_processors_save_is_half_of_what_they_share() {
        for ((one, two), (serial, shared)) in [
            ((10.0, 6.0), (2.0, 8.0)),
            ((10.0, 10.0), (10.0, 0.0)),
            ((10.0, 11.0), (10.0, 0.0)),
            ((10.0, 4.0), (0.0, 10.0)),
        ] {
            assert_eq!(split(one, two), (serial, shared), "{one} {two}");
        }
    }
}
