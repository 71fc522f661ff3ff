//! Kernels and architectures of the command line become targets, paired as in shell DKMS.

use anyhow::Result;

use super::refuse;
use crate::exit::Exit;
use crate::kernel;
use crate::types::{Arch, KernelRelease, Target};

/// The values of `-k` and `-a`, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Kernel releases.
    kernels: Vec<String>,
    /// Architectures. One after a kernel's slash is added to this list at its position, and does not belong to that
    /// kernel alone.
    arches: Vec<String>,
}

impl Pairs {
    /// Reads the options' values, each with its position on the command line.
    pub fn new(kernels: &[(usize, String)], arches: &[(usize, String)]) -> Self {
        let mut words: Vec<(usize, Option<&str>, Option<&str>)> = Vec::new();
        words.extend(kernels.iter().map(|(at, word)| match word.split_once('/') {
            Some((kernel, arch)) => (*at, Some(kernel), Some(arch)),
            None => (*at, Some(word.as_str()), None),
        }));
        words.extend(arches.iter().map(|(at, arch)| (*at, None, Some(arch.as_str()))));
        words.sort_by_key(|(at, ..)| *at);
        let text = |word: &str| word.trim().to_owned();
        Self {
            kernels: words.iter().filter_map(|(_, kernel, _)| kernel.map(text)).collect(),
            arches: words.iter().filter_map(|(.., arch)| arch.map(text)).collect(),
        }
    }

    /// Whether exactly one kernel was named.
    pub fn one_kernel(&self) -> bool {
        self.kernels.len() == 1
    }

    /// The named kernels, as they were given.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(String::as_str)
    }

    /// Whether a kernel is named.
    pub fn named(&self) -> bool {
        !self.kernels.is_empty()
    }

    /// Whether a kernel or an architecture is named.
    pub fn any(&self) -> bool {
        self.named() || !self.arches.is_empty()
    }

    /// Checks the rules that hold for every action.
    pub fn check(&self, all: bool) -> Result<()> {
        if self.arches.len() > 1 && self.arches.len() != self.kernels.len() {
            return refuse(
                Exit::ERROR,
                "the number of architectures and kernels differs; use -k KERNEL -a ARCH for each pair",
            );
        }
        match (all, self.kernels.is_empty(), self.arches.is_empty()) {
            (true, false, _) => refuse(Exit::ALL_AND_KERNEL, "--all and -k cannot be combined"),
            (true, true, false) => refuse(Exit::ALL_AND_ARCH, "--all and -a cannot be combined"),
            _ => Ok(()),
        }
    }

    /// The pairs; these kernels if none is named. A single architecture applies to all kernels.
    pub fn targets(&self, default: impl FnOnce() -> Vec<KernelRelease>) -> Result<Vec<Target>> {
        let unknown = || {
            refuse(
                Exit::NO_RUNNING_KERNEL,
                "no kernel is named, and none is running or installed here; specify -k and -a",
            )
        };
        let kernels = match self.kernels.as_slice() {
            [] => match default() {
                none if none.is_empty() => return unknown(),
                some => some,
            },
            named => named.iter().map(|word| named_as("-k", word)).collect::<Result<Vec<KernelRelease>>>()?,
        };
        let arches = match self.arches.as_slice() {
            [] => match kernel::machine() {
                Some(machine) => vec![machine],
                None => return unknown(),
            },
            named => named.iter().map(|word| named_as("-a", word)).collect::<Result<Vec<Arch>>>()?,
        };
        let arch = |at: usize| arches.get(at).or(arches.first()).cloned();
        Ok(kernels
            .into_iter()
            .enumerate()
            .filter_map(|(at, kernel)| Some(Target { kernel, arch: arch(at)? }))
            .collect())
    }

    /// The pairs as filters: a part that is missing or empty matches everything.
    pub fn wanted(&self) -> Result<Vec<(Option<KernelRelease>, Option<Arch>)>> {
        self.words()
            .map(|(kernel, arch)| {
                let kernel = kernel.map(|word| named_as("-k", word)).transpose()?;
                Ok((kernel, arch.map(|word| named_as("-a", word)).transpose()?))
            })
            .collect()
    }

    /// The same as they were given: they may be patterns.
    pub fn words(&self) -> impl Iterator<Item = (Option<&str>, Option<&str>)> {
        fn some(word: Option<&String>) -> Option<&str> {
            word.map(String::as_str).filter(|word| !word.is_empty())
        }
        let only = self.arches.first().filter(|_| self.arches.len() == 1);
        (0..self.kernels.len().max(1))
            .map(move |at| (some(self.kernels.get(at)), some(self.arches.get(at).or(only))))
    }
}

