//! Runs tests in a fixed number of slots.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dkms_tests::host;

use crate::job::{self, Ended};
use crate::list::Test;

/// Runs all tests and calls `told` after each one.
pub fn run(tests: &[Test], told: &(dyn Fn(&Ended) + Sync)) -> Vec<Ended> {
    let logs = host::workspace().join("target/test-logs");
    std::fs::create_dir_all(&logs).unwrap();
    let (next, ended) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..slots() {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let how = job::run(test, &logs);
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
