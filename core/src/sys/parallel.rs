//! Reading in many places at once.

use std::thread;

/// How many items are done before a thread has started: fewer are not worth one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Each {
    /// One question to the file system.
    Instant = 512,
    /// A look at a file or two.
    Quick = 64,
    /// Reading and evaluating a few files.
    Slow = 6,
}

/// Does `work` on parts of a list, one part for each processor; the results come in the list's order.
pub fn parts<T: Sync, R: Send>(items: &[T], each: Each, work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    if items.len() < each as usize {
        return vec![work(items)];
    }
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = &work;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(processors));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let end = |thread: thread::ScopedJoinHandle<'_, R>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(end).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whatever_the_number() {
        for each in [Each::Instant, Each::Quick, Each::Slow] {
            for length in [0, 1, each as usize - 1, each as usize, 1000] {
                let items: Vec<usize> = (0..length).collect();
                assert_eq!(parts(&items, each, <[usize]>::to_vec).concat(), items);
            }
        }
    }
}
