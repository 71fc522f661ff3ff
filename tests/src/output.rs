//! The output of a command, and assertions that print all of it if they fail.

use std::fmt;

/// One finished command with its output.
#[derive(Debug, Clone)]
pub struct Output {
    /// The shell text that was run.
    pub command: String,
    /// The exit code; 128 + n after signal n, 124 if the test's time limit was exceeded.
    pub status: i32,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Output {
    /// Builds the value from what `std::process` returned.
    pub fn new(command: &str, raw: &std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = raw.status.code().unwrap_or_else(|| 128 + raw.status.signal().unwrap_or(0));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { command: command.to_owned(), status, stdout: text(&raw.stdout), stderr: text(&raw.stderr) }
    }

    /// Both streams, for messages that may appear on either (apt merges them).
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Requires exit 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status == 0, "expected exit 0\n{self}");
        self
    }

    /// Requires an exit code other than 0, and not that of the test's time limit.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert!(self.status != 0 && self.status != 124, "expected a failure\n{self}");
        self
    }

    /// Requires this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.status == code, "expected exit {code}\n{self}");
        self
    }

    /// Requires every one of these texts somewhere in the output.
    #[track_caller]
    pub fn says(self, wanted: &[&str]) -> Self {
        let all = self.all();
        for text in wanted {
            assert!(all.contains(text), "expected to read {text:?}\n{self}");
        }
        self
    }

    /// Requires none of these texts in the output.
    #[track_caller]
    pub fn never_says(self, unwanted: &[&str]) -> Self {
        let all = self.all();
        for text in unwanted {
            assert!(!all.contains(text), "did not expect to read {text:?}\n{self}");
        }
        self
    }

    /// Paths of log files that are named in the output.
    pub fn named_logs(&self) -> Vec<String> {
        let all = self.all();
        let commands =
            all.lines().filter_map(|line| line.split_once("log: ")).map(|(_, command)| command.trim());
        commands.filter(|command| command.starts_with("dkms log ")).map(str::to_owned).collect()
    }

    /// Requires an empty standard output: it belongs to debconf and to the package manager.
    #[track_caller]
    pub fn quiet_stdout(self) -> Self {
        assert!(self.stdout.is_empty(), "expected nothing on stdout\n{self}");
        self
    }

    /// Requires a compiler's `file:line: … error` line.
    #[track_caller]
    pub fn shows_compiler_error(self) -> Self {
        assert!(self.all().lines().any(is_compiler_error), "expected a compiler error line\n{self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}\n[exit {}]", self.command, self.status)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(f, "--- {name}\n{}", tail(text, 12_000))?;
            }
        }
        Ok(())
    }
}

/// `path/file.c:12: message`, with or without a column and the word `error`.
pub fn is_compiler_error(line: &str) -> bool {
    let mut parts = line.trim_start().splitn(3, ':');
    let file = parts.next().unwrap_or_default();
    let number = parts.next().unwrap_or_default();
    let message = parts.next().unwrap_or_default();
    (file.ends_with(".c") || file.ends_with(".h"))
        && number.parse::<u32>().is_ok()
        && message.starts_with([' ', ':', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
}

/// The last `limit` bytes of `text`, cut at a line.
pub fn tail(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let from = text.len() - limit;
    let start = text.bytes().skip(from).position(|b| b == b'\n').map_or(text.len(), |n| from + n + 1);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::{is_compiler_error, tail};

    #[test]
    fn compiler_lines_are_recognised() {
        assert!(is_compiler_error("  /var/lib/x/a.c:10:5: error: implicit declaration"));
        assert!(is_compiler_error("      driver/razer.h:7: no such file"));
        assert!(!is_compiler_error("make: *** [Makefile:3: all] Error 2"));
        assert!(!is_compiler_error("error: something went wrong"));
        assert!(!is_compiler_error("a.c: In function 'start':"));
    }

    #[test]
    fn the_tail_starts_on_a_line() {
        assert_eq!(tail("one\ntwo\nthree\n", 8), "three\n");
        assert_eq!(tail("short", 80), "short");
    }
}
