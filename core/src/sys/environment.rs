//! The environment of this process. Only read here, so that a run depends on what its caller passes in.
#![allow(clippy::disallowed_methods)] // this is the place

/// A variable's value; `None` if it is not set or is not UTF-8.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// All variables whose names and values are UTF-8.
pub fn all() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.into_string().ok();
    std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
}

/// Whether a variable is set, whatever its value.
pub fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}