fn named_as<T>(option: &str, word: &str) -> Result<T>
where
    T: std::str::FromStr<Err = crate::types::BadName>,
{
    if word.is_empty() {
        return refuse(Exit::EMPTY_VALUE, format!("the value of {option} is empty"));
    }
    Ok(word.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `-k` and `-a` with their values from one line.
    fn pairs(line: &str) -> Pairs {
        let words: Vec<&str> = line.split_whitespace().collect();
        let of = |option: &str| -> Vec<(usize, String)> {
            let at = words.iter().enumerate().filter(|(_, word)| **word == option);
            at.map(|(at, _)| (at, words.get(at + 1).copied().unwrap_or("").to_owned())).collect()
        };
        Pairs::new(&of("-k"), &of("-a"))
    }

    fn running() -> Vec<KernelRelease> {
        kernel::running().into_iter().collect()
    }

    fn code(error: &anyhow::Error) -> i32 {
        error.downcast_ref::<crate::cli::Refusal>().map_or(1, |refusal| refusal.code.number())
    }

    #[test]
    fn kernels_and_architectures_are_paired_as_shell_dkms_pairs_them() {
        for (line, expected) in [
            ("-k 1/x", "1/x"),
            ("-k 1 -a x", "1/x"),
            ("-a x -k 1", "1/x"),
            ("-k 1 -k 2 -a x", "1/x 2/x"),
            ("-k 1/x -k 2/y", "1/x 2/y"),
            // The example of the manual page.
            ("-k 1 -k 2 -a x -k 3 -a y -a z", "1/x 2/y 3/z"),
            // An architecture after a slash counts like any other in the list.
            ("-k 1 -k 2/y", "1/y 2/y"),
            ("-k 1 -k 2/y -a x", "1/y 2/x"),
            ("-a x -k 1 -k 2/y", "1/x 2/y"),
        ] {
            let pairs = pairs(line);
            pairs.check(false).unwrap();
            let targets = pairs.targets(running).unwrap();
            let text: Vec<String> =
                targets.iter().map(|target| format!("{}/{}", target.kernel, target.arch)).collect();
            assert_eq!(text.join(" "), expected, "{line}");
        }
        let (host, machine) = (kernel::running().unwrap(), kernel::machine().unwrap());
        assert_eq!(
            pairs("").targets(running).unwrap(),
            [Target { kernel: host.clone(), arch: machine.clone() }]
        );
        assert_eq!(pairs("-a x").targets(running).unwrap()[0].kernel, host);
        assert_eq!(pairs("-k 1").targets(running).unwrap()[0].arch, machine);
    }

    #[test]
    fn without_a_kernel_the_given_ones_are_meant() {
        let two = || vec!["1".parse().unwrap(), "2".parse().unwrap()];
        let kernels = |line: &str| -> Vec<String> {
            let targets = pairs(line).targets(two).unwrap();
            targets.iter().map(|target| format!("{}/{}", target.kernel, target.arch)).collect()
        };
        assert_eq!(kernels("-a x"), ["1/x", "2/x"]);
        assert_eq!(kernels("-k 3/x"), ["3/x"]);
        assert_eq!(code(&pairs("").targets(Vec::new).unwrap_err()), Exit::NO_RUNNING_KERNEL.number());
    }

    #[test]
    fn what_cannot_be_paired_is_refused_with_the_documented_code() {
        for (line, all, expected) in [
            ("-k 1 -a x -a y", false, 1),
            ("-a x -a y", false, 1),
            ("-k 1 -k 2 -k 3 -a x -a y", false, 1),
            ("-k 1/x -a y", false, 1),
            ("-k 1/x -a y", true, 1),
            ("-k 1", true, 2),
            ("-k 1/x", true, 2),
            ("-a x", true, 3),
            ("-k", false, 16),
            ("-k 1/", false, 16),
            ("-k /x", false, 16),
            ("-k 1 -a", false, 16),
            ("-k ..", false, 1),
        ] {
            let pairs = pairs(line);
            let error = pairs.check(all).and_then(|()| pairs.targets(running).map(|_| ())).unwrap_err();
            assert_eq!(code(&error), expected, "{line}: {error:#}");
        }
    }

    #[test]
    fn a_question_leaves_open_what_it_does_not_name() {
        for (line, expected) in [
            ("", "*/*"),
            ("-a x", "*/x"),
            ("-k 1", "1/*"),
            ("-k 1/x -k 2", "1/x 2/x"),
            ("-k 1 -k 2", "1/* 2/*"),
            ("-k 1/x -k 2/y", "1/x 2/y"),
            ("-k", "*/*"),
        ] {
            let wanted = pairs(line).wanted().unwrap();
            let text = |word: Option<String>| word.unwrap_or("*".into());
            let shown: Vec<String> = wanted
                .into_iter()
                .map(|(kernel, arch)| {
                    format!("{}/{}", text(kernel.map(|k| k.to_string())), text(arch.map(|a| a.to_string())))
                })
                .collect();
            assert_eq!(shown.join(" "), expected, "{line}");
        }
    }
}
