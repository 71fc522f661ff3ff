//! The maintainer scripts: templates that contain the package's own configuration files as text, because `preinst` runs
//! before anything is unpacked and `postrm` after everything is removed.

use std::fmt::Write as _;

use anyhow::{Result, bail};

/// A configuration file.
pub struct Conffile {
    /// Absolute path on the installed system.
    pub path: String,
    /// Its content; text, ending in a newline.
    pub content: String,
}

/// The delimiter of a here-document; no configuration file contains it as a line.
const END: &str = "END_OF_CONFFILE";

/// Fills `library` (the shared shell functions) and inserts it into `script`.
pub fn script(script: &str, library: &str, conffiles: &[Conffile]) -> Result<String> {
    let mut cases = String::new();
    let mut paths = Vec::new();
    for Conffile { path, content } in conffiles {
        if !content.ends_with('\n') || content.lines().any(|line| line == END) {
            bail!("{path}: must end in a newline and not contain the line {END}");
        }
        if path.contains(|c: char| c.is_whitespace() || "\"'$`\\*?[".contains(c)) {
            bail!("{path}: a name that shell scripts would have to quote");
        }
        write!(cases, "    {path})\n        cat <<'{END}'\n{content}{END}\n        ;;\n")?;
        paths.push(path.as_str());
    }
    let library = library.replace("@PRISTINE@", cases.trim_end()).replace("@CONFFILES@", &paths.join("\n"));
    Ok(script.replace("@CONFFILES.SH@", library.trim_end()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    const LIBRARY: &str = include_str!("../deb/conffiles.sh");

    fn sh(body: &str, conffiles: &[Conffile]) -> (bool, String) {
        let script = script(&format!("set -e\n@CONFFILES.SH@\n{body}\n"), LIBRARY, conffiles).unwrap();
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn conffile(path: &Path) -> Conffile {
        Conffile { path: path.to_str().unwrap().to_owned(), content: "# ours\na=\"$b\" `c` \\d\n".to_owned() }
    }

    #[test]
    fn the_script_holds_the_file_byte_for_byte() {
        let directory = tempfile::tempdir().unwrap();
        let file = conffile(&directory.path().join("framework.conf"));
        let (ok, said) = sh(&format!("pristine {}", file.path), &[conffile(Path::new(&file.path))]);
        assert!(ok);
        assert_eq!(said, file.content);
    }

    #[test]
    fn an_edited_file_comes_back_and_ours_lies_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.conf");
        fs::write(&path, "edited\n").unwrap();
        let file = [conffile(&path)];
        assert!(sh("set_aside", &file).0);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            file[0].content,
            "dpkg must find what it is about to install"
        );
        assert!(sh("set_aside", &file).0, "a second preinst after a kill");
        assert!(sh("show_ours; put_back", &file).0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "edited\n");
        assert_eq!(fs::read_to_string(directory.path().join("x.conf.dpkg-dist")).unwrap(), file[0].content);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn an_aborted_installation_leaves_only_the_edited_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.conf");
        fs::write(&path, "edited\n").unwrap();
        assert!(sh("set_aside; put_back", &[conffile(&path)]).0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "edited\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_only_this_package_has_is_left_alone_when_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.toml");
        fs::write(&path, "edited\n").unwrap();
        assert!(sh("settle", &[conffile(&path)]).0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "edited\n");
    }

    #[test]
    fn a_file_shared_with_debian_is_ours_again_when_we_go_and_the_edit_stays_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shared.conf");
        let kept = directory.path().join("kept.conf");
        fs::write(&path, "second edit\n").unwrap();
        fs::write(&kept, "first edit\n").unwrap();
        let file = [conffile(&path)];
        // The real files are in /etc.
        let settle = format!("settled() {{ echo {}; }}; settle", kept.display());
        assert!(sh(&settle, &file).0);
        assert_eq!(fs::read_to_string(&path).unwrap(), file[0].content);
        assert_eq!(
            fs::read_to_string(&kept).unwrap(),
            "second edit\nfirst edit\n",
            "the last assignment counts"
        );
        assert!(sh(&settle, &file).0, "a second time changes nothing");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "second edit\nfirst edit\n");
    }

    #[test]
    fn a_name_or_a_content_that_shell_would_change_is_refused() {
        for (path, content) in
            [("/etc/a b", "x\n"), ("/etc/$a", "x\n"), ("/etc/a", "x"), ("/etc/a", "END_OF_CONFFILE\n")]
        {
            let file = Conffile { path: path.to_owned(), content: content.to_owned() };
            assert!(script("", LIBRARY, &[file]).is_err(), "{path} {content:?}");
        }
    }
}
