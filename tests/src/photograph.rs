//! The state of all files in a root, for comparing two moments.

use std::collections::BTreeMap;

use crate::Root;

/// Files that we may write outside of the DKMS tree, and files that change without us.
const OURS: [&str; 2] = ["/var/lib/dkms/.dkms-rs", "/var/cache/dkms"];
const PASSING: [&str; 8] =
    ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/usr/local/lib/count", "/var/lib/apt/lists"];

/// Every file with its type, mode, owner and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photograph(BTreeMap<String, String>);

impl Photograph {
    /// Records the state; `but` are directories or files that the package manager always writes (logs, archives).
    pub fn of(root: &Root, but: &[&str]) -> Self {
        let left_out: Vec<String> =
            OURS.iter().chain(&PASSING).chain(but).map(|path| format!("-path {path} -prune -o")).collect();
        let left_out = left_out.join(" ");
        // Times of files count, those of directories do not: a temporary file changes the latter.
        let all = root.run(&format!(
            "find / {left_out} ! -type f -printf '%p\\t%y %m %U %G %l\\n' && \
             find / {left_out} -type f -printf '%p\\t%y %m %U %G %T@\\n' && \
             find / {left_out} -type f -print0 | xargs -0 sha256sum --zero | \
             sed -z 's/^\\(.\\{{64\\}}\\)..\\(.*\\)$/\\2#\\t\\1\\n/' | tr -d '\\0'"
        ));
        let lines = all.ok().stdout;
        let photograph: BTreeMap<String, String> = lines
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(path, rest)| (path.to_owned(), rest.to_owned()))
            .collect();
        assert!(photograph.len() > 5000, "only {} entries were seen", photograph.len());
        Self(photograph)
    }

    /// Requires that there is no difference.
    #[track_caller]
    pub fn expect_same(&self, later: &Self) {
        let keys = self.0.keys().chain(later.0.keys());
        let mut different: Vec<String> = keys
            .filter(|key| self.0.get(*key) != later.0.get(*key))
            .map(|key| format!("{key}: {:?} -> {:?}", self.0.get(key), later.0.get(key)))
            .collect();
        different.dedup();
        assert!(different.is_empty(), "{} differences:\n{}", different.len(), different.join("\n"));
    }
}
