//! Kernels for which the administrator wants no automatic builds.

use std::collections::BTreeSet;

use crate::event::Event;
use crate::policy::Admin;
use crate::types::{KernelRelease, Target};

/// The events without the kernels that policy.toml leaves out, and the kernels whose own events were dropped. A module that a
/// user names is built for any kernel.
pub fn select(events: Vec<Event>, admin: &Admin) -> (Vec<Event>, BTreeSet<KernelRelease>) {
    let mut left_out = BTreeSet::new();
    let mut wanted = |target: &Target| {
        let wanted = admin.leaves_out(&target.kernel).is_none();
        if !wanted {
            left_out.insert(target.kernel.clone());
        }
        wanted
    };
    let selected = events
        .into_iter()
        .filter_map(|event| match event {
            Event::KernelAdded(ref target)
            | Event::HeadersAdded(ref target)
            | Event::Autoinstall(ref target)
            | Event::KernelIncoming(ref target) => wanted(target).then_some(event),
            // The module is registered in any case.
            Event::SourceAdded { module, targets } => {
                let targets = of(targets, admin);
                Some(Event::SourceAdded { module, targets })
            }
            Event::SourceIncoming { module, targets } => {
                let targets = of(targets, admin);
                Some(Event::SourceIncoming { module, targets })
            }
            Event::KernelRemoved(_)
            | Event::SourceReplaced(_)
            | Event::SourceGone(_)
            | Event::Matched { .. }
            | Event::Loaded(_)
            | Event::Requested(_) => Some(event),
        })
        .collect();
    (selected, left_out)
}

fn of(mut targets: Vec<Target>, admin: &Admin) -> Vec<Target> {
    targets.retain(|target| admin.leaves_out(&target.kernel).is_none());
    targets
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::event::{Request, Verb};

    fn at(kernel: &str) -> Target {
        Target { kernel: kernel.parse().unwrap(), arch: "x86_64".parse().unwrap() }
    }

    #[test]
    fn what_is_automatic_leaves_kernels_out_and_what_is_named_does_not() {
        let admin = Admin::parse("skip_kernels = [\"*-rt\"]\n", Path::new("p"));
        let (rt, amd64) = (at("6.1-rt"), at("6.1-amd64"));
        let module = || "a/1".parse().unwrap();
        let source = |targets: &[&Target]| Event::SourceAdded {
            module: module(),
            targets: targets.iter().map(|target| (*target).clone()).collect(),
        };
        let request = || {
            let targets = vec![rt.clone()];
            Event::Requested(Request { verb: Verb::Install, module: module(), targets, force: false })
        };
        for (event, expected, left_out) in [
            (Event::KernelAdded(amd64.clone()), vec![Event::KernelAdded(amd64.clone())], false),
            (Event::KernelAdded(rt.clone()), vec![], true),
            (Event::HeadersAdded(rt.clone()), vec![], true),
            (Event::Autoinstall(rt.clone()), vec![], true),
            (Event::KernelIncoming(rt.clone()), vec![], true),
            (Event::KernelRemoved(rt.clone()), vec![Event::KernelRemoved(rt.clone())], false),
            (source(&[&rt, &amd64]), vec![source(&[&amd64])], false),
            (source(&[&rt]), vec![source(&[])], false),
            (request(), vec![request()], false),
        ] {
            let selected = select(vec![event.clone()], &admin);
            let left: BTreeSet<_> = left_out.then(|| rt.kernel.clone()).into_iter().collect();
            assert_eq!(selected, (expected, left), "{event}");
            assert_eq!(select(vec![event.clone()], &Admin::default()).0, [event]);
        }
    }
}
