//! Runs external tools, and reports which one is missing.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs `command` and returns its stdout; an error contains the whole command line and its output.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("starting {shown}"))?;
    if !output.status.success() {
        bail!("{shown} failed: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// The same for tools whose output is one text.
pub fn text(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let answer =
        String::from_utf8(run(command)?).with_context(|| format!("reading the output of {shown}"))?;
    Ok(answer.trim().to_owned())
}
