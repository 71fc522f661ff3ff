//! policy.toml and framework.conf: the supported keys, compared with the shipped files and the pages.

use std::collections::BTreeSet;
use std::path::Path;

use dkms_core::policy::{Admin, framework};

use crate::page::{page, section, words};
use crate::set;

/// A file of `packaging/files/etc/dkms`.
fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/files/etc/dkms").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Reads a text as policy.toml; returns why it is invalid.
fn refused(text: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    std::fs::write(&path, text).unwrap();
    Admin::load(&path).broken
}

/// The valid keys that the reader of policy.toml lists in its error for an unknown one.
fn known(table: &str) -> BTreeSet<String> {
    let why = refused(&format!("{table}\nno_such_key = 1\n")).expect("an unknown key is an error");
    let (_, keys) = why.split_once("expected ").unwrap_or_else(|| panic!("{why}"));
    set(keys.split('`').skip(1).step_by(2))
}

/// The commented-out settings: `# key = value` and `# [table]`.
fn commented_out(text: &str) -> String {
    let setting = |line: &&str| {
        let key = line.split_once(" = ").map_or("", |(key, _)| key);
        line.starts_with('[') || !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# ")).filter(setting).collect();
    lines.join("\n")
}

/// The keys of a TOML text, separately for a table.
fn keys(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (top, table) = text
        .split_once('[')
        .map_or((text, ""), |(top, table)| (top, table.split_once('\n').map_or("", |(_, below)| below)));
    // Values contain brackets, too: only a table's are at the beginning of a line.
    let names = |text: &str| set(text.lines().filter_map(|line| Some(line.split_once(" = ")?.0)));
    (names(top), names(table))
}

#[test]
fn the_shipped_policy_shows_every_key_and_the_page_describes_it() {
    let (top, table) = (known(""), known("[module.x]"));
    assert!(top.len() > 5 && !table.is_empty(), "{top:?} {table:?}");
    let shown = commented_out(&shipped("policy.toml"));
    assert_eq!(refused(&shown), None, "the shown settings cannot be read:\n{shown}");
    let (shown, store) = shown.split_once("\n[store]\n").expect("the table of stores");
    let in_store = known("[store]");
    assert_eq!(keys(&store.replace('[', "(")).0, in_store, "/etc/dkms/policy.toml, [store]");
    let (before, after) = shown.split_once("\n[module.").expect("a table for single modules");
    let (mut shown_top, _) = keys(&before.replace('[', "("));
    shown_top.extend(["module", "store"].map(str::to_owned));
    assert_eq!(shown_top, top, "/etc/dkms/policy.toml");
    assert_eq!(keys(&format!("[{after}")).1, table, "/etc/dkms/policy.toml, its table");
    let described = words(&section(&page("policy.toml.5"), ".SH KEYS"));
    let tables = described.iter().filter(|key| key.starts_with('[')).count();
    let mut described: BTreeSet<String> = described.into_iter().filter(|key| !key.starts_with('[')).collect();
    assert_eq!(tables, 2, "[module.NAME] and [store] are described once");
    let of_store = |key: &String| key.strip_prefix("store.").map(str::to_owned);
    assert_eq!(
        described.iter().filter_map(of_store).collect::<BTreeSet<_>>(),
        in_store,
        "policy.toml(5), [store]"
    );
    described.retain(|key| of_store(key).is_none());
    described.extend(["module", "store"].map(str::to_owned));
    assert_eq!(described, top, "policy.toml(5)");
    let own = section(&page("policy.toml.5"), ".SH KEYS");
    let (_, own) = own.split_once(".BI [module.").unwrap();
    for key in table {
        assert!(own.contains(&key), "policy.toml(5) does not say that {key} can be in a table");
    }
}

#[test]
fn the_shipped_framework_conf_shows_every_setting_and_the_page_describes_it() {
    let known = set(framework::NAMES.split_whitespace());
    let shown = shipped("framework.conf");
    let shown = shown.lines().filter_map(|line| Some(line.strip_prefix("# ")?.split_once('=')?.0));
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert_eq!(set(shown.filter(is_name)), known, "/etc/dkms/framework.conf");
    let mut described = words(&section(&page("dkms.8"), ".SH FRAMEWORK.CONF"));
    for ignored in ["tmp_location", "continue_on_error"] {
        assert!(described.remove(ignored), "{ignored} is accepted, and the page should say so");
    }
    assert_eq!(described, known, "dkms(8), FRAMEWORK.CONF");
}
