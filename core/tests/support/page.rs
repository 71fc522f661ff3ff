//! Manual pages for tests: sections, tags, and the fields of JSON documents.
#![allow(dead_code)] // each test program uses its own part

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// A page's source, in `packaging/man`.
pub fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/man").join(format!("{name}.in"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines below a heading (`.SH NAME` or `.SS NAME`), up to the next one of its level or above.
pub fn section(page: &str, heading: &str) -> String {
    let wanted = page.lines().skip_while(|line| *line != heading);
    let ends =
        |line: &&str| line.starts_with(".SH ") || heading.starts_with(".SS ") && line.starts_with(".SS ");
    let lines: Vec<&str> = wanted.skip(1).take_while(|line| !ends(line)).collect();
    assert!(!lines.is_empty(), "the page has no section {heading}");
    lines.join("\n")
}

/// The displayed text of a line: without its macro, quotes, fonts and escapes.
fn shown(line: &str) -> String {
    let (text, between) = match line.strip_prefix('.').and_then(|line| line.split_once(' ')) {
        // Macros of two fonts join their arguments.
        Some((name, words)) => (words, if name.len() == 2 { "" } else { " " }),
        None => (line, " "),
    };
    let mut words = Vec::new();
    for (index, part) in text.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    let plain = words.join(between).replace("\\fR", "").replace("\\fP", "");
    plain.replace("\\-", "-").replace('\\', "")
}

/// The tags of a section: the line after each `.TP`.
pub fn tags(section: &str) -> Vec<String> {
    let lines: Vec<&str> = section.lines().collect();
    let entries = lines.windows(2).filter(|pair| pair[0] == ".TP").map(|pair| shown(pair[1]));
    entries.collect()
}

/// The words in the tags of a section: `a, b` are two.
pub fn words(section: &str) -> BTreeSet<String> {
    let tags = tags(section);
    tags.iter().flat_map(|tag| tag.split(", ")).map(|word| word.trim().to_owned()).collect()
}

/// The fields of a JSON document that a section of dkms(8) describes, as `modules[].name`: its tags, and those that
/// their descriptions name.
pub fn documented(heading: &str) -> BTreeSet<String> {
    let section = section(&page("dkms.8"), heading);
    let text: Vec<String> = section.lines().map(shown).collect();
    let text = text.join(" ");
    let named = text.split([' ', ',']).filter(|word| word.contains("[]."));
    let named = named.map(|word| word.trim_end_matches(['.', ':', ';']).to_owned());
    named.chain(words(&section)).collect()
}

/// The fields of a document, as `modules[].name`. Modules and kernels are objects that the page describes once, and so
/// are outcomes: see [`outcome`].
pub fn fields(document: &Value) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    match document {
        // A list of runs: each of them is a document.
        Value::Array(documents) => documents.iter().for_each(|one| collect(one, "", &mut fields)),
        one => collect(one, "", &mut fields),
    }
    fields
}

fn collect(value: &Value, above: &str, fields: &mut BTreeSet<String>) {
    let Value::Object(object) = value else { return };
    let has = |name: &str| object.contains_key(name);
    if object.len() == 2 && (has("name") && has("version") || has("kernel") && has("arch")) {
        return;
    }
    for (name, value) in object {
        // The other fields of an outcome depend on its name, and are described with it.
        let beside = object.get("outcome").is_some_and(Value::is_string);
        if beside && !["module", "kernel", "arch", "outcome"].contains(&name.as_str()) {
            continue;
        }
        let path = format!("{above}{name}");
        match value {
            Value::Array(list) => list.iter().for_each(|one| collect(one, &format!("{path}[]."), fields)),
            // An outcome without an object around it.
            Value::Object(one) if one.contains_key("outcome") => {}
            one => collect(one, &format!("{path}."), fields),
        }
        fields.insert(path);
    }
}

/// An outcome as the page shows it: `failed (why, errors)`.
pub fn outcome(value: &Value) -> (String, BTreeSet<String>) {
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is not an object"));
    let name = object["outcome"].as_str().unwrap_or_else(|| panic!("{value} has no outcome"));
    let fields = object.keys().filter(|key| *key != "outcome").cloned().collect();
    (name.to_owned(), fields)
}

/// The possible values of a field of a JSON document: `a, b or c.` below its tag.
pub fn values(heading: &str, field: &str) -> BTreeSet<String> {
    let section = section(&page("dkms.8"), heading);
    let lines: Vec<String> = section.lines().map(shown).collect();
    let line = lines.windows(2).find(|pair| pair[0] == field).unwrap_or_else(|| panic!("no entry {field}"));
    let words = line[1].trim_end_matches('.').replace(" or ", ", ");
    words.split(", ").map(|word| word.trim().to_owned()).collect()
}
