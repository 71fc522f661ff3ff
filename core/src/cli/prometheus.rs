//! `dkms status --prometheus`: the text format of Prometheus, for the textfile collector of its node exporter.

use crate::types::{ModuleId, Target};

/// A time series: its labels, of a value 1.
type Labels = Vec<(&'static str, String)>;

/// What is the case, for all modules and kernels.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    states: Vec<Labels>,
    stored: Vec<Labels>,
    failed: Vec<Labels>,
    replaced: Vec<Labels>,
    outdated: Vec<Labels>,
}

impl Metrics {
    pub(super) fn state(&mut self, module: &ModuleId, target: Option<&Target>, state: &str) {
        self.states.push([of(Some(module), target), vec![("state", state.to_owned())]].concat());
    }

    pub(super) fn stored(&mut self, module: &ModuleId, target: Option<&Target>) {
        self.stored.push(of(Some(module), target));
    }

    pub(super) fn failed(&mut self, module: &ModuleId, target: &Target) {
        self.failed.push(of(Some(module), Some(target)));
    }

    pub(super) fn replaced(&mut self, module: &ModuleId) {
        self.replaced.push(of(Some(module), None));
    }

    pub(super) fn outdated(&mut self, target: &Target) {
        self.outdated.push(of(None, Some(target)));
    }

    /// The document. A family without a series is described nevertheless: nothing is wrong is not the same as not known.
    pub(super) fn text(&self) -> String {
        let family = |name: &str, help: &str, all: &[Labels]| {
            let series: String = all.iter().map(|labels| format!("{name}{} 1\n", written(labels))).collect();
            format!("# HELP {name} {help}\n# TYPE {name} gauge\n{series}")
        };
        [
            family("dkms_module", "A module in the DKMS tree, with its state for a kernel.", &self.states),
            family("dkms_from_store", "The build of a module for a kernel is from a store.", &self.stored),
            family("dkms_build_failed", "The last build of a module for a kernel failed.", &self.failed),
            family("dkms_loaded_differs", "The loaded module is not the installed one.", &self.replaced),
            family("dkms_initramfs_outdated", "The initramfs lacks installed modules.", &self.outdated),
        ]
        .concat()
    }
}

fn of(module: Option<&ModuleId>, target: Option<&Target>) -> Labels {
    let module = module.map(|id| [("module", id.name.to_string()), ("version", id.version.to_string())]);
    let target = target.map(|one| [("kernel", one.kernel.to_string()), ("arch", one.arch.to_string())]);
    module.into_iter().flatten().chain(target.into_iter().flatten()).collect()
}

/// `{module="zfs",kernel="6.12"}`. Names of modules and kernels have no characters that would have to be escaped.
fn written(labels: &Labels) -> String {
    let all: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{{{}}}", all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_is_a_series() {
        let target = Target { kernel: "6.12".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let id = "zfs/2.3.2".parse().unwrap();
        let mut metrics = Metrics::default();
        metrics.state(&id, Some(&target), "installed");
        metrics.state(&id, None, "added");
        metrics.stored(&id, Some(&target));
        metrics.failed(&id, &target);
        metrics.outdated(&target);
        insta::assert_snapshot!(metrics.text(), @r#"
        # HELP dkms_module A module in the DKMS tree, with its state for a kernel.
        # TYPE dkms_module gauge
        dkms_module{module="zfs",version="2.3.2",kernel="6.12",arch="x86_64",state="installed"} 1
        dkms_module{module="zfs",version="2.3.2",state="added"} 1
        # HELP dkms_from_store The build of a module for a kernel is from a store.
        # TYPE dkms_from_store gauge
        dkms_from_store{module="zfs",version="2.3.2",kernel="6.12",arch="x86_64"} 1
        # HELP dkms_build_failed The last build of a module for a kernel failed.
        # TYPE dkms_build_failed gauge
        dkms_build_failed{module="zfs",version="2.3.2",kernel="6.12",arch="x86_64"} 1
        # HELP dkms_loaded_differs The loaded module is not the installed one.
        # TYPE dkms_loaded_differs gauge
        # HELP dkms_initramfs_outdated The initramfs lacks installed modules.
        # TYPE dkms_initramfs_outdated gauge
        dkms_initramfs_outdated{kernel="6.12",arch="x86_64"} 1
        "#);
    }
}
