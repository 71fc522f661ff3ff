//! The manual pages: our texts, and the options as the program's parser defines them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::tool;

/// Pages, and their uncompressed paths on the installed system.
const PAGES: [(&str, &str); 3] = [
    ("dkms.8.in", "usr/share/man/man8/dkms.8"),
    ("dkms.conf.5.in", "usr/share/man/man5/dkms.conf.5"),
    ("policy.toml.5.in", "usr/share/man/man5/policy.toml.5"),
];

/// Path and text of every page.
pub fn pages(repository: &Path) -> Result<Vec<(&'static str, String)>> {
    let options = options()?;
    let date = date()?;
    let mut pages = Vec::new();
    for (source, path) in PAGES {
        let source = repository.join("packaging/man").join(source);
        let text = fs::read_to_string(&source).with_context(|| format!("reading {}", source.display()))?;
        let text = text.replace("@OPTIONS@\n", &options).replace("@DATE@", &date);
        pages.push((path, text.replace("@VERSION@", env!("CARGO_PKG_VERSION"))));
    }
    Ok(pages)
}

/// The entries of the section OPTIONS.
fn options() -> Result<String> {
    let command = dkms_core::cli::definition();
    let words: Vec<_> = command.get_positionals().map(|word| word.get_id().clone()).collect();
    let command =
        words.into_iter().fold(command, |command, word| command.mut_arg(word, |word| word.hide(true)));
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render_options_section(&mut text).context("formatting the options")?;
    let text = String::from_utf8(text).context("formatting the options")?;
    let (_, entries) = text.split_once(".SH OPTIONS\n").context("clap_mangen left out the heading")?;
    // The string for the apostrophe is defined in the part that was left out.
    Ok(entries.replace("\\*(Aq", "\\(aq"))
}

/// The date of the packaged commit, so that the same commit gives the same bytes.
fn date() -> Result<String> {
    let mut date = Command::new("date");
    date.args(["-u", "+%F"]);
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        date.arg("-d").arg(format!("@{epoch}"));
    }
    tool::text(&mut date)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(name: &str) -> String {
        let pages = pages(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
        pages.into_iter().find(|(path, _)| path.ends_with(name)).unwrap().1
    }

    #[test]
    fn nothing_is_left_to_fill_in_and_no_line_begins_with_a_quote() {
        for name in ["dkms.8", "dkms.conf.5", "policy.toml.5"] {
            let text = page(name);
            assert!(!text.contains('@') || !text.lines().any(|line| line.starts_with('@')), "{name}");
            for line in text.lines() {
                // roff would interpret these as requests, and drop the line.
                let prose = !line.starts_with(".\\\"") && !line.starts_with("'\\\"");
                assert!(!(prose && line.starts_with('\'')), "{name}: {line}");
            }
        }
    }

    #[test]
    fn every_option_that_help_shows_is_there() {
        let text = page("dkms.8").replace('\\', "");
        for arg in dkms_core::cli::definition().get_arguments().filter(|arg| !arg.is_hide_set()) {
            if let Some(long) = arg.get_long() {
                assert!(text.contains(&format!("--{long}")), "--{long}");
            }
        }
    }

    /// Quoted words in the Rust files below a directory.
    fn quoted(dir: &Path, words: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                quoted(&path, words);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]").next().unwrap();
                words.extend(
                    text.split('"').skip(1).step_by(2).flat_map(str::split_whitespace).map(str::to_owned),
                );
            }
        }
    }

    #[test]
    fn every_directive_that_is_read_is_described() {
        let mut words = Vec::new();
        quoted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src/conf"), &mut words);
        let families = [
            "PACKAGE_",
            "BUILT_",
            "DEST_",
            "BUILD_",
            "MAKE",
            "PATCH",
            "PRE_",
            "POST_",
            "STRIP",
            "AUTOINSTALL",
            "OBSOLETE",
        ];
        let is_name =
            |word: &&String| word.chars().all(|c| c.is_ascii_uppercase() || c == '_') && !word.ends_with('_');
        let directives: std::collections::BTreeSet<&String> = words
            .iter()
            .filter(|word| families.iter().any(|family| word.starts_with(family)))
            .filter(is_name)
            .collect();
        assert!(
            directives.len() > 20,
            "the sources no longer name directives as this test expects: {directives:?}"
        );
        let page = page("dkms.conf.5");
        for name in directives {
            assert!(page.contains(name.as_str()), "{name} is not described in dkms.conf(5)");
        }
    }

    #[test]
    fn every_setting_of_framework_conf_is_described() {
        let shown = include_str!("../files/etc/dkms/framework.conf");
        let names = shown.lines().filter_map(|line| Some(line.strip_prefix("# ")?.split_once('=')?.0));
        let names: Vec<&str> =
            names.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect();
        assert!(names.len() > 5, "{names:?}");
        let page = page("dkms.8");
        for name in names {
            assert!(page.contains(name), "{name} is not described in dkms(8)");
        }
    }
}
