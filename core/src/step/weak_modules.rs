//! weak-modules: offers installed modules to other kernels with compatible symbols, on distributions with a stable
//! kernel ABI.

use std::path::Path;

use anyhow::Result;

use crate::distro::fill;
use crate::session::Session;
use crate::sys::file;
use crate::sys::run::Cmd;
use crate::tree::Installed;
use crate::types::Target;

/// Passes installed files (`add`), or files that are about to be removed, to the distribution's program. `Some` is an
/// error message.
pub fn notify(session: &Session, target: &Target, add: bool, files: &[Installed]) -> Result<Option<String>> {
    let (offer, withdraw) = session.policy.distribution.weak_modules;
    let words = if add { offer } else { withdraw };
    let Some(program) = words.first().filter(|program| file::is_executable(Path::new(program))) else {
        return Ok(None);
    };
    if files.is_empty() {
        return Ok(None);
    }
    // It reads the names from its standard input.
    const FEED: &str =
        r#"while [[ $1 != -- ]]; do words+=("$1"); shift; done; shift; printf '%s\n' "$@" | "${words[@]}""#;
    let done = Cmd::new("bash")
        .args(["--noprofile", "--norc", "-c", FEED, "weak-modules"])
        .args(words.iter().map(|word| fill(word, target, None)))
        .arg("--")
        .args(files.iter().map(|file| file.path.display().to_string()))
        .run()?;
    let said = String::from_utf8_lossy(&done.output).into_owned();
    let last = said.lines().last().unwrap_or_default();
    let failed = !done.status.success();
    Ok(failed.then(|| format!("{program} failed (exit code {}): {last}", done.code())))
}
