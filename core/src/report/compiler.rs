//! Finds the first errors in the log of a build.

use std::path::Path;

use crate::sys::plain::plain;

/// How far from an error its other lines are searched. Without this limit, a long log would be read once for each of its lines.
const NEAR: usize = 50;

/// The first `limit` distinct errors of the compiler, configure, modpost or linker. If there are none, the lines in
/// which shell and make report the failed command. `dir` is the build directory, which is removed from paths.
pub fn errors(log: &str, dir: &Path, limit: usize) -> Vec<String> {
    let log = plain(log).replace(&format!("{}/", dir.display()), "");
    let lines: Vec<&str> = log.lines().collect();
    let found = diagnoses(&lines, limit);
    if !found.is_empty() {
        return found;
    }
    let found = distinct(lines.iter().filter(|line| telling(line)).map(|line| bare(line)), limit);
    if !found.is_empty() {
        return found;
    }
    // make only reports that a command failed; the command's own messages precede this.
    let Some(end) = lines.iter().position(|line| line.contains("*** ")) else { return Vec::new() };
    let said = lines[..end].iter().rposition(|line| !noise(line));
    distinct(said.into_iter().chain([end]).map(|n| bare(lines[n])), limit)
}

/// Whether a compiler, an assembler, a linker or a check of the kernel's build system reported an error.
pub fn diagnosed(log: &str) -> bool {
    let log = plain(log);
    !diagnoses(&log.lines().collect::<Vec<_>>(), 1).is_empty()
}

fn diagnoses(lines: &[&str], limit: usize) -> Vec<String> {
    distinct((0..lines.len()).filter_map(|n| diagnosis(lines, n)), limit)
}

fn distinct(lines: impl Iterator<Item = String>, limit: usize) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in lines {
        if found.len() == limit {
            break;
        }
        if !found.contains(&line) {
            found.push(line);
        }
    }
    found
}

/// An error with its reason, if this line has one.
fn diagnosis(lines: &[&str], n: usize) -> Option<String> {
    let line = lines[n];
    // Printed after a question with an invalid answer, if that is on standard output.
    if let Some((_, rest)) = line.split_once("configure: error:") {
        return Some(format!("configure: {}", configure_error(rest, &lines[n + 1..])));
    }
    const PREFIXES: [&str; 5] = ["ERROR: ", "FATAL: ", "error: ", "patch: ****", "Hunk #"];
    const PARTS: [&str; 3] = ["undefined reference to", "ld: cannot find", "*** No rule to make target"];
    let begins = PREFIXES.iter().any(|prefix| line.starts_with(prefix));
    let refused = !line.starts_with("Hunk #") || line.contains("FAILED");
    if begins && refused || PARTS.iter().any(|part| line.contains(part)) {
        return Some(bare(line));
    }
    let error = compiler_error(line)?;
    Some(match included_by(lines, n) {
        Some(file) => format!("{error} (included by {file})"),
        None => error,
    })
}

/// The message of configure: on the same line, or on the starred lines after it up to an empty one.
fn configure_error(rest: &str, below: &[&str]) -> String {
    let starred = below.iter().take(NEAR).map_while(|line| line.trim().strip_prefix("***"));
    let mut words: Vec<&str> = vec![rest.trim()];
    words.extend(starred.map(str::trim).take_while(|text| !text.is_empty()));
    words.join(" ").trim().to_owned()
}

/// Messages of shell and make with more information than that a command failed. Excludes questions of configure.
fn telling(line: &str) -> bool {
    const WORDS: [&str; 8] = [
        "error:",
        "Error: ",
        "No such file",
        "not found",
        "Permission denied",
        "No space left",
        "Operation not permitted",
        "Stop.",
    ];
    let asks = line.starts_with("checking ") || line.starts_with("# ");
    !asks && WORDS.iter().any(|word| line.contains(word))
}

/// Progress messages of make and the kernel's makefiles: `  CC [M]  a.o`, `make[1]: Entering directory …`.
fn noise(line: &str) -> bool {
    let capitals = |word: &str| word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let quiet = line.starts_with("  ") && line.split_whitespace().next().is_some_and(capitals);
    line.trim().is_empty() || line.starts_with("make") || line.starts_with('#') || quiet
}

/// A line without decoration, for quoting.
fn bare(line: &str) -> String {
    let line = line.trim();
    // A message of the shell that runs the step names its own line, which is of no use.
    let own = line.strip_prefix("dkms: line ").and_then(|rest| rest.split_once(": "));
    match own.filter(|(number, _)| number.chars().all(|c| c.is_ascii_digit())) {
        Some((_, message)) => message.to_owned(),
        None => line.to_owned(),
    }
}

/// `path/file.c:12:34: error: message` → `path/file.c:12: message`, without the build directory; `cc1: error: …` and
/// `a.o: error: objtool: …` are errors without a line.
fn compiler_error(line: &str) -> Option<String> {
    const WORDS: [&str; 3] = [": error: ", ": fatal error: ", ": Error: "];
    let (place, message) = WORDS.iter().find_map(|word| line.split_once(word))?;
    let mut parts = place.split(':');
    let file = below_build(parts.next()?);
    match parts.next() {
        Some(number) => {
            number.parse::<u32>().ok()?;
            Some(format!("{file}:{number}: {message}"))
        }
        None if file.contains(char::is_whitespace) => None,
        None => Some(format!("{file}: {message}")),
    }
}

