//! Finds the first errors in the log of a build.

/// The first `limit` distinct errors: compiler lines as `file:line: message`, or, when there are none, the last
/// lines by which make says what ended it.
pub fn errors(log: &str, limit: usize) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in log.lines().filter_map(compiler_error) {
        if !found.contains(&line) {
            found.push(line);
        }
        if found.len() == limit {
            return found;
        }
    }
    if !found.is_empty() {
        return found;
    }
    let telling = |line: &&str| {
        [
            "***",
            "error:",
            "Error ",
            "undefined!",
            "No such file",
            "not found",
            "Permission denied",
            "No space left",
        ]
        .iter()
        .any(|word| line.contains(word))
            && !line.starts_with("# ")
    };
    log.lines().filter(telling).take(limit).map(|line| line.trim().to_owned()).collect()
}

/// Whether the log tells of the machine rather than of the module: no space, no memory, a missing program.
pub fn transient(log: &str) -> bool {
    const SIGNS: [&str; 10] = [
        "No space left on device",
        "Cannot allocate memory",
        "virtual memory exhausted",
        "Killed signal terminated program",
        ": command not found",
        "Error 127",
        "Resource temporarily unavailable",
        "error while loading shared libraries",
        "Read-only file system",
        "Input/output error",
    ];
    let missing = |line: &str| line.starts_with("/bin/sh: ") && line.ends_with(": not found");
    log.lines().any(|line| missing(line) || SIGNS.iter().any(|sign| line.contains(sign)))
}

/// `path/file.c:12:34: error: message` → `path/file.c:12: message`, without the build directory.
fn compiler_error(line: &str) -> Option<String> {
    let (place, message) = line.split_once(": error: ").or_else(|| line.split_once(": fatal error: "))?;
    let mut parts = place.split(':');
    let (file, number) = (parts.next()?, parts.next()?);
    number.parse::<u32>().ok()?;
    let file = file.split_once("/build/").map_or(file, |(_, below)| below);
    Some(format!("{file}:{number}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_the_machine_lacks_is_no_verdict() {
        assert!(transient("cc1: fatal error: cannot write: No space left on device\n"));
        assert!(transient("/bin/sh: 1: pahole: not found\nmake: *** [all] Error 127\n"));
        assert!(!transient("checking for x... not found\na.c:1:2: error: x\n"));
    }

    #[test]
    fn without_a_compiler_make_is_quoted() {
        let log = "ERROR: modpost: \"x\" [a.ko] undefined!\nmake: *** [all] Error 1\n";
        assert_eq!(errors(log, 1), ["ERROR: modpost: \"x\" [a.ko] undefined!"]);
        assert!(errors("fine\n", 3).is_empty());
    }
}
