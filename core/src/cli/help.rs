//! The help for one action, and errors of the command line.

use clap::CommandFactory as _;
use clap::ValueEnum as _;

use super::action::{Action, Operand, Version};
use super::args::Args;
use super::unknown;

/// The help that these arguments request: `help`, `--help`, `help ACTION` or `ACTION --help`. An error if they name an action
/// that does not exist.
pub(super) fn requested(words: &[String]) -> Option<Result<String, String>> {
    let asks = |word: &String| word == "--help" || word == "-h";
    let by_word = words.first().is_some_and(|word| word == "help");
    if !by_word && !words.iter().any(asks) {
        return None;
    }
    let wrong = words.get(1).filter(|word| by_word && !word.starts_with('-'));
    Some(match (words.iter().find_map(|word| Action::named(word)), wrong) {
        (Some(action), _) => Ok(of(action)),
        (None, Some(word)) => Err(unknown::command(word)),
        (None, None) => Ok(Args::command().render_help().to_string()),
    })
}

/// The help for one action: only the options that have a meaning for it.
fn of(action: Action) -> String {
    let known = action.options();
    let command = Args::command().mut_args(|arg| {
        let shown = known.contains(&arg.get_id().as_str());
        arg.hide(!shown)
    });
    let help = action.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
    let rules = action.rules();
    let operand = match (rules.operand, rules.version) {
        (Operand::Added, Version::All) if matches!(action, Action::Log | Action::Why) => " MODULE",
        (Operand::Added, Version::All) => " [MODULE]",
        (operand, _) => operand.usage(),
    };
    command
        .about(help.unwrap_or_default())
        .override_usage(format!("dkms {action}{operand} [OPTIONS]"))
        .after_help("All actions: dkms help. Details: man dkms")
        .render_help()
        .to_string()
}

/// An error of the parser, in one line.
pub(super) fn wrong(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let what = lines.next().unwrap_or_default().trim_start_matches("error: ");
    let advice = lines.find_map(|line| {
        let similar = line.strip_prefix("tip: a similar argument exists: ");
        let similar = similar.map(|similar| format!("did you mean {}?", similar.replace('\'', "")));
        similar.or_else(|| Some(line.strip_prefix('[')?.strip_suffix(']')?.to_owned()))
    });
    let advice = advice.unwrap_or_else(|| "see dkms --help".to_owned());
    format!("dkms: {what}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn help_for_one_action_has_its_options_only() {
        for line in ["help install", "install --help", "--help install", "a/1 install -h"] {
            let text = requested(&words(line)).unwrap().unwrap();
            assert!(text.contains("Usage: dkms install MODULE/VERSION [OPTIONS]"), "{line}: {text}");
            assert!(text.contains("--force") && text.contains("--kernelver"), "{text}");
            assert!(!text.contains("--enrolled") && !text.contains("--binaries-only"), "{text}");
        }
        assert!(requested(&words("help")).unwrap().unwrap().contains("Actions:"));
        assert!(
            requested(&words("help autoinstal")).unwrap().unwrap_err().contains("did you mean autoinstall?")
        );
        assert_eq!(requested(&words("install a/1")), None);
    }

    #[test]
    fn each_action_names_existing_options_and_each_option_has_an_action() {
        let command = Args::command();
        let existing: Vec<&str> = command
            .get_arguments()
            .filter(|arg| !arg.is_hide_set())
            .map(|arg| arg.get_id().as_str())
            .collect();
        for action in Action::value_variants() {
            for option in action.options() {
                assert!(existing.contains(&option), "{action}: {option}");
            }
        }
        for option in existing.iter().filter(|option| **option != "words" && **option != "version") {
            let used = Action::value_variants().iter().any(|action| action.options().contains(option));
            assert!(used, "no action has --{option}");
        }
    }

    #[test]
    fn an_error_is_one_line() {
        for (line, expected) in [
            ("--nonsense status", "dkms: unexpected argument '--nonsense' found; see dkms --help"),
            (
                "status --kernelve 6.1",
                "dkms: unexpected argument '--kernelve' found; did you mean --kernelver?",
            ),
            (
                "-j abc status",
                "dkms: invalid value 'abc' for '-j <NUMBER>': invalid digit found in string; see dkms --help",
            ),
        ] {
            let words = std::iter::once("dkms".to_owned()).chain(words(line));
            let error = Args::command().try_get_matches_from(words).unwrap_err();
            assert_eq!(wrong(&error), expected);
        }
    }
}
