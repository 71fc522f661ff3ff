//! The JSON schemas that are shipped with the program.
#![allow(dead_code)] // each test program uses its own part

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The file of a schema: `status` for what `dkms status --json` prints.
pub fn file(name: &str) -> PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/files/usr/share/dkms/schemas");
    shipped.join(format!("{name}.json"))
}

/// Parses a document of the program, which must be valid against its schema.
#[track_caller]
pub fn valid(name: &str, document: &str) -> Value {
    let path = file(name);
    let schema = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let document: Value =
        serde_json::from_str(document).unwrap_or_else(|error| panic!("{error}: {document}"));
    let errors: Vec<String> =
        validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "not valid against {}: {errors:#?}\n{document:#}", path.display());
    document
}
