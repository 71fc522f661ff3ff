//! The administrator's programs in `/etc/dkms/on-failure.d`, for failures in package transactions that run
//! unattended. Each gets the report as JSON on its standard input.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::session::Session;
use crate::sys::file;
use crate::sys::memfd::MemoryFile;
use crate::sys::run::{Cmd, Output};
use crate::sys::signal;

/// Time for each program: the package transaction waits for it.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs the programs, in the order of their names. Returns their own failures as lines,
/// not as an error: they do not change the result of the transaction.
pub fn tell(session: &Session, document: &[u8]) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in file::sorted_entries(&session.layout.on_failure()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // As run-parts does: leftovers of editors and of dpkg have dots and tildes in their names.
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            continue;
        }
        match runnable(&path).and_then(|()| run(&path, document)) {
            Ok(None) => {}
            Ok(Some(why)) => wrong.push(format!("{}: {why}", path.display())),
            // The user who interrupted it has seen the failure.
            Err(error) if error.is::<signal::Interrupted>() => break,
            Err(error) => wrong.push(format!("{}: {error:#}", path.display())),
        }
    }
    wrong
}

/// An executable file that only root can change or replace: itself, and each directory above it and above its link.
fn runnable(path: &Path) -> Result<()> {
    let real = path.canonicalize().context("not run")?;
    let meta = real.metadata().context("not run")?;
    anyhow::ensure!(meta.is_file() && meta.mode() & 0o111 != 0, "not run: it is not an executable file");
    let place = path.parent().unwrap_or(path).canonicalize().context("not run")?;
    for part in real.ancestors().chain(place.ancestors()) {
        let others = changed_by_others(&part.metadata().context("not run")?);
        anyhow::ensure!(!others, "not run: other users than root can change {}", part.display());
    }
    Ok(())
}

/// In a directory like `/tmp`, others cannot replace what is not theirs.
fn changed_by_others(meta: &Metadata) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
    meta.uid() != 0 && meta.uid() != own || meta.mode() & 0o022 != 0 && !sticky
}

fn run(path: &Path, document: &[u8]) -> Result<Option<String>> {
    let done = Cmd::new(path)
        .input(MemoryFile::input(document)?)
        .cwd("/")
        .output(Output::Stderr)
        .limit(LIMIT)
        .run()?;
    Ok(match (done.timed_out(), done.code()) {
        (true, _) => Some(format!("stopped after {} s", LIMIT.as_secs())),
        (false, 0) => None,
        (false, code) => Some(format!("failed (exit code {code})")),
    })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a test makes files
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::layout::Layout;
    use crate::report::Screen;
    use crate::session::Options;

    #[test]
    fn programs_get_the_report_in_the_order_of_their_names() {
        let etc = tempfile::tempdir().unwrap();
        let dir = etc.path().join("dkms/on-failure.d");
        fs::create_dir_all(&dir).unwrap();
        let told = etc.path().join("told");
        let program = |name: &str, text: &str, mode: u32| {
            fs::write(dir.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        let appends = format!("printf '%s:' \"$(basename $0)\" >>{0}; cat >>{0}", told.display());
        program("20-second", &appends, 0o755);
        program("10-first", &appends, 0o755);
        program("30-fails", "exit 7", 0o755);
        program("40-text", &appends, 0o644);
        program("50-open", &appends, 0o777);
        program("60-old.dpkg-old", &appends, 0o755);
        // A program of root's in a directory of others.
        let open = etc.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::copy(dir.join("10-first"), open.join("program")).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::symlink(open.join("program"), dir.join("70-link")).unwrap();
        let place = |layout: &mut Layout| layout.etc = etc.path().into();
        let session = Session::start(Screen::package_manager(), Options::default(), place).unwrap();
        let wrong = tell(&session, b"{}\n");
        assert_eq!(file::text(&told).unwrap(), "10-first:{}\n20-second:{}\n");
        let parts = [
            "30-fails: failed (exit code 7)",
            "it is not an executable file",
            "dkms/on-failure.d/50-open",
            "70-link: not run: other users than root can change",
        ];
        assert_eq!(wrong.len(), parts.len(), "{wrong:?}");
        assert!(wrong.iter().zip(parts).all(|(line, part)| line.contains(part)), "{wrong:?}");
        // Who can write to the directory can put a link to any program of root there.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(tell(&session, b"{}").len(), 6);
        assert_eq!(file::text(&told).unwrap(), "10-first:{}\n20-second:{}\n");
    }
}
