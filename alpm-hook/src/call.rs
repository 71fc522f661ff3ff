//! How pacman was called: its hooks do not get its command line, which is therefore read from the parent processes.

use std::path::PathBuf;

use dkms_core::sys::run::{self, Ancestor};

/// A call of pacman.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Its command line.
    pub words: Vec<String>,
    /// Directories of which one is the working directory of the call.
    pub dirs: Vec<PathBuf>,
}

impl Call {
    /// The call of the nearest parent process that is pacman, and not another program that uses libalpm.
    pub fn above(ancestors: Vec<Ancestor>) -> Option<Self> {
        let is_pacman = |argv: &[String]| {
            argv.first().is_some_and(|program| program.rsplit('/').next() == Some("pacman"))
        };
        let pacman = ancestors.into_iter().find(|ancestor| is_pacman(&ancestor.argv))?;
        // pacman changes to its root while hooks run.
        let dirs = run::directories(pacman.pid);
        Some(Self { words: pacman.argv, dirs })
    }

    /// Whether it was called only to remove packages. The input of its hooks is the same when a source or kernel is
    /// removed and when it is replaced.
    pub fn is_removal(&self) -> bool {
        let options = self.words.iter().skip(1).take_while(|word| *word != "--");
        options.into_iter().any(|word| {
            let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
            word == "--remove" || short.is_some_and(|letters| letters.contains('R'))
        })
    }

    /// The value of an option: `--name VALUE` or `--name=VALUE`.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.words.iter().enumerate().find_map(|(at, word)| {
            let rest = word.strip_prefix(name)?;
            if rest.is_empty() { self.words.get(at + 1).map(String::as_str) } else { rest.strip_prefix('=') }
        })
    }

    /// A path on the command line, made absolute.
    pub fn path(&self, word: &str) -> PathBuf {
        let places = self.dirs.iter().map(|dir| dir.join(word));
        places.into_iter().find(|path| path.exists()).unwrap_or_else(|| word.into())
    }

    /// Arguments that are not options. Includes the values of options: no package has such a name.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.words
            .iter()
            .skip(1)
            .map(String::as_str)
            .filter(|word| !word.is_empty() && !word.starts_with("--"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn above(line: &str) -> Option<Call> {
        let argv = |line: &str| line.split(' ').map(str::to_owned).collect();
        let ancestor = |line: &str| Ancestor { pid: 0, argv: argv(line), started: 0 };
        Call::above(vec![ancestor("/bin/sh -c x"), ancestor(line)])
    }

    #[test]
    fn pacmans_first_option_is_what_it_does() {
        for (line, expected) in [
            ("pacman -R a-dkms", true),
            ("/usr/bin/pacman --noconfirm -Rns a-dkms", true),
            ("pacman --remove a-dkms", true),
            ("pacman -Syu", false),
            ("pacman -S --root /mnt R", false),
            ("pacman -S -- -R", false),
        ] {
            assert_eq!(above(line).map(|call| call.is_removal()), Some(expected), "{line}");
        }
        assert_eq!(above("pamac-daemon -R"), None);
    }

    #[test]
    fn options_and_what_is_none() {
        let call = above("pacman --config /c -U a.pkg.tar --cachedir=/d -- -odd").unwrap();
        assert_eq!((call.option("--config"), call.option("--cachedir")), (Some("/c"), Some("/d")));
        assert_eq!(call.option("--conf"), None);
        assert!(call.targets().any(|word| word == "a.pkg.tar"));
    }
}
