//! Completion candidates: `dkms complete -- WORDS`, called by the shells' completions. The last word is the one being
//! typed. Options come from the definition of the parser, the rest from the DKMS tree; one candidate per line, followed
//! by a tab and an explanation, or `:files` or `:directories`.

use std::collections::BTreeSet;

use clap::{Arg, CommandFactory};

use super::action::{Action, Operand};
use super::args::Args;
use crate::kernel;
use crate::layout::Layout;
use crate::report::{Screen, history};
use crate::session::{Options, Session};
use crate::sys::file;
use crate::tree::{Snapshot, Source};
use crate::types::ModuleId;

/// The words to be completed, if a shell called us.
pub(super) fn requested(mut words: impl Iterator<Item = String>) -> Option<Vec<String>> {
    (words.nth(1)? == "complete" && words.next()? == "--").then(|| words.collect())
}

/// Prints the candidates. An error gives none.
pub(super) fn print(words: &[String], screen: Screen) {
    let place = |layout: &mut Layout| {
        for (option, tree) in [
            ("--dkmstree", &mut layout.dkms_tree),
            ("--sourcetree", &mut layout.source_tree),
            ("--installtree", &mut layout.install_tree),
        ] {
            if let Some(given) = value_of(words, &[option]) {
                *tree = given.into();
            }
        }
    };
    let Ok(session) = Session::start(screen.quiet(true), Options::default(), place) else { return };
    let snapshot = Snapshot::load(&session.layout).unwrap_or_default();
    for line in candidates(words, &session.layout, &snapshot) {
        screen.answer(&format!("{line}\n"));
    }
}

fn candidates(words: &[String], layout: &Layout, snapshot: &Snapshot) -> Vec<String> {
    let completion = Completion { layout, snapshot, before: words };
    let Some((current, before)) = words.split_last() else { return Vec::new() };
    let completion = Completion { before, ..completion };
    let mut command = Args::command();
    command.build(); // adds --help
    let options: Vec<&Arg> =
        command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set()).collect();
    let option = |word: &str| options.iter().find(|arg| names(arg).any(|name| name == word)).copied();
    // `--option=value` in one word, or split as in bash.
    let (typed, arg, prefix) = match (current.split_once('='), before) {
        (Some((name, value)), _) if name.starts_with("--") => (value, option(name), format!("{name}=")),
        (Some(("", "")), [.., name]) => ("", option(name), String::new()),
        (_, [.., name, equals]) if equals == "=" => (current.as_str(), option(name), String::new()),
        (_, [.., name]) => (current.as_str(), option(name), String::new()),
        _ => (current.as_str(), None, String::new()),
    };
    let found = match arg.filter(|arg| arg.get_action().takes_values()) {
        Some(arg) => completion.values(arg),
        None if typed.starts_with('-') => options
            .iter()
            .filter(|arg| completion.has_meaning(arg))
            .flat_map(|arg| {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                names(arg).map(move |name| format!("{name}\t{help}"))
            })
            .collect(),
        None => completion.words(),
    };
    found
        .into_iter()
        .filter(|line| line.starts_with(':') || line.starts_with(typed))
        .map(|line| if line.starts_with(':') { line } else { format!("{prefix}{line}") })
        .collect()
}

/// The state of one completion.
struct Completion<'a> {
    layout: &'a Layout,
    snapshot: &'a Snapshot,
    /// The words before the one that is being typed.
    before: &'a [String],
}