/// The file that was being compiled when the error on line `n` was found in a header: the last of the lines
/// `In file included from a.h:1,` / `from b.c:2:` directly before it.
fn included_by(lines: &[&str], n: usize) -> Option<String> {
    let above = lines[..n]
        .iter()
        .rev()
        .take(NEAR)
        .find(|line| !line.contains(": In function ") && !line.contains(": At top level"))?;
    let chain = above.strip_prefix("In file included ").unwrap_or(above).trim_start();
    let (file, _) = chain.strip_prefix("from ")?.split_once(':')?;
    let same = lines[n].starts_with(&format!("{file}:"));
    (!same).then(|| below_build(file))
}

/// A path relative to the build directory, without `x/../`.
fn below_build(file: &str) -> String {
    let file = file.split_once("/build/").map_or(file, |(_, below)| below);
    let mut parts: Vec<&str> = Vec::new();
    for part in file.split('/') {
        if part == ".." && parts.last().is_some_and(|last| !last.is_empty() && *last != "..") {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(log: &str, limit: usize) -> Vec<String> {
        // The directory of the module that the line refers to.
        let dir =
            log.find("/var/lib/dkms/").map(|start| &log[start..]).and_then(|rest| rest.split_once("/build/"));
        let dir = dir.map_or(String::from("/nowhere"), |(dir, _)| format!("{dir}/build"));
        super::errors(log, Path::new(&dir), limit)
    }

    #[test]
    fn the_compilers_first_words_count() {
        let log = "make: Entering directory '/usr/src/x'\n\
            /var/lib/dkms/a/1/build/driver/razer.c:12:5: error: 'foo' undeclared (first use in this function)\n\
            /var/lib/dkms/a/1/build/driver/razer.c:12:5: error: 'foo' undeclared (first use in this function)\n\
            /var/lib/dkms/a/1/build/b.c:1:10: fatal error: x.h: No such file or directory\n\
            make[1]: *** [Makefile:9: all] Error 2\n";
        assert_eq!(
            errors(log, 5),
            [
                "driver/razer.c:12: 'foo' undeclared (first use in this function)",
                "b.c:1: x.h: No such file or directory"
            ]
        );
    }

    #[test]
    fn errors_of_headers_name_what_was_compiled() {
        let log = "In file included from /var/lib/dkms/l/2/build/src/probes/../../include/l/event.h:5,\n\
            \x20                from /var/lib/dkms/l/2/build/src/probes/timer.c:46:\n\
            /var/lib/dkms/l/2/build/src/probes/../../include/l/impl.h:133:6: error: conflicting types for 'x'\n\
            a.c: In function 'y':\na.c:1:2: error: z\n";
        assert_eq!(
            errors(log, 5),
            ["include/l/impl.h:133: conflicting types for 'x' (included by src/probes/timer.c)", "a.c:1: z"]
        );
    }

    /// Four million of such bytes took minutes: each line was compared with all lines above or below it.
    #[test]
    fn a_long_log_is_read_once() {
        for line in ["1:1: error: : In function \n", "*** configure: error: x\n"] {
            assert!(!errors(&line.repeat((1 << 20) / line.len()), 3).is_empty(), "{line}");
        }
    }

    #[test]
    fn configure_says_why() {
        let log = "checking for gcc... gcc\nchecking for foo... not found\n\
            checking whether modules can be built... configure: error: \n\
            \t*** Unable to build an empty module.\n\t*** Please run 'make scripts'.\n\t***\n\t*** If this works: tell.\n";
        assert_eq!(
            errors(log, 3),
            ["configure: Unable to build an empty module. Please run 'make scripts'."]
        );
        assert_eq!(errors("configure: error: no compiler\n", 3), ["configure: no compiler"]);
    }

    #[test]
    fn modpost_linker_assembler_and_objtool() {
        let log = "ERROR: modpost: \"x\" [/var/lib/dkms/a/1/build/a.ko] undefined!\n\
            /var/lib/dkms/a/1/build/e.S:7: Error: no such instruction: `foo'\n\
            a.o: error: objtool: f+0x1: unreachable\ncc1: error: bad value for '-mtune='\n\
            a.c:(.text+0x1): undefined reference to `g'\n\
            make[2]: *** [Makefile:9: all] Error 2\n";
        assert_eq!(
            errors(log, 9),
            [
                "ERROR: modpost: \"x\" [a.ko] undefined!",
                "e.S:7: no such instruction: `foo'",
                "a.o: objtool: f+0x1: unreachable",
                "cc1: bad value for '-mtune='",
                "a.c:(.text+0x1): undefined reference to `g'"
            ]
        );
    }

    #[test]
    fn patches_that_do_not_apply() {
        let log =
            "patching file a.c\nHunk #1 succeeded at 5.\nHunk #2 FAILED at 12.\n1 out of 2 hunks FAILED\n";
        assert_eq!(errors(log, 3), ["Hunk #2 FAILED at 12."]);
    }

    #[test]
    fn without_a_compiler_make_is_quoted() {
        let log = "make: *** No rule to make target 'a.c', needed by 'a.o'.  Stop.\n";
        assert_eq!(errors(log, 1), ["make: *** No rule to make target 'a.c', needed by 'a.o'.  Stop."]);
        let log = "make[1]: Entering directory '/x'\n  CC [M]  a.o\n\x1b[31mthis kernel is too old\x1b[0m\n\
            make[1]: *** [Makefile:3: all] Error 1\nmake: *** [all] Error 2\n";
        assert_eq!(errors(log, 3), ["this kernel is too old", "make[1]: *** [Makefile:3: all] Error 1"]);
        let log = "/bin/sh: 1: bc: not found\nmake: *** [all] Error 127\n";
        assert_eq!(errors(log, 3), ["/bin/sh: 1: bc: not found"]);
        assert!(errors("fine\n", 3).is_empty());
    }
}
