//! `dkms status`, read as a table.

/// One line of `dkms status`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatusLine {
    /// `name/version`.
    pub module: String,
    /// Kernel release; `None` for a module that is only added.
    pub kernel: Option<String>,
    /// `added`, `built`, `installed`, without any remark in parentheses.
    pub state: String,
}

/// Parses `name/version, kernel, arch: state` and `name/version: added`; other lines are ignored.
pub fn parse(text: &str) -> Vec<StatusLine> {
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<StatusLine> {
    let (place, state) = text.rsplit_once(": ")?;
    let mut parts = place.split(", ");
    let module = parts.next()?.to_owned();
    if !module.contains('/') || module.contains(' ') {
        return None;
    }
    let state = state.split_whitespace().next()?.to_owned();
    Some(StatusLine { module, kernel: parts.next().map(str::to_owned), state })
}

#[cfg(test)]
mod tests {
    use super::{StatusLine, parse};

    #[test]
    fn both_line_shapes_and_remarks() {
        let text = "a/1.0: added\nb/2, 6.12.1+deb13-amd64, x86_64: installed (WARNING! Diff between built and installed)\n\
                    Error! Something: else\n";
        let row = |module: &str, kernel: Option<&str>, state: &str| StatusLine {
            module: module.to_owned(),
            kernel: kernel.map(str::to_owned),
            state: state.to_owned(),
        };
        assert_eq!(
            parse(text),
            [row("a/1.0", None, "added"), row("b/2", Some("6.12.1+deb13-amd64"), "installed")]
        );
    }
}