impl Completion<'_> {
    /// Values of an option, by the value name in its help.
    fn values(&self, arg: &Arg) -> Vec<String> {
        let possible = arg.get_possible_values();
        if !possible.is_empty() {
            return possible.iter().map(|value| value.get_name().to_owned()).collect();
        }
        match arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str()) {
            "MODULE" => unique(self.modules().iter().map(|id| id.name.to_string())),
            "VERSION" => {
                let module = value_of(self.before, &["-m", "--module"]).or_else(|| self.word(1));
                let module =
                    module.as_deref().map(|word| word.split_once('/').map_or(word, |(name, _)| name));
                let modules = self.modules();
                let named = modules.iter().filter(|id| module.is_none_or(|name| name == id.name.as_str()));
                unique(named.map(|id| id.version.to_string()))
            }
            "KERNEL" => self.kernels(),
            "ARCH" => {
                let built = self.snapshot.targets().into_iter().map(|target| target.arch);
                unique(kernel::machine().into_iter().chain(built).map(|arch| arch.to_string()))
            }
            "FILE" => vec![":files".into()],
            "on|off|CONFIG" => vec!["on".into(), "off".into(), ":files".into()],
            "DIR" => vec![":directories".into()],
            _ => Vec::new(),
        }
    }

    /// Whether an option has a meaning for the action, if there is one.
    fn has_meaning(&self, arg: &Arg) -> bool {
        let action = self.word(0).and_then(|word| Action::named(&word));
        action.is_none_or(|action| action.options().contains(&arg.get_id().as_str()))
    }

    fn transactions(&self) -> Vec<String> {
        history::all(self.layout).iter().map(|kept| kept.id.to_string()).collect()
    }

    /// Operands: the action, then what it applies to.
    fn words(&self) -> Vec<String> {
        let ids = |ids: Vec<ModuleId>| unique(ids.iter().map(ToString::to_string));
        let Some(word) = self.word(0) else {
            return Action::all().map(|(name, help)| format!("{name}\t{help}")).collect();
        };
        let Some(operand) = Action::named(&word).map(|action| action.rules().operand) else {
            return Vec::new();
        };
        let files = || [":files".to_owned()];
        if operand == Operand::Show
            && self.word(1).is_some_and(|word| word == "show")
            && self.word(2).is_none()
        {
            return self.transactions();
        }
        if operand == Operand::Store && self.word(1).is_some() {
            return vec![":directories".into()];
        }
        if self.word(1).is_some() || value_of(self.before, &["-m", "--module"]).is_some() {
            return if operand == Operand::AddedOrFiles { files().into() } else { Vec::new() };
        }
        match operand {
            Operand::None => Vec::new(),
            Operand::Source => {
                ids(sources(self.layout, self.snapshot)).into_iter().chain([":directories".into()]).collect()
            }
            Operand::Module => ids(self.modules()),
            Operand::Added => ids(self.registered()),
            Operand::AddedOrFiles => ids(self.registered()).into_iter().chain(files()).collect(),
            Operand::KernelsOrFiles => self.kernels().into_iter().chain(files()).collect(),
            Operand::Tarball => files().into(),
            Operand::Show => vec!["show".into()],
            Operand::Number => self.transactions(),
            Operand::Store => super::store::WORDS.map(str::to_owned).into(),
        }
    }

    /// The n-th word that is neither an option nor an option's value.
    fn word(&self, n: usize) -> Option<String> {
        let command = Args::command();
        let takes = |word: &str| {
            command.get_arguments().any(|arg| {
                arg.get_action().takes_values() && !arg.is_positional() && names(arg).any(|name| name == word)
            })
        };
        let mut words = Vec::new();
        let mut value = false;
        for word in self.before {
            if !value && word != "=" && !word.starts_with('-') {
                words.push(word.clone());
            }
            value = takes(word) || value && word == "=";
        }
        words.into_iter().nth(n)
    }

    fn registered(&self) -> Vec<ModuleId> {
        self.snapshot.modules.keys().cloned().collect()
    }

    /// Every module that can be built.
    fn modules(&self) -> Vec<ModuleId> {
        let operand = self.word(0).and_then(|word| Action::named(&word)).map(|action| action.rules().operand);
        match operand {
            Some(Operand::Source) => sources(self.layout, self.snapshot),
            Some(Operand::Module) => {
                self.registered().into_iter().chain(sources(self.layout, self.snapshot)).collect()
            }
            None
            | Some(
                Operand::None
                | Operand::Added
                | Operand::AddedOrFiles
                | Operand::KernelsOrFiles
                | Operand::Tarball
                | Operand::Show
                | Operand::Number
                | Operand::Store,
            ) => self.registered(),
        }
    }

    fn kernels(&self) -> Vec<String> {
        let built = self.snapshot.targets().into_iter().map(|target| target.kernel);
        unique(kernel::installed(self.layout).into_iter().chain(built).map(|kernel| kernel.to_string()))
    }
}

/// Sources that are not in the DKMS tree.
pub(super) fn sources(layout: &Layout, snapshot: &Snapshot) -> Vec<ModuleId> {
    let linked = |id: &ModuleId| {
        snapshot.modules.get(id).is_some_and(|entry| matches!(entry.source, Source::Linked(_)))
    };
    let split = |dir: &String| {
        // Both names and versions may contain dashes. The dkms.conf would be exact; a digit is correct in most
        // cases.
        let mut at = dir.match_indices('-').map(|(at, _)| at);
        let at = at.find(|at| dir[at + 1..].starts_with(|c: char| c.is_ascii_digit()))?;
        Some(ModuleId { name: dir[..at].parse().ok()?, version: dir[at + 1..].parse().ok()? })
    };
    let dirs = file::sub_dirs(&layout.source_tree);
    let with_conf = dirs.iter().filter(|dir| layout.source_tree.join(dir).join("dkms.conf").is_file());
    with_conf.filter_map(split).filter(|id| !linked(id)).collect()
}

fn unique(values: impl Iterator<Item = String>) -> Vec<String> {
    values.collect::<BTreeSet<_>>().into_iter().collect()
}

/// `-m` and `--module`.
fn names(arg: &Arg) -> impl Iterator<Item = String> {
    let long =
        arg.get_long_and_visible_aliases().unwrap_or_default().into_iter().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    long.chain(short)
}

/// The value given to one of these options, in one word, in two, or in three as in bash.
fn value_of(words: &[String], options: &[&str]) -> Option<String> {
    let is = |word: &str| options.contains(&word);
    words.iter().enumerate().find_map(|(at, word)| match word.split_once('=') {
        Some((name, value)) if is(name) => Some(value.to_owned()),
        _ if is(word) => words[at + 1..].iter().find(|word| *word != "=").cloned(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hidden_word_asks() {
        let asks = |words: &[&str]| requested(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(asks(&["dkms", "complete", "--", "st"]), Some(vec!["st".to_owned()]));
        for words in
            [&["dkms"][..], &["dkms", "status"], &["dkms", "complete"], &["dkms", "complete", "status"]]
        {
            assert_eq!(asks(words), None, "{words:?}");
        }
    }
}
