//! `make test` and `make test-long`: runs all tests of all suites over a few slots, each in a process of its own, and prints
//! what each suite took.
//!
//! A suite is a file in `tests/tests`. `cargo test` runs one suite after the other: at the end of each suite a processor is
//! idle, and so is one while several tests of a suite wait for the same layer. Here tests of different suites run at the same
//! time. `cargo test` still runs each test, and `#[ignore]` marks the long ones. nextest is not used: it is not in Debian,
//! its compilation takes minutes, and it knows neither times per suite nor budgets.
//!
//! `suites [--long] [WORD…]` runs only tests whose `SUITE::NAME` contains one of the words. `DKMS_TEST_SLOTS=N` sets the
//! number of tests that run at the same time.

// A test tool: it prints, and panics on errors.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used
)]

mod budget;
mod job;
mod list;
mod order;
mod run;
mod summary;

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use job::Ended;
use order::{Chosen, Which};

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let which = if words.iter().any(|word| word == "--long") { Which::Long } else { Which::Everyday };
    words.retain(|word| word != "--long");
    let start = Instant::now();
    let cost = |suite: &str| budget::of(suite, which);
    let tests =
        order::in_order(list::list(), &Chosen { which, words }, |suite| cost(suite).unwrap_or_default());
    println!("running {} tests", tests.len());
    let done = AtomicUsize::new(0);
    let ended = run::run(&tests, &|how| told(how, done.fetch_add(1, Ordering::Relaxed) + 1, tests.len()));
    print!("{}", summary::summary(&ended, start.elapsed(), cost));
    ExitCode::from(u8::from(ended.is_empty() || ended.iter().any(|how| !how.passed)))
}

fn told(how: &Ended, nth: usize, of: usize) {
    let Ended { test, passed, wall, cpu, log, .. } = how;
    let (word, wall, cpu) = (if *passed { "ok" } else { "FAILED" }, wall.as_secs(), cpu.as_secs());
    println!("[{nth:>3}/{of}] {word} {}::{} ({wall} s, {cpu} s of CPU time)", test.suite, test.name);
    if !passed {
        let text = std::fs::read(log).unwrap_or_default();
        println!("{}\n---- end of {}", String::from_utf8_lossy(&text), log.display());
    }
}
