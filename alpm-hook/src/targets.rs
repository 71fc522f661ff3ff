//! The paths that pacman passes to a hook.

use std::collections::BTreeSet;

use dkms_core::types::KernelRelease;

/// What the paths refer to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Directories of `usr/src` with a dkms.conf.
    pub sources: BTreeSet<String>,
    /// Kernels with changes of the image.
    pub kernels: BTreeSet<KernelRelease>,
    /// Kernels with changes of the headers.
    pub headers: BTreeSet<KernelRelease>,
    /// Paths with an invalid name, each with the reason.
    pub odd: Vec<String>,
}

impl Targets {
    /// Reads lines. Paths that do not match the hook files are ignored.
    pub fn read(text: &str) -> Self {
        let mut targets = Self::default();
        for line in text.lines() {
            let parts: Vec<&str> = line.trim_start_matches('/').split('/').collect();
            match parts.as_slice() {
                ["usr", "src", directory, "dkms.conf"] => {
                    targets.sources.insert((*directory).to_owned());
                }
                ["usr", "lib", "modules", kernel, "vmlinuz"] => {
                    let kernel = targets.kernel(line, kernel);
                    targets.kernels.extend(kernel);
                }
                ["usr", "lib", "modules", kernel, "build", "include", ..] => {
                    let kernel = targets.kernel(line, kernel);
                    targets.headers.extend(kernel);
                }
                _ => {}
            }
        }
        targets
    }

    fn kernel(&mut self, line: &str, text: &str) -> Option<KernelRelease> {
        text.parse().map_err(|error| self.odd.push(format!("{line}: {error}"))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_sorted_by_what_they_are_about() {
        let text = "usr/src/bbswitch-0.8/dkms.conf\nusr/src/bbswitch-0.9/dkms.conf\nusr/lib/modules/6.1-lts/vmlinuz\n\
                    usr/lib/modules/6.2-arch1-1/build/include/\n/usr/lib/modules/6.2-arch1-1/vmlinuz\nusr/bin/dkms\n\n";
        let targets = Targets::read(text);
        assert_eq!(targets.sources.iter().collect::<Vec<_>>(), ["bbswitch-0.8", "bbswitch-0.9"]);
        let names = |set: &BTreeSet<KernelRelease>| set.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&targets.kernels), ["6.1-lts", "6.2-arch1-1"]);
        assert_eq!(names(&targets.headers), ["6.2-arch1-1"]);
        assert_eq!(targets.odd, [""; 0]);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_named_and_left_out() {
        let targets = Targets::read(
            "usr/lib/modules/../vmlinuz\nusr/lib/modules/-r/vmlinuz\nusr/lib/modules/a b/vmlinuz\n",
        );
        assert!(targets.kernels.is_empty());
        assert_eq!(targets.odd.len(), 3, "{:?}", targets.odd);
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(Targets::read(""), Targets::default());
    }
}
