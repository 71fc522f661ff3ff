//! `BUILD_EXCLUSIVE_*` and `OBSOLETE_BY`: may this module be built for this kernel at all?

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::RawConf;
use super::version::compare;
use crate::types::Target;

/// The first rule that excludes the kernel, as a sentence.
pub fn excluded(raw: &RawConf, target: &Target, config: Option<&BTreeMap<String, String>>) -> Option<String> {
    let kernel = target.kernel.as_str();
    if !raw.kernel_matches {
        let rule = raw.get("BUILD_EXCLUSIVE_KERNEL");
        return Some(match rule.strip_prefix("REQUIRES ") {
            // A habit of Debian's packages: an impossible pattern that says why.
            Some(option) => format!("it needs {option}, which this kernel does not have"),
            None => format!("it is only for kernels that match {rule}"),
        });
    }
    let min = raw.get("BUILD_EXCLUSIVE_KERNEL_MIN");
    if !min.is_empty() && compare(kernel, min) == Ordering::Less {
        return Some(format!("it is only for kernels from {min} on"));
    }
    let (max, obsolete) = (raw.get("BUILD_EXCLUSIVE_KERNEL_MAX"), raw.get("OBSOLETE_BY"));
    if !max.is_empty() && compare(kernel, max) == Ordering::Greater {
        return Some(format!("it is only for kernels up to {max}"));
    }
    if max.is_empty() && !obsolete.is_empty() && compare(kernel, obsolete) == Ordering::Greater {
        return Some(format!("kernels from {obsolete} on have it themselves"));
    }
    if !raw.arch_matches {
        return Some(format!("it is only for architectures that match {}", raw.get("BUILD_EXCLUSIVE_ARCH")));
    }
    let config = config?;
    for word in raw.get("BUILD_EXCLUSIVE_CONFIG").split_whitespace() {
        let set = |option: &str| config.get(option).is_some_and(|value| value == "y" || value == "m");
        match word.strip_prefix('!') {
            Some(option) if set(option) => {
                return Some(format!("it does not work with {option}, which this kernel has"));
            }
            None if !set(word) => return Some(format!("it needs {word}, which this kernel does not have")),
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
        let config = BTreeMap::from([("CONFIG_PCI".to_owned(), "y".to_owned())]);
        type Row<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let rows: &[Row<'_>] = &[
            (&[], None),
            (&[("BUILD_EXCLUSIVE_KERNEL_MIN", "6.1")], None),
            (&[("BUILD_EXCLUSIVE_KERNEL_MIN", "6.13")], Some("from 6.13 on")),
            (&[("BUILD_EXCLUSIVE_KERNEL_MAX", "6.11")], Some("up to 6.11")),
            (&[("OBSOLETE_BY", "6.10")], Some("have it themselves")),
            (&[("BUILD_EXCLUSIVE_CONFIG", "CONFIG_PCI")], None),
            (&[("BUILD_EXCLUSIVE_CONFIG", "CONFIG_PCI CONFIG_USB")], Some("needs CONFIG_USB")),
            (&[("BUILD_EXCLUSIVE_CONFIG", "!CONFIG_PCI")], Some("does not work with CONFIG_PCI")),
        ];
        for (pairs, expected) in rows {
            let answer = excluded(&raw(pairs), &target, Some(&config));
            match expected {
                None => assert_eq!(answer, None, "{pairs:?}"),
                Some(part) => assert!(answer.clone().unwrap().contains(part), "{pairs:?}: {answer:?}"),
            }
        }
    }
}
