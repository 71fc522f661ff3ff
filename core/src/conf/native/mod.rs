//! Evaluates configuration files that only assign values, without starting bash: in microseconds.
//!
//! What is understood is a small language of our own choosing inside bash's: assignments to variables and indexed
//! arrays, quoting, and the usual parameter expansions. Every character is on a list of what is known to mean the
//! same in every bash since 5.1; for whatever is not, the answer is [`NotDeclarative`] and bash is asked. So there
//! is no bash here that could be nearly right: a file is understood as a whole, or not at all.
//!
//! A complete parser of bash would not help: it finds the structure of loops and tests, which must go to bash anyway,
//! while the meaning of the characters in a word, where values could differ, stays to be decided here.
//!
//! Time and memory are bounded by a `Budget`, nesting by a constant: a file beyond them goes to bash, too, which
//! has limits of its own.

mod expand;
mod glob;
mod parameter;
mod parse;
mod regex;
mod shell;
mod syntax;
#[cfg(test)]
mod tests;

use super::RawConf;
use super::evaluate::Inputs;
use shell::Shell;

/// Why a file is left to bash; for tests and for people who wonder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDeclarative(pub &'static str);

/// A value, or the reason why bash must be asked.
type Known<T> = Result<T, NotDeclarative>;

fn unknown<T>(why: &'static str) -> Known<T> {
    Err(NotDeclarative(why))
}

/// How much work one evaluation may be: bytes produced, and steps of pattern matching.
const WORK: usize = 1 << 20;

/// What is left of the work that one evaluation may be.
struct Budget(usize);

impl Budget {
    fn spend(&mut self, work: usize) -> Known<()> {
        match self.0.checked_sub(work) {
            Some(left) => self.0 = left,
            None => return unknown("too much work"),
        }
        Ok(())
    }
}

/// The values that bash would give, when that is certain.
pub fn evaluate(inputs: &Inputs<'_>) -> Result<RawConf, NotDeclarative> {
    if !inputs.directives.is_empty() {
        // Rare: whatever bash makes of them.
        return Err(NotDeclarative("directives are given"));
    }
    let mut shell = Shell::new(&inputs.variables)?;
    for (_, content) in &inputs.files {
        for assignment in parse::file(content)? {
            shell.assign(&assignment)?;
        }
    }
    shell.result(inputs.names)
}
