//! The variables, and which of them bash uses itself.

use std::collections::BTreeMap;

use super::parse::number;
use super::syntax::{Assignment, Part, Value};
use super::{Budget, NativeResult, RawConf, WORK, regex, unknown};
use crate::sys::run::INHERITED;

/// Prefixes of names that bash, its locale or dkms uses.
const OWN_BEGINNINGS: [&str; 11] =
    ["BASH", "COMP", "DKMS_", "GLOB", "HIST", "LANG", "LC_", "POSIX", "READLINE_", "TEXTDOMAIN", "__"];

/// Variables that bash sets or obeys, in byte order for the binary search: every variable of every file is looked up.
#[rustfmt::skip] // one name on each line would be a page
const OWN: [&str; 64] = [
    "CDPATH", "CHILD_MAX", "COLUMNS", "COPROC", "DIRSTACK", "EMACS", "ENV", "EPOCHREALTIME", "EPOCHSECONDS",
    "EUID", "EXECIGNORE", "FCEDIT", "FIGNORE", "FUNCNAME", "FUNCNEST", "GROUPS", "HOME", "HOSTFILE",
    "HOSTNAME", "HOSTTYPE", "IFS", "IGNOREEOF", "INPUTRC", "INSIDE_EMACS", "LINENO", "LINES", "LOGNAME",
    "MACHTYPE", "MAIL", "MAILCHECK", "MAILPATH", "MAPFILE", "OLDPWD", "OPTARG", "OPTERR", "OPTIND",
    "OSTYPE", "PATH", "PIPESTATUS", "PPID", "PROMPT_COMMAND", "PROMPT_DIRTRIM", "PS0", "PS1", "PS2", "PS3",
    "PS4", "PWD", "RANDOM", "REPLY", "SECONDS", "SHELL", "SHELLOPTS", "SHLVL", "SRANDOM", "TIMEFORMAT",
    "TMOUT", "TZ", "UID", "USER", "_", "auto_resume", "histchars", "ignoreeof",
];

/// Whether a variable has an effect besides its value, or a value that is not from the files.
pub(super) fn is_own(name: &str) -> bool {
    OWN.binary_search(&name).is_ok()
        || OWN_BEGINNINGS.iter().any(|start| name.starts_with(start))
        || INHERITED.contains(&name)
}

/// The variables at some position of the files.
pub(super) struct Variables {
    /// A plain variable is an array with one element.
    variables: BTreeMap<String, BTreeMap<usize, String>>,
    pub(super) budget: Budget,
}

impl Variables {
    pub(super) fn new(given: &[(&str, String)]) -> NativeResult<Self> {
        let mut shell = Self { variables: BTreeMap::new(), budget: Budget(WORK) };
        for (name, value) in given {
            if is_own(name) {
                return unknown("a variable of the shell");
            }
            if value.bytes().any(|byte| byte.is_ascii_control()) {
                return unknown("a control character");
            }
            shell.put(name, 0, value.clone())?;
        }
        Ok(shell)
    }

    /// All elements; empty if the variable is not set.
    pub(super) fn elements(&self, name: &str) -> NativeResult<Vec<&str>> {
        match self.variables.get(name) {
            Some(elements) => Ok(elements.values().map(String::as_str).collect()),
            None if is_own(name) => unknown("a variable of the shell"),
            None => Ok(Vec::new()),
        }
    }

    /// One element, if it is set.
    pub(super) fn element(&self, name: &str, index: usize) -> NativeResult<Option<&str>> {
        match self.variables.get(name) {
            Some(elements) => Ok(elements.get(&index).map(String::as_str)),
            None if is_own(name) => unknown("a variable of the shell"),
            None => Ok(None),
        }
    }

    fn put(&mut self, name: &str, index: usize, value: String) -> NativeResult<()> {
        self.budget.spend(value.len() + 1)?;
        self.variables.entry(name.to_owned()).or_default().insert(index, value);
        Ok(())
    }

