//! The names of modules, and the mark of a signed one.

/// The end of every signed module.
pub const SIGNATURE: &[u8] = b"~Module signature appended~\n";

/// Whether a module's content ends with a signature.
pub fn is_signed(content: &[u8]) -> bool {
    without_mark(content).is_some()
}

/// A signed module's content without its last line; `None` if it is not signed. The line alone is no signature.
pub fn without_mark(content: &[u8]) -> Option<&[u8]> {
    content.strip_suffix(SIGNATURE).filter(|rest| !rest.is_empty())
}

/// The name of a module in the kernel: dashes are underscores.
pub fn canonical_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The module in a file: `kernel/a/b-c.ko.xz` → `b_c`.
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    canonical_name(file.split_once(".ko").map_or(file, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_like_modules_or_not() {
        assert_eq!(module_name("updates/dkms/hid-digimend-kye.ko.xz"), "hid_digimend_kye");
    }
}
