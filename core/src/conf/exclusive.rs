//! `BUILD_EXCLUSIVE_*` and `OBSOLETE_BY`: may this module be built for this kernel at all?

use std::cmp::Ordering;

use super::RawConf;
use crate::kernel::Config;
use crate::types::Target;
use crate::types::version::compare;

/// The first rule that excludes module number `index`, as a sentence. Index 0 (and every variable that is not an array)
/// is a rule for all modules of the package.
pub fn excluded(raw: &RawConf, index: usize, target: &Target, config: Option<&Config>) -> Option<String> {
    let own = |index| rule(raw, index, target, config);
    own(0).or_else(|| (index > 0).then(|| own(index)).flatten())
}

fn rule(raw: &RawConf, index: usize, target: &Target, config: Option<&Config>) -> Option<String> {
    let kernel = target.kernel.as_str();
    let at = |name: &str| raw.at(name, index);
    let (kernel_matches, arch_matches) = match index {
        0 => (raw.kernel_matches, raw.arch_matches),
        _ => (!raw.kernel_misses.contains(&index), !raw.arch_misses.contains(&index)),
    };
    if !kernel_matches {
        let rule = at("BUILD_EXCLUSIVE_KERNEL");
        return Some(match rule.strip_prefix("REQUIRES ") {
            // A habit of Debian's packages: an impossible pattern that states the reason.
            Some(option) => format!("requires {option}, which this kernel does not provide"),
            None => format!("supports only kernels that match {rule}"),
        });
    }
    let (min, max) = (at("BUILD_EXCLUSIVE_KERNEL_MIN"), at("BUILD_EXCLUSIVE_KERNEL_MAX"));
    if !min.is_empty() && compare(kernel, min) == Ordering::Less {
        return Some(format!("requires kernel {min} or later"));
    }
    if !max.is_empty() && compare(kernel, max) == Ordering::Greater {
        return Some(format!("requires kernel {max} or earlier"));
    }
    // The older variable for the newest kernel; if another variable for any module allows a newer kernel, that one
    // applies.
    let obsolete = at("OBSOLETE_BY");
    let newer_word = || raw.all("BUILD_EXCLUSIVE_KERNEL_MAX").any(|(_, max)| !max.is_empty());
    if index == 0 && !obsolete.is_empty() && compare(kernel, obsolete) != Ordering::Less && !newer_word() {
        return Some(format!("provided by the kernel since {obsolete}"));
    }
    if !arch_matches {
        return Some(format!("supports only architectures that match {}", at("BUILD_EXCLUSIVE_ARCH")));
    }
    let config = config?;
    for word in at("BUILD_EXCLUSIVE_CONFIG").split_whitespace() {
        let set = |option: &str| matches!(config.get(option), Some("y" | "m"));
        match word.strip_prefix('!') {
            Some(option) if set(option) => {
                return Some(format!("conflicts with {option}, which is enabled in this kernel"));
            }
            None if !set(word) => {
                return Some(format!("requires {word}, which is not enabled in this kernel"));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(pairs: &[(&str, &str)]) -> RawConf {
        let mut raw = RawConf { kernel_matches: true, arch_matches: true, ..RawConf::default() };
        for (name, value) in pairs {
            raw.values.insert((*name).into(), [(0, (*value).into())].into());
        }
        raw
    }

    #[test]
    fn each_rule_says_why() {
        let target = Target { kernel: "6.12.5-amd64".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let config = Config::new(b"CONFIG_PCI=y\n");
        type Row<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let rows: &[Row<'_>] = &[
            (&[], None),
            (&[("BUILD_EXCLUSIVE_KERNEL_MIN", "6.1")], None),
            (&[("BUILD_EXCLUSIVE_KERNEL_MIN", "6.13")], Some("6.13 or later")),
            (&[("BUILD_EXCLUSIVE_KERNEL_MAX", "6.11")], Some("6.11 or earlier")),
            (&[("OBSOLETE_BY", "6.10")], Some("provided by the kernel since")),
            (&[("OBSOLETE_BY", "6.12.5-amd64")], Some("provided by the kernel since")),
            (&[("OBSOLETE_BY", "6.12.6")], None),
            (&[("OBSOLETE_BY", "6.10"), ("BUILD_EXCLUSIVE_KERNEL_MAX", "6.13")], None),
            (&[("BUILD_EXCLUSIVE_CONFIG", "CONFIG_PCI")], None),
            (&[("BUILD_EXCLUSIVE_CONFIG", "CONFIG_PCI CONFIG_USB")], Some("requires CONFIG_USB")),
            (&[("BUILD_EXCLUSIVE_CONFIG", "!CONFIG_PCI")], Some("conflicts with CONFIG_PCI")),
        ];
        for (pairs, expected) in rows {
            let answer = excluded(&raw(pairs), 0, &target, Some(&config));
            match expected {
                None => assert_eq!(answer, None, "{pairs:?}"),
                Some(part) => assert!(answer.clone().unwrap().contains(part), "{pairs:?}: {answer:?}"),
            }
        }
    }

    #[test]
    fn a_module_obeys_its_own_rules_and_those_of_all() {
        let target = Target { kernel: "6.12.5-amd64".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let config = Config::new(b"CONFIG_PCI=y\n");
        let mut raw = raw(&[]);
        for (name, index, value) in [
            ("BUILD_EXCLUSIVE_KERNEL_MIN", 1, "6.13"),
            ("BUILD_EXCLUSIVE_KERNEL_MAX", 2, "6.1"),
            ("BUILD_EXCLUSIVE_CONFIG", 3, "CONFIG_PCI"),
            ("BUILD_EXCLUSIVE_CONFIG", 4, "!CONFIG_PCI"),
            ("BUILD_EXCLUSIVE_KERNEL", 5, "^5"),
            ("BUILD_EXCLUSIVE_ARCH", 6, "none"),
            // Only the whole package can be obsolete, and only if no module has its own newest kernel.
            ("OBSOLETE_BY", 0, "6.10"),
        ] {
            raw.values.entry(name.into()).or_default().insert(index, value.into());
        }
        (raw.kernel_misses, raw.arch_misses) = (vec![5], vec![6]);
        let out: Vec<bool> =
            (0..8).map(|index| excluded(&raw, index, &target, Some(&config)).is_some()).collect();
        assert_eq!(out, [false, true, true, false, true, true, true, false]);
        // A rule for all modules also applies to those whose own rules match.
        raw.kernel_matches = false;
        assert!((0..8).all(|index| excluded(&raw, index, &target, Some(&config)).is_some()));
    }
}
