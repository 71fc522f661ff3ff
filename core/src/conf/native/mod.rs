//! Evaluates configuration files that only assign values, without starting bash: in microseconds.
//!
//! It understands a small subset of bash: assignments to variables and indexed arrays, quoting, and the usual parameter
//! expansions. Every accepted character is on a list of those that mean the same in every bash since 5.1. For any
//! other, the result is [`NotDeclarative`], and bash evaluates the file. So no partial emulation of bash can be almost
//! correct: a file is understood as a whole, or not at all.
//!
//! A complete parser of bash would not help: it finds the structure of loops and tests, which need bash anyway, while
//! the meaning of the characters in a word, where values could differ, would still have to be decided here.
//!
//! Time and memory are bounded by a `Budget`, nesting by a constant: a file that exceeds them is evaluated by bash,
//! which has its own limits.

mod expand;
mod glob;
mod parameter;
mod parse;
mod regex;
mod syntax;
#[cfg(test)]
mod tests;
mod variables;

use super::RawConf;
use super::evaluate::Inputs;
use variables::Variables;

/// Why a file needs bash; for tests and diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDeclarative(pub &'static str);

/// A value, or the reason why bash is needed.
type NativeResult<T> = Result<T, NotDeclarative>;

fn unknown<T>(why: &'static str) -> NativeResult<T> {
    Err(NotDeclarative(why))
}

/// The limit of work for one evaluation: bytes produced, and steps of pattern matching.
const WORK: usize = 1 << 20;

/// The remaining work of one evaluation.
struct Budget(usize);

impl Budget {
    fn spend(&mut self, work: usize) -> NativeResult<()> {
        match self.0.checked_sub(work) {
            Some(left) => self.0 = left,
            None => return unknown("too much work"),
        }
        Ok(())
    }
}

/// The values that bash would give, if they are certain.
pub fn evaluate(inputs: &Inputs<'_>) -> Result<RawConf, NotDeclarative> {
    if !inputs.directives.is_empty() {
        // Rare, and left to bash.
        return Err(NotDeclarative("directives are given"));
    }
    let mut variables = Variables::new(&inputs.variables)?;
    for (_, content) in &inputs.files {
        for assignment in parse::file(content)? {
            variables.assign(&assignment)?;
        }
    }
    variables.result(inputs.names)
}
