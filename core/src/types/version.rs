//! The order of versions in shell DKMS: numbers padded to three digits, then compared as text.

use std::cmp::Ordering;

/// Compares two versions of kernels or modules.
pub fn compare(a: &str, b: &str) -> Ordering {
    key(a).cmp(&key(b))
}

/// `2.6.9-1cvs` → `002.006.009-001cvs`. Digit runs longer than three stay as they are.
fn key(version: &str) -> String {
    let mut key = String::with_capacity(version.len() * 2);
    let mut digits = String::new();
    let flush = |digits: &mut String, key: &mut String| {
        if !digits.is_empty() {
            key.push_str(&format!("{digits:0>3}"));
            digits.clear();
        }
    };
    for c in version.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
        } else {
            flush(&mut digits, &mut key);
            key.push(c);
        }
    }
    flush(&mut digits, &mut key);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers() {
        for (lower, higher) in [
            ("5.9", "5.10"),
            ("6.1.0-9-amd64", "6.1.0-10-amd64"),
            ("2.13.18", "2.13.19"),
            ("0.8", "0.8.1"),
            ("4.13", "6.12.117+deb13-amd64"),
        ] {
            assert_eq!(compare(lower, higher), Ordering::Less, "{lower} < {higher}");
        }
        assert_eq!(compare("1.02", "1.2"), Ordering::Equal);
    }
}
