//! Files that were compiled into a module, and are neither part of its source nor of anything else that its fingerprint contains.
//! Kbuild writes down what the compiler has read, in `.NAME.o.cmd`. A build can forge this; then only its own result is reused
//! wrongly.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::kernel::roots;
use crate::layout::Layout;
use crate::sys::confine;
use crate::sys::file;
use crate::sys::hash::Digests;

use super::Job;

/// More such files than a driver that shares headers with another one has.
const MOST: usize = 200;
/// How many of kbuild's files are read, and how large one is. The largest known driver has a tenth of it.
const LIMIT: (usize, u64) = (20_000, 1 << 20);

/// The absolute paths in one of kbuild's files: what was read (`deps_…`), and the arguments of the program that links symbols.
fn read_by<'a>(name: &str, text: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
    let arguments = name == ".Module.symvers.cmd";
    let lines = text
        .lines()
        .filter(move |line| arguments || !line.starts_with("savedcmd_") && !line.starts_with("cmd_"));
    let words = lines.flat_map(|line| line.split([' ', '\t', '\\']));
    words.map(|word| word.trim_matches(['(', ')', '\'', '"'])).filter(|word| word.starts_with('/'))
}

/// These files of a build in `dir`, which its processes have as `canonical`.
pub(super) fn of(job: &Job<'_>, view: &Path, canonical: &Path) -> Digests {
    let mut known: Vec<PathBuf> = vec![canonical.to_owned(), job.source.to_owned()];
    known.extend(roots(&job.headers.dir));
    let real: Vec<PathBuf> = known.iter().filter_map(|path| path.canonicalize().ok()).collect();
    known.extend(real);
    let named = |path: &PathBuf| path.extension().is_some_and(|end| end == "cmd");
    let mut outside = BTreeSet::new();
    let (files, size) = LIMIT;
    for path in file::files_below(&view.join("build"), &[]).into_iter().filter(named).take(files) {
        let (Ok(relative), Some(name)) = (path.strip_prefix(view), path.file_name()) else { continue };
        let Ok(content) = file::read_untrusted(view, relative, size) else { continue };
        let text = String::from_utf8_lossy(&content);
        for path in read_by(&name.to_string_lossy(), &text) {
            let path = Path::new(path);
            if !known.iter().any(|dir| path.starts_with(dir)) && !Layout::of_the_system(path) {
                outside.insert(path.to_owned());
            }
        }
    }
    // By their real paths, which tell more: /lib is a link.
    let place = |path: &Path| job.layers.map_or_else(|| path.to_owned(), |layers| layers.find(path));
    let inside = |path: &Path| {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Layout::of_the_system(&real) || known.iter().any(|dir| real.starts_with(dir))
    };
    // A build can name any file: its digest must not tell what it could not read.
    let read = |path: &PathBuf| !confine::hides(path) && file::readable_by_all(&place(path));
    let outside = outside.into_iter().filter(|path| !inside(path) && read(path)).take(MOST + 1);
    let digests: Digests = outside.map(|path| (path.clone(), place(&path))).collect();
    if digests.len() > MOST { Digests::default() } else { digests }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kbuild_names_what_was_read() {
        let text = "savedcmd_/b/x.o := gcc -I/opt/sdk -o /b/x.o /b/x.c\n\nsource_/b/x.o := /b/x.c\n\ndeps_/b/x.o := \\\n  /opt/sdk/api.h \\\n    $(wildcard include/config/X) \\\n  ./include/linux/a.h \\\n\n/b/x.o: $(deps_/b/x.o)\n";
        let found: BTreeSet<&str> = read_by(".x.o.cmd", text).collect();
        assert!(found.contains("/opt/sdk/api.h") && found.contains("/b/x.c"), "{found:?}");
        assert!(
            !found.contains("/opt/sdk") && !found.iter().any(|path| path.contains("config")),
            "{found:?}"
        );
        let text = "savedcmd_/b/Module.symvers := scripts/mod/modpost -M -o /b/Module.symvers -T /b/modules.order -i /usr/src/other/Module.symvers -e\n";
        let found: BTreeSet<&str> = read_by(".Module.symvers.cmd", text).collect();
        assert!(found.contains("/usr/src/other/Module.symvers"), "{found:?}");
    }
}
