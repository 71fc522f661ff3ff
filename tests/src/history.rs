//! The product's history: one JSON file per transaction.
//!
//! Only this file of the tests knows the names of its fields.

use serde_json::Value;

use crate::Root;

const DIR: &str = "/var/lib/dkms/.dkms-rs/history";

/// One module of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `name/version`.
    pub module: String,
    /// Kernel release; empty if the entry does not concern a kernel.
    pub kernel: String,
    /// `installed`, `up-to-date`, `failed`, `deferred`, …
    pub outcome: String,
}

/// The numbers of the transactions as printed by `dkms history`, oldest first.
pub fn transactions(root: &Root) -> Vec<String> {
    let files = root.find(DIR, "-name '*.json' -printf '%f\\n'");
    files.iter().map(|n| n.trim_end_matches(".json").trim_start_matches('0').to_owned()).collect()
}

/// The cause of a transaction, and how many seconds it took.
pub fn cause(root: &Root, transaction: &str) -> (String, f64) {
    let value = document(root, transaction);
    let seconds = value.get("seconds").and_then(Value::as_f64);
    (text(value.get("cause")), seconds.unwrap_or_else(|| panic!("{transaction}: {value}")))
}

fn document(root: &Root, transaction: &str) -> Value {
    let text = root.read(&format!("{DIR}/{transaction:0>6}.json"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{transaction}: {e}\n{text}"))
}

/// All module entries of one transaction.
pub fn entries(root: &Root, transaction: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    collect(&document(root, transaction), &mut found);
    found
}

/// Any object with a module and an outcome, at any depth: the format may be extended.
fn collect(value: &Value, found: &mut Vec<Entry>) {
    match value {
        Value::Array(items) => items.iter().for_each(|v| collect(v, found)),
        Value::Object(fields) => {
            if let (Some(module), Some(outcome)) = (fields.get("module"), fields.get("outcome")) {
                found.push(Entry {
                    module: name(module),
                    kernel: text(fields.get("kernel")),
                    outcome: text(Some(outcome)),
                });
            }
            fields.values().for_each(|v| collect(v, found));
        }
        _ => {}
    }
}

/// `"name/version"`, or an object with both.
fn name(value: &Value) -> String {
    match value {
        Value::Object(fields) => format!("{}/{}", text(fields.get("name")), text(fields.get("version"))),
        other => text(Some(other)),
    }
}

/// A string, or the tag of an enum with data (`{"failed": {…}}`, `{"kind": "failed", …}`).
fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(fields)) => match fields.get("kind") {
            Some(kind) => text(Some(kind)),
            None => fields.keys().next().cloned().unwrap_or_default(),
        },
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, collect};

    #[test]
    fn entries_are_found_in_both_shapes() {
        let json = r#"{"id":"x","modules":[{"module":"a/1","kernel":"6.1","outcome":"installed"},
                      {"module":{"name":"b","version":"2"},"kernel":"6.1","outcome":{"failed":{"log":"/x"}}}]}"#;
        let mut found = Vec::new();
        collect(&serde_json::from_str(json).unwrap(), &mut found);
        let row = |module: &str, outcome: &str| Entry {
            module: module.to_owned(),
            kernel: "6.1".to_owned(),
            outcome: outcome.to_owned(),
        };
        assert_eq!(found, [row("a/1", "installed"), row("b/2", "failed")]);
    }
}