    /// Executes an assignment.
    pub(super) fn assign(&mut self, assignment: &Assignment) -> NativeResult<()> {
        let Assignment { name, index, append, value } = assignment;
        if is_own(name) {
            return unknown("a variable of the shell");
        }
        match value {
            Value::Plain(word) => {
                let index = match index {
                    Some(word) => number(&self.joined(word)?)?,
                    None => 0,
                };
                let mut text = self.joined(word)?;
                if *append {
                    text.insert_str(0, self.element(name, index)?.unwrap_or_default());
                }
                self.put(name, index, text)
            }
            Value::List(items) => {
                // The words may use the old values.
                let mut fields = Vec::new();
                for item in items {
                    match item.index {
                        Some(index) => fields.push((Some(index), self.joined(unsplit(&item.word)?)?)),
                        None => {
                            fields.extend(self.fields(&item.word)?.into_iter().map(|field| (None, field)))
                        }
                    }
                }
                let elements = self.variables.entry(name.clone()).or_default();
                if !append {
                    elements.clear();
                }
                let mut next = elements.keys().next_back().map_or(0, |last| last + 1);
                for (index, field) in fields {
                    let index = index.unwrap_or(next);
                    self.put(name, index, field)?;
                    next = index + 1;
                }
                Ok(())
            }
        }
    }

    /// The values of these variables, and the matches that the driver of bash reports for them.
    pub(super) fn result(mut self, names: &str) -> NativeResult<RawConf> {
        let mut raw = RawConf::default();
        for name in names.split_whitespace() {
            self.element(name, 0)?;
            if let Some(elements) = self.variables.get(name).filter(|elements| !elements.is_empty()) {
                raw.values.insert(name.to_owned(), elements.clone());
            }
        }
        raw.make_matches = self.matching("MAKE_MATCH")?;
        raw.patch_matches = self.matching("PATCH_MATCH")?;
        raw.kernel_matches = self.may("BUILD_EXCLUSIVE_KERNEL", "kernelver")?;
        raw.arch_matches = self.may("BUILD_EXCLUSIVE_ARCH", "arch")?;
        raw.kernel_misses = self.misses("BUILD_EXCLUSIVE_KERNEL", "kernelver")?;
        raw.arch_misses = self.misses("BUILD_EXCLUSIVE_ARCH", "arch")?;
        Ok(raw)
    }

    /// Indices of an array of regular expressions that match the kernel release.
    fn matching(&mut self, name: &str) -> NativeResult<Vec<usize>> {
        let Self { variables, budget } = self;
        let kernel = variables.get("kernelver").and_then(|elements| elements.get(&0));
        let mut found = Vec::new();
        for (index, pattern) in variables.get(name).into_iter().flatten().filter(|(_, rule)| !rule.is_empty())
        {
            if regex::matches(pattern, kernel.map_or("", String::as_str), budget)? {
                found.push(*index);
            }
        }
        Ok(found)
    }

    /// Indices above 0 of an array of regular expressions that do not match a variable.
    fn misses(&mut self, rules: &str, variable: &str) -> NativeResult<Vec<usize>> {
        let Self { variables, budget } = self;
        let value = variables.get(variable).and_then(|elements| elements.get(&0)).map_or("", String::as_str);
        let mut found = Vec::new();
        for (index, rule) in variables.get(rules).into_iter().flatten().filter(|(index, _)| **index > 0) {
            if !regex::matches(rule, value, budget)? {
                found.push(*index);
            }
        }
        Ok(found)
    }

    /// Whether a variable matches a regular expression, or there is none.
    fn may(&mut self, rule: &str, variable: &str) -> NativeResult<bool> {
        let value = |name: &str| self.variables.get(name).and_then(|elements| elements.get(&0));
        match value(rule).filter(|rule| !rule.is_empty()) {
            Some(rule) => regex::matches(rule, value(variable).map_or("", String::as_str), &mut self.budget),
            None => Ok(true),
        }
    }
}

/// The word of `[index]=word`: whether bash splits it depends on its version.
fn unsplit(word: &[Part]) -> NativeResult<&[Part]> {
    if word.iter().any(|part| matches!(part, Part::Expansion { quoted: false, .. })) {
        return unknown("an expansion without quotes after an index");
    }
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shells_own_variables_are_in_the_order_in_which_they_are_looked_up() {
        assert!(OWN.is_sorted());
        assert!(OWN.into_iter().all(is_own) && is_own("HOME") && is_own("LC_ALL") && !is_own("MAKE"));
    }
}
