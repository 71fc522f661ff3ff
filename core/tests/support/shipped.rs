//! The shipped JSON schemas are those of the types that are printed.

use std::fs;

use schemars::{JsonSchema, generate::SchemaSettings};

use crate::schemas::file;

/// The schema of a type is the shipped one. `DKMS_WRITE_SCHEMAS=1` writes the files; look at their difference then.
pub fn expect<T: JsonSchema>(name: &str) {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".into(), format!("dkms: {name}").into());
    let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    let path = file(name);
    if std::env::var_os("DKMS_WRITE_SCHEMAS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == text,
        "{} is not the schema of the program: DKMS_WRITE_SCHEMAS=1 cargo test -p dkms-core writes it",
        path.display()
    );
}
