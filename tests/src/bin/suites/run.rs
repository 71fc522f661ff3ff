//! Runs tests in a fixed number of slots.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};

use dkms_tests::host;

use crate::job::{self, Ended};
use crate::list::Test;

/// Tests that contain a fork bomb; no other test runs beside them. Builds run as one of a few users that have no other
/// process in their root. The kernel counts the processes of all roots, so the same user could start none in another one.
const ALONE: [&str; 2] = ["attacks::builds", "attacks::files_that_are_evaluated"];

/// Runs all tests and calls `told` after each one.
pub fn run(tests: &[Test], told: &(dyn Fn(&Ended) + Sync)) -> Vec<Ended> {
    let logs = host::workspace().join("target/test-logs");
    std::fs::create_dir_all(&logs).unwrap();
    let (next, ended, beside) = (AtomicUsize::new(0), Mutex::new(Vec::new()), RwLock::new(()));
    let run_one = |test: &Test| {
        if ALONE.contains(&format!("{}::{}", test.suite, test.name).as_str()) {
            let _nothing_beside = beside.write().unwrap();
            return job::run(test, &logs);
        }
        let _others_beside = beside.read().unwrap();
        job::run(test, &logs)
    };
    std::thread::scope(|scope| {
        for _ in 0..slots() {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let how = run_one(test);
                    let mut all = ended.lock().unwrap();
                    told(&how);
                    all.push(how);
                }
            });
        }
    });
    ended.into_inner().unwrap()
}

/// One more than the number of processors, because some test usually waits for a download, a lock or a pause.
/// `DKMS_TEST_SLOTS` sets another number.
fn slots() -> usize {
    let wanted = std::env::var("DKMS_TEST_SLOTS").ok().and_then(|n| n.parse().ok());
    wanted.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, NonZero::get) + 1)
}

#[cfg(test)]
mod tests {
    use super::{ALONE, host};

    #[test]
    fn tests_that_run_alone_exist() {
        for name in ALONE {
            let (suite, test) = name.split_once("::").unwrap();
            let file = host::workspace().join(format!("tests/tests/{suite}.rs"));
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.contains(&format!("\nfn {test}() {{")), "{name}");
        }
    }
}
